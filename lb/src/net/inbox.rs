//! Bytes that were read from a socket and not taken yet.
//!
//! Why not a buffer alone: whoever waits holds none. It is taken when bytes are there and given back when they are used up, so idle
//! connections, and requests that wait for a slow backend, cost no buffer. Invariants: while the inbox is empty and waits, it holds no
//! buffer; one task polls it until [`reset`](Inbox::reset).

use std::io;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::task::coop::has_budget_remaining;

use super::{Buffers, Stream};

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: BytesMut,
    /// Reading was pending when it was last tried, so the task is woken when there is something to read.
    is_watched: bool,
}

// === impl Inbox ===

impl Inbox {
    /// What is here; it is taken from the front.
    #[inline]
    pub(crate) fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Waits for bytes and reads them; 0 are the end. `wanted`: how many it would be good to have room for.
    pub(crate) fn poll_fill(
        &mut self,
        stream: &mut Stream,
        buffers: &Buffers,
        cx: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<io::Result<usize>> {
        let is_there = stream.has_news()
            || (!self.is_watched
                && match stream.poll_readable(cx) {
                    Poll::Ready(readable) => readable.map(|()| true)?,
                    Poll::Pending => false,
                });
        let polled = if is_there {
            buffers.make_room(&mut self.bytes, wanted);
            stream.poll_fill(cx, &mut self.bytes)
        } else {
            Poll::Pending
        };
        // A task that has used up its share of polls hears nothing of the socket: it is asked again.
        self.is_watched = polled.is_pending() && has_budget_remaining();
        if self.bytes.is_empty() {
            self.give_back(buffers);
        }
        polled
    }

    /// Lets go of the buffer, if nothing is in it.
    #[inline]
    pub(crate) fn give_back(&mut self, buffers: &Buffers) {
        if self.bytes.is_empty() && self.bytes.capacity() > 0 {
            buffers.give_back(std::mem::take(&mut self.bytes));
        }
    }

    /// Another task polls it from now on.
    pub(crate) fn reset(&mut self) {
        self.is_watched = false;
    }

    /// What is here, at the end.
    pub(crate) fn into_bytes(self) -> BytesMut {
        self.bytes
    }
}
