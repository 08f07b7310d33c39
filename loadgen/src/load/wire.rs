//! HTTP/1.1 as far as a load generator needs it: where an answer ends, what its status is, who gave it.
//!
//! Bodies are counted and thrown away, nothing is allocated. What is ambiguous is an error and never a guess (RFC 9112, section 6).

mod framing;
mod head;

pub(super) use framing::Framing;
pub(super) use head::parse;

/// Why an answer is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not HTTP/1.1: {0}")]
pub(super) struct BadAnswer(pub(super) &'static str);
