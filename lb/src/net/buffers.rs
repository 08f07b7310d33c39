//! A worker's spare buffers: a connection takes one when bytes arrive and gives it back when they are used up.
//!
//! Why: an idle connection costs no buffer, and a busy one no allocation per request. Large buffers save system calls.
//! But many slow bodies with one each would use too much memory, so a message needs a [`Lease`] for them. Invariants: a
//! buffer that is taken is empty. One that has grown is not kept. At most [`LEASES_MAX`] leases are in use; the last
//! piece of a message may wait for its reader after the lease has ended.

use std::cell::Cell;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::{Outbox, Spare};

/// Room for a head and a small body.
pub(crate) const ROOM_BYTES: usize = 8 * 1024;
/// The most room that a caller may request. A large buffer has more, and a read may fill it.
const READ_MAX_BYTES: usize = 64 * 1024;
/// Room for that and a head. After 64 KiB of data, the rest is larger than a small buffer, so the two kinds cannot be
/// confused.
const LARGE_BYTES: usize = READ_MAX_BYTES + ROOM_BYTES + 1024;
/// An outbox that has grown beyond this is not kept.
const OUTBOX_MAX_BYTES: usize = 2 * ROOM_BYTES;
/// Messages of a worker that may be read in large pieces at the same time.
const LEASES_MAX: usize = 256;
/// The number of kept buffers of each kind, and of large buffers.
const SPARE_MAX: usize = 1024;
const SPARE_LARGE_MAX: usize = 64;

pub(crate) struct Buffers {
    small: Spare<BytesMut>,
    large: Spare<BytesMut>,
    outboxes: Spare<Outbox>,
    leases: Rc<Cell<usize>>,
}

/// The right to read one message in large pieces. It lasts until the message is read, because its pieces outlive the
/// buffers.
#[derive(Debug)]
pub(crate) struct Lease(Rc<Cell<usize>>);

// === impl Buffers ===

impl Buffers {
    /// None if there are too many.
    pub(crate) fn lease(&self) -> Option<Lease> {
        let leases = self.leases.get();
        (leases < LEASES_MAX).then(|| {
            self.leases.set(leases + 1);
            Lease(self.leases.clone())
        })
    }

    /// Ensures room for at least half of `wanted` bytes (of [`READ_MAX_BYTES`] at most). An empty buffer is exchanged,
    /// any other grows.
    #[inline]
    pub(crate) fn make_room(&self, buffer: &mut BytesMut, wanted: usize) {
        let wanted = wanted.min(READ_MAX_BYTES);
        if buffer.capacity() - buffer.len() > wanted / 2 {
            return;
        }
        if buffer.is_empty() {
            let other = std::mem::replace(buffer, self.take(wanted));
            // Mostly there was none.
            if other.capacity() > 0 {
                self.give_back(other);
            }
        } else {
            buffer.reserve(wanted.max(ROOM_BYTES));
        }
    }

    fn take(&self, wanted: usize) -> BytesMut {
        if wanted <= ROOM_BYTES {
            self.small.take().unwrap_or_else(|| BytesMut::with_capacity(ROOM_BYTES))
        } else {
            self.large.take().unwrap_or_else(|| BytesMut::with_capacity(LARGE_BYTES))
        }
    }

    /// Takes a buffer back. Drops it if it has bytes in it, has grown, or shares its memory with data that is still in
    /// use.
    #[inline]
    pub(crate) fn give_back(&self, mut buffer: BytesMut) {
        // The rest behind the data of a large buffer has any size. It becomes whole again only if nothing else uses its
        // memory.
        let whole = if buffer.capacity() > ROOM_BYTES { LARGE_BYTES } else { ROOM_BYTES };
        if !buffer.is_empty() || !buffer.try_reclaim(whole) {
            return;
        }
        match buffer.capacity() {
            ROOM_BYTES => self.small.put(buffer),
            LARGE_BYTES => self.large.put(buffer),
            _ => {}
        }
    }

    /// Takes back the buffer of `data`, unless something else uses it.
    pub(crate) fn recycle(&self, data: Bytes) {
        if let Ok(mut buffer) = data.try_into_mut() {
            buffer.clear();
            self.give_back(buffer);
        }
    }

    /// An outbox for a new message.
    #[inline]
    pub(crate) fn take_outbox(&self) -> Outbox {
        self.outboxes.take().unwrap_or_default()
    }

    /// Takes an outbox back. Bytes that it had not written are lost.
    #[inline]
    pub(crate) fn give_back_outbox(&self, mut outbox: Outbox) {
        outbox.begin();
        if (1..=OUTBOX_MAX_BYTES).contains(&outbox.memory()) {
            self.outboxes.put(outbox);
        }
    }

    /// Frees memory that was not needed for a while; to be called every second.
    pub(crate) fn shrink(&self) {
        self.small.shrink();
        self.large.shrink();
        self.outboxes.shrink();
    }
}

impl Default for Buffers {
    fn default() -> Self {
        let small = Spare::new(SPARE_MAX);
        Self { small, large: Spare::new(SPARE_LARGE_MAX), outboxes: Spare::new(SPARE_MAX), leases: Rc::default() }
    }
}

// === impl Lease ===

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;

    fn buffer(buffers: &Buffers, wanted: usize) -> BytesMut {
        let mut buffer = BytesMut::new();
        buffers.make_room(&mut buffer, wanted);
        buffer
    }

    #[test]
    fn a_buffer_is_reused_when_its_bytes_are_dropped() {
        let buffers = Buffers::default();
        for wanted in [1, ROOM_BYTES, ROOM_BYTES + 1, usize::MAX] {
            let mut first = buffer(&buffers, wanted);
            first.extend_from_slice(&[7; 100]);
            let place = first.as_ptr();
            drop(first.split_to(100).freeze());
            buffers.give_back(first);
            let second = buffer(&buffers, wanted);
            assert_eq!((second.len(), second.as_ptr()), (0, place), "the same memory for {wanted}");
            assert_eq!(second.capacity(), if wanted > ROOM_BYTES { LARGE_BYTES } else { ROOM_BYTES });
            buffers.give_back(second);
        }
    }

    #[test]
    fn a_large_buffer_comes_back_with_the_last_of_its_data_and_rest_and_not_before() {
        for bytes in [20_000, 57_344, 60_000, READ_MAX_BYTES, 65_000, LARGE_BYTES - 1, LARGE_BYTES] {
            for is_rest_first in [false, true] {
                let buffers = Buffers::default();
                let mut rest = buffer(&buffers, READ_MAX_BYTES);
                let place = rest.as_ptr();
                rest.extend_from_slice(&vec![7; bytes]);
                let (two, mut one) = (rest.split_to(9_000).freeze(), rest.split_to(bytes - 9_000).freeze());
                buffers.recycle(two);
                one.advance(bytes - 9_000);
                if is_rest_first {
                    buffers.give_back(rest);
                    assert!(buffers.small.take().is_none() && buffers.large.take().is_none(), "{bytes}: data is left");
                    buffers.recycle(one);
                } else {
                    buffers.recycle(one);
                    assert!(
                        buffers.small.take().is_none() && buffers.large.take().is_none(),
                        "{bytes}: the rest is left"
                    );
                    buffers.give_back(rest);
                }
                let again = buffers.large.take().map(|again| (again.as_ptr(), again.len(), again.capacity()));
                assert_eq!(again, Some((place, 0, LARGE_BYTES)), "{bytes}, {is_rest_first}");
            }
        }
        Buffers::default().recycle(Bytes::from_static(b"static"));
    }

    #[test]
    fn a_buffer_in_use_and_one_of_another_size_are_dropped() {
        let buffers = Buffers::default();
        for wanted in [1, READ_MAX_BYTES] {
            let mut used = buffer(&buffers, wanted);
            used.extend_from_slice(&[7; 100]);
            let data = used.split_to(50).freeze();
            buffers.give_back(used.split_off(50));
            buffers.give_back(used);
            assert_eq!(data[..], [7; 50]);
        }
        for size in [0, 100, 3 * ROOM_BYTES, 1 << 20] {
            buffers.give_back(BytesMut::with_capacity(size));
        }
        assert!(buffers.small.take().is_none() && buffers.large.take().is_none());
    }

    #[test]
    fn the_number_of_messages_read_in_large_pieces_is_limited() {
        let buffers = Buffers::default();
        let leases: Vec<_> = std::iter::from_fn(|| buffers.lease()).collect();
        assert_eq!(leases.len(), LEASES_MAX);
        drop(leases);
        assert!(buffers.lease().is_some());
    }

    #[test]
    fn bytes_that_wait_in_a_buffer_stay_when_it_needs_more_room() {
        let buffers = Buffers::default();
        let mut read = buffer(&buffers, 1);
        read.extend_from_slice(&[7; 6000]);
        buffers.make_room(&mut read, 1000);
        assert_eq!(read.capacity(), ROOM_BYTES);
        buffers.make_room(&mut read, usize::MAX);
        assert!(read[..] == [7; 6000] && read.capacity() - read.len() >= READ_MAX_BYTES);
        read.clear();
        let place = read.as_ptr();
        buffers.make_room(&mut read, READ_MAX_BYTES);
        assert_eq!(read.as_ptr(), place, "it has the room");
    }
}
