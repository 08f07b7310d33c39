//! The head of a backend's answer: from bytes to headers, to how the body is framed, to whether the connection may serve again.
//!
//! Source of the rules: RFC 9112, sections 4 to 6. Invariants: what is ambiguous (two lengths, a coding that we do not undo) is refused
//! and never guessed, for a guess is how answers get mixed up; interim answers (1xx) are passed over.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Response, StatusCode, Version, response};

use super::decode::Framing;
use crate::proxy::headers::LENGTH_MAX;

/// A head may have so many fields…
const FIELDS_MAX: usize = 100;
/// … and so many bytes.
const HEAD_MAX_BYTES: usize = 64 * 1024;

/// A head, understood.
pub(super) struct Head {
    pub(super) parts: response::Parts,
    pub(super) framing: Framing,
    /// The connection may serve again when the body is read to its end.
    pub(super) keep: bool,
}

/// The backend does not speak HTTP/1, or not clearly enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not HTTP/1: {0}")]
pub(super) struct BadAnswer(pub(super) &'static str);

/// Takes a head off `read`, as soon as it is there whole. `method` is the request's.
pub(super) fn take(read: &mut BytesMut, method: &Method) -> Result<Option<Head>, BadAnswer> {
    loop {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let length = match config.parse_response_with_uninit_headers(&mut parsed, read, &mut fields) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if read.len() > HEAD_MAX_BYTES => {
                return Err(BadAnswer("its head is too long"));
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(BadAnswer("its head does not parse")),
        };
        let status =
            parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(BadAnswer("its status is no number"))?;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            read.advance(length);
            continue;
        }
        let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
        let headers = headers(parsed.headers, read, length)?;
        read.advance(length);
        return understand(status, version, headers, method).map(Some);
    }
}

/// One copy of the head; all values are parts of it.
fn headers(fields: &[httparse::Header<'_>], read: &BytesMut, length: usize) -> Result<HeaderMap, BadAnswer> {
    let whole = Bytes::copy_from_slice(&read[..length]);
    let mut headers = HeaderMap::with_capacity(fields.len() + 2);
    for field in fields {
        let name =
            HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BadAnswer("a header's name is not one"))?;
        let value = if field.value.is_empty() {
            HeaderValue::from_static("")
        } else {
            let begin = field.value.as_ptr().addr() - read.as_ptr().addr();
            HeaderValue::from_maybe_shared(whole.slice(begin..begin + field.value.len()))
                .map_err(|_| BadAnswer("a header's value is not one"))?
        };
        headers.append(name, value);
    }
    Ok(headers)
}

fn understand(
    status: StatusCode,
    version: Version,
    mut headers: HeaderMap,
    method: &Method,
) -> Result<Head, BadAnswer> {
    let mut keep = version == Version::HTTP_11;
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                keep = false;
            } else if token.eq_ignore_ascii_case(b"keep-alive") && version == Version::HTTP_10 {
                keep = true;
            }
        }
    }
    let bodiless = *method == Method::HEAD
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || status == StatusCode::SWITCHING_PROTOCOLS;
    let framing = if bodiless {
        Framing::Length(0)
    } else if headers.contains_key(TRANSFER_ENCODING) {
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let only_chunked =
            codings.next().is_some_and(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
        if !only_chunked || codings.next().is_some() || version == Version::HTTP_10 {
            return Err(BadAnswer("it has a transfer coding other than chunked"));
        }
        // Beside chunks a length is a lie, and whoever sends both is not to be trusted with another request (section 6.3).
        keep &= headers.remove(CONTENT_LENGTH).is_none();
        Framing::chunked()
    } else {
        match one_length(&headers)? {
            Some(length) => Framing::Length(length),
            None => {
                keep = false;
                Framing::UntilClose
            }
        }
    };
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = status;
    parts.version = version;
    parts.headers = headers;
    Ok(Head { parts, framing, keep })
}

/// The one length that all Content-Length headers agree on.
fn one_length(headers: &HeaderMap) -> Result<Option<u64>, BadAnswer> {
    let mut found = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let digits = value.as_bytes();
        let length = std::str::from_utf8(digits)
            .ok()
            .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<u64>().ok())
            .filter(|length| *length <= LENGTH_MAX)
            .ok_or(BadAnswer("its length is no number, or above 2^53"))?;
        if found.is_some_and(|found| found != length) {
            return Err(BadAnswer("it has two lengths"));
        }
        found = Some(length);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, method: Method) -> Result<Option<(u16, Framing, bool, usize)>, BadAnswer> {
        let mut read = BytesMut::from(text);
        Ok(take(&mut read, &method)?.map(|head| (head.parts.status.as_u16(), head.framing, head.keep, read.len())))
    }

    fn get(text: &str) -> Result<Option<(u16, Framing, bool, usize)>, BadAnswer> {
        parse(text, Method::GET)
    }

    #[test]
    fn a_head_says_how_its_body_is_framed_and_whether_the_connection_stays() {
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", (200, Framing::Length(5), true, 5)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n", (200, Framing::Length(5), true, 0)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", (200, Framing::chunked(), true, 0)),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
                (200, Framing::chunked(), false, 0),
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", (200, Framing::UntilClose, false, 0)),
            (
                "HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\nContent-Length: 0\r\n\r\n",
                (200, Framing::Length(0), false, 0),
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", (200, Framing::Length(1), false, 0)),
            (
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n",
                (200, Framing::Length(1), true, 0),
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", (204, Framing::Length(0), true, 0)),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", (304, Framing::Length(0), true, 0)),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
                (204, Framing::Length(0), true, 0),
            ),
            ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\nearly", (101, Framing::Length(0), true, 5)),
        ];
        for (text, expected) in cases {
            assert_eq!(get(text), Ok(Some(expected)), "{text:?}");
        }
        assert_eq!(
            parse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Method::HEAD),
            Ok(Some((200, Framing::Length(0), true, 0)))
        );
    }

    #[test]
    fn what_is_ambiguous_or_no_http_is_refused() {
        for text in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9007199254740993\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        ] {
            assert!(get(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn half_a_head_is_waited_for_but_not_for_ever() {
        let whole = "HTTP/1.1 200 OK\r\nx-name: value\r\nContent-Length: 0\r\n\r\n";
        for cut in 0..whole.len() {
            assert_eq!(get(&whole[..cut]), Ok(None), "cut at {cut}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(HEAD_MAX_BYTES));
        assert_eq!(get(&endless), Err(BadAnswer("its head is too long")));
    }

    #[test]
    fn values_are_the_bytes_that_came() {
        let mut read = BytesMut::from("HTTP/1.1 200 OK\r\nX-A:  one \r\nx-a: two\r\nx-empty:\r\n\r\n");
        let head = take(&mut read, &Method::GET).unwrap().unwrap();
        let values: Vec<_> = head.parts.headers.get_all("x-a").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(values, ["one", "two"]);
        assert_eq!(head.parts.headers["x-empty"], "");
    }

    #[test]
    fn mangled_heads_never_panic_and_never_take_what_is_not_there() {
        let seed = 815;
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let heads = [
            &b"HTTP/1.1 200 OK\r\nServer: a\r\nContent-Length: 12\r\nConnection: keep-alive\r\n\r\n"[..],
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n",
        ];
        for round in 0..50_000 {
            let mut mangled = heads[round % 2].to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..mangled.len());
                match random.u8(0..3) {
                    0 => mangled[at] = random.u8(..),
                    1 => drop(mangled.remove(at)),
                    _ => mangled.insert(at, b"\r\n: 1\0"[random.usize(0..6)]),
                }
            }
            let mut read = BytesMut::from(&mangled[..]);
            if let Ok(Some(head)) = take(&mut read, &Method::GET) {
                assert!(read.len() < mangled.len() && head.parts.status.as_u16() != 100);
            }
        }
    }
}
