//! The part of a request's body that was taken, kept so that another attempt can send it again.
//!
//! Why a copy: a piece that shares the buffer that it was read into would hold all of it, many times the piece.
//! Invariants: the kept bytes are at most the limit, and hold at most twice their memory. They are all bytes that were
//! taken, in order, or nothing is kept.

use bytes::Bytes;

use super::{Frame, Source};
use crate::http1::Fields;

pub(super) struct Kept {
    bytes: Vec<u8>,
    trailers: Option<Box<Fields>>,
    /// The number of bytes that may still be kept.
    room: u64,
    /// The length that the head declares.
    pub(super) length: Option<u64>,
    /// While they are sent again: the bytes were returned.
    has_returned_bytes: bool,
    /// Meanwhile: the source of what follows them.
    pub(super) rest: Source,
    /// No attempt follows the present one.
    pub(super) is_last: bool,
}

// === impl Kept ===

impl Kept {
    pub(super) fn new(room: u64, length: Option<u64>) -> Self {
        let (bytes, trailers) = (Vec::new(), None);
        Self { bytes, trailers, room, length, has_returned_bytes: false, rest: Source::End, is_last: false }
    }

    /// Keeps one more frame; false if there is no room for it.
    pub(super) fn keep(&mut self, frame: &Frame) -> bool {
        match frame {
            Frame::Trailers(trailers) => self.trailers = Some(trailers.clone()),
            Frame::Data(data) => {
                let Some(room) = self.room.checked_sub(data.len() as u64) else { return false };
                self.room = room;
                self.bytes.extend_from_slice(data);
            }
        }
        true
    }

    pub(super) fn begin_again(&mut self) {
        self.has_returned_bytes = false;
    }

    /// The next frame of the kept part, and whether it is the last one.
    pub(super) fn next(&mut self) -> (Option<Frame>, bool) {
        if std::mem::replace(&mut self.has_returned_bytes, true) || self.bytes.is_empty() {
            return (self.trailers.clone().map(Frame::Trailers), true);
        }
        let bytes = match self.is_last {
            true => Bytes::from(std::mem::take(&mut self.bytes)),
            false => Bytes::copy_from_slice(&self.bytes),
        };
        (Some(Frame::Data(bytes)), self.trailers.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_bytes_hold_no_more_than_twice_their_memory() {
        const LIMIT: usize = 64 * 1024;
        for piece in [1, 128, 8 * 1024, LIMIT / 2, LIMIT] {
            let mut kept = Kept::new(LIMIT as u64, None);
            // Each piece is a part of a large buffer.
            let buffers: Vec<Bytes> = (0..LIMIT / piece).map(|_| vec![7; 73 * 1024].into()).take(100).collect();
            for at in 0..LIMIT / piece {
                assert!(kept.keep(&Frame::Data(buffers[at % buffers.len()].slice(..piece))));
            }
            assert!(!kept.keep(&Frame::Data(Bytes::from_static(b"x"))));
            assert!(buffers.iter().all(Bytes::is_unique), "pieces of {piece} bytes");
            assert!(kept.bytes.capacity() <= 2 * LIMIT, "pieces of {piece} bytes");
        }
    }

    #[test]
    fn kept_frames_come_again_in_every_round_and_the_last_round_copies_nothing() {
        let mut kept = Kept::new(10, None);
        assert!(matches!(kept.next(), (None, true)), "nothing was taken");
        for data in [&b"abc"[..], b"def"] {
            assert!(kept.keep(&Frame::Data(Bytes::from_static(data))));
        }
        assert!(kept.keep(&Frame::Trailers(Box::default())));
        for is_last in [false, false, true] {
            (kept.is_last, kept.has_returned_bytes) = (is_last, false);
            assert!(matches!(kept.next(), (Some(Frame::Data(data)), false) if data == "abcdef"[..]));
            assert!(matches!(kept.next(), (Some(Frame::Trailers(_)), true)));
        }
        assert!(kept.bytes.is_empty());
    }
}
