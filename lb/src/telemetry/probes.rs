//! Counts of probes: how they ended, and why others were not sent. Workers count in a backend's shard, control in its
//! gauges; a scrape shows the sums of the pool.

use super::cell::Counter;
use super::reason::{ProbeKind, ProbeOutcome, ProbeSkip};
use super::retired::add;

/// One thread's counts of one backend.
#[derive(Debug)]
pub(super) struct ProbeCounts {
    pub(super) outcomes: [Counter; ProbeOutcome::COUNT],
    pub(super) skips: [Counter; ProbeSkip::COUNT],
}

/// The sums of a pool.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProbeSums {
    /// By kind.
    pub(super) outcomes: [[u64; ProbeOutcome::COUNT]; ProbeKind::COUNT],
    pub(super) skips: [u64; ProbeSkip::COUNT],
}

// === impl ProbeCounts ===

impl ProbeCounts {
    pub(super) const fn new() -> Self {
        Self {
            outcomes: [const { Counter::new() }; ProbeOutcome::COUNT],
            skips: [const { Counter::new() }; ProbeSkip::COUNT],
        }
    }
}

impl Default for ProbeCounts {
    fn default() -> Self {
        Self::new()
    }
}

// === impl ProbeSums ===

impl ProbeSums {
    pub(super) fn add(&mut self, kind: ProbeKind, counts: &ProbeCounts) {
        add(&mut self.outcomes[kind as usize], &counts.outcomes);
        add(&mut self.skips, &counts.skips);
    }

    /// Whether the pool has had probes, or a strategy that asks for them.
    pub(super) fn is_any(&self) -> bool {
        self.outcomes.iter().flatten().chain(&self.skips).any(|count| *count > 0)
    }
}
