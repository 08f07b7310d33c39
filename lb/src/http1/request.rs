//! The server role: parses request heads.
//!
//! Source of the rules: RFC 9112, sections 2, 3 and 5. Invariants:
//! - The result does not depend on how the bytes are split into reads. A line is checked once it is complete; only a
//!   bare CR or LF, the first byte and the limits are checked earlier.
//! - `read` loses empty lines before a head, then the complete head, and no byte after it.

use bytes::BytesMut;
use http::{Method, StatusCode, Version};

use super::class::{is_token, is_token_byte};
use super::{Form, RequestHead, Scan, consume};

/// Empty lines skipped before a request line: some clients send one after a body (RFC 9112, section 2.2).
const EMPTY_LINES_MAX: usize = 8;
/// The length of ` HTTP/1.1`.
const VERSION_BYTES: usize = 9;

/// Limits for one request head.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The whole head, with its empty line.
    pub head_bytes: usize,
    /// Number of header fields.
    pub fields: usize,
}

/// Why a request is refused. The connection must close: the start of the next request is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400; the sentence names the reason.
    BadRequest(&'static str),
    /// 414
    TargetTooLong,
    /// 431
    HeadTooLarge,
    /// 501
    NotImplemented,
    /// 505
    Version,
}

/// Moves a request head from `read` to `head` once it is complete. Returns false if more bytes are needed.
///
/// The previous content of `head` is cleared and its memory reused. While the result is false, `scan` and `head` hold
/// the parsed lines: pass both again with more bytes in `read`.
pub fn take_request(
    read: &mut BytesMut,
    scan: &mut Scan,
    limits: &Limits,
    head: &mut RequestHead,
) -> Result<bool, Refusal> {
    if scan.is_at_first_line() && !begins(read, scan)? {
        return Ok(false);
    }
    if scan.fields != head.fields.len() && !scan.is_at_first_line() {
        // The caller passed another head. Parse again, so that no field is lost.
        *scan = Scan::default();
    }
    let end = read.len().min(limits.head_bytes);
    let input = &mut read[..end];
    if scan.is_at_first_line() {
        head.fields.clear();
        match scan.next_line(input)? {
            Some(line) => request_line(line.bytes(), head)?,
            None if input.len() == limits.head_bytes => return Err(Refusal::TargetTooLong),
            None => return Ok(false),
        }
        // Once for each head, so that one that comes in pieces is not searched again and again.
        if let Some(length) = head.fields.take_whole(&mut input[scan.taken()..], limits.fields) {
            consume(read, scan.taken() + length);
            *scan = Scan::default();
            return Ok(true);
        }
    }
    while let Some(line) = scan.next_line(input)? {
        if line.is_empty() {
            consume(read, scan.taken());
            *scan = Scan::default();
            return Ok(true);
        }
        if scan.fields == limits.fields {
            return Err(Refusal::HeadTooLarge);
        }
        if !head.fields.push_line(line) {
            return Err(Refusal::BadRequest(line.why_no_field()));
        }
        scan.fields += 1;
    }
    if input.len() == limits.head_bytes { Err(Refusal::HeadTooLarge) } else { Ok(false) }
}

/// Skips empty lines. Returns whether the first byte of a method is there; any other byte is refused.
fn begins(read: &mut BytesMut, scan: &mut Scan) -> Result<bool, Refusal> {
    loop {
        match read[..] {
            [first, ..] if is_token_byte(first) => return Ok(true),
            [b'\r', b'\n', ..] if scan.skipped < EMPTY_LINES_MAX => {
                scan.skipped += 1;
                consume(read, 2);
            }
            [] | [b'\r'] => return Ok(false),
            [b'\r', b'\n', ..] => return Err(Refusal::BadRequest("too many empty lines precede the request")),
            [b'\r' | b'\n', ..] => return Err(super::scan::BareEnd.into()),
            _ => return Err(Refusal::BadRequest("the first byte cannot start an HTTP request")),
        }
    }
}

fn request_line(line: &[u8], head: &mut RequestHead) -> Result<(), Refusal> {
    const NO_VERSION: Refusal = Refusal::BadRequest("the request line does not end in HTTP/1.1 or HTTP/1.0");
    let split = line.len().checked_sub(VERSION_BYTES).ok_or(NO_VERSION)?;
    let (rest, version) = line.split_at(split);
    head.version = match version {
        b" HTTP/1.1" => Version::HTTP_11,
        b" HTTP/1.0" => Version::HTTP_10,
        [b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Refusal::Version);
        }
        _ => return Err(NO_VERSION),
    };
    let space =
        rest.iter().position(|byte| *byte == b' ').ok_or(Refusal::BadRequest("the request line has no target"))?;
    head.method = method(&rest[..space]).ok_or(Refusal::BadRequest("the request's method contains an invalid byte"))?;
    let target = std::str::from_utf8(&rest[space + 1..])
        .map_err(|_| Refusal::BadRequest("the request's target is not UTF-8"))?;
    if head.method == Method::CONNECT {
        return Err(Refusal::NotImplemented);
    }
    head.target.set(target).map_err(Refusal::BadRequest)?;
    match head.target.form() {
        Form::Authority => Err(Refusal::BadRequest("the request's target begins with neither / nor a scheme")),
        Form::Asterisk if head.method != Method::OPTIONS => {
            Err(Refusal::BadRequest("the request's target is *, which is valid for OPTIONS only"))
        }
        _ => Ok(()),
    }
}

#[inline]
fn method(bytes: &[u8]) -> Option<Method> {
    match bytes {
        b"GET" => Some(Method::GET),
        _ if is_token(bytes) => Method::from_bytes(bytes).ok(),
        _ => None,
    }
}

// === impl Refusal ===

impl Refusal {
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }

    /// The reason as one sentence for the client.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::BadRequest(sentence) => sentence,
            Self::TargetTooLong => "the request line is longer than the limit for a head",
            Self::HeadTooLarge => "the request's head is longer, or has more header fields, than the limit allows",
            Self::NotImplemented => "CONNECT is for forward proxies; this is a reverse proxy",
            Self::Version => "the request's version is neither HTTP/1.1 nor HTTP/1.0",
        }
    }
}

impl From<super::BadBody> for Refusal {
    fn from(bad: super::BadBody) -> Self {
        Self::BadRequest(bad.0)
    }
}

impl From<super::scan::BareEnd> for Refusal {
    fn from(_: super::scan::BareEnd) -> Self {
        Self::BadRequest("the request's head contains a bare CR or LF; lines end in CR LF")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { head_bytes: 65_536, fields: 100 };

    /// The two ways through a head: all of it at once, and its first line before the rest.
    #[test]
    fn a_head_at_once_and_a_head_in_pieces_give_the_same() {
        let seed = 77;
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let parts = [
            "Host",
            "x-9",
            ":",
            ": ",
            " ",
            "\t",
            "a",
            "b c",
            "\r\n",
            "\r\n",
            "\r",
            "\n",
            "\x00",
            "\u{e9}",
            "(",
            "ABCDEFGHIJ",
        ];
        let limits = Limits { head_bytes: 60, fields: 3 };
        let (mut whole, mut refused) = (0, 0);
        for _ in 0..200_000 {
            let line = "GET / HTTP/1.1\r\n";
            let pick = |random: &mut fastrand::Rng| parts[random.usize(0..parts.len())];
            let mut rest: String = (0..random.usize(0..12)).map(|_| pick(&mut random)).collect();
            if random.bool() {
                rest = format!("Ab: c\r\n{rest}\r\n\r\nmore");
            }
            let at_once = parse_with(format!("{line}{rest}").as_bytes(), &limits);
            let (mut read, mut scan, mut head) = (BytesMut::from(line), Scan::default(), RequestHead::default());
            assert_eq!(take_request(&mut read, &mut scan, &limits, &mut head), Ok(false));
            read.extend_from_slice(rest.as_bytes());
            let in_pieces = take_request(&mut read, &mut scan, &limits, &mut head)
                .map(|is_whole| is_whole.then(|| (head, read.to_vec())));
            whole += usize::from(matches!(at_once, Ok(Some(_))));
            refused += usize::from(at_once.is_err());
            assert_eq!(at_once, in_pieces, "{rest:?}");
        }
        assert!(whole > 1_000 && refused > 10_000, "{whole} {refused}");
    }

    /// The head and the bytes after it.
    fn parse_with(bytes: &[u8], limits: &Limits) -> Result<Option<(RequestHead, Vec<u8>)>, Refusal> {
        let (mut read, mut head) = (BytesMut::from(bytes), RequestHead::default());
        let is_whole = take_request(&mut read, &mut Scan::default(), limits, &mut head)?;
        Ok(is_whole.then(|| (head, read.to_vec())))
    }

    fn parse(text: &str) -> Result<Option<(RequestHead, Vec<u8>)>, Refusal> {
        parse_with(text.as_bytes(), &LIMITS)
    }

    fn status(text: &str) -> Option<u16> {
        parse(text).err().map(|refusal| refusal.status().as_u16())
    }

    #[test]
    fn a_head_is_taken_with_its_values_trimmed_and_nothing_after_it() {
        let text = "\r\nPOST /a?b HTTP/1.0\r\nHost:a\r\nX-Two:\t 2 \t\r\nx-Empty: \r\nx: \u{e9}\ty\r\nz: 3 \r\n\r\nGET";
        let (head, rest) = parse(text).unwrap().unwrap();
        assert_eq!((head.method, head.target.as_str(), head.version), (Method::POST, "/a?b", Version::HTTP_10));
        let expected: super::super::Fields =
            [("host", "a"), ("x-two", "2"), ("x-empty", ""), ("x", "\u{e9}\ty"), ("z", "3")].into_iter().collect();
        assert_eq!((head.fields, &rest[..]), (expected, &b"GET"[..]));
    }

    #[test]
    fn a_head_is_cleared_before_it_is_filled() {
        let mut read = BytesMut::from("POST /1 HTTP/1.0\r\na: 1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n");
        let (mut scan, mut head) = (Scan::default(), RequestHead::default());
        assert_eq!(take_request(&mut read, &mut scan, &LIMITS, &mut head), Ok(true));
        assert_eq!(take_request(&mut read, &mut scan, &LIMITS, &mut head), Ok(true));
        assert_eq!((&head.method, head.target.as_str(), head.version), (&Method::GET, "/2", Version::HTTP_11));
        assert!(head.fields.is_empty() && read.is_empty());
    }

    #[test]
    fn no_field_is_lost_if_the_caller_changes_heads_in_the_middle() {
        let text = "GET / HTTP/1.1\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n";
        for cut in text.find("b: 2").unwrap()..text.len() {
            let (mut read, mut scan) = (BytesMut::from(&text[..cut]), Scan::default());
            assert_eq!(take_request(&mut read, &mut scan, &LIMITS, &mut RequestHead::default()), Ok(false));
            read.extend_from_slice(&text.as_bytes()[cut..]);
            let mut other = RequestHead::default();
            assert_eq!(take_request(&mut read, &mut scan, &LIMITS, &mut other), Ok(true));
            assert_eq!(other.fields.len(), 3, "cut at {cut}");
        }
    }

    #[test]
    fn ambiguous_and_malformed_lines_are_400() {
        for line in [
            "GET /",
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET /  HTTP/1.1",
            "GET\t/ HTTP/1.1",
            " GET / HTTP/1.1",
            "GET / http/1.1",
            "GET / HTTP/1.10",
            "GET / HTTP/1,1",
            "GET /x y HTTP/1.1",
            "GET: / HTTP/1.1",
            "/ HTTP/1.1",
            "G\0T / HTTP/1.1",
            "GET /\0 HTTP/1.1",
            "GET /\rx HTTP/1.1",
            "GET home HTTP/1.1",
            "GET * HTTP/1.1",
            "GET a:80 HTTP/1.1",
            "\u{1f600} / HTTP/1.1",
        ] {
            assert_eq!(status(&format!("{line}\r\nhost: a\r\n\r\n")), Some(400), "{line:?}");
        }
        for field in [
            " x: y",
            "\tx: y",
            "x : y",
            "x\t: y",
            ": y",
            "x",
            "x y: z",
            "x\0: z",
            "(x): z",
            "x: \0",
            "x: y\rz",
            "x: \u{7f}",
            "x: y\nz: 1",
            "\u{e9}: z",
        ] {
            assert_eq!(status(&format!("GET / HTTP/1.1\r\n{field}\r\n\r\n")), Some(400), "{field:?}");
        }
        assert!(parse_with(b"GET /\xff HTTP/1.1\r\n\r\n", &LIMITS).is_err());
    }

    #[test]
    fn unsupported_versions_and_connect_have_their_own_status() {
        for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/9.9"] {
            assert_eq!(status(&format!("GET / {version}\r\n")), Some(505), "{version}");
        }
        assert_eq!(status("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Some(505));
        assert_eq!(status("CONNECT a:443 HTTP/1.1\r\n"), Some(501));
        assert!(parse("OPTIONS * HTTP/1.1\r\n\r\n").unwrap().is_some());
    }

    #[test]
    fn a_bare_line_end_and_a_wrong_first_byte_are_refused_before_the_head_is_complete() {
        for text in
            ["GET / HTTP/1.1\n", "GET / HTTP/1.1\r\nx: y\n", "GET /\rx", "GET / HTTP/1.1\r\nx: y\r\r", "\n", "\rG"]
        {
            assert_eq!(status(text), Some(400), "{text:?}");
        }
        for first in ["\x16\x03\x01", "\0", "{", " ", "\u{e9}"] {
            assert_eq!(status(first), Some(400), "{first:?}");
        }
        for text in ["", "\r", "\r\n", "\r\n\r", "G", "GET / HTTP/1.1\r", "GET / HTTP/1.1\r\nx: y\r\n\r"] {
            assert_eq!(parse(text).unwrap(), None, "{text:?}");
        }
        assert_eq!(status(&"\r\n".repeat(EMPTY_LINES_MAX)), None);
        assert_eq!(status(&"\r\n".repeat(EMPTY_LINES_MAX + 1)), Some(400));
    }

    #[test]
    fn a_head_may_be_as_large_as_the_limit_and_no_larger() {
        let text = "GET /abc HTTP/1.1\r\nx: y\r\nz: 1\r\n\r\n";
        for bytes in 1..text.len() + 3 {
            let limits = Limits { head_bytes: bytes, fields: 2 };
            let expected = match bytes {
                _ if bytes >= text.len() => Ok(true),
                _ if bytes < text.find("x: y").unwrap() => Err(Refusal::TargetTooLong),
                _ => Err(Refusal::HeadTooLarge),
            };
            let result = parse_with(text.as_bytes(), &limits).map(|parsed| parsed.is_some());
            assert_eq!(result, expected, "a limit of {bytes}");
        }
        let limits = Limits { head_bytes: 1000, fields: 1 };
        assert_eq!(parse_with(text.as_bytes(), &limits).unwrap_err(), Refusal::HeadTooLarge);
    }
}
