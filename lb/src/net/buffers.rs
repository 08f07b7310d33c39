//! A worker's spare buffers: a connection takes one when bytes arrive and gives it back when they are used up.
//!
//! Why: an idle connection costs no buffer, and a busy one no allocation per request. Invariants: a buffer that is taken is empty; at
//! most [`FREE_MAX`] of a kind lie here, so a burst of connections does not keep its memory.

use std::cell::RefCell;

use bytes::BytesMut;

use super::Outbox;

/// Room for a head and a small body.
const ROOM_BYTES: usize = 8 * 1024;
const FREE_MAX: usize = 64;

#[derive(Default)]
pub(crate) struct Buffers {
    free: RefCell<Vec<BytesMut>>,
    outboxes: RefCell<Vec<Outbox>>,
}

// === impl Buffers ===

impl Buffers {
    pub(crate) fn take(&self) -> BytesMut {
        self.free.borrow_mut().pop().unwrap_or_else(|| BytesMut::with_capacity(ROOM_BYTES))
    }

    /// Takes a buffer back. One that has bytes in it, has grown, or shares its memory with data that is still under way is dropped.
    pub(crate) fn give_back(&self, mut buffer: BytesMut) {
        let mut free = self.free.borrow_mut();
        let is_fit = buffer.is_empty() && buffer.try_reclaim(ROOM_BYTES) && buffer.capacity() <= 2 * ROOM_BYTES;
        if is_fit && free.len() < FREE_MAX {
            free.push(buffer);
        }
    }

    pub(crate) fn take_outbox(&self) -> Outbox {
        self.outboxes.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes an outbox back. What it had not written is lost.
    pub(crate) fn give_back_outbox(&self, mut outbox: Outbox) {
        let mut free = self.outboxes.borrow_mut();
        if outbox.begin().capacity() <= 2 * ROOM_BYTES && free.len() < FREE_MAX {
            free.push(outbox);
        }
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
    fn a_buffer_in_use_one_that_has_grown_and_one_too_many_are_dropped() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        buffer.extend_from_slice(&[7; 100]);
        let data = buffer.split_to(50).freeze();
        buffers.give_back(buffer.split_off(50));
        buffers.give_back(buffer);
        buffers.give_back(BytesMut::with_capacity(1 << 20));
        assert!(buffers.free.borrow().is_empty() && data[..] == [7; 50]);
        (0..2 * FREE_MAX).map(|_| BytesMut::with_capacity(ROOM_BYTES)).for_each(|buffer| buffers.give_back(buffer));
        assert_eq!(buffers.free.borrow().len(), FREE_MAX);
    }
}
