//! The seam to backends: one connection, driven by the task of the client whose request is on it.
//!
//! Why no task of its own: handing a request to another task and its answer back costs four wake-ups; here the client's task polls
//! both. While idle nobody polls the connection, so one that the backend closed is noticed when it is taken again, before a byte is
//! sent on it. Invariants: one request at a time; only a connection whose last answer was complete is kept.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::body::RequestBody;
use super::client::Client;
use super::socket::{Probe, Socket};
use super::view::Member;
use crate::generation::Settings;
use crate::telemetry::{BackendShard, ErrorReason};

pub(super) struct Upstream {
    sender: http1::SendRequest<RequestBody>,
    connection: http1::Connection<Socket, RequestBody>,
    /// The connection's future has not ended.
    open: bool,
    /// It has answered a request before: the backend may close it at any moment.
    pub(super) reused: bool,
    probe: Probe,
    /// Not while idle.
    in_use: Option<InUse>,
}

/// Counts a connection as active as long as it lives: it may end by any error, and only a drop sees all of them.
pub(super) struct InUse(Arc<BackendShard>);

/// Why a request brought no answer.
pub(super) struct SendError {
    pub(super) reason: ErrorReason,
    /// The request itself, when not a byte of it was sent.
    pub(super) unsent: Option<Request<RequestBody>>,
    /// No byte of an answer came.
    pub(super) no_answer: bool,
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
            upstream.probe.set(careful);
            poll_fn(|cx| {
                upstream.poll(cx);
                Poll::Ready(())
            })
            .await;
            upstream.probe.set(false);
            if upstream.open && upstream.sender.is_ready() {
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
                return Err(ErrorReason::Connect);
            }
            Err(_) => return Err(ErrorReason::ConnectTimeout),
        };
        let _ = socket.set_nodelay(true);
        member.shard.connected(started.elapsed().as_nanos() as u64);
        member.shard.connections_opened.inc();
        let (socket, probe) = Socket::with_probe(socket);
        let (sender, connection) = http1::Builder::new().handshake(socket).await.map_err(|_| ErrorReason::Connect)?;
        let in_use = Some(InUse::new(&member.shard));
        Ok(Box::new(Self { sender, connection, open: true, reused: false, probe, in_use }))
    }

    /// Moves the connection on.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        if self.open && Pin::new(&mut self.connection).poll(cx).is_ready() {
            self.open = false;
        }
    }

    /// Sends and waits for the answer's head. The clock runs from the last byte of the request's body that went by.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
        client: &Client,
        settings: &Settings,
        started: Instant,
        total: Option<Instant>,
    ) -> Result<Response<Incoming>, SendError> {
        let timeouts = &settings.timeouts;
        let mut seen = client.body_bytes.get();
        let mut since = started;
        let mut response = pin!(self.sender.try_send_request(request));
        let (connection, open) = (&mut self.connection, &mut self.open);
        let answer = poll_fn(|cx| {
            if *open && Pin::new(&mut *connection).poll(cx).is_ready() {
                *open = false;
            }
            if let Poll::Ready(answer) = response.as_mut().poll(cx) {
                return Poll::Ready(Some(answer));
            }
            if client.body_bytes.get() != seen {
                seen = client.body_bytes.get();
                since = Instant::now();
            }
            let patience = if client.body_open.get() { timeouts.idle } else { timeouts.response_head };
            let deadline = total.map_or(since + patience, |total| total.min(since + patience));
            client.watchdog.poll(cx, deadline).map(|()| None)
        })
        .await;
        match answer {
            Some(Ok(response)) => Ok(response),
            Some(Err(mut error)) => {
                let unsent = error.take_message();
                Err(SendError::new(error.into_error(), unsent, client))
            }
            None if client.body_open.get() && client.body_awaited.get() => {
                Err(SendError::of(ErrorReason::ClientTimeout))
            }
            None => Err(SendError::of(ErrorReason::Timeout)),
        }
    }

    /// After a complete answer: kept for the next request, if it can be.
    pub(super) fn give_back(mut self: Box<Self>, member: &Member, client: &Client, now: Instant) {
        self.in_use = None;
        if self.open && !self.sender.is_closed() && !client.body_open.get() {
            let most = client.worker.view.borrow().settings.limits.upstream_idle_connections;
            member.put_idle(self, now, most);
        }
    }

    /// After a 101: the socket, what was read past the head, and its place in the count.
    pub(super) async fn into_socket(mut self: Box<Self>) -> (TcpStream, Bytes, Option<InUse>) {
        poll_fn(|cx| {
            self.poll(cx);
            if self.open { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        let Self { connection, in_use, .. } = *self;
        let parts = connection.into_parts();
        (parts.io.into_stream(), parts.read_buf, in_use)
    }
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

    fn new(error: hyper::Error, unsent: Option<Request<RequestBody>>, client: &Client) -> Self {
        if let Some(reason) = client.body_failure.get() {
            return Self::of(reason);
        }
        tracing::debug!("a backend brought no answer: {error:?}");
        // Closed or reset before a byte of the head, as far as hyper tells.
        let no_answer = error.is_incomplete_message() || error.is_closed() || error.is_canceled() || is_io(&error);
        let reason = if error.is_parse() { ErrorReason::BadResponse } else { ErrorReason::Reset };
        Self { reason, unsent, no_answer }
    }
}

fn is_io(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}
