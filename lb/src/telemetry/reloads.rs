//! What is counted about reloads, by what they were about: how they ended, how long they took, and how the last one did.
//!
//! Invariant: a start counts as the first good reload of both kinds, because what runs was read and loaded then; so the gauges are there
//! from the first scrape.

use std::time::Duration;

use super::cell::{HistogramSum, REQUEST_BOUNDS_NS};
use super::reason::{ReloadKind, ReloadOutcome};

/// All reloads of one kind.
#[derive(Clone, Debug)]
pub(super) struct Reloads {
    pub(super) outcomes: [u64; ReloadOutcome::COUNT],
    pub(super) durations: HistogramSum,
    pub(super) was_good: bool,
    /// Seconds since the epoch at which something new was put in force.
    pub(super) last_success_seconds: f64,
}

pub(super) type ReloadsByKind = [Reloads; ReloadKind::COUNT];

// === impl Reloads ===

impl Reloads {
    pub(super) fn new(now_seconds: f64) -> Reloads {
        Reloads {
            outcomes: [0; ReloadOutcome::COUNT],
            durations: HistogramSum::new(REQUEST_BOUNDS_NS),
            was_good: true,
            last_success_seconds: now_seconds,
        }
    }

    pub(super) fn ended(&mut self, outcome: ReloadOutcome, took: Duration, now_seconds: f64) {
        self.outcomes[outcome as usize] += 1;
        self.durations.observe(took.as_nanos() as u64);
        self.was_good = outcome == ReloadOutcome::Success;
        if outcome != ReloadOutcome::Failure {
            self.last_success_seconds = now_seconds;
        }
    }
}
