//! Bodies in both directions: streamed with back-pressure, counted, ended once.
//!
//! Invariants: a frame is asked of one side only when the other wants it; the request's body knows its limit; the response's body
//! owns the attempt and the connection to the backend, and gives the connection back exactly when the last byte was taken from it.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::attempt::{Attempt, RequestGuard};
use super::client::Client;
use super::upstream::Upstream;
use super::view::Pool;
use crate::telemetry::ErrorReason;

/// Why a body was cut off; ends the connection that it was on.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the client's body broke off: {0}")]
    Client(#[from] hyper::Error),
    #[error("the backend's body broke off: {0}")]
    Backend(std::io::Error),
    #[error("the other side's body stood still for too long")]
    Stalled,
    #[error("the request's body is longer than allowed")]
    TooLarge,
}

/// A client's body on its way to a backend.
pub(super) struct RequestBody {
    inner: Option<Incoming>,
    client: Rc<Client>,
    left: u64,
    pool: Rc<Pool>,
}

/// An answer on its way to a client.
pub(super) enum ResponseBody {
    /// A backend's.
    Streamed(Box<Streamed>),
    /// Our own.
    Own { body: Full<Bytes>, guard: Option<(RequestGuard, u16, Option<ErrorReason>)> },
}

pub(super) struct Streamed {
    /// Until the last byte was taken, or no more can come.
    upstream: Option<Box<Upstream>>,
    attempt: Attempt,
    guard: RequestGuard,
    client: Rc<Client>,
    status: u16,
    stalled: Option<Instant>,
    total: Option<Instant>,
    /// The backend broke off. A body's error makes hyper drop what it still holds, so it is told when all that came is written.
    broken: Option<BodyError>,
}

/// Chunks that are none are a bad request; anything else is a client that went away.
fn why_broken(error: &hyper::Error) -> ErrorReason {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    match source.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData) => ErrorReason::BadRequest,
        _ => ErrorReason::ClientAbort,
    }
}

/// Reads an answer that nobody gets to its end, so that its connection stays, and ends the attempt: badly where the backend breaks off or
/// stands still. One that is too long for that is cut off.
pub(super) async fn discard(
    mut upstream: Box<Upstream>,
    mut attempt: Attempt,
    client: &Client,
    idle: Duration,
    total: Option<Instant>,
) {
    const MOST_BYTES: usize = 1 << 20;
    let mut bytes = 0;
    while bytes <= MOST_BYTES && !upstream.is_at_end() {
        let since = Instant::now();
        let deadline = total.map_or(since + idle, |total| total.min(since + idle));
        let next = poll_fn(|cx| match upstream.poll_data(cx) {
            Poll::Ready(next) => Poll::Ready(next),
            Poll::Pending => client.watchdog.poll(cx, deadline).map(|()| Some(Err(BodyError::Stalled))),
        });
        match next.await {
            Some(Ok(data)) => bytes += data.len(),
            Some(Err(BodyError::Stalled)) => return attempt.fail(ErrorReason::Timeout),
            Some(Err(error)) => {
                tracing::debug!("{error}");
                return attempt.fail(ErrorReason::Reset);
            }
            None => break,
        }
    }
    let now = Instant::now();
    attempt.succeed(now);
    upstream.give_back(&attempt.member, client, now);
}

// === impl RequestBody ===

impl RequestBody {
    /// Nothing to send.
    pub(super) fn empty(client: &Rc<Client>, pool: &Rc<Pool>) -> Self {
        Self { inner: None, client: client.clone(), left: 0, pool: pool.clone() }
    }

    /// At most `limit` bytes of `inner`.
    pub(super) fn new(inner: Incoming, limit: Option<u64>, client: &Rc<Client>, pool: &Rc<Pool>) -> Self {
        client.body_open.set(true);
        Self { inner: Some(inner), client: client.clone(), left: limit.unwrap_or(u64::MAX), pool: pool.clone() }
    }

    /// Has the connection's task look for another frame before it rests.
    pub(super) fn ask_again(&self) {
        self.client.ask_again.set(true);
    }

    fn ended(&self) {
        self.client.body_open.set(false);
        self.client.body_unread.set(false);
    }

    fn count(&mut self, bytes: u64) -> Result<(), BodyError> {
        self.client.body_bytes.set(self.client.body_bytes.get() + bytes);
        self.pool.count(self.client.listener, |shard| shard.request_bytes.add(bytes));
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            self.client.body_failure.set(Some(ErrorReason::BodyTooLarge));
            BodyError::TooLarge
        })?;
        Ok(())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let polled = Pin::new(inner).poll_frame(cx);
        let at_end = self.inner.as_ref().is_none_or(Body::is_end_stream);
        self.client.body_awaited.set(polled.is_pending());
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.ended();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.client.body_failure.set(Some(why_broken(&error)));
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(Some(Ok(frame))) => {
                if at_end {
                    self.ended();
                }
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                Poll::Ready(Some(self.count(bytes).map(|()| frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if self.inner.is_some() {
            self.client.body_open.set(false);
        }
    }
}

// === impl ResponseBody ===

impl ResponseBody {
    /// An answer of our own; the request ends when it was taken.
    pub(super) fn own(body: Bytes, guard: RequestGuard, status: u16, reason: Option<ErrorReason>) -> Self {
        Self::Own { body: Full::new(body), guard: Some((guard, status, reason)) }
    }

    /// An answer outside the counted requests (the course's routes).
    pub(super) fn uncounted(body: Bytes) -> Self {
        Self::Own { body: Full::new(body), guard: None }
    }

    /// The backend's answer. One that has no body is at its end already.
    pub(super) fn streamed(
        upstream: Box<Upstream>,
        attempt: Attempt,
        guard: RequestGuard,
        client: Rc<Client>,
        status: u16,
    ) -> Self {
        let total = client.worker.view.borrow().settings.timeouts.total.map(|total| guard.started + total);
        let is_at_end = upstream.is_at_end();
        let upstream = Some(upstream);
        let mut streamed = Streamed { upstream, attempt, guard, client, status, stalled: None, total, broken: None };
        if is_at_end {
            streamed.complete();
        }
        Self::Streamed(Box::new(streamed))
    }
}

impl Streamed {
    /// The last byte was taken: everything ends well, the connection may serve again.
    fn complete(&mut self) {
        let now = Instant::now();
        self.attempt.succeed(now);
        self.guard.finish(self.status, None, now);
        if let Some(upstream) = self.upstream.take() {
            upstream.give_back(&self.attempt.member, &self.client, now);
        }
    }

    fn fail(&mut self, reason: ErrorReason) {
        self.attempt.fail(reason);
        self.guard.finish(self.status, Some(reason), Instant::now());
        self.upstream = None;
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.broken.take_if(|_| self.client.is_flushed()) {
            return Poll::Ready(Some(Err(error)));
        }
        let Some(upstream) = &mut self.upstream else {
            return if self.broken.is_some() { Poll::Pending } else { Poll::Ready(None) };
        };
        match upstream.poll_data(cx) {
            Poll::Ready(Some(Ok(data))) => {
                let is_at_end = upstream.is_at_end();
                self.stalled = None;
                self.guard.sent(data.len() as u64);
                if is_at_end {
                    self.complete();
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!("{error}");
                self.fail(ErrorReason::Reset);
                self.broken = Some(error);
                self.client.await_flush();
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.complete();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let idle = self.client.worker.view.borrow().settings.timeouts.idle;
                let since = *self.stalled.get_or_insert_with(Instant::now);
                let deadline = self.total.map_or(since + idle, |total| total.min(since + idle));
                match self.client.watchdog.poll(cx, deadline) {
                    Poll::Ready(()) => {
                        self.fail(ErrorReason::Timeout);
                        Poll::Ready(Some(Err(BodyError::Stalled)))
                    }
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Streamed(streamed) => streamed.poll_frame(cx),
            Self::Own { body, guard } => {
                let polled = Pin::new(body).poll_frame(cx).map_err(|never| match never {});
                if let Some((mut guard, status, reason)) = guard.take() {
                    if let Poll::Ready(Some(Ok(frame))) = &polled {
                        guard.sent(frame.data_ref().map_or(0, Bytes::len) as u64);
                    }
                    guard.finish(status, reason, Instant::now());
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Streamed(streamed) => streamed.upstream.is_none() && streamed.broken.is_none(),
            Self::Own { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Streamed(streamed) => match &streamed.upstream {
                Some(upstream) => upstream.length().map_or_else(SizeHint::default, SizeHint::with_exact),
                None => SizeHint::with_exact(0),
            },
            Self::Own { body, .. } => body.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    /// hyper drops a body that it does not have to read (HEAD, or an empty one) without polling it: that is an end, too.
    fn drop(&mut self) {
        if let Self::Own { guard, .. } = self
            && let Some((mut guard, status, reason)) = guard.take()
        {
            guard.finish(status, reason, Instant::now());
        }
    }
}
