//! Decodes message bodies, for both roles.
//!
//! Source: RFC 9112, sections 6 and 7. Invariants: no byte after the body is taken. The end is known as soon as its
//! last byte has arrived, so that the connection can be reused at once. The result does not depend on how the bytes are
//! split into reads.

use bytes::{Bytes, BytesMut};

use super::chunked::Chunks;
use super::{Fields, Length, consume};

/// Data up to this size is copied. That is cheaper than sharing the read buffer, which then stays reusable.
const COPY_MAX_BYTES: usize = 1024;

/// Decoder for one body.
#[derive(Debug)]
pub struct BodyDecoder {
    left: Left,
}

/// The part of the body that is still to come.
#[derive(Debug)]
enum Left {
    Exact(u64),
    Chunked(Chunks),
    UntilClose,
    /// The peer closed the connection, which ended the body.
    Closed,
}

/// The chunked coding or a trailer is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is malformed: {0}")]
pub struct BadBody(pub &'static str);

// === impl BodyDecoder ===

impl BodyDecoder {
    pub fn new(length: Length) -> Self {
        let left = match length {
            Length::Exact(length) => Left::Exact(length),
            Length::Chunked => Left::Chunked(Chunks::default()),
            Length::UntilClose => Left::UntilClose,
        };
        Self { left }
    }

    /// Begins another body.
    #[inline]
    pub fn begin(&mut self, length: Length) {
        match (length, &mut self.left) {
            // Of most messages; nothing is moved.
            (Length::Exact(length), Left::Exact(left)) => *left = length,
            _ => *self = Self::new(length),
        }
    }

    /// Takes body bytes from `read`. The result is empty if more bytes are needed or the body [is done](Self::is_done).
    /// Data before a malformed byte is returned before the error.
    #[inline]
    pub fn take(&mut self, read: &mut BytesMut) -> Result<Bytes, BadBody> {
        let here = read.len();
        match &mut self.left {
            Left::Exact(left) => {
                let taken = usize::try_from(*left).map_or(here, |left| left.min(here));
                *left -= taken as u64;
                Ok(cut(read, taken, taken))
            }
            Left::Chunked(chunks) => chunks.take(read),
            Left::UntilClose => Ok(cut(read, here, here)),
            Left::Closed => Ok(Bytes::new()),
        }
    }

    /// Takes the rest of a body of known length if it is here and small: appends it to `out`. Returns how many bytes
    /// these were, or `None` if [`take`](Self::take) must be asked.
    #[inline]
    pub fn take_rest(&mut self, read: &mut BytesMut, out: &mut Vec<u8>) -> Option<usize> {
        let Left::Exact(left) = &mut self.left else { return None };
        let rest = usize::try_from(*left).ok().filter(|rest| *rest <= read.len().min(COPY_MAX_BYTES))?;
        out.extend_from_slice(&read[..rest]);
        consume(read, rest);
        *left = 0;
        Some(rest)
    }

    /// The whole body was taken.
    #[inline]
    pub fn is_done(&self) -> bool {
        match &self.left {
            Left::Exact(left) => *left == 0,
            Left::Chunked(chunks) => chunks.is_done(),
            Left::UntilClose => false,
            Left::Closed => true,
        }
    }

    /// Call this when the peer has closed and `read` is empty. Returns whether the body is complete: done before, or
    /// ended by the close.
    pub fn at_eof(&mut self) -> bool {
        if matches!(self.left, Left::UntilClose) {
            self.left = Left::Closed;
        }
        self.is_done()
    }

    /// Useful free space in the read buffer, in bytes; 0 if unknown.
    pub fn wants(&self) -> usize {
        match &self.left {
            Left::Exact(left) => usize::try_from(*left).unwrap_or(usize::MAX),
            Left::Chunked(chunks) => chunks.wants(),
            Left::UntilClose => usize::MAX,
            Left::Closed => 0,
        }
    }

    /// The length of the whole body if the head states it. Valid before the first `take`.
    pub fn exact(&self) -> Option<u64> {
        match self.left {
            Left::Exact(left) => Some(left),
            _ => None,
        }
    }

    /// The body is done, and its trailers were not taken yet.
    pub fn has_trailers(&self) -> bool {
        matches!(&self.left, Left::Chunked(chunks) if chunks.has_trailers())
    }

    /// Takes the trailers of a body that is done; `None` if there are none.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        match &mut self.left {
            Left::Chunked(chunks) => chunks.take_trailers(),
            _ => None,
        }
    }

    /// Chunks seen so far, without the last (empty) one. Callers use it to slow down a peer that sends tiny chunks
    /// only.
    pub fn chunks(&self) -> u64 {
        match &self.left {
            Left::Chunked(chunks) => chunks.count(),
            _ => 0,
        }
    }
}

/// Removes `taken` bytes from `read` and returns the first `data` of them.
#[inline]
pub(super) fn cut(read: &mut BytesMut, data: usize, taken: usize) -> Bytes {
    if data > COPY_MAX_BYTES {
        let bytes = read.split_to(data).freeze();
        consume(read, taken - data);
        return bytes;
    }
    let bytes = if data == 0 { Bytes::new() } else { Bytes::copy_from_slice(&read[..data]) };
    consume(read, taken);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_takes_exactly_that_many_bytes() {
        let (mut read, mut body) = (BytesMut::from("ab"), BodyDecoder::new(Length::Exact(3)));
        assert_eq!((body.exact(), body.wants(), body.is_done()), (Some(3), 3, false));
        assert_eq!((body.take(&mut read).unwrap(), body.is_done(), body.wants()), (Bytes::from("ab"), false, 1));
        assert!(body.take(&mut read).unwrap().is_empty() && !body.at_eof());
        read.extend_from_slice(b"cdef");
        assert_eq!((body.take(&mut read).unwrap(), body.is_done(), &read[..]), (Bytes::from("c"), true, &b"def"[..]));
        assert!(body.take(&mut read).unwrap().is_empty() && body.at_eof());
        assert!(BodyDecoder::new(Length::Exact(0)).is_done());
    }

    #[test]
    fn the_rest_of_a_small_body_is_appended_if_it_is_here() {
        let (mut read, mut out) = (BytesMut::from("abcd"), b"-".to_vec());
        for (length, taken) in [
            (Length::Exact(3), Some(3)),
            (Length::Exact(2), None),
            (Length::Exact(0), Some(0)),
            (Length::Exact(1), Some(1)),
            (Length::Exact(u64::MAX), None),
            (Length::Chunked, None),
            (Length::UntilClose, None),
        ] {
            let mut body = BodyDecoder::new(length);
            assert_eq!((body.take_rest(&mut read, &mut out), body.is_done()), (taken, taken.is_some()), "{length:?}");
        }
        assert_eq!((&out[..], read.len()), (&b"-abcd"[..], 0));
        for (length, taken) in [(COPY_MAX_BYTES, Some(COPY_MAX_BYTES)), (COPY_MAX_BYTES + 1, None)] {
            let mut read = BytesMut::from(&vec![b'x'; length][..]);
            assert_eq!(BodyDecoder::new(Length::Exact(length as u64)).take_rest(&mut read, &mut out), taken);
        }
    }

    #[test]
    fn only_a_body_until_close_is_complete_at_eof() {
        let (mut read, mut body) = (BytesMut::from("abc"), BodyDecoder::new(Length::UntilClose));
        assert_eq!((body.exact(), body.take(&mut read).unwrap()), (None, Bytes::from("abc")));
        assert!(!body.is_done() && body.at_eof() && body.is_done());
        assert!(!BodyDecoder::new(Length::Chunked).at_eof() && !BodyDecoder::new(Length::Exact(1)).at_eof());
    }

    #[test]
    fn small_data_is_copied_and_large_data_is_not() {
        for (length, is_copied) in [(COPY_MAX_BYTES, true), (COPY_MAX_BYTES + 1, false), (100_000, false)] {
            let mut read = BytesMut::from(&vec![b'x'; length][..]);
            let place = read.as_ptr();
            let data = BodyDecoder::new(Length::Exact(length as u64)).take(&mut read).unwrap();
            assert_eq!((data.len(), data.as_ptr() != place), (length, is_copied));
        }
    }
}
