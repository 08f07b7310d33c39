//! The body of a backend's answer: from the bytes on the connection to the bytes of the body.
//!
//! Source: RFC 9112, sections 6 and 7.1. Invariants: never a byte past the body's end is taken; the end is known as soon as its last
//! byte is here, so that the connection can serve on at once. Trailers end at this hop.

use bytes::{Buf, Bytes, BytesMut};

use super::head::BadAnswer;

/// A line with a chunk's size, or all trailers, may have so many bytes.
const LINES_MAX_BYTES: usize = 16 * 1024;
/// Data up to this is copied: cheaper than sharing the read buffer, which then stays ours.
const COPY_MAX_BYTES: usize = 1024;

/// How a body ends, and how much of it is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked(Chunks),
    UntilClose,
}

/// Where in the chunks we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// A line with a size.
    Size,
    /// Data, so many bytes.
    Data(u64),
    /// The end of line behind data.
    DataEnd,
    /// Lines up to an empty one; so many bytes of them were seen.
    Trailers(usize),
    Done,
}

// === impl Framing ===

impl Framing {
    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunks::Size)
    }

    /// The body is over.
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunks::Done))
    }

    /// The whole body's length, asked before any of it was taken.
    pub(super) fn exact(&self) -> Option<u64> {
        match self {
            Self::Length(length) => Some(*length),
            _ => None,
        }
    }

    /// How much it would be good to have room for.
    pub(super) fn wants(&self) -> usize {
        match self {
            Self::Length(left) | Self::Chunked(Chunks::Data(left)) => usize::try_from(*left).unwrap_or(usize::MAX),
            Self::Chunked(_) => 0,
            Self::UntilClose => usize::MAX,
        }
    }

    /// Takes body bytes that are in `read`; empty when more has to come (or the body [is done](Self::is_done)).
    pub(super) fn take(&mut self, read: &mut BytesMut) -> Result<Bytes, BadAnswer> {
        self.skip_lines(read)?;
        let here = read.len() as u64;
        let data = match self {
            Self::Length(left) | Self::Chunked(Chunks::Data(left)) => {
                let taken = here.min(*left);
                *left -= taken;
                cut(read, taken as usize)
            }
            Self::Chunked(_) => Bytes::new(),
            Self::UntilClose => cut(read, read.len()),
        };
        // What follows may be here already: the end of the last chunk, mostly.
        self.skip_lines(read)?;
        Ok(data)
    }

    /// Passes over what lies between data, as far as it is here.
    fn skip_lines(&mut self, read: &mut BytesMut) -> Result<(), BadAnswer> {
        let Self::Chunked(chunks) = self else { return Ok(()) };
        loop {
            *chunks = match *chunks {
                Chunks::Data(0) => Chunks::DataEnd,
                Chunks::DataEnd => match (read.first(), read.get(1)) {
                    (Some(b'\r'), Some(b'\n')) => {
                        read.advance(2);
                        Chunks::Size
                    }
                    (None, _) | (Some(b'\r'), None) => return Ok(()),
                    _ => return Err(BadAnswer("a chunk is longer than it says")),
                },
                Chunks::Size => match httparse::parse_chunk_size(read) {
                    Ok(httparse::Status::Complete((length, 0))) => {
                        read.advance(length);
                        Chunks::Trailers(0)
                    }
                    Ok(httparse::Status::Complete((length, size))) => {
                        read.advance(length);
                        Chunks::Data(size)
                    }
                    Ok(httparse::Status::Partial) if read.len() > LINES_MAX_BYTES => {
                        return Err(BadAnswer("a chunk's size is too long"));
                    }
                    Ok(httparse::Status::Partial) => return Ok(()),
                    Err(_) => return Err(BadAnswer("a chunk's size is no number")),
                },
                Chunks::Trailers(seen) => match read.windows(2).position(|pair| pair == b"\r\n") {
                    Some(0) => {
                        read.advance(2);
                        Chunks::Done
                    }
                    Some(length) if seen + length <= LINES_MAX_BYTES => {
                        read.advance(length + 2);
                        Chunks::Trailers(seen + length)
                    }
                    None if seen + read.len() <= LINES_MAX_BYTES => return Ok(()),
                    _ => return Err(BadAnswer("its trailers are too long")),
                },
                Chunks::Data(_) | Chunks::Done => return Ok(()),
            };
        }
    }
}

fn cut(read: &mut BytesMut, bytes: usize) -> Bytes {
    if bytes > COPY_MAX_BYTES {
        return read.split_to(bytes).freeze();
    }
    let data = Bytes::copy_from_slice(&read[..bytes]);
    read.advance(bytes);
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `wire` in pieces of `piece` bytes; answers the body, what was left over, and whether it was done.
    fn decode(mut framing: Framing, wire: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), BadAnswer> {
        let (mut read, mut body) = (BytesMut::new(), Vec::new());
        for piece in wire.chunks(piece) {
            read.extend_from_slice(piece);
            loop {
                let data = framing.take(&mut read)?;
                if data.is_empty() {
                    break;
                }
                body.extend_from_slice(&data);
            }
        }
        Ok((body, read.len(), framing.is_done()))
    }

    #[test]
    fn chunks_are_decoded_however_they_are_cut() {
        let wire = b"5\r\nhello\r\n1;ext=\"x\"\r\n,\r\n6 \r\n world\r\n0\r\nx-trailer: 1\r\n\r\nnext";
        for piece in 1..=wire.len() {
            let (body, left, done) = decode(Framing::chunked(), wire, piece).unwrap();
            assert_eq!((&body[..], left, done), (&b"hello, world"[..], 4, true), "in pieces of {piece}");
        }
    }

    #[test]
    fn the_end_is_known_with_its_last_byte_and_not_before() {
        let wire = b"2\r\nab\r\n0\r\n\r\n";
        for cut in 0..wire.len() {
            assert!(!decode(Framing::chunked(), &wire[..cut], 64).unwrap().2, "cut at {cut}");
        }
        assert_eq!(decode(Framing::chunked(), wire, 64).unwrap(), (b"ab".to_vec(), 0, true));
    }

    #[test]
    fn a_length_takes_just_so_many_bytes() {
        assert_eq!(decode(Framing::Length(3), b"abcdef", 2).unwrap(), (b"abc".to_vec(), 3, true));
        assert_eq!(decode(Framing::Length(3), b"ab", 2).unwrap(), (b"ab".to_vec(), 0, false));
        assert_eq!(decode(Framing::UntilClose, b"abc", 2).unwrap(), (b"abc".to_vec(), 0, false));
    }

    #[test]
    fn large_data_is_passed_on_whole() {
        let body: Vec<u8> = (0..100_000_u32).map(|i| i as u8).collect();
        let wire = [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
        for piece in [1000, 1024, 1025, 70_000, wire.len()] {
            assert_eq!(
                decode(Framing::chunked(), &wire, piece).unwrap(),
                (body.clone(), 0, true),
                "in pieces of {piece}"
            );
        }
    }

    #[test]
    fn broken_chunks_are_refused() {
        for wire in [&b"x\r\n"[..], b"2\r\nabc\r\n", b"2\r\nab\n\n0\r\n\r\n", b"-1\r\n", b"10000000000000000\r\n"] {
            assert!(decode(Framing::chunked(), wire, 64).is_err(), "{}", wire.escape_ascii());
        }
        let endless = [b"0\r\n".to_vec(), b"x: y\r\n".repeat(10_000)].concat();
        assert_eq!(decode(Framing::chunked(), &endless, 4096), Err(BadAnswer("its trailers are too long")));
        let endless = [b"1".to_vec(), b";".repeat(LINES_MAX_BYTES + 1)].concat();
        assert!(decode(Framing::chunked(), &endless, 4096).is_err());
    }

    #[test]
    fn any_body_in_any_chunks_and_any_pieces_comes_out_as_it_went_in() {
        let seed = 2026;
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..2_000 {
            let mut wire = Vec::new();
            let mut body = Vec::new();
            for _ in 0..random.usize(0..6) {
                let data: Vec<u8> = (0..random.usize(1..3_000)).map(|_| random.u8(..)).collect();
                wire.extend_from_slice(
                    format!("{:X}{}\r\n", data.len(), ["", ";a=b", " "][random.usize(0..3)]).as_bytes(),
                );
                wire.extend_from_slice(&data);
                wire.extend_from_slice(b"\r\n");
                body.extend_from_slice(&data);
            }
            wire.extend_from_slice(["0\r\n\r\n", "0\r\nt: 1\r\nu: 2\r\n\r\n"][random.usize(0..2)].as_bytes());
            let behind = random.usize(0..20);
            wire.extend(std::iter::repeat_n(b'H', behind));
            let piece = random.usize(1..=wire.len());
            assert_eq!(decode(Framing::chunked(), &wire, piece).unwrap(), (body, behind, true), "in pieces of {piece}");
        }
    }

    #[test]
    fn mangled_chunks_never_panic_nor_yield_more_than_came() {
        let seed = 4711;
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let wire = b"5\r\nhello\r\na;x\r\n0123456789\r\n0\r\nx: y\r\n\r\n";
        for _ in 0..50_000 {
            let mut mangled = wire.to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..mangled.len());
                match random.u8(0..3) {
                    0 => mangled[at] = random.u8(..),
                    1 => drop(mangled.remove(at)),
                    _ => mangled.insert(at, b"0\r\n;f"[random.usize(0..5)]),
                }
            }
            let piece = random.usize(1..=mangled.len());
            if let Ok((body, left, _)) = decode(Framing::chunked(), &mangled, piece) {
                assert!(body.len() + left <= mangled.len());
            }
        }
    }
}
