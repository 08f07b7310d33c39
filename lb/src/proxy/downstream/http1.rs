//! HTTP/1.1 towards a client: the next request, and the end of a connection.
//!
//! Time-outs: no byte of a request → closed silently; a part of a head → 408. A client that closes its sending half
//! after a request gets its response. Without progress lb waits no longer than `timeouts.half_closed`, because a client
//! that is gone looks the same. Invariants: a request is read whole before the next one. One task polls the whole
//! connection, so one timer and one waker are enough.

mod respond;
mod responder;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWrite;
use tokio::time::{Instant, timeout};

pub(in crate::proxy) use self::responder::Responders;

use super::Signal;
use crate::http1::{Framing, Limits, RequestHead, Scan, of_request, take_request};
use crate::net::Stream;
use crate::proxy::body::Wire;
use crate::proxy::exchange::{Context, Switched};
use crate::proxy::fault::Fault;
use crate::proxy::local::Local;
use crate::proxy::peer::Peer;

/// Long enough for a response to arrive and be read.
const LINGER_MAX: Duration = Duration::from_secs(2);
/// The most bytes of further requests that are read during a response.
const READ_AHEAD_BYTES: usize = 8 * 1024;

/// A connection between two requests, and while one is read.
pub(super) struct Connection {
    client: Rc<Client>,
    signal: Rc<Signal>,
    scan: Scan,
    /// The part that is here; `None` between requests.
    head: Option<Box<RequestHead>>,
    /// No request has arrived yet.
    is_first: bool,
    /// When the current wait began.
    since: Option<Instant>,
    /// The wait is for the rest of a head, not for a new request.
    waits_for_rest: bool,
}

/// A connection as the response uses it.
pub(super) struct Client {
    context: Rc<Context>,
    wire: Rc<Wire>,
    /// Set when the client has closed its sending half: the time of that, or of the last write since.
    half_closed: Cell<Option<Instant>>,
}

/// A request's head, how its body is framed, and when it arrived.
pub(super) struct Arrived {
    head: Box<RequestHead>,
    framing: Framing,
    at: Instant,
}

/// The next event of a connection.
pub(super) enum Next {
    Request(Arrived),
    /// The readable part of a malformed request, and its fault.
    Refused(Option<Box<RequestHead>>, Fault),
    Closed,
}

/// The next step of a connection after a response.
pub(super) enum After {
    Next,
    Tunnel(Box<Switched>),
    /// It ends, and the client may still be sending.
    Linger,
    Close,
}

// === impl Connection ===

impl Connection {
    pub(super) fn new(local: Rc<Local>, peer: Peer, stream: Stream, signal: Rc<Signal>) -> Self {
        let wire = Wire::new(stream, local.buffers.clone());
        let context = Context { local, peer, timer: wire.timer.clone(), interim: wire.clone(), race: Cell::default() };
        Self {
            client: Rc::new(Client { context: Rc::new(context), wire, half_closed: Cell::new(None) }),
            signal,
            scan: Scan::default(),
            head: None,
            is_first: true,
            since: None,
            waits_for_rest: false,
        }
    }

    /// The socket and the bytes read from it.
    pub(super) fn wire(&self) -> &Wire {
        &self.client.wire
    }

    /// The part of this connection that a response needs.
    pub(super) fn client(&self) -> &Rc<Client> {
        &self.client
    }

    /// Waits for a request's head.
    pub(super) async fn next(&mut self) -> Next {
        self.since = None;
        self.client.wire.rest();
        let next = poll_fn(|cx| self.poll_next(cx)).await;
        (self.is_first, self.scan) = (false, Scan::default());
        next
    }

    /// Shuts down sending, then reads and drops input for up to [`LINGER_MAX`]. Otherwise the kernel would reset the
    /// connection.
    pub(super) async fn linger(&mut self) {
        let end = poll_fn(|cx| {
            let mut stream = self.client.wire.stream.borrow_mut();
            let mut sink = BytesMut::with_capacity(16 * 1024);
            if ready!(Pin::new(&mut *stream).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            while let Ok(1..) = ready!(stream.poll_fill(cx, &mut sink)) {
                sink.clear();
            }
            Poll::Ready(())
        });
        let _ = timeout(LINGER_MAX, end).await;
    }

    fn poll_next(&mut self, cx: &mut Task<'_>) -> Poll<Next> {
        self.signal.remember(cx);
        loop {
            if let Some(next) = self.take() {
                return Poll::Ready(next);
            }
            match self.client.wire.poll_fill(cx, 1) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(Next::Closed),
                Poll::Pending => return self.poll_patience(cx),
            }
        }
    }

    /// The next request, if it is here.
    fn take(&mut self) -> Option<Next> {
        let mut inbox = self.client.wire.inbox.borrow_mut();
        if inbox.is_empty() {
            return None;
        }
        let limits = {
            let limits = &self.client.context.local.view.borrow().settings.limits;
            Limits { head_bytes: limits.head_bytes, fields: limits.headers }
        };
        let head = self.head.get_or_insert_with(|| self.client.context.local.requests.take());
        match take_request(inbox.bytes(), &mut self.scan, &limits, head) {
            Ok(false) => None,
            Ok(true) => {
                let framing = of_request(head);
                let head = self.head.take()?;
                Some(match framing {
                    Ok(framing) => Next::Request(Arrived { head, framing, at: Instant::now() }),
                    Err(refusal) => Next::Refused(Some(head), Fault::Malformed(refusal)),
                })
            }
            Err(refusal) => Some(Next::Refused(None, Fault::Malformed(refusal))),
        }
    }

    /// Nothing to read now: has the client time left?
    fn poll_patience(&mut self, cx: &mut Task<'_>) -> Poll<Next> {
        let local = &self.client.context.local;
        let has_part = !self.client.wire.inbox.borrow().is_empty();
        if local.is_draining.get() && !has_part {
            // Bytes from before the end get a response; the runtime may not have an event for them yet.
            let has_unread = self.client.wire.stream.borrow().has_unread_input();
            return if has_unread { Poll::Pending } else { Poll::Ready(Next::Closed) };
        }
        let view = local.view.borrow();
        let timeouts = &view.settings.timeouts;
        // A head that arrives at once needs no look at the clock: the first one is here.
        let since = match self.since {
            Some(since) if self.waits_for_rest == has_part => since,
            _ => Instant::now(),
        };
        (self.since, self.waits_for_rest) = (Some(since), has_part);
        let limit = if has_part || self.is_first { timeouts.head } else { timeouts.client_keep_alive };
        ready!(self.client.wire.timer.poll(cx, since + limit));
        Poll::Ready(if has_part { Next::Refused(None, Fault::SlowHead) } else { Next::Closed })
    }
}
