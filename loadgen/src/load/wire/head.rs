//! The head of a response: its status, its backend, how its body is framed, whether its connection may be used again.
//!
//! Source: RFC 9112, sections 6.3 (framing) and 9.3 (persistence).

use std::mem::MaybeUninit;

use super::{BadAnswer, Framing};

/// A parsed head.
#[derive(Debug, PartialEq)]
pub(in crate::load) struct Head<'a> {
    pub(in crate::load) status: u16,
    pub(in crate::load) framing: Framing,
    /// Whether the connection may carry another request after the body.
    pub(in crate::load) keep: bool,
    /// The value of the backend header; empty without one.
    pub(in crate::load) backend: &'a [u8],
    /// The bytes of the head, including those of interim responses before it.
    pub(in crate::load) length: usize,
}

const FIELDS_MAX: usize = 100;
/// A head that is incomplete after this many bytes is refused.
const HEAD_MAX_BYTES: usize = 64 * 1024;

/// Parses the head at the beginning of `bytes`; `None` while it is incomplete. `is_head`: the request was a HEAD.
pub(in crate::load) fn parse<'a>(
    bytes: &'a [u8],
    is_head: bool,
    backend_header: &str,
) -> Result<Option<Head<'a>>, BadAnswer> {
    let mut begin = 0;
    loop {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let length = match config.parse_response_with_uninit_headers(&mut parsed, &bytes[begin..], &mut fields) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() > HEAD_MAX_BYTES => {
                return Err(BadAnswer("its head is too long"));
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(BadAnswer("its head does not parse")),
        };
        begin += length;
        match parsed.code {
            Some(101) => return Err(BadAnswer("it switches protocols without a request for it")),
            Some(100..=199) => {}
            Some(status) if status >= 200 => {
                let is_1_1 = parsed.version == Some(1);
                return understand(status, is_1_1, parsed.headers, is_head, backend_header)
                    .map(|head| Some(Head { length: begin, ..head }));
            }
            _ => return Err(BadAnswer("its status is not a number from 100 to 999")),
        }
    }
}

fn understand<'a>(
    status: u16,
    is_1_1: bool,
    fields: &[httparse::Header<'a>],
    is_head: bool,
    backend_header: &str,
) -> Result<Head<'a>, BadAnswer> {
    let mut keep = is_1_1;
    let (mut length, mut is_chunked, mut backend) = (None, false, &b""[..]);
    for field in fields {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        // Length first, because most fields are none of these.
        match field.name.len() {
            14 if is("content-length") => {
                let here = number(field.value)?;
                if length.is_some_and(|length| length != here) {
                    return Err(BadAnswer("it has two lengths"));
                }
                length = Some(here);
            }
            17 if is("transfer-encoding") => {
                if is_chunked || !is_1_1 || !field.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(BadAnswer("it has a transfer coding other than chunked"));
                }
                is_chunked = true;
            }
            10 if is("connection") => {
                for token in field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    if token.eq_ignore_ascii_case(b"close") {
                        keep = false;
                    } else if token.eq_ignore_ascii_case(b"keep-alive") && !is_1_1 {
                        keep = true;
                    }
                }
            }
            _ => {}
        }
        if backend.is_empty() && is(backend_header) {
            backend = field.value.trim_ascii();
        }
    }
    let framing = if is_head || status == 204 || status == 304 {
        Framing::Length(0)
    } else if is_chunked {
        // both a length and chunks: the message framing is ambiguous, so the connection is not used again
        keep &= length.is_none();
        Framing::chunked()
    } else if let Some(length) = length {
        Framing::Length(length)
    } else {
        keep = false;
        Framing::UntilClose
    };
    Ok(Head { status, framing, keep, backend, length: 0 })
}

fn number(digits: &[u8]) -> Result<u64, BadAnswer> {
    std::str::from_utf8(digits)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or(BadAnswer("its length is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(text: &str) -> Result<Option<(u16, Framing, bool, usize)>, BadAnswer> {
        let head = parse(text.as_bytes(), false, "x-server-id")?;
        Ok(head.map(|head| (head.status, head.framing, head.keep, text.len() - head.length)))
    }

    #[test]
    fn a_head_says_where_its_body_ends_and_whether_the_connection_stays() {
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", (200, Framing::Length(5), true, 5)),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nContent-Length: 5\r\n\r\n", (200, Framing::Length(5), true, 0)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", (200, Framing::chunked(), true, 0)),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                (200, Framing::chunked(), false, 0),
            ),
            ("HTTP/1.1 200 OK\r\n\r\nbody", (200, Framing::UntilClose, false, 4)),
            (
                "HTTP/1.1 500 No\r\nConnection: x, CLOSE\r\nContent-Length: 0\r\n\r\n",
                (500, Framing::Length(0), false, 0),
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", (200, Framing::Length(1), false, 0)),
            (
                "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\n",
                (200, Framing::Length(1), true, 0),
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", (204, Framing::Length(0), true, 0)),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", (304, Framing::Length(0), true, 0)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\nnext", (204, Framing::Length(0), true, 4)),
        ];
        for (text, expected) in cases {
            assert_eq!(get(text), Ok(Some(expected)), "{text:?}");
        }
        let head = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, "x").unwrap().unwrap();
        assert_eq!(head.framing, Framing::Length(0), "no body follows a HEAD");
    }

    #[test]
    fn the_backend_is_read_from_the_configured_header() {
        let text = b"HTTP/1.1 200 OK\r\nX-Server-Id:  Server 1 \r\nx-other: two\r\nContent-Length: 0\r\n\r\n";
        let backend = |header| parse(text, false, header).unwrap().unwrap().backend;
        assert_eq!([backend("x-server-id"), backend("X-Other"), backend("x-none")], [&b"Server 1"[..], b"two", b""]);
    }

    #[test]
    fn ambiguous_responses_and_those_that_are_not_http_are_refused() {
        for text in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 000 OK\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        ] {
            assert!(get(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_incomplete_head_waits_for_more_bytes_up_to_a_limit() {
        let whole = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nx-name: value\r\nContent-Length: 0\r\n\r\n";
        for cut in 0..whole.len() {
            assert_eq!(get(&whole[..cut]), Ok(None), "cut at {cut}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(HEAD_MAX_BYTES));
        assert_eq!(get(&endless), Err(BadAnswer("its head is too long")));
    }

    #[test]
    fn mangled_heads_never_panic_and_never_take_missing_bytes() {
        let seed = 815;
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let whole =
            &b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: keep-alive\r\n\r\n"[..];
        for _ in 0..50_000 {
            let mut mangled = whole.to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..mangled.len());
                match random.u8(0..3) {
                    0 => mangled[at] = random.u8(..),
                    1 => drop(mangled.remove(at)),
                    _ => mangled.insert(at, b"\r\n: 1\0"[random.usize(0..6)]),
                }
            }
            if let Ok(Some(head)) = parse(&mangled, false, "connection") {
                assert!(head.length <= mangled.len() && head.status >= 200);
            }
        }
    }
}
