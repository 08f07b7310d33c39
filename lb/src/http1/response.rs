//! The client role: parses response heads.
//!
//! Source of the rules: RFC 9112, sections 2, 4 and 5. Invariants: the result does not depend on how the bytes are
//! split into reads; `read` loses the complete head and no byte after it.

use bytes::BytesMut;
use http::{StatusCode, Version};

use super::scan::Line;
use super::{ResponseHead, Scan, consume};

/// Limit for the fields of a head.
const FIELDS_MAX: usize = 100;
/// Limit for the whole head.
const HEAD_MAX_BYTES: usize = 64 * 1024;
/// The start of a response. Other bytes are refused at once.
const BEGIN: &[u8] = b"HTTP/1.";

/// The backend's bytes are not a valid HTTP/1 response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response is not HTTP/1: {0}")]
pub struct BadResponse(pub &'static str);

/// Moves one response head, interim (1xx) or final, from `read` to `head` once it is complete. Returns false if more
/// bytes are needed.
///
/// The previous content of `head` is cleared and its memory reused. While the result is false, `scan` and `head` hold
/// the parsed lines: pass both again with more bytes in `read`.
///
/// Two deviations are accepted: an empty reason phrase (`HTTP/1.1 200 `) and a missing space before it (`HTTP/1.1
/// 200`). Many servers send them, and all clients interpret them in the same way.
pub fn take_response(read: &mut BytesMut, scan: &mut Scan, head: &mut ResponseHead) -> Result<bool, BadResponse> {
    if scan.fields != head.fields.len() && !scan.is_at_first_line() {
        // The caller passed another head. Parse again, so that no field is lost.
        *scan = Scan::default();
    }
    let end = read.len().min(HEAD_MAX_BYTES);
    let input = &mut read[..end];
    if scan.is_at_first_line() {
        if !(input.starts_with(BEGIN) || BEGIN.starts_with(input)) {
            return Err(BadResponse("it does not begin with HTTP/1"));
        }
        head.fields.clear();
        match scan.next_line(input)? {
            Some(line) => status_line(line, head)?,
            None if input.len() == HEAD_MAX_BYTES => return Err(BadResponse("its head is too long")),
            None => return Ok(false),
        }
        // Once for each head, so that one that comes in pieces is not searched again and again.
        if let Some(length) = head.fields.take_whole(&mut input[scan.taken()..], FIELDS_MAX) {
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
        if scan.fields == FIELDS_MAX {
            return Err(BadResponse("its head has more than 100 fields"));
        }
        if !head.fields.push_line(line) {
            return Err(BadResponse(line.why_no_field()));
        }
        scan.fields += 1;
    }
    if input.len() == HEAD_MAX_BYTES { Err(BadResponse("its head is too long")) } else { Ok(false) }
}

fn status_line(line: Line<'_>, head: &mut ResponseHead) -> Result<(), BadResponse> {
    let (version, rest) = line.bytes().split_at_checked(BEGIN.len() + 2).unwrap_or((line.bytes(), b""));
    head.version = match version {
        b"HTTP/1.1 " => Version::HTTP_11,
        b"HTTP/1.0 " => Version::HTTP_10,
        _ => return Err(BadResponse("its version is neither HTTP/1.1 nor HTTP/1.0")),
    };
    let (status, reason) = rest.split_at_checked(3).unwrap_or((rest, b""));
    head.status =
        StatusCode::from_bytes(status).map_err(|_| BadResponse("its status is not a number of three digits"))?;
    match reason {
        [] => Ok(()),
        [b' ', ..] if !line.has_control => Ok(()),
        _ => Err(BadResponse("its reason phrase contains an invalid byte")),
    }
}

// === impl BadResponse ===

impl From<super::scan::BareEnd> for BadResponse {
    fn from(_: super::scan::BareEnd) -> Self {
        Self("its head contains a bare CR or LF")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Option<(ResponseHead, Vec<u8>)>, BadResponse> {
        let (mut read, mut head) = (BytesMut::from(bytes), ResponseHead::default());
        let is_whole = take_response(&mut read, &mut Scan::default(), &mut head)?;
        Ok(is_whole.then(|| (head, read.to_vec())))
    }

    #[test]
    fn interim_and_final_heads_are_taken_one_by_one() {
        let mut read =
            BytesMut::from("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.0 404 Not Found\r\nA:  one \r\n\r\nbody");
        let (mut scan, mut head) = (Scan::default(), ResponseHead::default());
        assert_eq!(take_response(&mut read, &mut scan, &mut head), Ok(true));
        assert_eq!(
            (head.status.as_u16(), head.version, head.fields.get(b"link")),
            (103, Version::HTTP_11, Some(&b"x"[..]))
        );
        assert_eq!(take_response(&mut read, &mut scan, &mut head), Ok(true));
        assert_eq!(
            (head.status.as_u16(), head.version, head.fields.get(b"a")),
            (404, Version::HTTP_10, Some(&b"one"[..]))
        );
        assert_eq!((head.fields.len(), &read[..]), (1, &b"body"[..]));
    }

    #[test]
    fn a_reason_may_be_empty_or_missing_and_may_contain_any_visible_byte() {
        for line in ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1 200 OK", "HTTP/1.1 200 a\tb  c\u{e9}", "HTTP/1.1 999 x"]
        {
            assert!(matches!(parse(format!("{line}\r\n\r\n").as_bytes()), Ok(Some(_))), "{line:?}");
        }
    }

    #[test]
    fn malformed_heads_are_refused() {
        for text in [
            "SSH-2.0-OpenSSH",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "http/1.1 200 OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.2 200 OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 200OK\r\n\r\n",
            "HTTP/1.1 200 O\0K\r\n\r\n",
            "HTTP/1.1\r\n\r\n",
            "HTTP/1.1 200 OK\n",
            "HTTP/1.1 200 OK\r\nx: y\n",
            "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: y\r\n z\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx : y\r\n\r\n",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_incomplete_head_needs_more_bytes_up_to_the_limit() {
        let whole = b"HTTP/1.1 200 OK\r\nx-name: value\r\nContent-Length: 0\r\n\r\n";
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]), Ok(None), "cut at {cut}");
        }
        let endless = |start: &str| parse(format!("{start}{}", "y".repeat(HEAD_MAX_BYTES)).as_bytes());
        assert_eq!(endless("HTTP/1.1 200 OK\r\nx: "), Err(BadResponse("its head is too long")));
        assert_eq!(endless("HTTP/1.1 200 "), Err(BadResponse("its head is too long")));
        let many = |count| parse(format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(count)).as_bytes());
        assert!(matches!((many(FIELDS_MAX), many(FIELDS_MAX + 1)), (Ok(Some(_)), Err(_))));
    }
}
