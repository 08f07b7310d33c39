//! One HTTP/1.1 connection to a backend, polled by the task of its exchange.
//!
//! Why not hyper's client: it takes every head by value. It passes head and response through channels to a task of its
//! own, which costs four wake-ups. Invariants:
//!
//! - One request at a time.
//! - Exactly one framing is sent (none, a length, chunks), chosen from the body.
//! - A body is asked for its next frame only when all earlier frames are written or gathered.
//! - A connection is used again only if its request was sent whole and its response read whole, with nothing behind it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use rustix::io::Errno;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::counts::{InUse, Link};
use crate::http1::{BodyDecoder, Fields, Length, RequestHead, ResponseHead, Scan, of_response, take_response, write};
use crate::listener::keep_alive;
use crate::net::{Buffers, Descriptor, Inbox, Outbox, Stream};
use crate::proxy::body::{Frame, RequestBody};
use crate::proxy::fault::Fault;
use crate::telemetry::BackendShard;

/// Room for a head, beside the expected part of a body.
const HEAD_BYTES: usize = 1024;
/// A response of this size or more uses a large buffer.
const LARGE_BYTES: usize = 8 * 1024;

pub(in crate::proxy) struct Upstream {
    stream: Stream,
    buffers: Rc<Buffers>,
    inbox: Inbox,
    scan: Scan,
    outbox: Outbox,
    sending: Sending,
    /// For the response; empty before its head.
    body: BodyDecoder,
    /// The bytes of the last response, by its head: the next one is often similar.
    expected: usize,
    /// The response's head allows another request.
    keep: bool,
    /// The backend has closed its side.
    has_ended: bool,
    /// It has served a request before, so the backend may close it at any moment.
    is_reused: bool,
    /// No byte of this request's response has arrived.
    is_silent: bool,
    /// The fault that ended the request's body early.
    broken: Option<Fault>,
    /// `None` while idle.
    in_use: Option<InUse>,
    /// Its place among the connections of its backend; `None` for one in memory.
    link: Option<Link>,
}

/// The part of the request that is still to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// The body, by its length.
    Plain,
    /// The body, in chunks.
    Chunked,
    /// Only what is in the outbox.
    Rest,
    /// Nothing more: the backend takes no more, or the body is incomplete.
    GivenUp,
}

// === impl Upstream: its life ===

impl Upstream {
    /// The fault of a connection that could not be made.
    pub(in crate::proxy) fn connect_fault(error: &std::io::Error) -> Fault {
        // No descriptor, or no free port of this machine: not the backend's fault.
        let own = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL];
        let no_descriptor = Errno::from_io_error(error).is_some_and(|error| own.contains(&error));
        if no_descriptor { Fault::NoDescriptor } else { Fault::ConnectFailed }
    }

    /// A new connection.
    pub(in crate::proxy) async fn connect(
        address: SocketAddr,
        shard: &Arc<BackendShard>,
        buffers: &Rc<Buffers>,
        limit: Duration,
        descriptor: Descriptor,
        link: Link,
    ) -> Result<Box<Self>, Fault> {
        let started = Instant::now();
        let socket = match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => {
                tracing::debug!(%address, "cannot connect: {error}");
                return Err(Self::connect_fault(&error));
            }
            Err(_) => return Err(Fault::ConnectTimeout),
        };
        let _ = socket.set_nodelay(true);
        if let Err(error) = keep_alive(&SockRef::from(&socket)) {
            tracing::debug!(%address, "TCP keep-alive cannot be set: {error}");
        }
        shard.connected(started.elapsed().as_nanos() as u64);
        shard.connections_opened.inc();
        let mut upstream = Self::new(Stream::Plain(socket, descriptor), shard, buffers);
        upstream.link = Some(link);
        Ok(upstream)
    }

    /// Wraps an open connection.
    pub(in crate::proxy) fn new(stream: Stream, shard: &Arc<BackendShard>, buffers: &Rc<Buffers>) -> Box<Self> {
        Box::new(Self {
            stream,
            buffers: buffers.clone(),
            inbox: Inbox::default(),
            scan: Scan::default(),
            outbox: Outbox::default(),
            sending: Sending::Rest,
            body: BodyDecoder::new(Length::Exact(0)),
            expected: HEAD_BYTES,
            keep: true,
            has_ended: false,
            is_reused: false,
            is_silent: true,
            broken: None,
            in_use: Some(InUse::new(shard)),
            link: None,
        })
    }

    /// Prepares it to wait; false if it cannot be used again.
    pub(super) fn suspend(&mut self) -> bool {
        let can_serve = self.keep
            && !self.has_ended
            && self.sending != Sending::GivenUp
            && self.is_sent()
            && self.is_at_end()
            && self.inbox.is_empty();
        self.in_use = None;
        self.inbox.rest(&self.buffers);
        self.buffers.give_back_outbox(std::mem::take(&mut self.outbox));
        can_serve
    }

    /// Takes it into use again; false if the backend has closed it meanwhile or sent unexpected bytes.
    pub(super) fn resume(&mut self, shard: &Arc<BackendShard>, careful: bool) -> bool {
        self.is_reused = true;
        self.inbox.change_task();
        self.in_use = Some(InUse::new(shard));
        let has_ended = self.stream.has_heard() || (careful && self.stream.has_unread_input());
        !has_ended
    }

    /// After a 101: the socket, the bytes read behind the head, and its places in the counts.
    pub(in crate::proxy) fn into_tunnel(self) -> (Stream, Bytes, (Option<InUse>, Option<Link>)) {
        (self.stream, self.inbox.into_bytes().freeze(), (self.in_use, self.link))
    }
}

// === impl Upstream: the request ===

impl Upstream {
    /// Begins a request; [`poll_send`](Self::poll_send) sends it. `address` is used if the request names no host
    /// (HTTP/1.0 allows that).
    pub(in crate::proxy) fn begin(&mut self, head: &RequestHead, body: &RequestBody, address: &str) {
        self.outbox = self.buffers.take_outbox();
        let out = self.outbox.small();
        write::request_line(out, &head.method, &head.target);
        head.fields.write(out);
        if !head.fields.has(b"host") {
            [b"host: ", address.as_bytes(), b"\r\n"].iter().for_each(|part| out.extend_from_slice(part));
        }
        self.sending = match (body.has_ended(), body.exact()) {
            (true, _) => Sending::Rest,
            (false, Some(length)) => {
                if !head.fields.has(b"content-length") {
                    out.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
                }
                Sending::Plain
            }
            (false, None) => {
                out.extend_from_slice(b"transfer-encoding: chunked\r\n");
                Sending::Chunked
            }
        };
        out.extend_from_slice(b"\r\n");
        (self.keep, self.scan) = (true, Scan::default());
        if self.expected > LARGE_BYTES {
            self.inbox.expect_much();
        }
        (self.is_silent, self.broken) = (true, None);
    }

    /// Sends more. `Ready(Ok)` when there is nothing more to send, also if the backend takes no more: it may still have
    /// sent a response. An error is the body's.
    pub(in crate::proxy) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut RequestBody,
    ) -> Poll<Result<(), Fault>> {
        while matches!(self.sending, Sending::Plain | Sending::Chunked) {
            if !self.outbox.has_room() {
                ready!(self.poll_flush(cx));
                continue;
            }
            match body.poll_frame(cx) {
                Poll::Ready(Some(Ok(Frame::Data(data)))) => self.put(data),
                Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => self.end(Some(&trailers)),
                Poll::Ready(None) => self.end(None),
                Poll::Ready(Some(Err(fault))) => {
                    (self.sending, self.broken) = (Sending::GivenUp, Some(fault));
                    return Poll::Ready(Err(fault));
                }
                Poll::Pending => {
                    ready!(self.poll_flush(cx));
                    return Poll::Pending;
                }
            }
        }
        if self.sending == Sending::Rest {
            ready!(self.poll_flush(cx));
        }
        Poll::Ready(Ok(()))
    }

    pub(in crate::proxy) fn is_sent(&self) -> bool {
        match self.sending {
            Sending::Plain | Sending::Chunked => false,
            Sending::Rest => self.outbox.is_empty(),
            Sending::GivenUp => true,
        }
    }

    pub(in crate::proxy) fn has_sent(&self) -> bool {
        self.outbox.has_begun()
    }

    /// Whether it had served a request before, and no byte of the present response has arrived.
    pub(in crate::proxy) fn was_kept_and_silent(&self) -> bool {
        self.is_reused && self.is_silent
    }

    fn put(&mut self, data: Bytes) {
        // An empty chunk would end the body.
        if data.is_empty() {
            return;
        }
        let tail: &[u8] = if self.sending == Sending::Chunked {
            write::chunk_begin(self.outbox.small(), data.len());
            b"\r\n"
        } else {
            b""
        };
        self.outbox.push(data, tail);
    }

    fn end(&mut self, trailers: Option<&Fields>) {
        if self.sending == Sending::Chunked {
            write::last_chunk(self.outbox.small(), trailers);
        }
        self.sending = Sending::Rest;
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Err(error) = ready!(self.outbox.poll_flush(&mut self.stream, &self.buffers, cx)) {
            tracing::debug!("a backend takes no more of a request: {error}");
            self.sending = Sending::GivenUp;
        }
        Poll::Ready(())
    }
}

// === impl Upstream: the response ===

impl Upstream {
    /// Reads the next head into `head`: interim ones (1xx), then the final one. Pass the same `head` until it is
    /// complete: its first line may arrive long before the rest. `method` is the request's.
    pub(in crate::proxy) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), Fault>> {
        loop {
            // Mostly no byte is here yet.
            let found =
                if self.inbox.is_empty() { Ok(false) } else { take_response(self.inbox.bytes(), &mut self.scan, head) };
            let framing = match found {
                Ok(false) => {
                    ready!(self.poll_fill(cx, self.expected)?);
                    continue;
                }
                Ok(true) => of_response(head, method),
                Err(bad) => Err(bad),
            };
            return Poll::Ready(match framing {
                Ok(framing) => {
                    self.scan = Scan::default();
                    self.keep &= framing.keep_alive || head.status.is_informational();
                    self.body.begin(framing.body);
                    self.expected = self.body.wants().saturating_add(HEAD_BYTES);
                    Ok(())
                }
                Err(bad) => {
                    tracing::debug!("{bad}");
                    Err(Fault::BadResponse)
                }
            });
        }
    }

    /// The next frame of the response's body; `None` at its end. Sends the rest of the request meanwhile. If the
    /// request's body is incomplete, returns only bytes that are here, then the fault: the backend may be waiting for
    /// the rest.
    pub(in crate::proxy) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut RequestBody,
    ) -> Poll<Option<Result<Frame, Fault>>> {
        self.send_on(cx, body);
        loop {
            match self.body.take(self.inbox.bytes()) {
                Ok(data) if !data.is_empty() => return Poll::Ready(Some(Ok(Frame::Data(data)))),
                Ok(_) if self.body.is_done() => {
                    let trailers = self.body.take_trailers();
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::Trailers(Box::new(trailers)))));
                }
                Ok(_) => {}
                Err(bad) => {
                    tracing::debug!("{bad}");
                    return Poll::Ready(Some(Err(Fault::BackendReset)));
                }
            }
            let filled = match (self.poll_fill(cx, self.body.wants()), self.broken) {
                (Poll::Ready(filled), _) => filled,
                (Poll::Pending, Some(fault)) => return Poll::Ready(Some(Err(fault))),
                (Poll::Pending, None) => return Poll::Pending,
            };
            match filled {
                Ok(()) => {}
                Err(_) if self.has_ended && self.body.at_eof() => return Poll::Ready(None),
                Err(fault) => return Poll::Ready(Some(Err(fault))),
            }
        }
    }

    /// Appends the rest of the response's body to `out` if it is here and small, and the request is sent. Returns the
    /// number of these bytes. `None` means: use [`poll_frame`](Self::poll_frame).
    pub(in crate::proxy) fn take_rest(&mut self, out: &mut Vec<u8>) -> Option<usize> {
        if self.is_sent() { self.body.take_rest(self.inbox.bytes(), out) } else { None }
    }

    /// Sends more of a request whose response has begun. A fault is kept in `broken`; the response is read on.
    pub(in crate::proxy) fn send_on(&mut self, cx: &mut Context<'_>, body: &mut RequestBody) {
        if !self.is_sent() {
            let _ = self.poll_send(cx, body);
        }
    }

    /// The response's body is over, trailers and all.
    pub(in crate::proxy) fn is_at_end(&self) -> bool {
        self.body.is_done() && !self.body.has_trailers()
    }

    /// The length of the response's body, if its head states it; valid before any of it was taken.
    pub(in crate::proxy) fn exact(&self) -> Option<u64> {
        self.body.exact()
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<Result<(), Fault>> {
        Poll::Ready(match ready!(self.inbox.poll_fill(&mut self.stream, &self.buffers, cx, room)) {
            Ok(1..) => {
                self.is_silent = false;
                Ok(())
            }
            Ok(0) => {
                self.has_ended = true;
                Err(Fault::BackendReset)
            }
            Err(error) => {
                tracing::debug!("a backend's connection broke off: {error}");
                self.keep = false;
                Err(Fault::BackendReset)
            }
        })
    }
}
