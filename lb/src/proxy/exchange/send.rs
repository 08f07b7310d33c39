//! The way of a request to its backend: a connection, the request itself, and the head of the response.
//!
//! Invariants: a retry gets a new connection. While the head is awaited, interim responses go to the client at once,
//! and one deadline is set, for the side that is awaited.

use std::future::poll_fn;
use std::task::Poll;

use http::StatusCode;
use tokio::time::Instant;

use super::Exchange;
use super::attempt::Attempt;
use super::hedge::Race;
use super::pace::Pace;
use super::retry::Plan;
use super::slot::Means;
use crate::http1::ResponseHead;
use crate::proxy::fault::Fault;
use crate::proxy::upstream::{Link, Upstream};
use crate::proxy::view::MemberView;

// === impl Exchange: sending ===

impl Exchange {
    /// A waiting connection for the attempt. A retry always opens a new connection; a hedge does not, because another
    /// attempt runs. For a request that cannot be retried, `Idle::take` also checks the socket.
    #[inline]
    pub(super) fn waiting_connection(&self, member: &MemberView, plan: &Plan, now: Instant) -> Option<Box<Upstream>> {
        if plan.number > 0 && !plan.is_hedge {
            return None;
        }
        let oldest = now.checked_sub(self.policy.timeouts.upstream_idle).unwrap_or(now);
        member.idle.take(oldest, !self.can_be_sent_again(plan))
    }

    /// A waiting connection, else a new one.
    pub(super) async fn connect<const HEDGED: bool>(
        &mut self,
        member: &MemberView,
        means: Means,
        plan: &Plan,
        now: Instant,
    ) -> Result<Box<Upstream>, Fault> {
        let link = match means {
            Means::Waiting(upstream) => return Ok(upstream),
            Means::New(link) => link,
            Means::Any => match self.waiting_connection(member, plan, now) {
                Some(upstream) => return Ok(upstream),
                None => Link::new(&member.backend, &self.pool.line),
            },
        };
        let timeouts = &self.policy.timeouts;
        let began = self.guard.record.is_some().then(Instant::now);
        let descriptor = self.context.local.descriptor().ok_or(Fault::NoDescriptor)?;
        let (socket, buffers) = (member.backend.socket, &self.context.local.buffers);
        // Rare, and large: boxed so that a request on a kept connection does not contain it.
        let within = self.policy.retry.attempt_within(timeouts.connect);
        let left = timeouts.total.map(|total| (self.guard.started + total).saturating_duration_since(Instant::now()));
        let within = left.map_or(within, |left| within.min(left));
        let upstream = Box::pin(Upstream::connect(socket, &member.shard, buffers, within, descriptor, link)).await;
        if let (Some(record), Some(began)) = (&mut self.guard.record, began) {
            record.connect_ns = Some(began.elapsed().as_nanos() as u64);
        }
        upstream
    }

    /// Sends the request and waits for the final head; interim ones go to the client at once. The time limit restarts
    /// at each byte of the request's body; [`Pace`] sets the limit while the body is incomplete. While the client takes
    /// no interim response, its own limit `idle` runs instead of the backend's: lb does not read from the backend then.
    /// The wait also ends if the backend is lost, or if the deadline of its drain passes. An ejection ends only
    /// requests that get another attempt.
    pub(super) async fn ask<const HEDGED: bool>(
        &mut self,
        upstream: &mut Upstream,
        attempt: &Attempt,
        began: Instant,
        is_repeatable: bool,
        losses: u64,
    ) -> Result<Box<ResponseHead>, Fault> {
        upstream.begin(&self.head, &self.body, &attempt.member().backend.address);
        let Self { context, pool, policy, head, body, guard, has_interim_begun, .. } = self;
        let (timeouts, interim, timer) = (&policy.timeouts, &context.interim, &context.timer);
        let total = timeouts.total.map(|total| guard.started + total);
        let head_within = policy.retry.attempt_within(timeouts.response_head);
        let mut response = context.local.responses.take();
        let mut pace = Pace::new(body.bytes(), began, timeouts, &policy.limits);
        let mut held_up_since = None;
        let mut wait = attempt.member().waiting.begin(losses);
        poll_fn(|cx| {
            // The last flush did not make room: the client takes no interim response.
            held_up_since = (!interim.has_room()).then(|| held_up_since.unwrap_or_else(Instant::now));
            if let Poll::Ready(Err(fault)) = upstream.poll_send(cx, body) {
                return Poll::Ready(Err(fault));
            }
            let mut left = INTERIM_PER_POLL;
            while interim.has_room() {
                if left == 0 {
                    cx.waker().wake_by_ref();
                    break;
                }
                left -= 1;
                match upstream.poll_head(cx, &head.method, &mut response) {
                    Poll::Ready(Ok(())) if is_interim(response.status) => {
                        super::headers::forward_interim(&mut response);
                        *has_interim_begun |= interim.send(&response);
                    }
                    Poll::Ready(answered) => return Poll::Ready(answered),
                    Poll::Pending => break,
                }
            }
            let is_sent_again = || {
                is_repeatable
                    && !(HEDGED && context.race.get() == Race::Last)
                    && policy.retry.rules.on.timeout
                    && !*has_interim_begun
                    && body.can_be_sent_again()
                    && pool.has_retry(context.local.clock_ns(Instant::now()))
            };
            if wait.poll_lost(cx, is_sent_again).is_ready() {
                return Poll::Ready(Err(Fault::BackendLost));
            }
            if attempt.is_cut() {
                return Poll::Ready(Err(Fault::Drained));
            }
            guard.received(body.bytes());
            let is_open = !body.has_ended();
            let is_awaited = is_open && body.is_awaited();
            pace.note(body.bytes(), is_awaited);
            let deadline = match held_up_since {
                Some(since) => since + timeouts.idle,
                None if is_open => pace.deadline(),
                None => pace.since() + head_within,
            };
            let deadline = total.map_or(deadline, |total| total.min(deadline));
            let late = if is_awaited || held_up_since.is_some() { Fault::SlowBody } else { Fault::BackendTimeout };
            timer.poll(cx, deadline).map(|()| Err(late))
        })
        .await
        .map(|()| response)
    }
}

/// After this many, the worker's other tasks run: a backend may send very many.
pub(super) const INTERIM_PER_POLL: u32 = 32;

fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}
