//! A request on its way out: the head as bytes, the body in frames, written with as few copies as there can be.
//!
//! Small chunks are gathered as long as more are ready: a client that sends crumbs would else cost a system call for each. Invariants:
//! exactly one framing (none, a length, chunks) goes out, chosen from the body itself; a body is asked for its next frame only when
//! all before it is written or gathered, which is the back-pressure; nothing gathered waits for bytes that are not here.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use hyper::body::Body;
use hyper::rt::Write;

use crate::proxy::body::{BodyError, RequestBody};
use crate::proxy::socket::Socket;

/// What is gathered goes on when it is so much; a chunk of so much goes on by itself.
const GATHER_MIN_BYTES: usize = 8 * 1024;
/// Room for it, and for one chunk more.
const GATHER_MAX_BYTES: usize = 2 * GATHER_MIN_BYTES;

/// What is still to be written of one request.
#[derive(Default)]
pub(super) struct Outgoing {
    /// Head, or what goes before a chunk. Kept between requests for its memory.
    head: Vec<u8>,
    head_written: usize,
    /// The frame that goes behind it.
    data: Bytes,
    /// Chunks that wait for the next ones, which may be ready.
    gathered: BytesMut,
    /// The body had its turn since the last of them, and nothing came.
    looked: bool,
    /// What goes behind the frame.
    tail: &'static [u8],
    body: Option<RequestBody>,
    chunked: bool,
    /// Something went out already.
    begun: bool,
}

/// Why sending stopped.
#[derive(Debug)]
pub(super) enum StopReason {
    /// The backend takes no more; why, reading will tell.
    Socket,
    /// The client's body broke off or grew too long.
    Body(BodyError),
}

// === impl Outgoing ===

impl Outgoing {
    /// Begins a request. `address` stands in where the request names no host (HTTP/1.0 may come without).
    pub(super) fn begin(&mut self, parts: &Parts, body: RequestBody, address: &str) {
        let head = &mut self.head;
        head.clear();
        head.extend_from_slice(parts.method.as_str().as_bytes());
        head.push(b' ');
        // "http://host?query" has a query, but no path.
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        if !path.starts_with(['/', '*']) {
            head.push(b'/');
        }
        head.extend_from_slice(path.as_bytes());
        head.extend_from_slice(b" HTTP/1.1\r\n");
        let (mut has_host, mut has_length) = (false, false);
        for (name, value) in &parts.headers {
            has_host |= name == HOST;
            has_length |= name == CONTENT_LENGTH;
            line(head, name.as_str().as_bytes(), value.as_bytes());
        }
        if !has_host {
            line(head, b"host", address.as_bytes());
        }
        let has_body = !body.is_end_stream();
        self.chunked = false;
        if has_body {
            match body.size_hint().exact() {
                Some(_) if has_length => {}
                Some(length) => line(head, b"content-length", length.to_string().as_bytes()),
                None => {
                    self.chunked = true;
                    line(head, b"transfer-encoding", b"chunked");
                }
            }
        }
        head.extend_from_slice(b"\r\n");
        self.head_written = 0;
        self.data = Bytes::new();
        self.gathered = BytesMut::new();
        self.looked = false;
        self.tail = b"";
        self.begun = false;
        self.body = Some(body);
    }

    /// All of it is written.
    pub(super) fn is_done(&self) -> bool {
        self.body.is_none() && self.is_written()
    }

    /// Gives the body back where not a byte went out, so that another connection may take it.
    pub(super) fn take_unsent(&mut self) -> Option<RequestBody> {
        if self.begun { None } else { self.body.take() }
    }

    /// Writes on; ready when the whole request is written.
    pub(super) fn poll(&mut self, socket: &mut Socket, cx: &mut Context<'_>) -> Poll<Result<(), StopReason>> {
        loop {
            while !self.is_written() {
                let slices =
                    [IoSlice::new(&self.head[self.head_written..]), IoSlice::new(&self.data), IoSlice::new(self.tail)];
                let written = if self.data.is_empty() && self.tail.is_empty() {
                    Pin::new(&mut *socket).poll_write(cx, &slices[0])
                } else {
                    Pin::new(&mut *socket).poll_write_vectored(cx, &slices)
                };
                match ready!(written) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(StopReason::Socket)),
                    Ok(bytes) => self.advance(bytes),
                }
            }
            let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
            match Pin::new(&mut *body).poll_frame(cx) {
                // Trailers end at this hop; an empty chunk would say that the body is over.
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => self.take(data),
                    _ => {}
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(StopReason::Body(error))),
                Poll::Ready(None) => {
                    self.body = None;
                    self.end();
                }
                Poll::Pending if self.gathered.is_empty() => return Poll::Pending,
                // hyper decodes one chunk at a time, and only between two of our turns.
                Poll::Pending if !self.looked => {
                    self.looked = true;
                    body.ask_again();
                    return Poll::Pending;
                }
                Poll::Pending => {
                    let gathered = self.gathered.split().freeze();
                    self.frame(gathered);
                }
            }
        }
    }

    /// Gathers a chunk where it is small, else sends it on.
    fn take(&mut self, data: Bytes) {
        if !self.chunked || (self.gathered.is_empty() && data.len() >= GATHER_MIN_BYTES) {
            return self.frame(data);
        }
        self.looked = false;
        if self.gathered.is_empty() {
            // The last part of the buffer that is not ours alone, and written.
            self.data = Bytes::new();
            self.gathered.reserve(GATHER_MAX_BYTES);
        }
        self.gathered.extend_from_slice(&data);
        if self.gathered.len() >= GATHER_MIN_BYTES {
            let gathered = self.gathered.split().freeze();
            self.frame(gathered);
        }
    }

    /// The body is over.
    fn end(&mut self) {
        if !self.chunked {
            return;
        }
        if self.gathered.is_empty() {
            return self.replace_head(format_args!("0\r\n\r\n"));
        }
        let gathered = self.gathered.split().freeze();
        self.frame(gathered);
        self.tail = b"\r\n0\r\n\r\n";
    }

    fn frame(&mut self, data: Bytes) {
        if self.chunked {
            self.replace_head(format_args!("{:x}\r\n", data.len()));
            self.tail = b"\r\n";
        }
        self.data = data;
    }

    fn replace_head(&mut self, text: std::fmt::Arguments<'_>) {
        self.head.clear();
        self.head_written = 0;
        let _ = io::Write::write_fmt(&mut self.head, text);
    }

    fn is_written(&self) -> bool {
        self.head_written == self.head.len() && self.data.is_empty() && self.tail.is_empty()
    }

    fn advance(&mut self, mut bytes: usize) {
        self.begun = true;
        let of_head = bytes.min(self.head.len() - self.head_written);
        self.head_written += of_head;
        bytes -= of_head;
        let of_data = bytes.min(self.data.len());
        self.data.advance(of_data);
        self.tail = &self.tail[bytes - of_data..];
    }
}

fn line(head: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    head.extend_from_slice(name);
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}
