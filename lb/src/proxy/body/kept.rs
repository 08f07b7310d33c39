//! The part of a request's body that was taken, kept so that another attempt can send it again.
//!
//! Small pieces are copied together, so a body that arrives in crumbs costs no more memory than its bytes. A large
//! piece shares the buffer that it was read into. Invariants: the kept bytes are at most the limit. They are all bytes
//! that were taken, in order, or nothing is kept.

use bytes::Bytes;

use super::{Frame, Source};
use crate::http1::Fields;

/// A smaller piece is copied.
const LARGE_BYTES: usize = 8 * 1024;

pub(super) struct Kept {
    pieces: Vec<Piece>,
    trailers: Option<Box<Fields>>,
    /// The number of bytes that may still be kept.
    room: u64,
    /// The length that the head declares.
    pub(super) length: Option<u64>,
    /// While the pieces are sent again: the next one, and the source of what follows them.
    next: usize,
    pub(super) rest: Source,
    /// No attempt follows the present one.
    pub(super) is_last: bool,
}

enum Piece {
    Small(Vec<u8>),
    Large(Bytes),
}

// === impl Kept ===

impl Kept {
    pub(super) fn new(room: u64, length: Option<u64>) -> Self {
        let (pieces, trailers) = (Vec::new(), None);
        Self { pieces, trailers, room, length, next: 0, rest: Source::End, is_last: false }
    }

    /// Keeps one more frame; false if there is no room for it.
    pub(super) fn keep(&mut self, frame: &Frame) -> bool {
        match frame {
            Frame::Trailers(trailers) => self.trailers = Some(trailers.clone()),
            Frame::Data(data) => {
                let Some(room) = self.room.checked_sub(data.len() as u64) else { return false };
                self.room = room;
                match self.pieces.last_mut() {
                    _ if data.len() >= LARGE_BYTES => self.pieces.push(Piece::Large(data.clone())),
                    Some(Piece::Small(bytes)) => bytes.extend_from_slice(data),
                    _ => self.pieces.push(Piece::Small(data.to_vec())),
                }
            }
        }
        true
    }

    pub(super) fn begin_again(&mut self) {
        self.next = 0;
    }

    /// The next frame of the kept part, and whether it is the last one.
    pub(super) fn next(&mut self) -> (Option<Frame>, bool) {
        let piece = self.pieces.get(self.next);
        let frame = match piece {
            Some(Piece::Small(bytes)) => Some(Frame::Data(Bytes::copy_from_slice(bytes))),
            Some(Piece::Large(bytes)) => Some(Frame::Data(bytes.clone())),
            None => self.trailers.clone().map(Frame::Trailers),
        };
        self.next += 1;
        let is_last = piece.is_none() || (self.next == self.pieces.len() && self.trailers.is_none());
        (frame, is_last)
    }
}
