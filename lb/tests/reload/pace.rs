//! The pace of the soak test: keeps swaps and requests together, at any speed of this machine.
//!
//! Why: a test of many swaps under load means nothing if all requests end before the first swap, or all swaps before
//! the first request. The speed of both depends on the machine. Invariants: requests are at most a fixed number of
//! swaps ahead. A swap begins only after its share of requests got a response and every long client has taken the step
//! before the last one. If one thread fails, all stop.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use lb_test_support::PATIENCE;

pub(crate) const SWAPS: u64 = 1_000;
/// Requests of the counted clients for each swap.
pub(crate) const REQUESTS_PER_SWAP: u64 = 20;
/// Steps of every long client: the first before the first swap, the last after the last swap.
pub(crate) const STEPS: u64 = SWAPS / SWAPS_PER_STEP + 1;
const SWAPS_PER_STEP: u64 = 10;
/// The number of swaps by which counted requests may be ahead.
const SWAPS_AHEAD: u64 = 25;

pub(crate) struct Pace {
    counts: Mutex<Counts>,
    changed: Condvar,
}

struct Counts {
    swaps: u64,
    asked: u64,
    answered: u64,
    /// Steps taken, by long client.
    steps: Vec<u64>,
    failed: bool,
}

/// Stops all threads if its own thread panics.
pub(crate) struct Alarm<'a>(&'a Pace);

// === impl Pace ===

impl Pace {
    pub(crate) fn new(long_clients: usize) -> Self {
        let counts = Counts { swaps: 0, asked: 0, answered: 0, steps: vec![0; long_clients], failed: false };
        Self { counts: Mutex::new(counts), changed: Condvar::new() }
    }

    pub(crate) fn alarm(&self) -> Alarm<'_> {
        Alarm(self)
    }

    /// Returns when the next swap may begin.
    pub(crate) fn before_swap(&self) {
        drop(self.wait("requests and long clients to keep up", |counts| {
            let steps = (counts.swaps / SWAPS_PER_STEP).max(1);
            counts.answered >= counts.swaps * REQUESTS_PER_SWAP && counts.steps.iter().all(|taken| *taken >= steps)
        }));
    }

    pub(crate) fn swapped(&self) {
        self.change(|counts| counts.swaps += 1);
    }

    /// Whether to send one more request. Waits while the requests are far enough ahead.
    pub(crate) fn before_request(&self) -> bool {
        const ALL: u64 = SWAPS * REQUESTS_PER_SWAP;
        let mut counts = self.wait("swaps to keep up", |counts| {
            counts.asked < ((counts.swaps + SWAPS_AHEAD) * REQUESTS_PER_SWAP).min(ALL) || counts.asked == ALL
        });
        let is_one_more = counts.asked < ALL;
        counts.asked += u64::from(is_one_more);
        is_one_more
    }

    pub(crate) fn answered(&self) {
        self.change(|counts| counts.answered += 1);
    }

    /// Returns when there were enough swaps for a long client to take this step.
    pub(crate) fn before_step(&self, step: u64) {
        drop(self.wait("swaps", |counts| counts.swaps >= step * SWAPS_PER_STEP));
    }

    pub(crate) fn stepped(&self, client: usize) {
        self.change(|counts| counts.steps[client] += 1);
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn wait(&self, what: &str, is_so: impl Fn(&Counts) -> bool) -> MutexGuard<'_, Counts> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = |counts: &mut Counts| !counts.failed && !is_so(counts);
        let waited = self.changed.wait_timeout_while(counts, PATIENCE, goes_on);
        let (counts, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!counts.failed, "another part of the test failed");
        assert!(!timeout.timed_out(), "timed out while waiting for {what}");
        counts
    }
}

// === impl Alarm ===

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.change(|counts| counts.failed = true);
        }
    }
}
