//! HTTP/1.1 messages as bytes and as values: parsing, framing, chunks, and writing.
//!
//! A leaf: no I/O, no clock, no tokio, so that fuzzing reaches all of it. Both roles are here: requests as a server
//! reads them, responses as a client reads them. Source of the rules: RFC 9110 and RFC 9112. Invariant: an ambiguous
//! message is refused, except that chunks outrank a Content-Length, which then ends the connection (RFC 9112, section
//! 6.3).

mod body;
mod chunked;
mod class;
mod fields;
mod framing;
mod head;
mod map;
mod request;
mod response;
mod scan;
pub mod write;

use bytes::{Buf, BytesMut};

pub use body::{BadBody, BodyDecoder};
pub use fields::Fields;
pub use framing::{Framing, Length, of_request, of_response};
pub use head::{Form, RequestHead, ResponseHead, Target, is_host};
pub use request::{Limits, Refusal, take_request};
pub use response::{BadResponse, take_response};
pub use scan::Scan;

/// Removes `taken` bytes from the front of `read`. A buffer that becomes empty keeps all its memory: `advance` would
/// have to be undone before the next read, which costs more.
#[inline]
fn consume(read: &mut BytesMut, taken: usize) {
    if taken == read.len() { read.clear() } else { read.advance(taken) }
}
