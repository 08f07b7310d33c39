//! A client's connection: its socket with time-outs of our own, and the task that serves it.
//!
//! Why our own time-outs: hyper has one timer for head and idle and never answers 408. Nothing read → closed silently; part of a head
//! → 408. Invariants: one request at a time; the socket's own task polls everything, so one watchdog and one waker are enough; the
//! connection is taken off its worker exactly once.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::{HeaderValue, Request};
use hyper::body::{Body, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::error::Failure;
use super::forward;
use super::socket::Socket;
use super::tunnel::Tunnel;
use super::turns::Turns;
use super::watchdog::Watchdog;
use super::worker::Worker;
use crate::telemetry::ErrorReason;

/// What a connection's parts know of each other.
pub(super) struct Client {
    pub(super) worker: Rc<Worker>,
    pub(super) peer: SocketAddr,
    /// The place of the listener it came by.
    pub(super) listener: usize,
    /// The peer's address as a header value, made once.
    pub(super) peer_text: HeaderValue,
    pub(super) watchdog: Watchdog,
    /// Bytes of the request's body that went by, ever; its change says that the client is sending.
    pub(super) body_bytes: Cell<u64>,
    /// The request's body has not ended.
    pub(super) body_open: Cell<bool>,
    /// The client may still be sending a body that nobody reads to its end.
    pub(super) body_unread: Cell<bool>,
    /// The request's body was asked for more and had nothing: the client is waited for, not the backend.
    pub(super) body_awaited: Cell<bool>,
    /// More of the request's body may be ready in hyper's buffer: the task has another turn before it rests.
    pub(super) ask_again: Cell<bool>,
    /// Why reading the request's body was given up.
    pub(super) body_failure: Cell<Option<ErrorReason>>,
    /// Set with a 101: what the connection becomes once hyper let go of it.
    pub(super) tunnel: RefCell<Option<Tunnel>>,
    id: u64,
    phase: Cell<Phase>,
    waker: RefCell<Option<Waker>>,
    keep_alive_off: Cell<bool>,
    /// Somebody waits until all that hyper holds for the client is written.
    flush_awaited: Cell<bool>,
}

#[derive(Clone, Copy)]
enum Phase {
    /// No byte of the next request yet.
    Idle { since: Instant, first: bool },
    /// Some bytes of a head; the clock was not looked at yet.
    Head,
    /// A head that came in parts.
    SlowHead { since: Instant },
    /// A request is being served.
    Busy,
}

/// The socket as hyper sees it.
pub(super) struct ClientIo {
    socket: Socket,
    client: Rc<Client>,
    /// Since when writing has made no progress.
    write_stalled: Option<Instant>,
}

/// Takes the connection off its worker, however its task ends.
struct Farewell(Rc<Client>);

/// Serves one connection until its end.
pub(super) async fn serve(client: Rc<Client>, socket: TcpStream) {
    let _farewell = Farewell(client.clone());
    let io = ClientIo { socket: Socket::new(socket), client: client.clone(), write_stalled: None };
    let limits = client.worker.view.borrow().settings.limits.clone();
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_header_size(limits.head_bytes);
    builder.max_buf_size(limits.head_bytes.max(MINIMUM_BUFFER_BYTES));
    // Asked for, the limit costs an allocation per request; it is hyper's own default anyway.
    if limits.headers != HYPER_HEADERS {
        builder.max_headers(limits.headers);
    }
    let own = client.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        own.phase.set(Phase::Busy);
        own.body_unread.set(!Body::is_end_stream(request.body()));
        forward::serve(own.clone(), request)
    });
    let mut connection = builder.serve_connection(io, service);
    let mut turns = Turns::default();
    let ended = std::future::poll_fn(|cx| {
        client.remember(cx);
        // Not while idle: hyper would close at once, over a request that is here but not yet read.
        if client.worker.draining.get() && client.is_busy() && !client.keep_alive_off.replace(true) {
            Pin::new(&mut connection).graceful_shutdown();
        }
        turns.poll(cx, &client, |cx| Pin::new(&mut connection).poll(cx))
    })
    .await;
    if let Err(error) = ended {
        client.count_parse_error(&error);
    }
    let parts = connection.into_parts();
    let tunnel = client.tunnel.borrow_mut().take();
    match tunnel {
        Some(tunnel) => tunnel.run(&client, parts.io, parts.read_buf).await,
        None if client.body_unread.get() => linger(parts.io.into_socket()).await,
        None => {}
    }
}

/// Reads on for a while, for nothing. Closed over unread bytes the kernel resets a connection, and to many a client that is still
/// sending, its answer would be lost by that.
async fn linger(mut socket: TcpStream) {
    let mut sink = vec![0; LINGER_BUFFER_BYTES];
    let end = async { while socket.read(&mut sink).await.is_ok_and(|bytes| bytes > 0) {} };
    let _ = timeout(LINGER_MAX, end).await;
}

/// Long enough for an answer to arrive and be read.
const LINGER_MAX: Duration = Duration::from_secs(2);
const LINGER_BUFFER_BYTES: usize = 16 * 1024;
const HYPER_HEADERS: usize = 100;
const MINIMUM_BUFFER_BYTES: usize = 8192;

// === impl Client ===

impl Client {
    pub(super) fn new(worker: Rc<Worker>, id: u64, peer: SocketAddr, listener: usize) -> Self {
        let ip = peer.ip().to_canonical().to_string();
        Self {
            worker,
            peer,
            listener,
            peer_text: HeaderValue::try_from(ip).expect("an address is a header value"),
            watchdog: Watchdog::default(),
            body_bytes: Cell::new(0),
            body_open: Cell::new(false),
            body_unread: Cell::new(false),
            body_awaited: Cell::new(false),
            ask_again: Cell::new(false),
            body_failure: Cell::new(None),
            tunnel: RefCell::new(None),
            id,
            phase: Cell::new(Phase::Idle { since: Instant::now(), first: true }),
            waker: RefCell::new(None),
            keep_alive_off: Cell::new(false),
            flush_awaited: Cell::new(false),
        }
    }

    /// The answer is complete: from here on the connection is idle.
    pub(super) fn request_ended(&self, now: Instant) {
        self.phase.set(Phase::Idle { since: now, first: false });
    }

    /// Wakes the connection's task when all that hyper holds by now is written; to be called by that task.
    pub(super) fn await_flush(&self) {
        self.flush_awaited.set(true);
    }

    /// Whether that has happened.
    pub(super) fn is_flushed(&self) -> bool {
        !self.flush_awaited.get()
    }

    fn is_busy(&self) -> bool {
        matches!(self.phase.get(), Phase::Busy)
    }

    /// Makes the connection's task look around (draining has begun).
    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn remember(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if waker.is_none() {
            *waker = Some(cx.waker().clone());
        }
    }

    /// 400, 414 and 431 are hyper's bare answers; they are counted here, by the pool `default`, as no route was known.
    fn count_parse_error(&self, error: &hyper::Error) {
        if error.is_parse() {
            let view = self.worker.view.borrow();
            if let Some(pool) = view.pools.first() {
                pool.count(self.listener, |shard| shard.error(ErrorReason::BadRequest));
            }
        }
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.worker.farewell(self.0.id, self.0.listener);
    }
}

// === impl ClientIo ===

impl ClientIo {
    /// The socket itself, for a tunnel.
    pub(super) fn into_socket(self) -> TcpStream {
        self.socket.into_stream()
    }

    /// Nothing to read now: is the client within its time? `Ready` is the end of reading.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let client = &self.client;
        let timeouts = |worker: &Worker| {
            let view = worker.view.borrow();
            (view.settings.timeouts.head, view.settings.timeouts.client_keep_alive)
        };
        match client.phase.get() {
            Phase::Busy => Poll::Pending,
            // The answer is complete, but the client has not taken all of it: writing has a clock of its own.
            Phase::Idle { .. } if self.write_stalled.is_some() => Poll::Pending,
            // What came before the end is answered; the runtime just has not heard of it yet.
            Phase::Idle { .. } if client.worker.draining.get() && self.socket.has_news() => Poll::Pending,
            Phase::Idle { .. } if client.worker.draining.get() => Poll::Ready(Ok(())),
            Phase::Idle { since, first } => {
                let (head, keep_alive) = timeouts(&client.worker);
                client.watchdog.poll(cx, since + if first { head } else { keep_alive }).map(Ok)
            }
            Phase::Head => {
                let since = Instant::now();
                client.phase.set(Phase::SlowHead { since });
                self.poll_slow_head(cx, since + timeouts(&client.worker).0)
            }
            Phase::SlowHead { since } => self.poll_slow_head(cx, since + timeouts(&client.worker).0),
        }
    }

    fn poll_slow_head(&self, cx: &mut Context<'_>, deadline: Instant) -> Poll<io::Result<()>> {
        ready!(self.client.watchdog.poll(cx, deadline));
        self.answer_slow_head();
        Poll::Ready(Ok(()))
    }

    /// 408 by hand, as hyper knows of no request yet. Best effort: a full socket of a client this slow is not waited for.
    fn answer_slow_head(&self) {
        const SLOW: Failure = Failure::new(ErrorReason::ClientTimeout, "the request's head did not arrive in time");
        let _ = self.socket.stream().try_write(&SLOW.raw());
        let view = self.client.worker.view.borrow();
        if let Some(pool) = view.pools.first() {
            pool.count(self.client.listener, |shard| shard.error(ErrorReason::ClientTimeout));
        }
    }

    fn watch_write<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_stalled = None;
            return written;
        }
        let since = *self.write_stalled.get_or_insert_with(Instant::now);
        let idle = self.client.worker.view.borrow().settings.timeouts.idle;
        self.client
            .watchdog
            .poll(cx, since + idle)
            .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl Read for ClientIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        match read {
            Poll::Ready(_) => {
                if let Phase::Idle { .. } = self.client.phase.get() {
                    self.client.phase.set(Phase::Head);
                }
                read
            }
            Poll::Pending => self.poll_patience(cx),
        }
    }
}

impl Write for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.watch_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.watch_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        // hyper flushes when it has written all that it had.
        if flushed.is_ready() && self.client.flush_awaited.replace(false) {
            cx.waker().wake_by_ref();
        }
        // An answer has ended: hyper may not read again before something comes, so nobody else sets this clock.
        if let Phase::Idle { since, first: false } = self.client.phase.get() {
            let keep_alive = self.client.worker.view.borrow().settings.timeouts.client_keep_alive;
            self.client.watchdog.arm(cx, since + keep_alive);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
