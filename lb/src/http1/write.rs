//! Writes heads and chunks: appends them to a buffer that the caller reuses.
//!
//! Source: RFC 9112, sections 3, 4 and 7.1. Requests are HTTP/1.1. A response to an HTTP/1.0 client says HTTP/1.0,
//! because some of these clients understand nothing else.

use std::io::Write;

use http::{Method, StatusCode, Version};

use super::{Fields, Target};

/// The bytes after a chunk's data.
pub const CHUNK_END: &[u8] = b"\r\n";
/// The end of a body in chunks without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends a request head: line, fields, empty line.
pub fn request(out: &mut Vec<u8>, method: &Method, target: &Target, fields: &Fields) {
    request_line(out, method, target);
    section(out, fields);
}

/// Appends a response head: line, fields, empty line.
pub fn response(out: &mut Vec<u8>, version: Version, status: StatusCode, fields: &Fields) {
    status_line(out, version, status);
    section(out, fields);
}

/// Appends a line such as `GET /path HTTP/1.1`.
pub fn request_line(out: &mut Vec<u8>, method: &Method, target: &Target) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    if *method == Method::OPTIONS && target.is_server() {
        out.push(b'*');
    } else {
        target.write(out);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Appends a line such as `HTTP/1.1 200 OK`. Unregistered statuses get an empty reason phrase.
pub fn status_line(out: &mut Vec<u8>, version: Version, status: StatusCode) {
    if (version, status) == (Version::HTTP_11, StatusCode::OK) {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends the size line of a chunk with `length` bytes of data. At least one: an empty chunk would end the body.
pub fn chunk_begin(out: &mut Vec<u8>, length: usize) {
    debug_assert!(length > 0, "an empty chunk ends the body");
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{length:x}\r\n");
}

/// Appends the last chunk, the trailers and the empty line.
pub fn last_chunk(out: &mut Vec<u8>, trailers: Option<&Fields>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        trailers.write(out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends fields and the empty line after them.
fn section(out: &mut Vec<u8>, fields: &Fields) {
    fields.write(out);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn heads_and_chunks_are_written_as_rfc_9112_says() {
        let fields: Fields = [("Host", "a"), ("x", "")].into_iter().collect();
        let mut target = Target::default();
        target.set("http://b/p?q").unwrap();
        assert_eq!(
            written(|out| request(out, &Method::PUT, &target, &fields)),
            "PUT /p?q HTTP/1.1\r\nhost: a\r\nx: \r\n\r\n"
        );
        for (method, text, line) in [
            (Method::OPTIONS, "http://b", "OPTIONS * HTTP/1.1\r\n"),
            (Method::OPTIONS, "*", "OPTIONS * HTTP/1.1\r\n"),
            (Method::OPTIONS, "http://b/", "OPTIONS / HTTP/1.1\r\n"),
            (Method::OPTIONS, "http://b?q", "OPTIONS /?q HTTP/1.1\r\n"),
            (Method::GET, "http://b", "GET / HTTP/1.1\r\n"),
        ] {
            target.set(text).unwrap();
            assert_eq!(written(|out| request_line(out, &method, &target)), line);
        }
        let status = |status: u16| StatusCode::from_u16(status).unwrap();
        assert_eq!(
            written(|out| response(out, Version::HTTP_11, status(200), &Fields::new())),
            "HTTP/1.1 200 OK\r\n\r\n"
        );
        assert_eq!(
            written(|out| response(out, Version::HTTP_11, status(404), &fields)),
            "HTTP/1.1 404 Not Found\r\nhost: a\r\nx: \r\n\r\n"
        );
        assert_eq!(written(|out| status_line(out, Version::HTTP_10, status(299))), "HTTP/1.0 299 \r\n");
        for (length, expected) in [(1, "1\r\n"), (255, "ff\r\n"), (usize::MAX, "ffffffffffffffff\r\n")] {
            assert_eq!(written(|out| chunk_begin(out, length)), expected);
        }
        assert_eq!(written(|out| last_chunk(out, None)).as_bytes(), LAST_CHUNK);
        assert_eq!(written(|out| last_chunk(out, Some(&fields))), "0\r\nhost: a\r\nx: \r\n\r\n");
    }
}
