//! The smallest counting types: a counter, a gauge and a histogram that one thread writes and any thread reads.
//!
//! Why: the request path pays for each of them several times a request. A locked add costs about 5 ns alone and over
//! 100 ns contended; a plain load and store costs less than one. Invariants: only the owning thread writes (a second
//! writer would lose counts, never memory safety). A reader sees a counter only grow. A histogram's count is the sum of
//! its buckets, so it cannot disagree with them.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// A number that only grows, written by its owner alone.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A number that goes up and down, written by its owner alone.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

/// Counts of durations by size: bucket `i` counts those of at most `bounds[i]` nanoseconds, the last one all longer
/// ones.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [u64],
    buckets: [Counter; BOUNDS_MAX + 1],
    sum_ns: Counter,
}

/// The content of one or more histograms of the same bounds when they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HistogramSum {
    bounds: &'static [u64],
    buckets: [u64; BOUNDS_MAX + 1],
    sum_ns: u64,
}

/// The bounds for durations of requests, 100 µs to 10 s. A balancer on loopback responds well under a millisecond,
/// where the usual tables have a single bucket.
pub(super) const REQUEST_BOUNDS_NS: &[u64] = &[
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// The bounds of a pick, 100 ns to 10 ms: most cost less than a look at the clock.
pub(super) const PICK_BOUNDS_NS: &[u64] =
    &[100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, SLOW_PICK_NS, 1_000_000, 10_000_000];

/// A longer pick is slow: sixteen times the time that lb needs for a whole request.
pub(super) const SLOW_PICK_NS: u64 = 250_000;

/// The bounds for pauses between two polls of a worker, 1 µs to 10 ms. Requests wait for their end, so the question is
/// whether a pause is visible beside a request.
pub(super) const PAUSE_BOUNDS_NS: &[u64] = &[
    1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000,
];

/// The longest table of bounds; a fixed width keeps the buckets inside their shard, away from other threads' lines.
const BOUNDS_MAX: usize = 16;

// === impl Counter ===

impl Counter {
    pub const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    #[inline]
    pub fn add(&self, n: u64) {
        // a load and a store, not a locked add: no other thread writes
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

// === impl Gauge ===

impl Gauge {
    pub const fn new() -> Gauge {
        Gauge(AtomicI64::new(0))
    }

    #[inline]
    pub fn inc(&self) {
        self.set(self.get().wrapping_add(1));
    }

    #[inline]
    pub fn dec(&self) {
        self.set(self.get().wrapping_sub(1));
    }

    #[inline]
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    #[inline]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

// === impl Histogram ===

impl Histogram {
    /// An empty histogram; `bounds` ascend and are at most 16.
    pub(super) const fn new(bounds: &'static [u64]) -> Histogram {
        assert!(bounds.len() <= BOUNDS_MAX, "more bounds than buckets");
        Histogram { bounds, buckets: [const { Counter::new() }; BOUNDS_MAX + 1], sum_ns: Counter::new() }
    }

    #[inline]
    pub(super) fn observe(&self, ns: u64) {
        // the number of bounds below `ns` is the bucket: a binary search of four steps, compiled without branches
        self.buckets[self.bounds.partition_point(|bound| *bound < ns)].inc();
        self.sum_ns.add(ns);
    }
}

// === impl HistogramSum ===

impl HistogramSum {
    pub(super) const fn new(bounds: &'static [u64]) -> HistogramSum {
        HistogramSum { bounds, buckets: [0; BOUNDS_MAX + 1], sum_ns: 0 }
    }

    /// Adds the present content of `histogram`.
    pub(super) fn add(&mut self, histogram: &Histogram) {
        debug_assert_eq!(self.bounds, histogram.bounds, "only like can be added to like");
        for (sum, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum += bucket.get();
        }
        self.sum_ns = self.sum_ns.wrapping_add(histogram.sum_ns.get());
    }

    /// As [`Histogram::observe`], for counts under a lock.
    pub(super) fn observe(&mut self, ns: u64) {
        self.buckets[self.bounds.partition_point(|bound| *bound < ns)] += 1;
        self.sum_ns = self.sum_ns.wrapping_add(ns);
    }

    /// Adds the difference between `later` and `earlier`, an older reading of the same histograms.
    pub(super) fn add_since(&mut self, later: &HistogramSum, earlier: &HistogramSum) {
        for ((sum, later), earlier) in self.buckets.iter_mut().zip(later.buckets).zip(earlier.buckets) {
            *sum += later.saturating_sub(earlier);
        }
        self.sum_ns = self.sum_ns.wrapping_add(later.sum_ns.wrapping_sub(earlier.sum_ns));
    }

    /// The number of durations longer than `bound_ns`, one of the bounds.
    pub(super) fn longer_than(&self, bound_ns: u64) -> u64 {
        let bucket = self.bounds.partition_point(|bound| *bound <= bound_ns);
        self.buckets[bucket..].iter().sum()
    }

    /// The number of observed durations.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(super) fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// The duration in nanoseconds that a fraction `q` of them does not exceed. Durations of one bucket count as evenly
    /// spread in it, as in Prometheus' `histogram_quantile`. Beyond the last bound, returns that bound. `None` if there
    /// are none.
    pub(super) fn quantile(&self, q: f64) -> Option<u64> {
        let rank = q * self.count() as f64;
        let (mut low, mut below) = (0, 0);
        for (bound, up_to) in self.cumulative() {
            if up_to > below && up_to as f64 >= rank {
                let part = (rank - below as f64) / (up_to - below) as f64;
                return Some(low + (part * (bound - low) as f64) as u64);
            }
            (low, below) = (bound, up_to);
        }
        (self.count() > 0).then_some(low)
    }

    /// The bounds, each with the number of durations up to it, as the exposition needs them. The unbounded bucket is
    /// not included; its number is `count()`.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        self.bounds.iter().zip(&self.buckets).scan(0, |up_to, (bound, bucket)| {
            *up_to += bucket;
            Some((*bound, *up_to))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_equal_to_a_bound_belongs_to_it() {
        let histogram = Histogram::new(REQUEST_BOUNDS_NS);
        for ns in [0, 100_000, 100_001, 10_000_000_000, 10_000_000_001, u64::MAX / 2] {
            histogram.observe(ns);
        }
        let mut sum = HistogramSum::new(REQUEST_BOUNDS_NS);
        sum.add(&histogram);
        let cumulative: Vec<_> = sum.cumulative().collect();
        assert_eq!(cumulative[0], (100_000, 2));
        assert_eq!(cumulative[1], (250_000, 3));
        assert_eq!(cumulative[15], (10_000_000_000, 4));
        assert_eq!(sum.count(), 6);
    }

    #[test]
    fn every_bound_has_its_own_bucket() {
        let histogram = Histogram::new(REQUEST_BOUNDS_NS);
        for bound in REQUEST_BOUNDS_NS {
            histogram.observe(*bound);
        }
        assert!(histogram.buckets[..16].iter().all(|bucket| bucket.get() == 1));
        assert_eq!(histogram.sum_ns.get(), REQUEST_BOUNDS_NS.iter().sum::<u64>());
    }

    #[test]
    fn bounds_ascend() {
        assert!(
            [REQUEST_BOUNDS_NS, PICK_BOUNDS_NS, PAUSE_BOUNDS_NS].iter().all(|bounds| bounds.is_sorted_by(|a, b| a < b))
        );
    }

    #[test]
    fn a_quantile_lies_in_the_bucket_of_its_rank() {
        let mut sum = HistogramSum::new(REQUEST_BOUNDS_NS);
        assert_eq!(sum.quantile(0.5), None);
        (0..98).for_each(|_| sum.observe(200_000)); // in the bucket from 100 to 250 µs
        (0..2).for_each(|_| sum.observe(60_000_000_000)); // beyond the last bound
        assert_eq!(sum.quantile(0.49), Some(175_000), "half of the bucket");
        assert_eq!(sum.quantile(0.98), Some(250_000), "all of it");
        assert_eq!(sum.quantile(0.99), Some(10_000_000_000), "no more is known");
    }

    #[test]
    fn counts_since_are_later_minus_earlier() {
        let histogram = Histogram::new(PICK_BOUNDS_NS);
        let read = || {
            let mut sum = HistogramSum::new(PICK_BOUNDS_NS);
            sum.add(&histogram);
            sum
        };
        histogram.observe(50);
        let earlier = read();
        [60, SLOW_PICK_NS, SLOW_PICK_NS + 1].into_iter().for_each(|ns| histogram.observe(ns));
        let mut since = HistogramSum::new(PICK_BOUNDS_NS);
        since.add_since(&read(), &earlier);
        assert_eq!((since.count(), since.longer_than(SLOW_PICK_NS), since.sum_ns()), (3, 1, 61 + 2 * SLOW_PICK_NS));
    }

    #[test]
    fn gauges_may_go_below_zero_without_wrapping() {
        let gauge = Gauge::new();
        gauge.dec();
        assert_eq!(gauge.get(), -1);
        gauge.inc();
        assert_eq!(gauge.get(), 0);
    }
}
