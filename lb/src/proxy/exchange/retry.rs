//! The attempts of a request: whether one follows a failure, when, and on which backend.
//!
//! [`RetryRules`](lb_balance::RetryRules) decide from facts about the failed attempt whether another one is safe. Here
//! it gets its backend, its part of the pool's budget, and a pause if every backend was tried. Invariants: no backend
//! is tried twice while another one is eligible. A response is given up only after the next backend was picked. A
//! pause that would outlast the request's total time is not begun.

use std::future::poll_fn;
use std::time::Duration;

use lb_balance::{Begin, BodyState, FailureCause, Idempotency, Left, RequestProgress};
use tokio::time::Instant;

use super::Exchange;
use super::attempt::Answer;
use super::choose::{Picked, Unpicked};
use crate::proxy::fault::Fault;
use crate::telemetry::RetryReason;

pub(super) use lb_balance::{After, RetryPlan as Plan};

/// A keep-alive connection that ends later than this after a request was sent on it ends because of the request.
const RACE: Duration = Duration::from_secs(1);

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
        let start = plan.follow(retry.backend, retry.after, |tried| self.left(tried))?;
        let began = Instant::now();
        let pause = match start {
            Begin::Now => Duration::ZERO,
            Begin::AfterPause(round) => {
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
        if start != Begin::Now {
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
        Left::of(current.as_ref().map_or(&[][..], |current| &current.shared.backends), tried)
    }
}
