//! Decodes the chunked coding and the trailers after it.
//!
//! Source: RFC 9112, section 7.1. There is a state for each byte, so reads may end anywhere. The data of small chunks
//! is moved together inside the read buffer and returned as one piece. So a one-byte chunk costs some instructions and
//! not a pass through the request path. Invariants: all examined bytes are removed from `read`, except an incomplete
//! trailer line. An error does not change the state, so the next call returns it again.

use bytes::{Buf, Bytes, BytesMut};

use super::body::{BadBody, cut};
use super::class::hex_value;
use super::framing::LENGTH_MAX;
use super::scan::Line;
use super::{Fields, Scan};

/// Limit for the size and extensions of one chunk, and for all trailers together.
const LINES_MAX_BYTES: usize = 16 * 1024;
/// Limit for the number of trailers.
const TRAILERS_MAX: usize = 100;
/// Data of this size or more is not moved to join the data before it.
const MOVE_MAX_BYTES: usize = 8 * 1024;

/// Decoder state of one body.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
    /// Chunks seen, without the last.
    count: u64,
    /// Bytes of the current size line; later of the complete trailer lines.
    line_bytes: usize,
    /// How far the incomplete trailer line was searched.
    scan: Scan,
    trailers: Fields,
}

/// The element that the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The first digit of a size.
    #[default]
    Begin,
    /// More digits of a size; its value so far.
    Size(u64),
    /// An extension after the size. It is skipped.
    Extension(u64),
    /// The LF after a size.
    SizeEnd(u64),
    /// Data; the bytes left, at least one.
    Data(u64),
    /// The CR after data.
    DataCr,
    /// The LF after data.
    DataLf,
    /// Trailer lines and the empty line.
    Trailers,
    Done,
}

// === impl Chunks ===

impl Chunks {
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub(super) fn wants(&self) -> usize {
        match self.state {
            State::Data(left) => usize::try_from(left).unwrap_or(usize::MAX),
            _ => 0,
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn has_trailers(&self) -> bool {
        self.is_done() && !self.trailers.is_empty()
    }

    pub(super) fn take_trailers(&mut self) -> Option<Fields> {
        self.has_trailers().then(|| std::mem::take(&mut self.trailers))
    }

    /// See [`BodyDecoder::take`](super::BodyDecoder::take).
    pub(super) fn take(&mut self, read: &mut BytesMut) -> Result<Bytes, BadBody> {
        // Bytes before `at` are examined; the data found lies between `begin` and `end`.
        let (mut at, mut begin, mut end) = (0, 0, 0);
        let bytes = &mut read[..];
        while at < bytes.len() && self.state != State::Done {
            if self.state == State::Begin
                && let Some((line, size)) = whole_chunk(&bytes[at..])
            {
                let data = at + line;
                if begin == end {
                    (begin, end) = (data, data);
                } else if size >= MOVE_MAX_BYTES {
                    break;
                } else {
                    bytes.copy_within(data..data + size, end);
                }
                end += size;
                at = data + size + 2;
                self.count += 1;
                continue;
            }
            let step = match self.state {
                State::Data(left) => {
                    let piece = usize::try_from(left).map_or(bytes.len() - at, |left| left.min(bytes.len() - at));
                    if begin == end {
                        (begin, end) = (at, at);
                    } else if piece >= MOVE_MAX_BYTES {
                        break;
                    } else {
                        bytes.copy_within(at..at + piece, end);
                    }
                    end += piece;
                    at += piece;
                    let left = left - piece as u64;
                    self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                    continue;
                }
                State::Trailers => self.trailers(&bytes[at..]),
                _ => self.framing(bytes[at]),
            };
            match step {
                Ok(0) => break,
                Ok(taken) => at += taken,
                Err(error) if begin == end => {
                    read.advance(at);
                    return Err(error);
                }
                // Return the data first; the next call returns the error.
                Err(_) => break,
            }
        }
        read.advance(begin);
        Ok(cut(read, end - begin, at - begin))
    }

    /// Takes one byte that is neither data nor a trailer.
    #[inline]
    fn framing(&mut self, byte: u8) -> Result<usize, BadBody> {
        self.state = match (self.state, byte) {
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Begin,
            (State::Size(size) | State::Extension(size), b'\r') => State::SizeEnd(size),
            (State::SizeEnd(size), b'\n') => {
                self.line_bytes = 0;
                self.count += u64::from(size > 0);
                if size > 0 { State::Data(size) } else { State::Trailers }
            }
            (State::Begin, digit) => self.digit(0, digit)?,
            (State::Size(size), b';') => self.extension(size)?,
            (State::Size(size), digit) => self.digit(size, digit)?,
            (State::Extension(size), b'\t' | b' '..=b'~' | 0x80..) => self.extension(size)?,
            (State::Extension(_), _) => return Err(BadBody("a chunk extension contains a control character")),
            (State::SizeEnd(_), _) => return Err(BadBody("a chunk size line does not end in CR LF")),
            _ => return Err(BadBody("a chunk is longer than its size, or does not end in CR LF")),
        };
        Ok(1)
    }

    fn digit(&mut self, size: u64, digit: u8) -> Result<State, BadBody> {
        let value = hex_value(digit).ok_or(BadBody("a chunk size is not a hexadecimal number"))?;
        // Cannot overflow: `size` is at most 2^53.
        let size = (size << 4) + u64::from(value);
        if size > LENGTH_MAX {
            return Err(BadBody("a chunk size is above 2^53"));
        }
        self.longer_line()?;
        Ok(State::Size(size))
    }

    fn extension(&mut self, size: u64) -> Result<State, BadBody> {
        self.longer_line()?;
        Ok(State::Extension(size))
    }

    fn longer_line(&mut self) -> Result<(), BadBody> {
        if self.line_bytes == LINES_MAX_BYTES {
            return Err(BadBody("a chunk size line is too long"));
        }
        self.line_bytes += 1;
        Ok(())
    }

    /// Takes all complete trailer lines and returns their length.
    fn trailers(&mut self, bytes: &[u8]) -> Result<usize, BadBody> {
        let mut taken = 0;
        loop {
            let room = LINES_MAX_BYTES - self.line_bytes;
            let input = &bytes[taken..];
            let input = &input[..input.len().min(room)];
            let mut scan = self.scan;
            let line = match scan.next_line(input) {
                Ok(Some(line)) => line,
                Ok(None) if input.len() < room => {
                    self.scan = scan;
                    return Ok(taken);
                }
                // Count the lines before it first; the next call returns the error.
                _ if taken > 0 => return Ok(taken),
                Ok(None) => return Err(BadBody("the trailers are too long")),
                Err(_) => return Err(BadBody("the trailers contain a bare CR or LF")),
            };
            if line.is_empty() {
                self.state = State::Done;
                return Ok(taken + scan.taken());
            }
            if let Err(sentence) = self.trailer(line) {
                return if taken > 0 { Ok(taken) } else { Err(BadBody(sentence)) };
            }
            self.line_bytes += scan.taken();
            taken += scan.taken();
            self.scan = Scan::default();
        }
    }

    fn trailer(&mut self, line: Line<'_>) -> Result<(), &'static str> {
        if self.trailers.len() == TRAILERS_MAX {
            return Err("there are more than 100 trailers");
        }
        if self.trailers.push_line(line) { Ok(()) } else { Err(line.why_no_field()) }
    }
}

/// The lengths of the size line and of the data, if a whole plain chunk is here. The short way for most chunks: others
/// are decoded byte by byte.
#[inline]
fn whole_chunk(bytes: &[u8]) -> Option<(usize, usize)> {
    let (mut size, mut digits) = (0, 0);
    while let Some(value) = hex_value(*bytes.get(digits)?) {
        if digits == 7 {
            return None;
        }
        size = size << 4 | usize::from(value);
        digits += 1;
    }
    let (line, rest) = bytes.split_at_checked(digits + 2)?;
    let is_whole = digits > 0 && size > 0 && line.ends_with(b"\r\n") && rest.get(size..size + 2) == Some(b"\r\n");
    is_whole.then_some((line.len(), size))
}

#[cfg(test)]
mod tests {
    use super::super::{BodyDecoder, Length};
    use super::*;

    /// Feeds `wire` in pieces of `piece` bytes. Returns the body, the number of bytes left over, the trailers, and
    /// whether it was done.
    fn decode(wire: &[u8], piece: usize) -> Result<(Vec<u8>, usize, Option<Fields>, bool), BadBody> {
        let mut decoder = BodyDecoder::new(Length::Chunked);
        let (mut read, mut body) = (BytesMut::new(), Vec::new());
        for piece in wire.chunks(piece) {
            read.extend_from_slice(piece);
            loop {
                let data = decoder.take(&mut read)?;
                if data.is_empty() {
                    break;
                }
                body.extend_from_slice(&data);
            }
        }
        Ok((body, read.len(), decoder.take_trailers(), decoder.is_done()))
    }

    #[test]
    fn chunks_and_trailers_are_decoded_in_pieces_of_any_size() {
        let wire = b"5\r\nhello\r\n1;ext=\"x\"\r\n,\r\n006\r\n world\r\n0;e\r\nX-One:  1\r\nx-two:\r\n\r\nnext";
        let trailers: Fields = [("x-one", "1"), ("x-two", "")].into_iter().collect();
        for piece in 1..=wire.len() {
            let expected = (b"hello, world".to_vec(), 4, Some(trailers.clone()), true);
            assert_eq!(decode(wire, piece), Ok(expected), "in pieces of {piece}");
        }
    }

    #[test]
    fn the_end_is_known_with_its_last_byte_and_not_before() {
        let wire = b"2\r\nab\r\n0\r\n\r\n";
        for cut in 0..wire.len() {
            assert!(!decode(&wire[..cut], 64).unwrap().3, "cut at {cut}");
        }
        assert_eq!(decode(wire, 64), Ok((b"ab".to_vec(), 0, None, true)));
    }

    #[test]
    fn broken_chunks_are_refused() {
        for wire in [
            "x\r\n",
            "\r\n",
            ";\r\n",
            " 1\r\n",
            "1 \r\n",
            "+1\r\n",
            "-1\r\n",
            "0x1\r\n",
            "1_0\r\n",
            "1\n",
            "1\rx",
            "1\0",
            "1;\0",
            "1;a\nb",
            "1;a\rb",
            "1;\u{7f}",
            "2\r\nabc",
            "2\r\nab\n",
            "2\r\nab\r\r",
            "20000000000001\r\n",
            "10000000000000000\r\n",
            "0\r\n\n",
            "0\r\nx\r\n",
            "0\r\n: y\r\n",
            "0\r\nx : y\r\n",
            "0\r\n x: y\r\n",
            "0\r\nx: \0\r\n",
            "0\r\nx: y\n",
            "0\r\nx: y\rz",
        ] {
            for piece in [1, wire.len()] {
                assert!(decode(wire.as_bytes(), piece).is_err(), "{wire:?} in pieces of {piece}");
            }
        }
        assert!(decode(b"20000000000000\r\n", 64).is_ok(), "2^53 is a size");
    }

    #[test]
    fn an_error_leaves_the_bad_byte_in_front_and_is_returned_again() {
        for wire in ["1;a\0x", "1\rx", "0;\0x", "1\r\na\rx", "0\r\nx: y\r\n: z\r\n"] {
            let (mut read, mut decoder) = (BytesMut::from(wire), BodyDecoder::new(Length::Chunked));
            let error = loop {
                match decoder.take(&mut read) {
                    Ok(data) => assert!(!data.is_empty(), "{wire:?} needs no more bytes"),
                    Err(error) => break error,
                }
            };
            let bad = if wire.contains(": z") {
                &b": z\r\n"[..]
            } else {
                &wire.as_bytes()[wire.find(['\0', 'x']).unwrap()..]
            };
            assert_eq!((&read[..], decoder.take(&mut read.clone())), (bad, Err(error)), "{wire:?}");
        }
    }

    #[test]
    fn lines_and_trailers_are_bounded() {
        let size = |count: usize| [vec![b'0'; count], b"1\r\n".to_vec()].concat();
        let trailers = |count: usize| [&b"0\r\n"[..], &b"x: y\r\n".repeat(count)].concat();
        let long = |count: usize| [&b"0\r\nx:"[..], &vec![b'y'; count], b"\r\n\r\n"].concat();
        for piece in [1, 4096, 65_536] {
            let refusal = |wire: Vec<u8>| decode(&wire, piece).err().map(|error| error.0);
            assert_eq!(refusal(size(LINES_MAX_BYTES - 1)), None);
            assert_eq!(refusal(size(LINES_MAX_BYTES)), Some("a chunk size line is too long"));
            assert_eq!(refusal(trailers(TRAILERS_MAX)), None);
            assert_eq!(refusal(trailers(TRAILERS_MAX + 1)), Some("there are more than 100 trailers"));
            assert_eq!(refusal(long(LINES_MAX_BYTES - 6)), None);
            assert_eq!(refusal(long(LINES_MAX_BYTES - 5)), Some("the trailers are too long"));
        }
    }

    #[test]
    fn tiny_chunks_are_gathered_and_counted() {
        let wire = [&b"1\r\nx\r\n".repeat(1000)[..], b"0\r\n\r\n"].concat();
        let (mut read, mut decoder) = (BytesMut::from(&wire[..]), BodyDecoder::new(Length::Chunked));
        assert_eq!(decoder.take(&mut read).unwrap(), vec![b'x'; 1000]);
        assert!(decoder.is_done() && read.is_empty());
        assert_eq!(decoder.chunks(), 1000);
    }

    #[test]
    fn large_data_is_not_moved_and_is_returned_before_an_error() {
        let data = vec![b'y'; MOVE_MAX_BYTES];
        let wire = [&b"1\r\nx\r\n2000\r\n"[..], &data, b"\r\n1\r\nz!!"].concat();
        let (mut read, mut decoder) = (BytesMut::from(&wire[..]), BodyDecoder::new(Length::Chunked));
        assert_eq!(decoder.take(&mut read).unwrap(), "x");
        let place = read.as_ptr().addr() + read.windows(2).position(|pair| pair == b"yy").unwrap();
        let large = decoder.take(&mut read).unwrap();
        assert!(large == [&data[..], b"z"].concat() && large.as_ptr().addr() == place);
        assert_eq!(&read[..], b"!!");
        assert!(decoder.take(&mut read).is_err());
    }

    #[test]
    fn a_chunk_that_is_not_here_says_how_much_is_missing() {
        let (mut read, mut decoder) = (BytesMut::from("2000\r\nabc"), BodyDecoder::new(Length::Chunked));
        assert_eq!((decoder.take(&mut read).unwrap(), decoder.wants()), (Bytes::from("abc"), 0x2000 - 3));
    }
}
