//! Percentiles with enough samples, and their intervals.
//!
//! A percentile has a value if ten samples lie beyond it. Otherwise the error has the number of samples that it needs.
//! Its ribbon comes from whole blocks, because requests of one block are correlated and blocks are the repeated unit.
//! Each block has a share of its requests below the percentile of all. The differences between the shares give
//! Student's interval of the share. Its ends are read off the distribution of all requests. The method is sectioning
//! (Nakayama, "Confidence intervals for quantiles using sectioning when applying variance-reduction techniques", ACM
//! TOMACS 24(4), 2014; for the reading back, Woodruff 1952). A bootstrap of eight blocks is too narrow, and percentiles
//! of single blocks are biased in the tail. At p99 of 3,100 requests, their mean misses the truth in up to half of all
//! experiments.
//!
//! With few requests beyond a percentile, blocks without a long queue have no information about long queues, and any
//! interval is too narrow. Then there is none ([`RIBBON_BEYOND`]). The rule does not depend on the interval, because it
//! would then prefer narrow ones. The coverage is measured in `acceptance_ribbons`. Verdicts do not come from ribbons,
//! which ignore the pairing of arms in blocks, but from [`compare`](super::compare()).

use hdrhistogram::Histogram;
use statrs::distribution::{ContinuousCDF, StudentsT};
use thiserror::Error;

use super::batches::Distribution;
use crate::model::{PercentilePoint, Ribbon, percentile_ns, samples_needed};

/// The fewest blocks for which the coverage was measured.
pub const RIBBON_BLOCKS: usize = 8;
/// The fewest requests that must lie on either side of a percentile.
pub const RIBBON_BEYOND: u64 = 2_000;

/// Why a percentile has no value.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[error("p{} needs {needed} samples, and there are {samples}", percent(*.quantile))]
pub struct TooFewSamples {
    pub quantile: f64,
    pub needed: u64,
    pub samples: u64,
}

/// The value, in nanoseconds, below which `quantile` (0..1) of the samples lie.
pub fn percentile(histogram: &Histogram<u64>, quantile: f64) -> Result<u64, TooFewSamples> {
    percentile_ns(histogram, quantile).ok_or_else(|| TooFewSamples {
        quantile,
        needed: samples_needed(quantile),
        samples: histogram.len(),
    })
}

/// The curve of an arm from the histograms of its blocks, without quantiles that have no interval. `None` if no
/// quantile has one.
pub fn ribbon(arm: &str, blocks: &[&Histogram<u64>], quantiles: &[f64], confidence: f64) -> Option<Ribbon> {
    let blocks: Vec<Distribution> = blocks.iter().map(|block| Distribution::of(block)).collect();
    let points = points(&blocks.iter().collect::<Vec<_>>(), quantiles, confidence);
    (!points.is_empty()).then(|| Ribbon { arm: arm.to_owned(), points })
}

/// The points of the quantiles that have an interval.
pub(super) fn points(blocks: &[&Distribution], quantiles: &[f64], confidence: f64) -> Vec<PercentilePoint> {
    if blocks.len() < RIBBON_BLOCKS {
        return Vec::new();
    }
    let (samples, n) = (blocks.iter().map(|block| block.len()).sum::<u64>() as f64, blocks.len() as f64);
    let t = StudentsT::new(0.0, 1.0, n - 1.0).expect("freedom").inverse_cdf(0.5 + confidence / 2.0);
    // Rounded, because 1 − 0.9 is not 0.1 in binary.
    let has_interval = |quantile: f64| (samples * quantile.min(1.0 - quantile)).round() >= RIBBON_BEYOND as f64;
    let point = |quantile: f64| {
        let value = pooled(blocks, quantile).1;
        let below: Vec<f64> = blocks.iter().map(|block| block.up_to(value).0 as f64).collect();
        let share = below.iter().sum::<f64>() / samples;
        let residuals = below.iter().zip(blocks).map(|(below, block)| below - share * block.len() as f64);
        let squares: f64 = residuals.map(|residual| residual * residual).sum();
        let half = t * (squares * n / (n - 1.0)).sqrt() / samples;
        let (low, high) = (pooled(blocks, quantile - half).0, pooled(blocks, quantile + half).1);
        PercentilePoint { quantile, low_ns: low as f64, value_ns: value as f64, high_ns: high as f64 }
    };
    quantiles.iter().copied().filter(|&quantile| has_interval(quantile)).map(point).collect()
}

/// The lowest and the highest value of the step in which this share of all times is reached.
fn pooled(blocks: &[&Distribution], share: f64) -> (u64, u64) {
    let samples: u64 = blocks.iter().map(|block| block.len()).sum();
    let wanted = ((share * samples as f64).ceil().max(1.0) as u64).min(samples);
    let (mut low, mut high) = (0, blocks.iter().map(|block| block.longest()).max().unwrap_or(0));
    while low < high {
        let middle = low + (high - low) / 2;
        let up_to: u64 = blocks.iter().map(|block| block.up_to(middle).0).sum();
        if up_to >= wanted { high = middle } else { low = middle + 1 }
    }
    (blocks.iter().map(|block| block.up_to(high).1).max().unwrap_or(0), high)
}

/// 0.999 becomes 99.9.
fn percent(quantile: f64) -> f64 {
    (quantile * 1e8).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    /// Blocks of exponential latencies of mean 1 ms, each block with a factor of its own.
    fn blocks(blocks: usize, samples: usize, pace: f64, seed: u64) -> Vec<Histogram<u64>> {
        let mut random = Rng::with_seed(seed);
        let mut block = || {
            let mean = 1e6 * (pace * (random.f64() - 0.5)).exp();
            let mut histogram = Histogram::new(3).expect("three digits");
            for _ in 0..samples {
                histogram.record((-mean * (1.0 - random.f64()).ln()) as u64 + 1).expect("it grows");
            }
            histogram
        };
        (0..blocks).map(|_| block()).collect()
    }

    #[test]
    fn a_percentile_of_too_few_samples_is_refused_with_the_number() {
        let histogram = &blocks(1, 9_999, 0.0, 1)[0];
        assert!((percentile(histogram, 0.99).unwrap() as f64 / 4.605e6 - 1.0).abs() < 0.1);
        let refused = percentile(histogram, 0.999).unwrap_err();
        assert_eq!(refused.to_string(), "p99.9 needs 10000 samples, and there are 9999");
        assert!(percentile(histogram, 0.9999).unwrap_err().to_string().starts_with("p99.99 needs 100000 "));
    }

    #[test]
    fn the_middle_of_a_ribbon_is_the_percentile_of_all_samples_and_ends_with_them() {
        let blocks = blocks(8, 2_500, 0.4, 2);
        let quantiles = [0.05, 0.1, 0.5, 0.9, 0.95];
        let ribbon = ribbon("a", &blocks.iter().collect::<Vec<_>>(), &quantiles, 0.95).expect("eight blocks");
        let told: Vec<f64> = ribbon.points.iter().map(|point| point.quantile).collect();
        assert_eq!(told, [0.1, 0.5, 0.9], "of 20,000 requests 1,000 lie beyond p5 and p95");
        let mut all = Histogram::<u64>::new(3).unwrap();
        blocks.iter().for_each(|block| all.add(block).unwrap());
        for point in &ribbon.points {
            assert_eq!(point.value_ns, all.value_at_quantile(point.quantile) as f64, "{point:?}");
            assert!(point.low_ns < point.value_ns && point.value_ns < point.high_ns, "{point:?}");
        }
        assert!(ribbon.points.windows(2).all(|pair| pair[0].value_ns <= pair[1].value_ns));
    }

    /// By hand: the shares below p50 are 0.5 ± 0.1, and Student's t of 7 degrees is 2.3646.
    #[test]
    fn a_ribbon_is_students_interval_of_the_blocks_shares() {
        let block = |number: usize| {
            let below = if number.is_multiple_of(2) { 600 } else { 400 };
            let mut histogram = Histogram::<u64>::new(3).unwrap();
            (1..=below).for_each(|value| histogram.record(value).unwrap());
            (1..=1000 - below).for_each(|value| histogram.record(1_000 + value).unwrap());
            histogram
        };
        let blocks: Vec<_> = (0..8).map(block).collect();
        let point = ribbon("a", &blocks.iter().collect::<Vec<_>>(), &[0.5], 0.95).expect("eight blocks").points[0];
        // Half-width 2.3646 × 0.1 × √(8/7) / √8 = 0.0894 of 8,000 requests: the 3,285th and the 4,715th.
        let mut all = Histogram::<u64>::new(3).unwrap();
        blocks.iter().for_each(|block| all.add(block).unwrap());
        let place = |quantile: f64| all.value_at_quantile(quantile) as f64;
        assert_eq!((point.low_ns, point.high_ns), (place(0.41063), place(0.58937)), "{point:?}");
    }

    #[test]
    fn a_ribbon_is_as_wide_as_blocks_differ_and_needs_eight() {
        let width = |pace: f64, count: usize| {
            let blocks = blocks(count, 1_000, pace, 3);
            let ribbon = ribbon("a", &blocks.iter().collect::<Vec<_>>(), &[0.5], 0.95)?;
            Some((ribbon.points[0].high_ns - ribbon.points[0].low_ns) / ribbon.points[0].value_ns)
        };
        let (calm, wild) = (width(0.0, 12).unwrap(), width(1.0, 12).unwrap());
        assert!(wild > 3.0 * calm, "{calm} and {wild}: 12,000 samples are few if blocks differ");
        assert_eq!(width(0.0, 7), None);
    }
}
