//! The first part of a request's body, read before the pick because the strategy asks for it.
//!
//! It lies between the client's socket and the attempts: an attempt takes it as if it came from the socket then. So
//! time-outs, framing and retries are those of any other body. It stays until no further attempt can begin, because a
//! retry shows it to the strategy again. Invariants: the bytes are in order and each attempt gets them once. Memory is
//! at most twice the wanted part, and the end of the read that completed it.

use bytes::{Bytes, BytesMut};

use super::{Frame, Source};
use crate::http1::Fields;

pub(super) struct Held {
    /// The number of bytes that the strategy asks for.
    wanted: usize,
    filling: BytesMut,
    bytes: Bytes,
    /// Bytes that were read together with the last of them.
    more: Bytes,
    trailers: Option<Box<Fields>>,
    /// The length that the head declares; without one, the length of a body of which all is here.
    pub(super) length: Option<u64>,
    /// The same, only by the head.
    pub(super) declared: Option<u64>,
    next: Part,
    /// The source of the part after it.
    pub(super) rest: Source,
    /// No attempt follows the present one.
    pub(super) is_last: bool,
}

/// The part that an attempt gets next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Bytes,
    More,
    Trailers,
    None,
}

// === impl Held ===

impl Held {
    /// `wanted`: the number of bytes. `declared`: the length by the head.
    pub(super) fn new(wanted: u32, declared: Option<u64>) -> Self {
        let wanted = wanted as usize;
        let expected = declared.map_or(0, |length| usize::try_from(length).unwrap_or(wanted).min(wanted));
        Self {
            wanted,
            filling: BytesMut::with_capacity(expected),
            bytes: Bytes::new(),
            more: Bytes::new(),
            trailers: None,
            length: declared,
            declared,
            next: Part::Bytes,
            rest: Source::End,
            is_last: false,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.filling.len() >= self.wanted
    }

    pub(super) fn put(&mut self, frame: Frame) {
        match frame {
            Frame::Trailers(trailers) => self.trailers = Some(trailers),
            Frame::Data(mut data) => {
                let room = (self.wanted - self.filling.len()).min(data.len());
                self.filling.extend_from_slice(&data[..room]);
                self.more = data.split_off(room);
            }
        }
    }

    /// It is full, or the body has ended. `rest`: the source of the part after it.
    pub(super) fn close(&mut self, rest: Source) {
        self.bytes = std::mem::take(&mut self.filling).freeze();
        if matches!(rest, Source::End) {
            self.length = Some((self.bytes.len() + self.more.len()) as u64);
        }
        self.rest = rest;
        self.skip();
    }

    /// At most `most` of its bytes.
    pub(super) fn prefix(&self, most: u32) -> &[u8] {
        &self.bytes[..self.bytes.len().min(most as usize)]
    }

    /// Every attempt has it, or can have it from the bytes that are kept for retries.
    pub(super) fn is_taken(&self) -> bool {
        self.next == Part::None
    }

    /// The next frame; `None` only if there is none at all.
    pub(super) fn take(&mut self) -> Option<Frame> {
        let frame = match self.next {
            Part::Bytes => Some(Frame::Data(self.bytes.clone())),
            Part::More => Some(Frame::Data(std::mem::take(&mut self.more))),
            Part::Trailers => self.trailers.take().map(Frame::Trailers),
            Part::None => None,
        };
        self.next = match self.next {
            Part::Bytes => Part::More,
            Part::More => Part::Trailers,
            Part::Trailers | Part::None => Part::None,
        };
        self.skip();
        frame
    }

    /// Goes on to a part that is not empty.
    fn skip(&mut self) {
        if self.next == Part::Bytes && self.bytes.is_empty() {
            self.next = Part::More;
        }
        if self.next == Part::More && self.more.is_empty() {
            self.next = Part::Trailers;
        }
        if self.next == Part::Trailers && self.trailers.is_none() {
            self.next = Part::None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(bytes: &'static [u8]) -> Frame {
        Frame::Data(Bytes::from_static(bytes))
    }

    fn frames(held: &mut Held) -> Vec<String> {
        std::iter::from_fn(|| held.take())
            .map(|frame| match frame {
                Frame::Data(data) => String::from_utf8(data.to_vec()).unwrap(),
                Frame::Trailers(_) => "trailers".to_owned(),
            })
            .collect()
    }

    #[test]
    fn the_wanted_part_is_shown_and_every_byte_is_taken_once() {
        let mut held = Held::new(4, None);
        held.put(data(b"abc"));
        assert!(!held.is_full());
        held.put(data(b"defg"));
        assert!(held.is_full());
        held.close(Source::Again);
        assert_eq!((held.prefix(9), held.prefix(2), held.length), (&b"abcd"[..], &b"ab"[..], None));
        assert_eq!(frames(&mut held), ["abcd", "efg"]);
        assert!(held.is_taken() && held.prefix(9) == b"abcd");
    }

    #[test]
    fn a_body_that_ends_before_has_its_length_and_its_trailers() {
        let mut held = Held::new(4, None);
        held.put(data(b"ab"));
        held.put(Frame::Trailers(Box::default()));
        held.close(Source::End);
        assert_eq!((held.length, held.declared), (Some(2), None));
        assert_eq!(frames(&mut held), ["ab", "trailers"]);
        let mut empty = Held::new(4, None);
        empty.close(Source::End);
        assert!(empty.is_taken() && empty.length == Some(0) && frames(&mut empty).is_empty());
    }

    #[test]
    fn held_bytes_hold_no_more_than_twice_their_memory_and_the_last_read() {
        const WANTED: usize = 64 * 1024;
        for piece in [1, 1000, 8 * 1024, WANTED] {
            let mut held = Held::new(WANTED as u32, None);
            let buffer = Bytes::from(vec![7; 73 * 1024]);
            while !held.is_full() {
                held.put(Frame::Data(buffer.slice(..piece)));
                assert!(held.more.len() < piece);
            }
            assert!(held.filling.capacity() <= 2 * WANTED, "pieces of {piece} bytes");
        }
    }
}
