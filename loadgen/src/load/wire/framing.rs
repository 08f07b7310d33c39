//! The end of a body: by its length, by its last chunk, or at the end of its connection.
//!
//! Source: RFC 9112, sections 6 and 7.1. Invariants: no byte past the body's end is taken, and the end is known with
//! its last byte. It works on pieces of any size and stores no bytes.

use super::BadAnswer;

/// How a body ends, and how much is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::load) enum Framing {
    Length(u64),
    Chunked(Chunks),
    UntilClose,
}

/// The position within chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::load) enum Chunks {
    /// In a size: its value so far, and the number of its digits.
    Size {
        size: u64,
        digits: u32,
    },
    /// After a size, in a chunk extension.
    Extension(u64),
    /// After a size's carriage return.
    SizeEnd(u64),
    Data(u64),
    /// In the end of line after data; whether the carriage return has arrived.
    DataEnd {
        has_return: bool,
    },
    /// In a line of trailers: the number of its bytes so far, and whether the last was a carriage return.
    Trailer {
        bytes: u64,
        has_return: bool,
    },
    Done,
}

/// 15 hexadecimal digits are enough: 2^60 bytes are more than any body.
const DIGITS_MAX: u32 = 15;

// === impl Framing ===

impl Framing {
    pub(in crate::load) fn chunked() -> Self {
        Self::Chunked(Chunks::Size { size: 0, digits: 0 })
    }

    pub(in crate::load) fn is_done(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunks::Done))
    }

    /// Skips the bytes of the body; returns how many bytes of `piece` belong to it.
    pub(in crate::load) fn skip(&mut self, piece: &[u8]) -> Result<usize, BadAnswer> {
        let mut at = 0;
        while at < piece.len() && !self.is_done() {
            let here = (piece.len() - at) as u64;
            match self {
                Self::UntilClose => at = piece.len(),
                Self::Length(left) | Self::Chunked(Chunks::Data(left)) if *left > 0 => {
                    let taken = here.min(*left);
                    *left -= taken;
                    at += taken as usize;
                }
                // Unreachable, because a length of 0 is done.
                Self::Length(_) => break,
                Self::Chunked(chunks) => {
                    let (next, is_taken) = chunks.step(piece[at])?;
                    *chunks = next;
                    at += usize::from(is_taken);
                }
            }
        }
        Ok(at)
    }
}

// === impl Chunks ===

impl Chunks {
    /// The state after `byte`, and whether `byte` was used.
    fn step(self, byte: u8) -> Result<(Self, bool), BadAnswer> {
        let next = match (self, byte) {
            (Self::Size { digits: DIGITS_MAX, .. }, _) if byte.is_ascii_hexdigit() => {
                return Err(BadAnswer("a chunk's size is too long"));
            }
            (Self::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                Self::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Self::Size { digits: 0, .. }, _) => return Err(BadAnswer("a chunk's size is no number")),
            (Self::Size { size, .. }, b'\r') => Self::SizeEnd(size),
            (Self::Size { size, .. }, b';' | b' ' | b'\t') => Self::Extension(size),
            (Self::Size { .. }, _) => return Err(BadAnswer("a chunk's size is no number")),
            (Self::Extension(size), b'\r') => Self::SizeEnd(size),
            (Self::Extension(_), b'\n') => return Err(BadAnswer("a chunk's size has no end")),
            (Self::Extension(size), _) => Self::Extension(size),
            (Self::SizeEnd(0), b'\n') => Self::Trailer { bytes: 0, has_return: false },
            (Self::SizeEnd(size), b'\n') => Self::Data(size),
            (Self::SizeEnd(_), _) => return Err(BadAnswer("a chunk's size has no end")),
            (Self::Data(_), _) => return Ok((Self::DataEnd { has_return: false }, false)),
            (Self::DataEnd { has_return: false }, b'\r') => Self::DataEnd { has_return: true },
            (Self::DataEnd { has_return: true }, b'\n') => Self::Size { size: 0, digits: 0 },
            (Self::DataEnd { .. }, _) => return Err(BadAnswer("a chunk is longer than it says")),
            (Self::Trailer { bytes: 1, has_return: true }, b'\n') => Self::Done,
            (Self::Trailer { has_return: true, .. }, b'\n') => Self::Trailer { bytes: 0, has_return: false },
            (Self::Trailer { bytes, .. }, _) => Self::Trailer { bytes: bytes + 1, has_return: byte == b'\r' },
            (Self::Done, _) => return Ok((Self::Done, false)),
        };
        Ok((next, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `wire` in pieces; returns how many bytes were taken and whether the body was over.
    fn skip(mut framing: Framing, wire: &[u8], piece: usize) -> Result<(usize, bool), BadAnswer> {
        let mut taken = 0;
        for piece in wire.chunks(piece) {
            let now = framing.skip(piece)?;
            taken += now;
            if now < piece.len() {
                break;
            }
        }
        Ok((taken, framing.is_done()))
    }

    #[test]
    fn the_end_of_chunks_is_found_in_pieces_of_any_size() {
        let wire = b"5\r\nhello\r\n1;ext=\"x\"\r\n,\r\n6 \r\n world\r\n0\r\nx-trailer: 1\r\ny:\r\n\r\n";
        let behind = [wire, &b"HTTP/1.1 200"[..]].concat();
        for piece in 1..=behind.len() {
            assert_eq!(skip(Framing::chunked(), &behind, piece), Ok((wire.len(), true)), "in pieces of {piece}");
        }
        for cut in 0..wire.len() {
            assert_eq!(skip(Framing::chunked(), &wire[..cut], 64), Ok((cut, false)), "cut at {cut}");
        }
    }

    #[test]
    fn a_length_takes_exactly_its_bytes_and_a_close_takes_all() {
        assert_eq!(skip(Framing::Length(3), b"abcdef", 2), Ok((3, true)));
        assert_eq!(skip(Framing::Length(3), b"ab", 2), Ok((2, false)));
        assert_eq!(skip(Framing::Length(0), b"ab", 2), Ok((0, true)));
        assert_eq!(skip(Framing::UntilClose, b"abc", 2), Ok((3, false)));
    }

    #[test]
    fn broken_chunks_are_refused() {
        for wire in [
            &b"x\r\n"[..],
            b"\r\n",
            b"2\r\nabc\r\n",
            b"2\r\nab\n\n",
            b"-1\r\n",
            b"1000000000000000\r\n",
            b"2\nab",
            b"2\rx",
            b"2;\nab",
        ] {
            assert!(skip(Framing::chunked(), wire, 64).is_err(), "{}", wire.escape_ascii());
        }
    }

    #[test]
    fn the_end_of_random_chunks_is_found_and_mangled_ones_never_panic() {
        let seed = 2026;
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let mut wire = Vec::new();
            for _ in 0..random.usize(0..5) {
                let length = random.usize(1..300);
                wire.extend_from_slice(format!("{length:X}{}\r\n", ["", ";a=b", " "][random.usize(0..3)]).as_bytes());
                wire.extend(std::iter::repeat_with(|| random.u8(..)).take(length));
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(["0\r\n\r\n", "0\r\nt: 1\r\nu: 2\r\n\r\n"][random.usize(0..2)].as_bytes());
            let length = wire.len();
            wire.extend_from_slice(b"next");
            let piece = random.usize(1..=wire.len());
            assert_eq!(skip(Framing::chunked(), &wire, piece), Ok((length, true)), "in pieces of {piece}");
            let at = random.usize(0..wire.len());
            wire[at] = random.u8(..);
            if let Ok((taken, _)) = skip(Framing::chunked(), &wire, piece) {
                assert!(taken <= wire.len());
            }
        }
    }
}
