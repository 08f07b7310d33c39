//! A pause for a backend that fails several times in a row, in two words of its slot.
//!
//! Why: a strategy by requests in flight finds a backend that fails at once always idle, and would send it nearly every
//! request. In a pause the backend is the last choice. The pauses double, so such a backend gets one request in 32 s.
//!
//! Invariants: fewer than three failures in a row make no pause, so an error that one request causes does no harm. A
//! success ends the row and the pause. A pause is only a preference: if there is no other backend, it is picked. A slot
//! may outlive the process. So an end further ahead than the longest pause is from before the clock was set back. It is
//! no pause.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use lb_strategy::Slot;

use crate::Sample;

/// Failures in a row up to the first pause.
const PATIENCE: u64 = 3;
const FIRST_PAUSE_NS: u64 = 1_000_000_000;
const DOUBLINGS_MAX: u64 = 5;
const PAUSE_MAX_NS: u64 = FIRST_PAUSE_NS << DOUBLINGS_MAX;

/// The failures in a row of one backend, and the end of its pause.
#[derive(Clone, Copy)]
pub struct Backoff<'a> {
    failures: &'a AtomicU64,
    until_ns: &'a AtomicU64,
}

// === impl Backoff ===

impl<'a> Backoff<'a> {
    /// In the words `first` and `first + 1`.
    #[inline]
    pub fn of(slot: Slot<'a>, first: usize) -> Self {
        Self { failures: slot.word(first), until_ns: slot.word(first + 1) }
    }

    /// Whether the backend is in a pause.
    #[inline]
    pub fn is_paused(&self, now_ns: u64) -> bool {
        (1..=PAUSE_MAX_NS).contains(&self.until_ns.load(Relaxed).saturating_sub(now_ns))
    }

    /// Takes up the end of an attempt.
    pub fn record(&self, sample: Sample, now_ns: u64) {
        match sample {
            // The words are mostly 0, and a read does not take the cache line from other workers.
            Sample::Took(_) if self.failures.load(Relaxed) > 0 => {
                self.failures.store(0, Relaxed);
                self.until_ns.store(0, Relaxed);
            }
            Sample::Failed(_) => {
                let failures = self.failures.fetch_add(1, Relaxed) + 1;
                // Attempts that began before the pause do not make it longer.
                if failures >= PATIENCE && !self.is_paused(now_ns) {
                    let pause_ns = FIRST_PAUSE_NS << (failures - PATIENCE).min(DOUBLINGS_MAX);
                    self.until_ns.store(now_ns.saturating_add(pause_ns), Relaxed);
                }
            }
            Sample::Took(_) | Sample::NotYet(_) | Sample::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn after_the_clock_was_set_back_there_is_no_pause_until_the_next_failure() {
        let words = [AtomicU64::new(0), AtomicU64::new(0)];
        let backoff = Backoff { failures: &words[0], until_ns: &words[1] };
        (0..3).for_each(|_| backoff.record(Sample::Failed(1.0), 1000 * SECOND));
        assert!(backoff.is_paused(1000 * SECOND) && !backoff.is_paused(900 * SECOND));
        backoff.record(Sample::Failed(1.0), 900 * SECOND);
        assert!(backoff.is_paused(901 * SECOND) && !backoff.is_paused(902 * SECOND));
    }

    #[test]
    fn pauses_begin_with_the_third_failure_double_and_end_with_a_success() {
        let words = [AtomicU64::new(0), AtomicU64::new(0)];
        let backoff = Backoff { failures: &words[0], until_ns: &words[1] };
        let mut now_ns = SECOND;
        let fail = |now_ns: u64| backoff.record(Sample::Failed(1.0), now_ns);
        (0..2).for_each(|_| fail(now_ns));
        assert!(!backoff.is_paused(now_ns));
        for pause in [1, 2, 4, 8, 16, 32, 32] {
            fail(now_ns);
            assert!(backoff.is_paused(now_ns + pause * SECOND - 1), "{pause} s");
            now_ns += pause * SECOND;
            assert!(!backoff.is_paused(now_ns), "{pause} s");
        }
        fail(now_ns);
        backoff.record(Sample::Took(1.0), now_ns);
        assert!(!backoff.is_paused(now_ns));
        backoff.record(Sample::Failed(1.0), now_ns);
        assert!(!backoff.is_paused(now_ns), "the row begins again");
    }

    #[test]
    fn attempts_that_fail_in_a_pause_do_not_make_it_longer() {
        let words = [AtomicU64::new(0), AtomicU64::new(0)];
        let backoff = Backoff { failures: &words[0], until_ns: &words[1] };
        (0..20).for_each(|_| backoff.record(Sample::Failed(1.0), SECOND));
        assert!(!backoff.is_paused(2 * SECOND));
    }
}
