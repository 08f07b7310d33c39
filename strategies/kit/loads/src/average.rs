//! A decaying average of times in two words of a slot, and what the end of an attempt says about its backend.
//!
//! Idea: an average that forgets by time and not by the number of samples. A sample that comes `t` after the last one
//! counts `1 − e^(−t/τ)`, so a busy backend and a quiet one forget equally fast. A reader lets the average decay up to
//! now. So a backend that gets no requests becomes cheaper with time, and is tried again. After `8τ` its average is
//! unknown, as that of a new backend. Source: Finagle's `PeakEwma.scala`, whose load metric decays in the same way.
//!
//! Failures: a backend that fails at once has the shortest times, so a plain average would send it every request. Here
//! a failure counts as `failure_factor` times the average, and it replaces the average at once. Repeated failures
//! multiply, up to a minute. So one failure among successes does little, and a backend that always fails is tried about
//! once in `τ · ln(failure_factor)`.
//!
//! Invariants: each word is whole. Two ends at the same time may lose one sample, which an average tolerates. Each
//! value is finite, and not 0 after the first sample, because 0 means unknown. A slot may outlive the process. So a
//! time far ahead of the clock is from before the clock was set back, and its value is unknown.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use lb_strategy::{Finish, Outcome, Slot};

/// The score of a backend without any sample that has requests in flight. It gets no second request before its first
/// response, except if all are like this. Finagle calls it the penalty.
pub const UNKNOWN: f64 = (u64::MAX >> 16) as f64;

/// A failure of a backend whose time is not known counts like this.
const FIRST_FAILURE_NS: f64 = 1e9;
/// Failures count no more than this.
const FAILURE_MAX_NS: f64 = 60e9;
/// A time of 0 would mean unknown.
const LEAST_NS: f64 = 1.0;
/// e^−8: an average that has decayed to this part says nothing about now.
const FORGOTTEN: f64 = 3.354_6e-4;
/// Clocks of workers differ by less than this. A time further ahead is from before the clock was set back.
const AHEAD_MAX_NS: u64 = 60_000_000_000;

/// A decaying average of times, in two words of a slot.
#[derive(Clone, Copy)]
pub struct Average<'a> {
    value: &'a AtomicU64,
    at_ns: &'a AtomicU64,
}

/// How an average treats its samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    pub tau: Tau,
    /// A failure counts this many times the average.
    pub failure_factor: f64,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every sample moves the average toward it.
    Plain,
    /// A worse sample replaces the average at once; better ones move it.
    Peak,
}

/// What the end of an attempt says about its backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    /// A response that is no server error, after this time in nanoseconds.
    Took(f64),
    /// The backend failed after this time: no connection, no response, or a status of 500 or above.
    Failed(f64),
    /// No response so far, and no further wait for one: the client left, or another attempt was faster.
    NotYet(f64),
    /// Nothing, for example because the request was not sent.
    Nothing,
}

/// A time constant: how fast an average forgets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tau {
    /// The power of 1/2 by which it decays in a nanosecond.
    halvings_per_ns: f64,
}

// === impl Tau ===

impl Tau {
    pub fn of_ms(ms: u32) -> Self {
        Self { halvings_per_ns: std::f64::consts::LOG2_E / (f64::from(ms.max(1)) * 1e6) }
    }

    /// `e^(−elapsed/τ)`, to four digits.
    ///
    /// Why not `exp`: that is a call of the C library, whose last digit depends on the machine. And this is faster.
    #[inline]
    pub fn decay(self, elapsed_ns: u64) -> f64 {
        /// Above it a number has no fraction, and the last digits of its bits are its integer.
        const NO_FRACTION: f64 = (1_u64 << 52) as f64;
        // The decay is 2^−y with y = n + f and |f| ≤ 1/2. The power of n is an exponent, that of f a Taylor polynomial.
        let y = (elapsed_ns.min(i64::MAX as u64) as i64 as f64 * self.halvings_per_ns).min(1000.0);
        let rounded = y + NO_FRACTION;
        let (n, z) = (rounded.to_bits() & 0xFFFF, (rounded - NO_FRACTION - y) * std::f64::consts::LN_2);
        let power = 1.0 + z + z * z * (0.5 + z * (1.0 / 6.0) + z * z * (1.0 / 24.0));
        power * f64::from_bits((1023 - n) << 52)
    }

    /// The part that is left at `now_ns` of a value of the time `at_ns`; 0 if that time is far ahead of the clock.
    #[inline]
    pub fn left(self, at_ns: u64, now_ns: u64) -> f64 {
        if at_ns > now_ns.saturating_add(AHEAD_MAX_NS) { 0.0 } else { self.decay(now_ns.saturating_sub(at_ns)) }
    }
}

// === impl Average ===

impl<'a> Average<'a> {
    /// The average in the words `first` and `first + 1`.
    #[inline]
    pub fn of(slot: Slot<'a>, first: usize) -> Self {
        Self { value: slot.word(first), at_ns: slot.word(first + 1) }
    }

    /// The average, decayed up to `now_ns`; 0 if it is unknown: before the first sample, and `8τ` after the last one.
    #[inline]
    pub fn at(&self, now_ns: u64, tau: Tau) -> f64 {
        let left = tau.left(self.at_ns.load(Relaxed), now_ns);
        let average = f64::from_bits(self.value.load(Relaxed)) * left;
        if left < FORGOTTEN || average < LEAST_NS { 0.0 } else { average }
    }

    /// Takes up what the end of an attempt says.
    pub fn record(&self, sample: Sample, now_ns: u64, memory: &Memory) {
        let average = self.at(now_ns, memory.tau);
        match sample {
            Sample::Took(ns) if memory.kind == Kind::Peak && ns > average => self.set(ns, now_ns),
            Sample::Took(ns) => self.add(ns, now_ns, memory.tau),
            Sample::Failed(ns) => {
                let multiplied = if average == 0.0 { FIRST_FAILURE_NS } else { average * memory.failure_factor };
                self.set(multiplied.max(ns).min(FAILURE_MAX_NS).max(average), now_ns);
            }
            // The response would have taken longer, so a shorter time says nothing.
            Sample::NotYet(ns) if average > 0.0 && ns > average => self.record(Sample::Took(ns), now_ns, memory),
            Sample::NotYet(_) | Sample::Nothing => {}
        }
    }

    /// Moves the average toward a sample. The first one becomes the average.
    pub fn add(&self, sample: f64, now_ns: u64, tau: Tau) {
        let before = f64::from_bits(self.value.load(Relaxed));
        let keep = tau.left(self.at_ns.load(Relaxed), now_ns);
        self.set(if before == 0.0 { sample } else { before * keep + sample * (1.0 - keep) }, now_ns);
    }

    fn set(&self, value: f64, now_ns: u64) {
        // One value that is no number would make every later average none.
        if !value.is_finite() {
            return;
        }
        self.value.store(value.max(LEAST_NS).to_bits(), Relaxed);
        self.at_ns.store(now_ns, Relaxed);
    }
}

// === impl Sample ===

impl Sample {
    /// By the time to the response head.
    pub fn of(finish: &Finish<'_>) -> Self {
        Self::with_time(finish, finish.time_to_head_ns())
    }

    /// By the time to the end of the response; of a tunnel by the time to its head.
    pub fn of_whole(finish: &Finish<'_>) -> Self {
        let took_ns = if finish.is_upgraded() { finish.time_to_head_ns() } else { finish.total_ns() };
        Self::with_time(finish, took_ns)
    }

    fn with_time(finish: &Finish<'_>, took_ns: u64) -> Self {
        let is_error = finish.http_status().is_some_and(|status| status >= 500);
        match finish.outcome() {
            Outcome::Ok if !is_error => Self::Took(took_ns as f64),
            Outcome::Ok | Outcome::ConnectError | Outcome::Timeout | Outcome::Reset => {
                Self::Failed(finish.total_ns() as f64)
            }
            Outcome::ClientGone if finish.http_status().is_none() => Self::NotYet(finish.total_ns() as f64),
            Outcome::ClientGone | Outcome::NotSent | Outcome::Other(_) => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: f64 = 1e6;
    const SECOND: u64 = 1_000_000_000;
    const TAU: Tau = Tau { halvings_per_ns: std::f64::consts::LOG2_E / 10e9 };
    const PEAK: Memory = Memory { tau: TAU, failure_factor: 3.0, kind: Kind::Peak };
    const PLAIN: Memory = Memory { kind: Kind::Plain, ..PEAK };

    #[derive(Default)]
    struct Words([AtomicU64; 2]);

    impl Words {
        fn average(&self) -> Average<'_> {
            Average { value: &self.0[0], at_ns: &self.0[1] }
        }
    }

    #[track_caller]
    fn assert_near(value: f64, expected: f64) {
        assert!((value / expected - 1.0).abs() < 1e-4, "{value} instead of {expected}");
    }

    #[test]
    fn the_decay_is_an_exponential() {
        for ms in [0, 1, 9, 300, 346, 347, 1_000, 2_500, 10_000, 100_000, 600_000] {
            assert_near(Tau::of_ms(1_000).decay(ms * 1_000_000), f64::exp(-(ms as f64) / 1e3));
        }
        assert!(Tau::of_ms(1).decay(u64::MAX) < 1e-290 && TAU.decay(0) == 1.0);
    }

    #[test]
    fn a_worse_sample_replaces_a_peak_average_and_better_ones_decay_it() {
        let words = Words::default();
        let average = words.average();
        assert_eq!(average.at(5, TAU), 0.0, "unknown");
        average.record(Sample::Took(100.0 * MS), SECOND, &PEAK);
        average.record(Sample::Took(2000.0 * MS), 2 * SECOND, &PEAK);
        assert_near(average.at(2 * SECOND, TAU), 2000.0 * MS);
        average.record(Sample::Took(100.0 * MS), 12 * SECOND, &PEAK);
        let kept = f64::exp(-1.0);
        assert_near(average.at(12 * SECOND, TAU), (2000.0 * kept + 100.0 * (1.0 - kept)) * MS);
        average.record(Sample::Took(0.0), 100 * SECOND, &PLAIN);
        assert!(average.at(100 * SECOND, TAU) > 0.0, "known stays known");
    }

    #[test]
    fn a_plain_average_moves_by_time_and_not_by_the_number_of_samples() {
        let words = Words::default();
        let average = words.average();
        average.record(Sample::Took(100.0 * MS), SECOND, &PLAIN);
        (0..1000).for_each(|_| average.record(Sample::Took(900.0 * MS), SECOND, &PLAIN));
        assert_near(average.at(SECOND, TAU), 100.0 * MS);
        average.record(Sample::Took(900.0 * MS), 11 * SECOND, &PLAIN);
        let kept = f64::exp(-1.0);
        assert_near(average.at(11 * SECOND, TAU), (100.0 * kept + 900.0 * (1.0 - kept)) * MS);
    }

    #[test]
    fn without_requests_an_average_decays_so_that_its_backend_is_tried_again() {
        let words = Words::default();
        words.average().record(Sample::Took(2000.0 * MS), SECOND, &PEAK);
        assert_near(words.average().at(11 * SECOND, TAU), 2000.0 * MS * f64::exp(-1.0));
    }

    #[test]
    fn after_eight_time_constants_an_average_is_unknown() {
        let words = Words::default();
        words.average().record(Sample::Took(2000.0 * MS), SECOND, &PEAK);
        assert_near(words.average().at(80 * SECOND, TAU), 2000.0 * MS * f64::exp(-7.9));
        assert_eq!(words.average().at(82 * SECOND, TAU), 0.0);
        let words = Words::default();
        words.average().record(Sample::Took(2.0), SECOND, &PLAIN);
        assert_eq!(words.average().at(11 * SECOND, TAU), 0.0, "less than a nanosecond");
    }

    #[test]
    fn after_the_clock_was_set_back_an_average_is_unknown_and_begins_anew() {
        let words = Words::default();
        let average = words.average();
        average.record(Sample::Took(2000.0 * MS), 1000 * SECOND, &PLAIN);
        assert_near(average.at(950 * SECOND, TAU), 2000.0 * MS);
        assert_eq!(average.at(900 * SECOND, TAU), 0.0);
        average.record(Sample::Took(100.0 * MS), 900 * SECOND, &PLAIN);
        assert_near(average.at(900 * SECOND, TAU), 100.0 * MS);
    }

    #[test]
    fn a_sample_that_is_no_number_changes_nothing() {
        let words = Words::default();
        words.average().record(Sample::Took(100.0 * MS), SECOND, &PLAIN);
        [f64::NAN, f64::INFINITY].into_iter().for_each(|ns| words.average().add(ns, 2 * SECOND, TAU));
        assert_near(words.average().at(SECOND, TAU), 100.0 * MS);
    }

    #[test]
    fn a_failure_does_not_lower_an_average_above_a_minute() {
        let words = Words::default();
        words.average().record(Sample::Took(100_000.0 * MS), SECOND, &PLAIN);
        words.average().record(Sample::Failed(1.0), SECOND, &PLAIN);
        assert_near(words.average().at(SECOND, TAU), 100_000.0 * MS);
    }

    #[test]
    fn failures_multiply_up_to_a_minute_and_never_make_a_backend_cheaper() {
        for memory in [PEAK, PLAIN] {
            let words = Words::default();
            let average = words.average();
            average.record(Sample::Failed(1.0), SECOND, &memory);
            assert_near(average.at(SECOND, TAU), 1000.0 * MS);
            average.record(Sample::Failed(1.0), SECOND, &memory);
            assert_near(average.at(SECOND, TAU), 3000.0 * MS);
            (0..9).for_each(|_| average.record(Sample::Failed(1.0), SECOND, &memory));
            assert_near(average.at(SECOND, TAU), 60_000.0 * MS);
        }
    }

    #[test]
    fn a_request_that_was_given_up_counts_only_if_it_took_longer_than_the_average() {
        let words = Words::default();
        let average = words.average();
        average.record(Sample::NotYet(5.0 * MS), SECOND, &PEAK);
        assert_eq!(average.at(SECOND, TAU), 0.0, "nothing to compare with");
        average.record(Sample::Took(100.0 * MS), SECOND, &PEAK);
        average.record(Sample::NotYet(5.0 * MS), SECOND, &PEAK);
        assert_near(average.at(SECOND, TAU), 100.0 * MS);
        average.record(Sample::NotYet(500.0 * MS), SECOND, &PEAK);
        assert_near(average.at(SECOND, TAU), 500.0 * MS);
    }
}
