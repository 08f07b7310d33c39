//! A request on its way out: the head as bytes, the body in frames, written with as few copies as there can be.
//!
//! Invariants: exactly one framing (none, a length, chunks) goes out, chosen from the body itself; a body is asked for its next frame
//! only when all before it is written, which is the back-pressure.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use hyper::body::Body;
use hyper::rt::Write;

use crate::proxy::body::{BodyError, RequestBody};
use crate::proxy::socket::Socket;

/// What is still to be written of one request.
#[derive(Default)]
pub(super) struct Outgoing {
    /// Head, or what goes before a chunk. Kept between requests for its memory.
    head: Vec<u8>,
    head_written: usize,
    /// The frame that goes behind it.
    data: Bytes,
    /// What goes behind that.
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
            match ready!(Pin::new(body).poll_frame(cx)) {
                // Trailers end at this hop; an empty chunk would say that the body is over.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => self.frame(data),
                    _ => {}
                },
                Some(Err(error)) => return Poll::Ready(Err(StopReason::Body(error))),
                None => {
                    self.body = None;
                    if self.chunked {
                        self.replace_head(format_args!("0\r\n\r\n"));
                    }
                }
            }
        }
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
