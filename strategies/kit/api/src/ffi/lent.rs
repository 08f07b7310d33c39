//! Safe views of what the host lends to a call: [`Backends`], [`Request`], [`Finish`], [`Host`].
//!
//! Invariant: a view's lifetime is the call's, so nothing lent can be kept. Every accessor is a plain read; none allocates.

mod backends;
mod finish;
mod host;
mod request;

pub use backends::{Backend, Backends, Slot};
pub use finish::{Finish, Outcome};
pub use host::{Host, LogLevel};
pub use request::Request;

use crate::abi::LbStr;

/// # Safety
/// `text` must be null with length 0, or point to `len` bytes that live for `'a`.
pub(crate) unsafe fn bytes<'a>(text: LbStr) -> &'a [u8] {
    if text.ptr.is_null() || text.len == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(text.ptr, text.len) }
}
