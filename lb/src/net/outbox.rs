//! Bytes on their way to a socket: heads and small pieces copied together, one large piece behind them as it is.
//!
//! Why: a head and a small body are sent by one system call and one copy, a large body without a copy. Invariants:
//! bytes are sent in the order of `push`. Nothing is added behind a large piece before that piece is written.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};

use super::{Buffers, Stream};

/// A piece of this size or more is sent by itself.
const LARGE_BYTES: usize = 8 * 1024;
/// With this many bytes, no more is added.
const FULL_BYTES: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Kept after writing, for its memory.
    small: Vec<u8>,
    written: usize,
    /// Boxed, because most messages have none and an outbox is moved for each.
    large: Option<Box<Large>>,
    /// A byte was sent since [`begin`](Self::begin).
    has_begun: bool,
}

#[derive(Debug)]
struct Large {
    data: Bytes,
    /// Sent behind it.
    tail: &'static [u8],
}

// === impl Outbox ===

impl Outbox {
    /// A new message begins; the one before is written or abandoned.
    pub(crate) fn begin(&mut self) -> &mut Vec<u8> {
        self.small.clear();
        self.written = 0;
        (self.large, self.has_begun) = (None, false);
        &mut self.small
    }

    /// The place for heads and small pieces. Only while it [has room](Self::has_room).
    #[inline]
    pub(crate) fn small(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.large.is_none());
        &mut self.small
    }

    /// Appends a piece, and `tail` behind it.
    pub(crate) fn push(&mut self, data: Bytes, tail: &'static [u8]) {
        debug_assert!(self.large.is_none());
        if data.len() < LARGE_BYTES {
            self.small.extend_from_slice(&data);
            self.small.extend_from_slice(tail);
        } else {
            self.large = Some(Box::new(Large { data, tail }));
        }
    }

    /// Whether more may be added before this is written.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.large.is_none() && self.small.len() < FULL_BYTES
    }

    /// Whether all is written.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.written == self.small.len() && self.large.is_none()
    }

    /// Whether a part of the message was sent.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// The bytes of memory that it keeps.
    pub(crate) fn memory(&self) -> usize {
        self.small.capacity()
    }

    /// Writes until all is written. The memory of a large piece goes to `buffers`.
    pub(crate) fn poll_flush(
        &mut self,
        stream: &mut Stream,
        buffers: &Buffers,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let small = &self.small[self.written..];
            let wrote = match &self.large {
                None => ready!(stream.poll_send(cx, small)),
                Some(large) => {
                    let all = [IoSlice::new(small), IoSlice::new(&large.data), IoSlice::new(large.tail)];
                    ready!(stream.poll_send_all(cx, &all))
                }
            };
            match wrote {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(bytes) => self.advance(bytes, buffers),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.small.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn advance(&mut self, bytes: usize, buffers: &Buffers) {
        self.has_begun = true;
        let of_small = bytes.min(self.small.len() - self.written);
        self.written += of_small;
        let Some(large) = &mut self.large else { return };
        let of_large = (bytes - of_small).min(large.data.len());
        large.data.advance(of_large);
        large.tail = &large.tail[bytes - of_small - of_large..];
        if large.data.is_empty() && large.tail.is_empty() {
            buffers.recycle(std::mem::take(&mut large.data));
            self.large = None;
        }
    }
}
