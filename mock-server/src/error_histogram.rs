//! A histogram of the errors of service times: the achieved time minus the intended one.
//!
//! If this error is larger than the effect under study, an experiment is worthless. So the server measures each service
//! time. The buckets are log-linear in microseconds (16 per octave, within 6 %). They take 4 KB for any number of
//! measurements, and any thread can read them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Below this limit, each bucket is one microsecond wide.
const LINEAR_US: u64 = 32;
/// Above it, buckets per doubling.
const PER_OCTAVE: u64 = 16;
/// Up to 2^32 µs, more than an hour.
const BUCKETS: usize = (LINEAR_US + (32 - 5) * PER_OCTAVE) as usize;

/// Counts of |achieved − intended|.
#[derive(Debug)]
pub(crate) struct ErrorHistogram {
    buckets: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

// === impl ErrorHistogram ===

impl ErrorHistogram {
    pub(crate) fn new() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), sum_ns: AtomicU64::new(0) }
    }

    pub(crate) fn record(&self, error: Duration) {
        let bucket = bucket_of(error.as_micros() as u64);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(error.as_nanos() as u64, Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    pub(crate) fn sum_seconds(&self) -> f64 {
        self.sum_ns.load(Relaxed) as f64 / 1e9
    }

    /// The upper edge, in microseconds, of the bucket with the quantile; `None` before the first measurement.
    pub(crate) fn quantile_us(&self, quantile: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((count as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Relaxed);
            if seen >= rank {
                return Some(upper_edge_us(index));
            }
        }
        Some(upper_edge_us(BUCKETS - 1))
    }

    pub(crate) fn reset(&self) {
        self.buckets.iter().for_each(|bucket| bucket.store(0, Relaxed));
        self.sum_ns.store(0, Relaxed);
    }
}

fn bucket_of(us: u64) -> usize {
    if us < LINEAR_US {
        return us as usize;
    }
    let octave = u64::from(us.ilog2());
    let within = (us >> (octave - 4)) & (PER_OCTAVE - 1);
    ((LINEAR_US + (octave - 5) * PER_OCTAVE + within) as usize).min(BUCKETS - 1)
}

/// The first microsecond beyond a bucket, so it is never less than a measurement in the bucket.
fn upper_edge_us(index: usize) -> u64 {
    let index = index as u64;
    if index < LINEAR_US {
        return index + 1;
    }
    let (octave, within) = ((index - LINEAR_US) / PER_OCTAVE + 5, (index - LINEAR_US) % PER_OCTAVE);
    (PER_OCTAVE + within + 1) << (octave - 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_reports_no_less_than_was_measured_and_at_most_a_sixteenth_more() {
        for us in (0..5000).chain([65_535, 65_536, 1_000_000, 3_600_000_000]) {
            let edge = upper_edge_us(bucket_of(us));
            assert!(edge > us, "{us} is reported as {edge}");
            assert!(edge as f64 <= us as f64 * 17.0 / 16.0 + 1.0, "{us} is reported as {edge}");
        }
    }

    #[test]
    fn the_median_is_the_middle_measurement() {
        let histogram = ErrorHistogram::new();
        assert_eq!(histogram.quantile_us(0.5), None);
        for us in [3, 9, 10, 11, 100_000] {
            histogram.record(Duration::from_micros(us));
        }
        assert_eq!((histogram.count(), histogram.quantile_us(0.5)), (5, Some(11)));
        assert!(histogram.quantile_us(0.99) > Some(100_000));
        histogram.reset();
        assert_eq!((histogram.count(), histogram.quantile_us(0.5)), (0, None));
    }

    #[test]
    fn a_measurement_beyond_the_last_bucket_counts_in_it() {
        let histogram = ErrorHistogram::new();
        histogram.record(Duration::from_secs(1_000_000));
        assert_eq!(histogram.count(), 1);
    }
}
