//! The attempts of a request: the next one, and the fault to report.
//!
//! Invariants: there are at most `limits.retries` more than one. Each follows from the fault before it, by
//! [`Fault::may_retry`]. A request fails with its last fault, but `NoBackend` does not replace an earlier one.

use crate::proxy::fault::Fault;
use crate::telemetry::RetryReason;

/// The attempts of one request.
pub(super) struct Plan {
    next: Option<Try>,
    fault: Option<Fault>,
}

/// A future attempt.
pub(super) struct Try {
    /// From 0.
    pub(super) number: u32,
    /// Why it is a retry; `None` for the first.
    pub(super) reason: Option<RetryReason>,
    /// Backends that failed before, by their numbers in the contract.
    pub(super) tried: Vec<u64>,
    /// How many more may follow.
    pub(super) left: u32,
}

/// An attempt without a response.
pub(super) struct Failed {
    pub(super) fault: Fault,
    /// The one that may follow.
    pub(super) next: Option<Try>,
}

// === impl Plan ===

impl Plan {
    /// One attempt and up to `retries` more.
    pub(super) fn new(retries: u32) -> Self {
        let first = Try { number: 0, reason: None, tried: Vec::new(), left: retries };
        Self { next: Some(first), fault: None }
    }

    pub(super) fn next(&mut self) -> Option<Try> {
        self.next.take()
    }

    pub(super) fn note(&mut self, failed: Failed) {
        // There was no other backend, so the earlier fault is more informative.
        if self.fault.is_none() || failed.fault != Fault::NoBackend {
            self.fault = Some(failed.fault);
        }
        self.next = failed.next;
    }

    /// The fault of the request.
    pub(super) fn fault(&self) -> Fault {
        self.fault.unwrap_or(Fault::NoBackend)
    }
}

// === impl Try ===

impl Try {
    /// The attempt that follows if this one failed on `backend` for a reason that allows it.
    pub(super) fn after(&self, reason: RetryReason, backend: u64) -> Option<Self> {
        let left = self.left.checked_sub(1)?;
        let tried = self.tried.iter().copied().chain([backend]).collect();
        Some(Self { number: self.number + 1, reason: Some(reason), tried, left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_ends_with_its_retries_and_remembers_the_tried_backends() {
        let mut plan = Plan::new(2);
        let mut seen = Vec::new();
        while let Some(next) = plan.next() {
            seen.push((next.number, next.reason, next.tried.clone()));
            let backend = 10 + u64::from(next.number);
            plan.note(Failed { fault: Fault::ConnectFailed, next: next.after(RetryReason::NotSent, backend) });
        }
        let reason = Some(RetryReason::NotSent);
        assert_eq!(seen, [(0, None, vec![]), (1, reason, vec![10]), (2, reason, vec![10, 11])]);
        assert_eq!(plan.fault(), Fault::ConnectFailed);
    }

    #[test]
    fn the_first_failure_is_reported_if_no_other_backend_was_left() {
        let mut plan = Plan::new(1);
        plan.note(Failed { fault: Fault::ConnectTimeout, next: None });
        plan.note(Failed { fault: Fault::NoBackend, next: None });
        assert_eq!(plan.fault(), Fault::ConnectTimeout);
        plan.note(Failed { fault: Fault::BackendTimeout, next: None });
        assert_eq!(plan.fault(), Fault::BackendTimeout);
        let mut alone = Plan::new(1);
        alone.note(Failed { fault: Fault::NoBackend, next: None });
        assert!(alone.next().is_some_and(|first| first.number == 0) || alone.fault() == Fault::NoBackend);
    }
}
