//! The seam to backends: one connection that speaks HTTP/1.1, driven by the task of the client whose request is on it.
//!
//! Why our own, where hyper has a client: that one takes every head by value, hands it and its answer through channels and parses into
//! shared buffers; reading the head by reference saves a quarter of the proxy's own work per request, and a repeat needs no copy. Why no
//! task of its own: handing over and back costs four wake-ups. While idle nobody polls the connection, so one that the backend closed
//! is noticed when it is taken again, before a byte is sent on it. Invariants: one request at a time; only a connection whose request
//! was sent whole and whose answer was read whole, with nothing behind it, is kept.

mod decode;
mod encode;
mod head;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{request, response};
use rustix::io::Errno;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use self::decode::Framing;
use self::encode::{Outgoing, StopReason};
use super::body::{BodyError, RequestBody};
use super::client::Client;
use super::pace::Pace;
use super::socket::Socket;
use super::view::Member;
use crate::generation::Settings;
use crate::listener::keep_alive;
use crate::telemetry::{BackendShard, ErrorReason};

/// Room for a head and a small body.
const READ_BYTES: usize = 8 * 1024;
/// Room for a piece of a large body.
const READ_LARGE_BYTES: usize = 64 * 1024;

pub(super) struct Upstream {
    socket: Socket,
    read: BytesMut,
    outgoing: Outgoing,
    framing: Framing,
    /// The answer's head allows another request.
    keep: bool,
    /// The backend's side is closed.
    ended: bool,
    /// It has answered a request before: the backend may close it at any moment.
    pub(super) reused: bool,
    /// Not while idle.
    in_use: Option<InUse>,
}

/// Counts a connection as active as long as it lives: it may end by any error, and only a drop sees all of them.
pub(super) struct InUse(Arc<BackendShard>);

/// Why a request brought no answer.
pub(super) struct SendError {
    pub(super) reason: ErrorReason,
    /// The request's body, when not a byte of the request was sent.
    pub(super) unsent: Option<RequestBody>,
    /// No byte of an answer came.
    pub(super) no_answer: bool,
}

/// The circumstances of a request that [`Upstream::send`] needs to know.
pub(super) struct Patience<'a> {
    pub(super) client: &'a Client,
    pub(super) settings: &'a Settings,
    pub(super) started: Instant,
    pub(super) total: Option<Instant>,
}

// === impl Upstream ===

impl Upstream {
    /// A kept connection, else a new one. With `careful` the kernel is asked whether a kept one still stands: a system call that a
    /// request is worth that could not be repeated.
    pub(super) async fn get(
        member: &Rc<Member>,
        settings: &Settings,
        now: Instant,
        careful: bool,
    ) -> Result<Box<Self>, ErrorReason> {
        let oldest = now.checked_sub(settings.timeouts.upstream_idle).unwrap_or(now);
        while let Some(mut upstream) = member.take_idle(oldest) {
            let is_stale = upstream.has_news() || (careful && upstream.socket.has_news());
            if !is_stale {
                upstream.reused = true;
                upstream.in_use = Some(InUse::new(&member.shard));
                return Ok(upstream);
            }
        }
        Self::connect(member, settings).await
    }

    /// A new connection.
    pub(super) async fn connect(member: &Rc<Member>, settings: &Settings) -> Result<Box<Self>, ErrorReason> {
        let started = Instant::now();
        let socket = match timeout(settings.timeouts.connect, TcpStream::connect(member.backend.socket)).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => {
                tracing::debug!(backend = &*member.backend.id, "cannot connect: {error}");
                let no_descriptor = matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE));
                return Err(if no_descriptor { ErrorReason::Overload } else { ErrorReason::Connect });
            }
            Err(_) => return Err(ErrorReason::ConnectTimeout),
        };
        let _ = socket.set_nodelay(true);
        if let Err(error) = keep_alive(&SockRef::from(&socket)) {
            tracing::debug!(backend = &*member.backend.id, "TCP keep-alive cannot be set: {error}");
        }
        member.shard.connected(started.elapsed().as_nanos() as u64);
        member.shard.connections_opened.inc();
        Ok(Box::new(Self {
            socket: Socket::new(socket),
            read: BytesMut::new(),
            outgoing: Outgoing::default(),
            framing: Framing::Length(0),
            keep: true,
            ended: false,
            reused: false,
            in_use: Some(InUse::new(&member.shard)),
        }))
    }

    /// Sends a request and waits for the answer's head. The clock runs from the last byte of the request's body that went by; how slow
    /// the client may be with it, [`Pace`] says.
    pub(super) async fn send(
        &mut self,
        head: &request::Parts,
        body: RequestBody,
        address: &str,
        patience: &Patience<'_>,
    ) -> Result<response::Parts, SendError> {
        self.outgoing.begin(head, body, address);
        // Lets the worker read all that is ready before anything is sent: sends in a row find their receivers awake, which on one
        // machine is a tenth of all the work.
        yield_once().await;
        if self.reused && self.has_news() {
            return Err(self.failed(&io::ErrorKind::ConnectionReset.into(), patience.client));
        }
        let Patience { client, settings, started, total } = *patience;
        let timeouts = &settings.timeouts;
        let mut pace = Pace::new(client.body_bytes.get(), started, timeouts, &settings.limits);
        poll_fn(|cx| {
            if let Poll::Ready(answer) = self.poll_answer(cx, head, client) {
                return Poll::Ready(answer);
            }
            if client.ask_again.get() {
                return Poll::Pending;
            }
            let is_open = client.body_open.get();
            let client_is_late = is_open && client.body_awaited.get();
            pace.note(client.body_bytes.get(), client_is_late);
            let deadline = if is_open { pace.deadline() } else { pace.since() + timeouts.response_head };
            let deadline = total.map_or(deadline, |total| total.min(deadline));
            client.watchdog.poll(cx, deadline).map(|()| {
                Err(SendError::of(if client_is_late { ErrorReason::ClientTimeout } else { ErrorReason::Timeout }))
            })
        })
        .await
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        request: &request::Parts,
        client: &Client,
    ) -> Poll<Result<response::Parts, SendError>> {
        // A backend that takes no more may have answered all the same: reading tells.
        if let Poll::Ready(Err(StopReason::Body(error))) = self.outgoing.poll(&mut self.socket, cx) {
            return Poll::Ready(Err(self.failed(&io::Error::other(error), client)));
        }
        if client.ask_again.get() {
            return Poll::Pending;
        }
        loop {
            match ready!(self.poll_fill(cx, READ_BYTES)) {
                Ok(0) => return Poll::Ready(Err(self.failed(&io::ErrorKind::UnexpectedEof.into(), client))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(self.failed(&error, client))),
            }
            match head::take(&mut self.read, &request.method) {
                Ok(None) => {}
                Ok(Some(head)) => {
                    self.framing = head.framing;
                    self.keep = head.keep;
                    return Poll::Ready(Ok(head.parts));
                }
                Err(bad) => {
                    tracing::debug!("{bad}");
                    return Poll::Ready(Err(SendError::of(ErrorReason::BadResponse)));
                }
            }
        }
    }

    /// The next bytes of the answer's body; `None` at its end. Moves the request on where it is not sent whole yet.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if !self.outgoing.is_done()
            && let Poll::Ready(Err(_)) = self.outgoing.poll(&mut self.socket, cx)
        {
            // The answer is on its way whatever becomes of the request; only the connection cannot be kept.
            self.keep = false;
        }
        loop {
            match self.framing.take(&mut self.read) {
                Ok(data) if !data.is_empty() => return Poll::Ready(Some(Ok(data))),
                Ok(_) if self.framing.is_done() => return Poll::Ready(None),
                Ok(_) => {}
                Err(bad) => return Poll::Ready(Some(Err(BodyError::Backend(io::Error::other(bad))))),
            }
            let room = self.framing.wants().clamp(READ_BYTES, READ_LARGE_BYTES);
            match ready!(self.poll_fill(cx, room)) {
                Ok(0) if self.framing == Framing::UntilClose => {
                    self.framing = Framing::Length(0);
                    return Poll::Ready(None);
                }
                Ok(0) => return Poll::Ready(Some(Err(BodyError::Backend(io::ErrorKind::UnexpectedEof.into())))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(BodyError::Backend(error)))),
            }
        }
    }

    /// The answer's body is over.
    pub(super) fn is_at_end(&self) -> bool {
        self.framing.is_done()
    }

    /// The length of the answer's body, where its head tells.
    pub(super) fn length(&self) -> Option<u64> {
        self.framing.exact()
    }

    /// After a complete answer: kept for the next request, if it can be.
    pub(super) fn give_back(mut self: Box<Self>, member: &Member, client: &Client, now: Instant) {
        self.in_use = None;
        if self.keep && !self.ended && self.outgoing.is_done() && self.is_at_end() && self.read.is_empty() {
            let most = client.worker.view.borrow().settings.limits.upstream_idle_connections;
            member.put_idle(self, now, most);
        }
    }

    /// After a 101: the socket, what was read past the head, and its place in the count.
    pub(super) fn into_socket(self: Box<Self>) -> (TcpStream, Bytes, Option<InUse>) {
        let Self { socket, read, in_use, .. } = *self;
        (socket.into_stream(), read.freeze(), in_use)
    }

    /// Whether the runtime has heard of bytes, an end or an error that nobody asked for. Asks the kernel only if it has.
    fn has_news(&self) -> bool {
        let read = self.socket.stream().try_read(&mut [0]);
        !read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        if self.read.capacity() - self.read.len() < room / 2 {
            self.read.reserve(room);
        }
        let filled = ready!(pin!(self.socket.stream_mut().read_buf(&mut self.read)).poll(cx));
        self.ended = !matches!(filled, Ok(1..));
        Poll::Ready(filled)
    }

    fn failed(&mut self, error: &io::Error, client: &Client) -> SendError {
        if let Some(reason) = client.body_failure.get() {
            return SendError::of(reason);
        }
        tracing::debug!("a backend brought no answer: {error}");
        let unsent = self.outgoing.take_unsent();
        SendError { reason: ErrorReason::Reset, unsent, no_answer: self.read.is_empty() }
    }
}

/// Goes to the end of the worker's queue.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

// === impl InUse ===

impl InUse {
    fn new(shard: &Arc<BackendShard>) -> Self {
        shard.connections_active.inc();
        Self(shard.clone())
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.connections_active.dec();
    }
}

// === impl SendError ===

impl SendError {
    fn of(reason: ErrorReason) -> Self {
        Self { reason, unsent: None, no_answer: false }
    }
}
