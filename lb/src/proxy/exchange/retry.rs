//! The attempts of a request: whether one follows a failure, when, and on which backend.
//!
//! [`RetryRules`](lb_balance::RetryRules) decide from facts about the failed attempt whether another one is safe. Here
//! it gets its backend, its part of the pool's budget, and a pause if every backend was tried. Invariants: no backend
//! is tried twice while another one is eligible. A response is given up only after the next backend was picked. A
//! pause that would outlast the request's total time is not begun.

use std::future::poll_fn;
use std::time::Duration;

use lb_balance::{BodyState, FailureCause, Idempotency, RequestProgress};
use tokio::time::Instant;

use super::Exchange;
use super::attempt::Answer;
use super::choose::{Picked, Unpicked};
use crate::proxy::fault::Fault;
use crate::telemetry::RetryReason;

/// A keep-alive connection that ends later than this after a request was sent on it ends because of the request.
const RACE: Duration = Duration::from_secs(1);

/// The attempts of one request.
#[derive(Default)]
pub(super) struct Plan {
    /// The number of the present attempt, from 0.
    pub(super) number: u32,
    /// The backends that failed since all of them were tried, by their numbers in the contract.
    pub(super) tried: Vec<u64>,
    /// The present attempt runs beside the first one.
    pub(super) is_hedge: bool,
    /// How often every eligible backend was tried.
    rounds: u32,
}

/// An attempt without a response.
pub(super) struct Failed {
    pub(super) fault: Fault,
    /// The attempt that the rules allow after it.
    pub(super) retry: Option<Retry>,
}

/// A retry that the rules allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    pub(super) reason: RetryReason,
    /// The backend of the attempt before.
    pub(super) backend: u64,
    pub(super) after: After,
}

/// The kind of a failure, which decides where a retry may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The attempt failed: to another backend, or after a pause to any.
    Failure,
    /// The client can have this response: only to another backend.
    Response,
    /// The backend closed the keep-alive connection as the request was on its way: at once, also to the same backend.
    /// It needs no budget: each such connection has carried a whole response before, so backends that fail cannot
    /// cause many of these retries.
    ClosedConnection,
}

/// The eligible backends of a pool, as a retry sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Untried,
    OnlyTried,
    None,
}

/// When a retry begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Now,
    /// After a pause; the number of earlier pauses.
    AfterPause(u32),
}

// === impl Plan ===

impl Plan {
    /// The plan of a second attempt beside the first one, which is on `backend`.
    pub(super) fn of_hedge(backend: u64) -> Self {
        Self { number: 1, tried: vec![backend], is_hedge: true, ..Self::default() }
    }

    /// Goes on to the next attempt. `left`: the eligible backends, given those that were tried. `None` if no backend is
    /// left for it.
    fn follow(&mut self, retry: &Retry, left: impl FnOnce(&[u64]) -> Left) -> Option<Start> {
        self.tried.push(retry.backend);
        let start = match (left(&self.tried), retry.after) {
            (Left::None, _) | (Left::OnlyTried, After::Response) => return None,
            (Left::Untried, _) => Start::Now,
            (Left::OnlyTried, After::ClosedConnection) => {
                self.tried.clear();
                Start::Now
            }
            (Left::OnlyTried, After::Failure) => {
                self.rounds += 1;
                Start::AfterPause(self.rounds - 1)
            }
        };
        self.number += 1;
        Some(start)
    }

    /// The pause is over. A backend that became eligible meanwhile is next; else any may be tried again.
    fn after_pause(&mut self, left: impl FnOnce(&[u64]) -> Left) {
        if left(&self.tried) != Left::Untried {
            self.tried.clear();
        }
    }
}

// === impl Exchange: retries ===

impl Exchange {
    /// Whether the request may be sent on a connection that the backend may have closed: if it did, lb retries.
    #[inline]
    pub(super) fn can_be_sent_again(&self, plan: &Plan) -> bool {
        self.is_repeatable(plan) && self.policy.retry.rules.on.reset && self.body.is_kept_or_absent()
    }

    /// Whether another attempt may follow one that was sent, as far as it does not depend on its failure and its body.
    #[inline]
    pub(super) fn is_repeatable(&self, plan: &Plan) -> bool {
        self.idempotency != Idempotency::No && plan.number + 1 < self.policy.retry.rules.attempts
    }

    /// The retry that the rules allow after a failed attempt, which began at `began`. `was_kept_and_silent`: its
    /// connection had served a request before, and no byte of a response came.
    pub(super) fn retry_after(
        &self,
        plan: &Plan,
        fault: Fault,
        (backend, began): (u64, Instant),
        was_sent: bool,
        was_kept_and_silent: bool,
    ) -> Option<Retry> {
        let (rules, progress) = (&self.policy.retry.rules, self.progress(plan, was_sent));
        let is_closed = fault == Fault::BackendReset && was_kept_and_silent && (!was_sent || began.elapsed() <= RACE);
        if is_closed && rules.may_retry_closed(progress) {
            let reason = if was_sent { RetryReason::ReusedConnection } else { RetryReason::NotSent };
            return Some(Retry { reason, backend, after: After::ClosedConnection });
        }
        let is_allowed = rules.may_retry(fault.cause()?, progress);
        is_allowed.then(|| Retry { reason: fault.retry_reason(was_sent), backend, after: After::Failure })
    }

    /// The retry that the rules allow after a response, by its status.
    #[inline]
    pub(super) fn retry_after_status(&self, plan: &Plan, answer: &Answer) -> Option<Retry> {
        let (rules, cause) = (&self.policy.retry.rules, FailureCause::Status(answer.head.status.as_u16()));
        if !rules.on.contains(cause) || !rules.may_retry(cause, self.progress(plan, true)) {
            return None;
        }
        let backend = answer.attempt.member().backend.number;
        Some(Retry { reason: RetryReason::Status, backend, after: After::Response })
    }

    pub(super) fn progress(&self, plan: &Plan, was_sent: bool) -> RequestProgress {
        RequestProgress {
            attempt: plan.number,
            was_sent,
            idempotency: self.idempotency,
            body: if self.body.can_be_sent_again() { BodyState::Replayable } else { BodyState::Lost },
            has_response_begun: self.has_interim_begun,
        }
    }

    /// Picks the backend of a retry, after a pause if every backend was tried. `None` if there is no backend, no budget
    /// or no time for it.
    pub(super) async fn pick_again(&mut self, plan: &mut Plan, retry: Retry) -> Option<Picked> {
        let start = plan.follow(&retry, |tried| self.left(tried))?;
        let began = Instant::now();
        let pause = match start {
            Start::Now => Duration::ZERO,
            Start::AfterPause(round) => {
                let random = self.context.local.random.borrow_mut().u64(..);
                Duration::from_nanos(self.policy.retry.rules.back_off.wait_ns(round, random))
            }
        };
        let begin = began + pause;
        let total = self.policy.timeouts.total.map(|total| self.guard.started + total);
        if total.is_some_and(|total| total <= begin) {
            return None;
        }
        let taken = match retry.after {
            After::ClosedConnection => None,
            After::Failure | After::Response => {
                let taken = self.pool.take_retry(self.context.local.clock_ns(began));
                if taken.is_none() {
                    self.guard.count(|shard| shard.retry_denied());
                    return None;
                }
                taken
            }
        };
        if !pause.is_zero() {
            poll_fn(|cx| self.context.timer.poll(cx, begin)).await;
        }
        if start != Start::Now {
            plan.after_pause(|tried| self.left(tried));
        }
        let now = Instant::now();
        let mut picked = self.pick_now(plan, now);
        if picked.is_err() && retry.after == After::ClosedConnection {
            // The others may be full.
            plan.tried.clear();
            picked = self.pick_now(plan, now);
        }
        let picked = match (picked, retry.after) {
            (Ok(picked), _) => picked,
            // The response keeps its place on its backend: two of them could wait for each other.
            (Err(Unpicked::NoBackend), _) | (Err(_), After::Response) => return None,
            (Err(Unpicked::Overload | Unpicked::Held | Unpicked::Raced), _) => self.wait(plan, false).await.ok()?,
        };
        if let Some(taken) = taken {
            taken.spend();
        }
        self.guard.count(|shard| shard.retry(retry.reason));
        self.body.rewind();
        if plan.number + 1 >= self.policy.retry.rules.attempts {
            self.body.keep_no_more();
        }
        Some(picked)
    }

    /// Whether a backend is eligible that was not tried.
    pub(super) fn has_untried(&self, tried: &[u64]) -> bool {
        self.left(tried) == Left::Untried
    }

    fn left(&self, tried: &[u64]) -> Left {
        let current = self.pool.current();
        let backends = current.as_ref().map_or(&[][..], |current| &current.shared.backends);
        let mut left = Left::None;
        for backend in backends.iter().filter(|backend| backend.is_eligible()) {
            if !tried.contains(&backend.number) {
                return Left::Untried;
            }
            left = Left::OnlyTried;
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKENDS: [u64; 3] = [10, 11, 12];

    fn after(after: After, backend: u64) -> Retry {
        Retry { reason: RetryReason::Reset, backend, after }
    }

    /// What is left of `eligible`.
    fn left(eligible: &[u64], tried: &[u64]) -> Left {
        match eligible.iter().any(|backend| !tried.contains(backend)) {
            true => Left::Untried,
            false if eligible.is_empty() => Left::None,
            false => Left::OnlyTried,
        }
    }

    #[test]
    fn each_backend_is_tried_once_before_a_pause_and_pauses_are_counted() {
        let mut plan = Plan::default();
        let mut seen = Vec::new();
        for turn in 0..8 {
            let backend = BACKENDS[turn % 3];
            assert!(!plan.tried.contains(&backend), "turn {turn}");
            let start = plan.follow(&after(After::Failure, backend), |tried| left(&BACKENDS, tried)).unwrap();
            if start != Start::Now {
                plan.after_pause(|tried| left(&BACKENDS, tried));
            }
            seen.push((plan.number, start, plan.tried.len()));
        }
        use Start::{AfterPause, Now};
        let wanted = [
            (1, Now, 1),
            (2, Now, 2),
            (3, AfterPause(0), 0),
            (4, Now, 1),
            (5, Now, 2),
            (6, AfterPause(1), 0),
            (7, Now, 1),
            (8, Now, 2),
        ];
        assert_eq!(seen, wanted);
    }

    #[test]
    fn a_backend_that_comes_back_during_a_pause_is_tried_before_those_that_failed() {
        let mut plan = Plan::default();
        let start = plan.follow(&after(After::Failure, 10), |tried| left(&[10], tried));
        assert_eq!(start, Some(Start::AfterPause(0)));
        plan.after_pause(|tried| left(&[10, 11], tried));
        assert_eq!(plan.tried, [10]);
        plan.after_pause(|tried| left(&[10], tried));
        assert_eq!(plan.tried, [0; 0]);
    }

    #[test]
    fn a_closed_connection_is_replaced_at_once_and_a_response_only_by_another_backend() {
        let start = |kind, eligible: &[u64]| {
            let mut plan = Plan::default();
            let start = plan.follow(&after(kind, 10), |tried| left(eligible, tried));
            (start, plan.number, plan.tried.len())
        };
        for kind in [After::Failure, After::Response, After::ClosedConnection] {
            assert_eq!(start(kind, &BACKENDS), (Some(Start::Now), 1, 1), "{kind:?}");
            assert_eq!(start(kind, &[]), (None, 0, 1), "{kind:?}");
        }
        assert_eq!(start(After::Failure, &[10]), (Some(Start::AfterPause(0)), 1, 1));
        assert_eq!(start(After::Response, &[10]), (None, 0, 1));
        assert_eq!(start(After::ClosedConnection, &[10]), (Some(Start::Now), 1, 0));
    }
}
