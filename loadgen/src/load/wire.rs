//! HTTP/1.1 as far as a load generator needs it: the end of a response, its status, its backend.
//!
//! Bodies are counted and discarded without allocation. An ambiguous response is an error (RFC 9112, section 6).

mod framing;
mod head;

pub(super) use framing::Framing;
pub(super) use head::parse;

/// Why bytes are not a valid response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response is not HTTP/1.1: {0}")]
pub(super) struct BadAnswer(pub(super) &'static str);
