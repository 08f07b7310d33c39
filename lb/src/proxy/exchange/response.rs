//! The response of an exchange: its head, and a body that is read frame by frame.
//!
//! A response may begin before the request's body has ended (an early response). Then the body of the response goes on
//! sending the request while it is read. Invariants: the backend is asked for a frame only when the client wants one.
//! The body owns attempt and connection, and gives the connection back exactly when the last byte was taken from it.
//! Trailers come last, filtered by `forward_trailers`.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::attempt::{Answer, Attempt};
use super::finish::RequestGuard;
use super::trailers::forward_trailers;
use super::{Context, Switched};
use crate::config::Policy;
use crate::http1::ResponseHead;
use crate::proxy::body::{Frame, RequestBody};
use crate::proxy::fault::Fault;
use crate::proxy::reply::Reply;
use crate::proxy::upstream::Upstream;
use crate::telemetry::ErrorReason;

/// The response for a client.
pub(in crate::proxy) struct Response {
    pub(in crate::proxy) head: Box<ResponseHead>,
    pub(in crate::proxy) body: ResponseBody,
    /// The rest of the request is not read, so its connection cannot be used again.
    pub(in crate::proxy) leaves_request: bool,
    /// The backend has switched protocols.
    pub(in crate::proxy) switched: Option<Box<Switched>>,
}

/// A response on its way to a client.
pub(in crate::proxy) enum ResponseBody {
    /// A response of a backend.
    Streamed(Box<Streamed>),
    /// A response of lb.
    Own(Own),
}

/// A complete body, and the request, status and fault that end with it.
#[derive(Default)]
pub(in crate::proxy) struct Own {
    body: Bytes,
    guard: Option<Box<(RequestGuard, u16, Option<Fault>)>>,
}

pub(in crate::proxy) struct Streamed {
    /// Present until the last byte was taken, or no more can arrive.
    upstream: Option<Box<Upstream>>,
    attempt: Attempt,
    guard: RequestGuard,
    context: Rc<Context>,
    policy: Rc<Policy>,
    status: u16,
    /// The request's body, which may still be arriving.
    request: RequestBody,
    /// The time since which neither body has moved.
    stalled: Option<Instant>,
    /// Bytes of the request's body at the last poll.
    uploaded: u64,
    total: Option<Instant>,
}

/// Reads a response that is not forwarded to its end, so that the connection can be used again. The attempt fails if
/// the backend closes early or stalls, or if the upload fails. Above 1 MiB the connection is dropped.
pub(super) async fn discard(
    answer: Answer,
    context: &Context,
    policy: &Policy,
    started: Instant,
    request: &mut RequestBody,
) {
    const MOST_BYTES: usize = 1 << 20;
    let Answer { mut upstream, mut attempt, .. } = answer;
    let total = policy.timeouts.total.map(|total| started + total);
    let mut bytes = 0;
    while bytes <= MOST_BYTES && !upstream.is_at_end() {
        let idle = Instant::now() + policy.timeouts.idle;
        let deadline = total.map_or(idle, |total| total.min(idle));
        let next = poll_fn(|cx| match upstream.poll_frame(cx, request) {
            Poll::Ready(next) => Poll::Ready(next),
            Poll::Pending if attempt.is_cut() => Poll::Ready(Some(Err(Fault::Drained))),
            Poll::Pending => context.timer.poll(cx, deadline).map(|()| Some(Err(Fault::BackendTimeout))),
        });
        match next.await {
            Some(Ok(Frame::Data(data))) => bytes += data.len(),
            Some(Ok(Frame::Trailers(trailers))) => attempt.trailers(&trailers),
            Some(Err(fault)) => return attempt.fail(fault),
            None => break,
        }
    }
    let now = Instant::now();
    attempt.succeed(now);
    attempt.keep(upstream, now, policy.limits.upstream_idle_connections);
}

/// Ends an attempt whose response another one replaces. Reads the part of its body that is here, without waiting, and
/// closes the connection if that is not all.
pub(super) async fn put_away(answer: Answer, context: &Context, policy: &Policy) {
    const MOST_BYTES: usize = 64 * 1024;
    let Answer { head, mut upstream, mut attempt } = answer;
    context.local.responses.give_back(head);
    // With an incomplete request the backend may be waiting for the rest.
    let mut left = if upstream.is_sent() { MOST_BYTES } else { 0 };
    let mut nothing = RequestBody::empty();
    let is_whole = poll_fn(|cx| {
        while left > 0 && !upstream.is_at_end() {
            match upstream.poll_frame(cx, &mut nothing) {
                Poll::Ready(Some(Ok(Frame::Data(data)))) => left = left.saturating_sub(data.len()),
                Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => attempt.trailers(&trailers),
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Ready(Some(Err(_))) | Poll::Pending => return Poll::Ready(false),
            }
        }
        Poll::Ready(upstream.is_at_end())
    });
    let is_whole = is_whole.await;
    let now = Instant::now();
    attempt.succeed(now);
    if is_whole {
        attempt.keep(upstream, now, policy.limits.upstream_idle_connections);
    }
}

// === impl Response ===

impl Response {
    /// A response of lb. The request, if it is counted, ends when the body was taken.
    pub(super) fn own(reply: Reply, guard: Option<(RequestGuard, Option<Fault>)>, leaves_request: bool) -> Self {
        let Reply { head, body } = reply;
        let guard = guard.map(|(guard, fault)| {
            let status = fault.map_or(head.status, Fault::status);
            Box::new((guard, status.as_u16(), fault))
        });
        Self { head, body: ResponseBody::Own(Own { body, guard }), leaves_request, switched: None }
    }

    /// The fault of a request that was counted already; the connection ends.
    pub(in crate::proxy) fn uncounted(fault: Fault) -> Self {
        Self::own(fault.reply(), None, true)
    }

    /// The backend's 101.
    pub(super) fn switch(head: Box<ResponseHead>, switched: Box<Switched>) -> Self {
        Self { head, body: ResponseBody::default(), leaves_request: false, switched: Some(switched) }
    }

    /// A response of a backend. One without a body is at its end already.
    #[inline]
    pub(super) fn streamed(
        head: Box<ResponseHead>,
        context: Rc<Context>,
        policy: Rc<Policy>,
        upstream: Box<Upstream>,
        attempt: Attempt,
        guard: RequestGuard,
        request: RequestBody,
    ) -> Self {
        let total = policy.timeouts.total.map(|total| guard.started + total);
        let (status, is_at_end) = (head.status.as_u16(), upstream.is_at_end());
        let upstream = Some(upstream);
        let (stalled, uploaded) = (None, request.bytes());
        let mut streamed =
            Box::new(Streamed { upstream, attempt, guard, context, policy, status, request, stalled, uploaded, total });
        if is_at_end {
            streamed.complete();
        }
        let body = ResponseBody::Streamed(streamed);
        Self { head, body, leaves_request: false, switched: None }
    }
}

// === impl Streamed ===

impl Streamed {
    /// The last byte was taken: everything ended well, and the connection may be used again.
    fn complete(&mut self) {
        let now = Instant::now();
        self.attempt.received(self.request.bytes());
        self.attempt.succeed(now);
        self.guard.received(self.request.bytes());
        self.guard.finish(self.status, None, now);
        if let Some(upstream) = self.upstream.take() {
            self.attempt.keep(upstream, now, self.policy.limits.upstream_idle_connections);
        }
    }

    fn fail(&mut self, fault: Fault) {
        self.attempt.received(self.request.bytes());
        self.attempt.fail(fault);
        self.guard.received(self.request.bytes());
        let is_gone = fault.reason() == ErrorReason::ClientAbort;
        let status = if is_gone { fault.status().as_u16() } else { self.status };
        self.guard.finish(status, Some(fault), Instant::now());
        self.upstream = None;
    }

    /// Fails if the deadline of the backend's drain has passed. Returns whether it did.
    fn ends_by_cut(&mut self) -> bool {
        let is_cut = self.upstream.is_some() && self.attempt.is_cut();
        if is_cut {
            self.fail(Fault::Drained);
        }
        is_cut
    }

    fn take_rest(&mut self, out: &mut Vec<u8>) -> bool {
        let taken = self.upstream.as_mut().and_then(|upstream| upstream.take_rest(out));
        if let Some(bytes) = taken {
            self.guard.sent(bytes as u64);
            self.attempt.sent(bytes as u64);
            self.complete();
        }
        self.upstream.is_none()
    }

    fn poll_frame(&mut self, cx: &mut Task<'_>) -> Poll<Option<Result<Frame, Fault>>> {
        let Some(upstream) = &mut self.upstream else { return Poll::Ready(None) };
        match upstream.poll_frame(cx, &mut self.request) {
            Poll::Ready(Some(Ok(mut frame))) => {
                let is_at_end = upstream.is_at_end();
                self.stalled = None;
                match &mut frame {
                    Frame::Data(data) => {
                        self.guard.sent(data.len() as u64);
                        self.attempt.sent(data.len() as u64);
                    }
                    Frame::Trailers(trailers) => {
                        self.attempt.trailers(trailers);
                        forward_trailers(trailers);
                    }
                }
                if is_at_end {
                    self.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(fault))) => {
                self.fail(fault);
                Poll::Ready(Some(Err(fault)))
            }
            Poll::Ready(None) => {
                self.complete();
                Poll::Ready(None)
            }
            Poll::Pending if self.ends_by_cut() => Poll::Ready(Some(Err(Fault::Drained))),
            Poll::Pending => {
                self.attempt.received(self.request.bytes());
                self.guard.received(self.request.bytes());
                if std::mem::replace(&mut self.uploaded, self.request.bytes()) != self.uploaded {
                    self.stalled = None;
                }
                let since = *self.stalled.get_or_insert_with(Instant::now);
                let idle = since + self.policy.timeouts.idle;
                let deadline = self.total.map_or(idle, |total| total.min(idle));
                let client_is_late = !self.request.has_ended() && self.request.is_awaited();
                let late = if client_is_late { Fault::SlowBody } else { Fault::BackendTimeout };
                self.context.timer.poll(cx, deadline).map(|()| {
                    self.fail(late);
                    Some(Err(late))
                })
            }
        }
    }
}

// === impl ResponseBody ===

impl ResponseBody {
    /// The next frame; `None` at the end.
    pub(in crate::proxy) fn poll_frame(&mut self, cx: &mut Task<'_>) -> Poll<Option<Result<Frame, Fault>>> {
        match self {
            Self::Streamed(streamed) => streamed.poll_frame(cx),
            Self::Own(own) => {
                let data = std::mem::take(&mut own.body);
                if let Some(mut ended) = own.guard.take() {
                    let (guard, status, fault) = &mut *ended;
                    guard.sent(data.len() as u64);
                    guard.finish(*status, *fault, Instant::now());
                }
                Poll::Ready((!data.is_empty()).then_some(Ok(Frame::Data(data))))
            }
        }
    }

    /// Appends the rest to `out` if it is from a backend, here, and small; returns whether it did. Saves such a body a
    /// frame of its own.
    pub(in crate::proxy) fn take_rest(&mut self, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Streamed(streamed) => streamed.take_rest(out),
            Self::Own(_) => false,
        }
    }

    /// Sends more of the request while no frame is wanted: the client may read only after it has sent all.
    pub(in crate::proxy) fn send_on(&mut self, cx: &mut Task<'_>) {
        if let Self::Streamed(streamed) = self
            && let Some(upstream) = &mut streamed.upstream
        {
            upstream.send_on(cx, &mut streamed.request);
        }
    }

    /// Ends if the deadline of the backend's drain has passed. Returns whether it did. To be called while the client
    /// takes nothing, as no frame is wanted then.
    pub(in crate::proxy) fn ends_by_cut(&mut self) -> bool {
        match self {
            Self::Streamed(streamed) => streamed.ends_by_cut(),
            Self::Own(_) => false,
        }
    }

    /// The time at which the request's total time is over, if it is limited and the backend still sends.
    pub(in crate::proxy) fn total(&self) -> Option<Instant> {
        match self {
            Self::Streamed(streamed) => streamed.upstream.as_ref().and(streamed.total),
            Self::Own(_) => None,
        }
    }

    /// How long the client may take nothing, if its request has a policy.
    pub(in crate::proxy) fn idle(&self) -> Option<Duration> {
        match self {
            Self::Streamed(streamed) => Some(streamed.policy.timeouts.idle),
            Self::Own(_) => None,
        }
    }

    /// The length of the rest, if it is known.
    pub(in crate::proxy) fn exact(&self) -> Option<u64> {
        match self {
            Self::Streamed(streamed) => streamed.upstream.as_ref().map_or(Some(0), |upstream| upstream.exact()),
            Self::Own(own) => Some(own.body.len() as u64),
        }
    }
}

impl Default for ResponseBody {
    /// An empty body.
    fn default() -> Self {
        Self::Own(Own::default())
    }
}

// === impl Own ===

impl Drop for Own {
    /// A body that its client does not get (HEAD), or that is empty, is not polled: that is an end, too.
    fn drop(&mut self) {
        if let Some(mut ended) = self.guard.take() {
            let (guard, status, fault) = &mut *ended;
            guard.finish(*status, *fault, Instant::now());
        }
    }
}
