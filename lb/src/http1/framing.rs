//! Body length and connection persistence, for both roles.
//!
//! Source: RFC 9112, sections 6 and 9.3. Invariant: an ambiguous head (two lengths, an unknown transfer coding) is
//! refused. A guess would allow request smuggling and mixed-up responses.

use http::{Method, StatusCode, Version};

use super::class::trim;
use super::{BadResponse, Fields, Refusal, RequestHead, ResponseHead};

/// The longest body. Servers that keep lengths in floating-point numbers cannot count further.
pub(super) const LENGTH_MAX: u64 = 1 << 53;

const BAD_CODING: &str = "Transfer-Encoding is not exactly one `chunked`";
const OLD_CODING: &str = "Transfer-Encoding is not part of HTTP/1.0";
const BAD_LENGTH: &str = "Content-Length is not a number, or is above 2^53";
const TWO_LENGTHS: &str = "there are two different Content-Length fields";

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// After this many bytes.
    Exact(u64),
    /// After the last chunk and the trailers.
    Chunked,
    /// When the peer closes the connection.
    UntilClose,
}

/// The facts that a head states about its body and connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    pub body: Length,
    /// The connection may carry another message after the body.
    pub keep_alive: bool,
}

/// The framing of a request. With chunks a Content-Length is ignored; the caller must not forward it.
///
/// | Transfer-Encoding | Content-Length | version | body |
/// |---|---|---|---|
/// | – | – | any | none |
/// | – | one number, once or repeated | any | that many bytes |
/// | `chunked`, once | – | 1.1 | chunks |
/// | `chunked`, once | one number | 1.1 | chunks; the connection closes |
/// | anything else | any | any | refused |
pub fn of_request(head: &RequestHead) -> Result<Framing, Refusal> {
    let length = one_length(&head.fields).map_err(Refusal::BadRequest)?;
    let is_chunked = is_chunked(&head.fields, head.version).map_err(Refusal::BadRequest)?;
    let keep_alive = is_kept(&head.fields, head.version) && !(is_chunked && length.is_some());
    let body = if is_chunked { Length::Chunked } else { Length::Exact(length.unwrap_or(0)) };
    Ok(Framing { body, keep_alive })
}

/// The framing of the response to a request with `method`.
///
/// | response | body |
/// |---|---|
/// | to HEAD, 1xx, 204, 304 | none; a 204 that declares one closes the connection |
/// | Transfer-Encoding `chunked`, once, HTTP/1.1 | chunks; with a Content-Length the connection closes |
/// | any other Transfer-Encoding | refused |
/// | Content-Length, one number, once or repeated | that many bytes |
/// | neither | until the connection closes |
pub fn of_response(head: &ResponseHead, method: &Method) -> Result<Framing, BadResponse> {
    let keep_alive = is_kept(&head.fields, head.version);
    let is_bodiless = *method == Method::HEAD
        || head.status.is_informational()
        || head.status == StatusCode::NO_CONTENT
        || head.status == StatusCode::NOT_MODIFIED;
    if is_bodiless {
        // A server that declares a body where none may be (RFC 9110, section 8.6) sends it, too, maybe later than its
        // head: the next request on the connection would get it for a response.
        let declares =
            || head.fields.has(b"transfer-encoding") || head.fields.all(b"content-length").any(|value| value != b"0");
        let is_wrong = head.status == StatusCode::NO_CONTENT && declares();
        return Ok(Framing { body: Length::Exact(0), keep_alive: keep_alive && !is_wrong });
    }
    if is_chunked(&head.fields, head.version).map_err(BadResponse)? {
        // With both, the length is wrong, and the connection is not safe to reuse (section 6.3).
        return Ok(Framing { body: Length::Chunked, keep_alive: keep_alive && !head.fields.has(b"content-length") });
    }
    match one_length(&head.fields).map_err(BadResponse)? {
        Some(length) => Ok(Framing { body: Length::Exact(length), keep_alive }),
        None => Ok(Framing { body: Length::UntilClose, keep_alive: false }),
    }
}

/// Whether the body is chunked. No other coding is supported, nor `chunked` twice.
fn is_chunked(fields: &Fields, version: Version) -> Result<bool, &'static str> {
    let mut codings = fields.all(b"transfer-encoding");
    let Some(coding) = codings.next() else { return Ok(false) };
    if version == Version::HTTP_10 {
        return Err(OLD_CODING);
    }
    if !coding.eq_ignore_ascii_case(b"chunked") || codings.next().is_some() {
        return Err(BAD_CODING);
    }
    Ok(true)
}

/// The length that all Content-Length fields agree on.
fn one_length(fields: &Fields) -> Result<Option<u64>, &'static str> {
    let mut found = None;
    for value in fields.all(b"content-length") {
        let length = number(value).ok_or(BAD_LENGTH)?;
        if found.is_some_and(|found| found != length) {
            return Err(TWO_LENGTHS);
        }
        found = Some(length);
    }
    Ok(found)
}

/// Parses a number of digits only, up to [`LENGTH_MAX`].
fn number(digits: &[u8]) -> Option<u64> {
    let mut number = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u64::from(digit - b'0');
        if number > LENGTH_MAX {
            return None;
        }
    }
    (!digits.is_empty()).then_some(number)
}

/// Whether version and Connection keep the connection open. `close` outranks `keep-alive`; HTTP/1.0 needs `keep-alive`.
fn is_kept(fields: &Fields, version: Version) -> bool {
    let mut is_kept = version != Version::HTTP_10;
    for value in fields.all(b"connection") {
        for token in value.split(|byte| *byte == b',').map(trim) {
            if token.eq_ignore_ascii_case(b"close") {
                return false;
            }
            is_kept |= token.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    is_kept
}

#[cfg(test)]
mod tests {
    use super::Length::{Chunked, Exact, UntilClose};
    use super::*;

    fn fields(text: &str) -> Fields {
        text.split('\n').filter(|line| !line.is_empty()).filter_map(|line| line.split_once(": ")).collect()
    }

    fn request(version: Version, text: &str) -> Result<(Length, bool), u16> {
        let head = RequestHead { version, fields: fields(text), ..RequestHead::default() };
        let framing = of_request(&head).map_err(|refusal| refusal.status().as_u16())?;
        Ok((framing.body, framing.keep_alive))
    }

    fn response(version: Version, status: u16, method: &Method, text: &str) -> Result<(Length, bool), BadResponse> {
        let head = ResponseHead { version, status: StatusCode::from_u16(status).unwrap(), fields: fields(text) };
        of_response(&head, method).map(|framing| (framing.body, framing.keep_alive))
    }

    #[test]
    fn request_heads_state_body_length_and_persistence() {
        let (old, new) = (Version::HTTP_10, Version::HTTP_11);
        for (version, text, expected) in [
            (new, "", (Exact(0), true)),
            (new, "content-length: 5", (Exact(5), true)),
            (new, "content-length: 003\ncontent-length: 3", (Exact(3), true)),
            (new, "content-length: 9007199254740992", (Exact(1 << 53), true)),
            (new, "transfer-encoding: CHUNKED", (Chunked, true)),
            (new, "transfer-encoding: chunked\ncontent-length: 3", (Chunked, false)),
            (new, "connection: x, CLOSE", (Exact(0), false)),
            (new, "connection: close\nconnection: keep-alive", (Exact(0), false)),
            (new, "connection: closed, xclose", (Exact(0), true)),
            (old, "", (Exact(0), false)),
            (old, "content-length: 1", (Exact(1), false)),
            (old, "connection: \tKeep-Alive\t,x", (Exact(0), true)),
            (old, "connection: keep-alive, close", (Exact(0), false)),
        ] {
            assert_eq!(request(version, text), Ok(expected), "{version:?} {text:?}");
        }
    }

    #[test]
    fn ambiguous_requests_are_400() {
        for text in [
            "content-length: ",
            "content-length: +4",
            "content-length: -1",
            "content-length: 0x4",
            "content-length: 4 4",
            "content-length: 4, 4",
            "content-length: 4,",
            "content-length: \"4\"",
            "content-length: 4.0",
            "content-length: 9007199254740993",
            "content-length: 18446744073709551620",
            "content-length: 4\ncontent-length: 5",
            "content-length: x\ntransfer-encoding: chunked",
            "transfer-encoding: ",
            "transfer-encoding: xchunked",
            "transfer-encoding: chunked\ntransfer-encoding: chunked",
            "transfer-encoding: identity\ntransfer-encoding: chunked",
            "transfer-encoding: gzip, chunked",
            "transfer-encoding: chunked,",
            "transfer-encoding: chunked;q=1",
        ] {
            assert_eq!(request(Version::HTTP_11, text), Err(400), "{text:?}");
        }
        assert_eq!(request(Version::HTTP_10, "transfer-encoding: chunked"), Err(400));
    }

    #[test]
    fn response_heads_state_body_length_and_persistence() {
        let (old, new, get) = (Version::HTTP_10, Version::HTTP_11, &Method::GET);
        for (version, status, method, text, expected) in [
            (new, 200, get, "content-length: 5\ncontent-length: 5", (Exact(5), true)),
            (new, 200, get, "transfer-encoding: Chunked", (Chunked, true)),
            (new, 200, get, "transfer-encoding: chunked\ncontent-length: x", (Chunked, false)),
            (new, 200, get, "", (UntilClose, false)),
            (new, 200, get, "connection: close\ncontent-length: 0", (Exact(0), false)),
            (old, 200, get, "content-length: 1", (Exact(1), false)),
            (old, 200, get, "connection: keep-alive\ncontent-length: 1", (Exact(1), true)),
            (new, 204, get, "content-length: 3", (Exact(0), false)),
            (new, 204, get, "transfer-encoding: chunked", (Exact(0), false)),
            (new, 204, get, "content-length: 0", (Exact(0), true)),
            (new, 304, get, "content-length: 9", (Exact(0), true)),
            (new, 101, get, "connection: upgrade", (Exact(0), true)),
            (new, 103, get, "", (Exact(0), true)),
            (new, 200, &Method::HEAD, "content-length: 5", (Exact(0), true)),
            (new, 200, &Method::HEAD, "transfer-encoding: chunked", (Exact(0), true)),
        ] {
            assert_eq!(response(version, status, method, text), Ok(expected), "{version:?} {status} {method} {text:?}");
        }
        for (version, text) in [
            (new, "content-length: 5\ncontent-length: 6"),
            (new, "content-length: 5, 5"),
            (new, "content-length: +5"),
            (new, "content-length: 99999999999999999999"),
            (new, "transfer-encoding: gzip, chunked"),
            (new, "transfer-encoding: chunked\ntransfer-encoding: chunked"),
            (old, "transfer-encoding: chunked"),
        ] {
            assert!(response(version, 200, get, text).is_err(), "{version:?} {text:?}");
        }
    }
}
