//! A worker's spare buffers: a connection takes one when bytes arrive and gives it back when they are used up.
//!
//! Why: an idle connection costs no buffer, and a busy one no allocation per request. Invariants: a buffer that is taken is empty; one
//! that has grown is not kept.

use bytes::BytesMut;

use super::{Outbox, Spare};

/// Room for a head and a small body.
const ROOM_BYTES: usize = 8 * 1024;

#[derive(Default)]
pub(crate) struct Buffers {
    free: Spare<BytesMut>,
    outboxes: Spare<Outbox>,
}

// === impl Buffers ===

impl Buffers {
    #[inline]
    pub(crate) fn take(&self) -> BytesMut {
        self.free.take().unwrap_or_else(|| BytesMut::with_capacity(ROOM_BYTES))
    }

    /// Takes a buffer back. One that has bytes in it, has grown, or shares its memory with data that is still under way is dropped.
    #[inline]
    pub(crate) fn give_back(&self, mut buffer: BytesMut) {
        if buffer.is_empty() && buffer.try_reclaim(ROOM_BYTES) && buffer.capacity() <= 2 * ROOM_BYTES {
            self.free.put(buffer);
        }
    }

    /// An outbox for a new message.
    #[inline]
    pub(crate) fn take_outbox(&self) -> Outbox {
        self.outboxes.take().map_or_else(Outbox::default, |mut outbox| {
            outbox.begin();
            outbox
        })
    }

    /// Takes an outbox back. What it had not written is lost.
    #[inline]
    pub(crate) fn give_back_outbox(&self, outbox: Outbox) {
        if (1..=2 * ROOM_BYTES).contains(&outbox.memory()) {
            self.outboxes.put(outbox);
        }
    }

    /// Lets go of what was not needed for a while; to be called every second.
    pub(crate) fn shrink(&self) {
        self.free.shrink();
        self.outboxes.shrink();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_bytes_are_let_go() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        buffer.extend_from_slice(&[7; 100]);
        let place = buffer.as_ptr();
        let data = buffer.split_to(100).freeze();
        drop(data);
        buffers.give_back(buffer);
        let buffer = buffers.take();
        assert_eq!((buffer.len(), buffer.as_ptr()), (0, place), "the same memory");
        assert!(buffer.capacity() >= ROOM_BYTES);
    }

    #[test]
    fn a_buffer_in_use_and_one_that_has_grown_are_dropped() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        buffer.extend_from_slice(&[7; 100]);
        let data = buffer.split_to(50).freeze();
        buffers.give_back(buffer.split_off(50));
        buffers.give_back(buffer);
        buffers.give_back(BytesMut::with_capacity(1 << 20));
        assert!(buffers.free.take().is_none() && data[..] == [7; 50]);
    }
}
