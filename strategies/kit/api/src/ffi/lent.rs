//! Safe views of the arguments that the host lends to a call: [`Backends`], [`Request`], [`Start`], [`Finish`],
//! [`Probe`], [`Probes`], [`Metrics`] and [`Host`].
//!
//! Invariants: the lifetime of a view ends with its call, so a strategy cannot keep it. Only `Host` stays valid until
//! the process ends. No accessor allocates.

mod backends;
mod finish;
mod host;
mod metrics;
mod probe;
mod request;
mod start;

pub use backends::{Backend, Backends, LoadReport, Slot};
pub use finish::{Finish, Outcome};
pub use host::{Host, LogLevel};
pub use metrics::Metrics;
pub use probe::{Probe, Probes};
pub use request::{Part, Request};
pub use start::Start;

use crate::abi::LbStr;

/// # Safety
/// `text` must be null, or point to `len` bytes that live for `'a`.
pub(crate) unsafe fn bytes<'a>(text: LbStr) -> &'a [u8] {
    if text.ptr.is_null() || text.len == 0 {
        return &[];
    }
    // SAFETY: the caller ensures it.
    unsafe { std::slice::from_raw_parts(text.ptr, text.len) }
}
