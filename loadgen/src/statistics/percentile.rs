//! Percentiles that may be said, and how sure they are.
//!
//! A percentile is said where ten samples lie beyond it, and refused with the number that it takes otherwise. Its ribbon comes from a
//! bootstrap of whole blocks (Künsch 1989): requests of one block resemble each other, blocks are what was repeated. Verdicts are not
//! read off ribbons, which do not know that arms ran side by side; [`compare`](super::compare()) does.

use fastrand::Rng;
use hdrhistogram::Histogram;
use thiserror::Error;

use crate::model::{PercentilePoint, Ribbon, percentile_ns, samples_needed};

/// Resampled runs. The ends of a 95 % ribbon lie on the tenth of either side.
const RUNS: usize = 400;
/// With fewer blocks a resampled run is too often the same one.
const BLOCKS_MIN: usize = 5;

/// Why a percentile is not said.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[error("p{} needs {needed} samples, and there are {samples}", percent(*.quantile))]
pub struct TooFewSamples {
    pub quantile: f64,
    pub needed: u64,
    pub samples: u64,
}

/// The values that occurred in some block, and how often in which.
struct Counted {
    values: Vec<u64>,
    /// For each block: index of a value, times.
    blocks: Vec<Vec<(u32, u64)>>,
}

/// The value, in nanoseconds, below which `quantile` (0..1) of the samples lie.
pub fn percentile(histogram: &Histogram<u64>, quantile: f64) -> Result<u64, TooFewSamples> {
    percentile_ns(histogram, quantile).ok_or_else(|| TooFewSamples {
        quantile,
        needed: samples_needed(quantile),
        samples: histogram.len(),
    })
}

/// The curve of an arm from the histograms of its blocks, quantiles with too few samples left out. `None` for fewer than five blocks.
pub fn ribbon(arm: &str, blocks: &[&Histogram<u64>], quantiles: &[f64], confidence: f64, seed: u64) -> Option<Ribbon> {
    if blocks.len() < BLOCKS_MIN {
        return None;
    }
    let counted = Counted::new(blocks);
    let samples: u64 = blocks.iter().map(|block| block.len()).sum();
    let quantiles: Vec<f64> =
        quantiles.iter().copied().filter(|&quantile| samples >= samples_needed(quantile)).collect();
    let whole = counted.quantiles(&vec![1; blocks.len()], &quantiles);
    let mut random = Rng::with_seed(seed);
    let mut runs: Vec<Vec<u64>> = vec![Vec::with_capacity(RUNS); quantiles.len()];
    for _ in 0..RUNS {
        let mut times = vec![0; blocks.len()];
        (0..blocks.len()).for_each(|_| times[random.usize(..blocks.len())] += 1);
        let found = counted.quantiles(&times, &quantiles);
        runs.iter_mut().zip(found).for_each(|(run, value)| run.push(value));
    }
    let outside = ((1.0 - confidence) / 2.0 * RUNS as f64).floor() as usize;
    let point = |((quantile, value), mut run): ((&f64, &u64), Vec<u64>)| {
        run.sort_unstable();
        PercentilePoint {
            quantile: *quantile,
            low_ns: run[outside].min(*value) as f64,
            value_ns: *value as f64,
            high_ns: run[RUNS - 1 - outside].max(*value) as f64,
        }
    };
    Some(Ribbon { arm: arm.to_owned(), points: quantiles.iter().zip(&whole).zip(runs).map(point).collect() })
}

/// 0.999 as 99.9.
fn percent(quantile: f64) -> f64 {
    (quantile * 1e8).round() / 1e6
}

// === impl Counted ===

impl Counted {
    fn new(blocks: &[&Histogram<u64>]) -> Self {
        let recorded = |block: &&Histogram<u64>| {
            block.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect::<Vec<_>>()
        };
        let recorded: Vec<Vec<(u64, u64)>> = blocks.iter().map(recorded).collect();
        let mut values: Vec<u64> = recorded.iter().flatten().map(|&(value, _)| value).collect();
        values.sort_unstable();
        values.dedup();
        let index = |value: u64| values.partition_point(|known| *known < value) as u32;
        let blocks = recorded.iter().map(|block| block.iter().map(|&(value, times)| (index(value), times)).collect());
        Self { blocks: blocks.collect(), values }
    }

    /// Of the run in which each block occurs so many times; `quantiles` rise.
    fn quantiles(&self, times: &[u64], quantiles: &[f64]) -> Vec<u64> {
        let mut counts = vec![0_u64; self.values.len()];
        for (block, &times) in self.blocks.iter().zip(times).filter(|(_, times)| **times > 0) {
            block.iter().for_each(|&(at, count)| counts[at as usize] += count * times);
        }
        let total: u64 = counts.iter().sum();
        let (mut at, mut up_to) = (0, counts.first().copied().unwrap_or(0));
        let value = |quantile: &f64| {
            let wanted = ((quantile * total as f64).ceil() as u64).clamp(1, total.max(1));
            while up_to < wanted && at + 1 < counts.len() {
                at += 1;
                up_to += counts[at];
            }
            self.values.get(at).copied().unwrap_or(0)
        };
        quantiles.iter().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of exponential latencies of mean 1 ms, each block with a pace of its own.
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
    fn the_middle_of_a_ribbon_is_the_percentile_of_all_samples() {
        let blocks = blocks(8, 2_000, 0.4, 2);
        let quantiles = [0.5, 0.9, 0.99, 0.999, 0.9999];
        let ribbon = ribbon("a", &blocks.iter().collect::<Vec<_>>(), &quantiles, 0.95, 7).expect("eight blocks");
        assert_eq!(ribbon.points.len(), 4, "16,000 samples are enough for p99.9 and not for p99.99");
        let mut all = Histogram::<u64>::new(3).unwrap();
        blocks.iter().for_each(|block| all.add(block).unwrap());
        for point in &ribbon.points {
            assert_eq!(point.value_ns, all.value_at_quantile(point.quantile) as f64, "{point:?}");
            assert!(point.low_ns < point.value_ns && point.value_ns < point.high_ns, "{point:?}");
        }
        assert!(ribbon.points.windows(2).all(|pair| pair[0].value_ns <= pair[1].value_ns));
    }

    #[test]
    fn a_ribbon_is_as_wide_as_blocks_differ_and_needs_five() {
        let width = |pace: f64, count: usize| {
            let blocks = blocks(count, 1_000, pace, 3);
            let ribbon = ribbon("a", &blocks.iter().collect::<Vec<_>>(), &[0.5], 0.95, 7)?;
            Some((ribbon.points[0].high_ns - ribbon.points[0].low_ns) / ribbon.points[0].value_ns)
        };
        let (calm, wild) = (width(0.0, 12).unwrap(), width(1.0, 12).unwrap());
        assert!(wild > 3.0 * calm, "{calm} and {wild}: 12,000 samples are few if blocks differ");
        assert_eq!(width(0.0, 4), None);
    }
}
