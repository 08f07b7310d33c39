//! The attempts of one request: which backends the next one may use, and whether it waits first.
//!
//! Invariant: no backend is tried twice while another one is eligible.

use std::sync::Arc;

use crate::Backend;

/// The attempts of one request.
#[derive(Clone, Debug, Default)]
pub struct RetryPlan {
    /// The number of the present attempt, from 0.
    pub number: u32,
    /// The backends that failed since all of them were tried, by their numbers in the contract.
    pub tried: Vec<u64>,
    /// The present attempt runs beside the first one.
    pub is_hedge: bool,
    /// How often every eligible backend was tried.
    rounds: u32,
}

/// The kind of a failure, which decides where a retry may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
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
pub enum Left {
    Untried,
    OnlyTried,
    None,
}

/// When a retry begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    Now,
    /// After a pause; the number of earlier pauses.
    AfterPause(u32),
}

// === impl RetryPlan ===

impl RetryPlan {
    /// The plan of a second attempt beside the first one, which is on `backend`.
    pub fn of_hedge(backend: u64) -> Self {
        Self { number: 1, tried: vec![backend], is_hedge: true, ..Self::default() }
    }

    /// Goes on to the next attempt after one on `backend`. `left`: the eligible backends, given those that were tried.
    /// `None` if no backend is left for it.
    pub fn follow(&mut self, backend: u64, after: After, left: impl FnOnce(&[u64]) -> Left) -> Option<Begin> {
        self.tried.push(backend);
        let begin = match (left(&self.tried), after) {
            (Left::None, _) | (Left::OnlyTried, After::Response) => return None,
            (Left::Untried, _) => Begin::Now,
            (Left::OnlyTried, After::ClosedConnection) => {
                self.tried.clear();
                Begin::Now
            }
            (Left::OnlyTried, After::Failure) => {
                self.rounds += 1;
                Begin::AfterPause(self.rounds - 1)
            }
        };
        self.number += 1;
        Some(begin)
    }

    /// The pause is over. A backend that became eligible meanwhile is next; else any may be tried again.
    pub fn after_pause(&mut self, left: impl FnOnce(&[u64]) -> Left) {
        if left(&self.tried) != Left::Untried {
            self.tried.clear();
        }
    }
}

// === impl Left ===

impl Left {
    pub fn of(backends: &[Arc<Backend>], tried: &[u64]) -> Self {
        let mut left = Self::None;
        for backend in backends.iter().filter(|backend| backend.is_eligible()) {
            if !tried.contains(&backend.number) {
                return Self::Untried;
            }
            left = Self::OnlyTried;
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKENDS: [u64; 3] = [10, 11, 12];

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
        let mut plan = RetryPlan::default();
        let mut seen = Vec::new();
        for turn in 0..8 {
            let backend = BACKENDS[turn % 3];
            assert!(!plan.tried.contains(&backend), "turn {turn}");
            let begin = plan.follow(backend, After::Failure, |tried| left(&BACKENDS, tried)).unwrap();
            if begin != Begin::Now {
                plan.after_pause(|tried| left(&BACKENDS, tried));
            }
            seen.push((plan.number, begin, plan.tried.len()));
        }
        use Begin::{AfterPause, Now};
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
        let mut plan = RetryPlan::default();
        let begin = plan.follow(10, After::Failure, |tried| left(&[10], tried));
        assert_eq!(begin, Some(Begin::AfterPause(0)));
        plan.after_pause(|tried| left(&[10, 11], tried));
        assert_eq!(plan.tried, [10]);
        plan.after_pause(|tried| left(&[10], tried));
        assert_eq!(plan.tried, [0; 0]);
    }

    #[test]
    fn a_closed_connection_is_replaced_at_once_and_a_response_only_by_another_backend() {
        let begin = |kind, eligible: &[u64]| {
            let mut plan = RetryPlan::default();
            let begin = plan.follow(10, kind, |tried| left(eligible, tried));
            (begin, plan.number, plan.tried.len())
        };
        for kind in [After::Failure, After::Response, After::ClosedConnection] {
            assert_eq!(begin(kind, &BACKENDS), (Some(Begin::Now), 1, 1), "{kind:?}");
            assert_eq!(begin(kind, &[]), (None, 0, 1), "{kind:?}");
        }
        assert_eq!(begin(After::Failure, &[10]), (Some(Begin::AfterPause(0)), 1, 1));
        assert_eq!(begin(After::Response, &[10]), (None, 0, 1));
        assert_eq!(begin(After::ClosedConnection, &[10]), (Some(Begin::Now), 1, 0));
    }
}
