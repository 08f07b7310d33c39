//! Bytes on their way to a socket: heads and small pieces copied together, one large piece behind them as it is.
//!
//! Why: a head and a small body go out by one system call and one copy, a large body without any. Invariant: bytes go out in the order
//! in which they were put in; nothing is put in behind a large piece before that is written.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};

use super::Stream;

/// A piece of so many bytes goes out by itself.
const LARGE_BYTES: usize = 8 * 1024;
/// Behind so many no more is gathered.
const FULL_BYTES: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Kept when it is written, for its memory.
    small: Vec<u8>,
    written: usize,
    large: Bytes,
    /// What goes behind the large piece.
    tail: &'static [u8],
    /// A byte went out since [`begin`](Self::begin).
    has_begun: bool,
}

// === impl Outbox ===

impl Outbox {
    /// A new message begins; the one before is written or given up.
    pub(crate) fn begin(&mut self) -> &mut Vec<u8> {
        self.small.clear();
        self.written = 0;
        (self.large, self.tail, self.has_begun) = (Bytes::new(), b"", false);
        &mut self.small
    }

    /// Where heads and small things are appended. Only while it [has room](Self::has_room).
    pub(crate) fn small(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.large.is_empty() && self.tail.is_empty());
        &mut self.small
    }

    /// Appends a piece, and `tail` behind it.
    pub(crate) fn push(&mut self, data: Bytes, tail: &'static [u8]) {
        debug_assert!(self.large.is_empty() && self.tail.is_empty());
        if data.len() < LARGE_BYTES {
            self.small.extend_from_slice(&data);
            self.small.extend_from_slice(tail);
        } else {
            (self.large, self.tail) = (data, tail);
        }
    }

    /// Whether more may be put in before this is written.
    pub(crate) fn has_room(&self) -> bool {
        self.large.is_empty() && self.tail.is_empty() && self.small.len() < FULL_BYTES
    }

    /// All is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.written == self.small.len() && self.large.is_empty() && self.tail.is_empty()
    }

    /// Something of the message went out.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Writes until all is written.
    pub(crate) fn poll_flush(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let small = &self.small[self.written..];
            let wrote = if self.large.is_empty() && self.tail.is_empty() {
                ready!(stream.poll_send(cx, &[IoSlice::new(small)]))
            } else {
                let all = [IoSlice::new(small), IoSlice::new(&self.large), IoSlice::new(self.tail)];
                ready!(stream.poll_send(cx, &all))
            };
            match wrote {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(bytes) => self.advance(bytes),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.small.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, bytes: usize) {
        self.has_begun = true;
        let of_small = bytes.min(self.small.len() - self.written);
        self.written += of_small;
        let of_large = (bytes - of_small).min(self.large.len());
        self.large.advance(of_large);
        self.tail = &self.tail[bytes - of_small - of_large..];
    }
}
