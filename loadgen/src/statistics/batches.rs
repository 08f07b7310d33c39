//! Intervals of the mean and the percentiles of one run, from correlated response times.
//!
//! Requests in one queue are slow together, so n of them have less information than n independent ones. An interval
//! that divides by √n is too narrow. Here the run is cut into consecutive batches, and the interval follows from the
//! differences between batches.
//!
//! **Percentile.** Let x be the percentile of all times. Each batch has a number of times above x. The difference
//! between this number and the batch's share is its residual. The residuals sum to 0. The variance of their sum from
//! run to run is estimated from their slowest oscillations. The estimate is the mean square of their first [`SLOW`]
//! type II cosine coefficients. If the correlation is short beside the run, that mean square is a χ² with as many
//! degrees of freedom. So the share of times above the true percentile lies within Student's t times its root. This is
//! the EWC estimator (Lazarus, Lewis, Stock and Watson, "HAR Inference: Recommendations for Practice", Journal of
//! Business & Economic Statistics 36(4), 2018). See also: Müller, "A theory of robust long-run variance estimation",
//! Journal of Econometrics 141, 2007. The ends of that share are read off the distribution of all times (Woodruff,
//! "Confidence intervals for medians and other position measures", JASA 47, 1952). The bias of cosines falls with the
//! square of the batch's length; that of batch means falls with the length.
//!
//! **Mean.** The same with sums of times, on the scale of 1/mean. In a queue the spread of a run's mean rises with the
//! square of the mean (M/M/1 in heavy traffic). So the interval of a run that is quick by chance would be too narrow;
//! on this scale it is not.
//!
//! **No interval.** A run without a long queue has no information about long queues, so there must be enough rare
//! times. Correlation is measured as a ratio (`alike`): the variance of the share above the median over that of
//! independent times. It uses cosines that the intervals do not use. So the decision is independent of the interval's
//! width; otherwise narrow intervals would be preferred. At least [`BEYOND`] × alike^1.5 times must lie beyond a
//! percentile. The exponent was found by simulation: the stronger the correlation, the more of it the median hides. The
//! coverage is measured in `run::acceptance_queues`.

use std::f64::consts::PI;

use hdrhistogram::Histogram;
use statrs::distribution::{ContinuousCDF, StudentsT};
use thiserror::Error;

/// Response times of one stretch of a run.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub sum_ns: u128,
    /// Its steps may be coarser than those of the histogram of all times.
    pub times: &'a Histogram<u32>,
}

/// An interval in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    pub low_ns: f64,
    pub high_ns: f64,
}

/// The intervals of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Intervals {
    pub mean: Result<Bounds, NoInterval>,
    /// In the order of the requested quantiles.
    pub percentiles: Vec<Result<Bounds, NoInterval>>,
}

/// Why there is no interval.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum NoInterval {
    #[error("the run has responses in {batches} stretches of time, and an interval needs {BATCHES_MIN}")]
    TooShort { batches: usize },
    /// `alike`: this many neighbouring requests have the information of one independent request.
    #[error("an interval needs about {needed} good responses{}", alike_in_words(*alike))]
    TooFew { needed: u64, alike: f64 },
    #[error(
        "the slowest responses come in few groups: they count as {groups:.0} independent ones, and an interval needs {GROUPS:.0}"
    )]
    Clustered { groups: f64 },
    #[error("a single response makes up {:.0} % of the spread", share * 100.0)]
    Outlier { share: f64 },
}

/// All times, prepared for many queries.
#[derive(Debug)]
pub(super) struct Distribution {
    /// The lowest and the highest value of each step, and the number of times up to and including it.
    steps: Vec<(u64, u64, u64)>,
    n: u64,
    variance: f64,
}

/// For each batch the distance from its share, and the variance that the coarse histograms of batches hide.
struct Residuals {
    of_batch: Vec<f64>,
    /// The variance of the sum over the run, if times were independent.
    independent: f64,
    /// The part of `independent` that lies within one step of the batches' histograms.
    hidden: f64,
}

/// The cosines at the positions of the batches in the run, the slowest first.
struct Cosines(Vec<Vec<f64>>);

/// The number of cosines for the intervals. Intervals are 18 % wider than with a known variance. A correlation over a
/// fiftieth of the run does no harm.
const SLOW: usize = 8;
/// The last cosine used to measure correlation.
const FAST: usize = 31;
const BATCHES_MIN: usize = 24;
/// An interval needs this many independent times beyond its percentile.
const BEYOND: f64 = 100.0;
/// The same limit, with the correlation of the times beyond the percentile. They may come in groups although the others
/// do not.
const GROUPS: f64 = 30.0;
/// For the number of requests that it needs, the mean is treated like this percentile.
const AS_MEAN: f64 = 0.95;
/// If one time makes up more of the squared distances from the mean than this, it dominates the mean.
const OUTLIER: f64 = 0.1;

/// The intervals of the mean and of these percentiles (0..1) of `all`, which holds the times of all batches together.
pub fn intervals(all: &Histogram<u64>, batches: &[Batch<'_>], quantiles: &[f64], confidence: f64) -> Intervals {
    let batches: Vec<Batch<'_>> = batches.iter().copied().filter(|batch| !batch.times.is_empty()).collect();
    if batches.len() < BATCHES_MIN {
        let why = NoInterval::TooShort { batches: batches.len() };
        return Intervals { mean: Err(why), percentiles: vec![Err(why); quantiles.len()] };
    }
    let (n, cosines, distribution) = (all.len() as f64, Cosines::new(&batches), Distribution::of(all));
    let t = StudentsT::new(0.0, 1.0, SLOW as f64).expect("freedom").inverse_cdf(0.5 + confidence / 2.0);
    let mean = batches.iter().map(|batch| batch.sum_ns as f64).sum::<f64>() / n;
    let of_mean = Residuals::of_mean(&distribution, mean, &batches);
    let asked: Vec<f64> = std::iter::once(0.5).chain(quantiles.iter().copied()).collect();
    let above = Residuals::above(&distribution, &batches, &asked);
    // If one step of the histograms holds most times, only their sums show how strongly neighbours are correlated.
    let in_sums = cosines.fast(&of_mean, 1.0);
    let alike = cosines.fast(&above[0], in_sums);
    let checked = |residuals: &Residuals, quantile: f64| {
        let beyond = n * (1.0 - quantile).min(quantile);
        let needed = BEYOND * alike.powf(1.5);
        let groups = beyond / cosines.fast(residuals, alike.max(in_sums));
        if beyond < needed {
            return Err(NoInterval::TooFew { needed: two_digits(n * needed / beyond), alike });
        }
        if groups < GROUPS { Err(NoInterval::Clustered { groups }) } else { Ok(()) }
    };
    // The share of the farthest time in all squared distances from the mean.
    let share = (all.max() as f64 - mean).powi(2) / (n * distribution.variance).max(1.0);
    let outlier = if share > OUTLIER { Err(NoInterval::Outlier { share: share.min(1.0) }) } else { Ok(()) };
    let mean = outlier.and_then(|()| checked(&of_mean, AS_MEAN)).map(|()| {
        let relative = t * cosines.slow(&of_mean, 1.0).sqrt() / (n * mean);
        Bounds { low_ns: mean / (1.0 + relative), high_ns: mean / (1.0 - relative.min(0.9)) }
    });
    let percentile = |(residuals, &quantile): (&Residuals, &f64)| {
        checked(residuals, quantile)?;
        let half = t * cosines.slow(residuals, alike.max(in_sums)).sqrt() / n;
        Ok(distribution.within(quantile - half, quantile + half))
    };
    Intervals { mean, percentiles: above[1..].iter().zip(quantiles).map(percentile).collect() }
}

fn alike_in_words(alike: f64) -> String {
    if alike < 1.5 { String::new() } else { format!(", because {alike:.0} neighbouring requests count as one") }
}

/// Rounds up to two digits: 12,345 becomes 13,000.
fn two_digits(number: f64) -> u64 {
    let step = 10_f64.powf((number.log10().floor() - 1.0).max(0.0));
    ((number / step).ceil() * step) as u64
}

// === impl Distribution ===

impl Distribution {
    pub(super) fn of(all: &Histogram<u64>) -> Self {
        let (mut up_to, mut sum, mut squares) = (0, 0.0, 0.0);
        let step = |(high, count): (u64, u64)| {
            let low = all.lowest_equivalent(high);
            let middle = (low as f64 + high as f64) / 2.0;
            up_to += count;
            sum += middle * count as f64;
            squares += middle * middle * count as f64;
            (low, high, up_to)
        };
        let recorded = all.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value()));
        let (steps, n) = (recorded.map(step).collect(), all.len());
        let mean = sum / n.max(1) as f64;
        Self { steps, n, variance: (squares / n.max(1) as f64 - mean * mean).max(0.0) }
    }

    pub(super) fn len(&self) -> u64 {
        self.n
    }

    pub(super) fn longest(&self) -> u64 {
        self.steps.last().map_or(0, |(_, high, _)| *high)
    }

    /// The number of times in steps that end at or before this value, and the start of the last of these steps.
    pub(super) fn up_to(&self, value: u64) -> (u64, u64) {
        let at = self.steps.partition_point(|(_, high, _)| *high <= value);
        if at == 0 { (0, 0) } else { (self.steps[at - 1].2, self.steps[at - 1].0) }
    }

    /// The highest value of the step in which this share of all times is reached; 0 if there are no times.
    pub(super) fn value(&self, share: f64) -> u64 {
        self.step(share).1
    }

    /// From the step in which one share of all times is reached to that of the other, both included.
    pub(super) fn within(&self, from: f64, to: f64) -> Bounds {
        Bounds { low_ns: self.step(from).0 as f64, high_ns: self.step(to).1 as f64 }
    }

    fn step(&self, share: f64) -> (u64, u64) {
        // Slightly less, because 0.07 × 100 is above 7 in binary.
        let wanted = ((share * self.n as f64 * (1.0 - 1e-12)).ceil().max(1.0) as u64).min(self.n);
        let at = self.steps.partition_point(|(_, _, up_to)| *up_to < wanted);
        self.steps.get(at).map_or((0, 0), |&(low, high, _)| (low, high))
    }
}

// === impl Residuals ===

impl Residuals {
    fn of_mean(all: &Distribution, mean: f64, batches: &[Batch<'_>]) -> Self {
        let of_batch = batches.iter().map(|batch| batch.sum_ns as f64 - mean * batch.times.len() as f64);
        Self { of_batch: of_batch.collect(), independent: all.n as f64 * all.variance, hidden: 0.0 }
    }

    /// For each quantile, the residuals of the numbers of times above it. A histogram step that holds the quantile is
    /// divided in proportion.
    fn above(all: &Distribution, batches: &[Batch<'_>], quantiles: &[f64]) -> Vec<Self> {
        let steps: Vec<u64> = quantiles.iter().map(|&quantile| all.value(quantile)).collect();
        let counts: Vec<Vec<(u64, u64)>> = batches.iter().map(|batch| counts(batch.times, &steps)).collect();
        let residuals = |(at, &quantile): (usize, &f64)| {
            let n: u64 = batches.iter().map(|batch| batch.times.len()).sum();
            let (below, inside) = counts.iter().fold((0, 0), |sum, of| (sum.0 + of[at].0, sum.1 + of[at].1));
            // The share of the step's times that lies below the quantile.
            let part = ((quantile * n as f64 - below as f64) / inside.max(1) as f64).clamp(0.0, 1.0);
            let share = (below as f64 + part * inside as f64) / n as f64;
            let of_batch = counts
                .iter()
                .zip(batches)
                .map(|(of, batch)| share * batch.times.len() as f64 - of[at].0 as f64 - part * of[at].1 as f64);
            Self {
                of_batch: of_batch.collect(),
                independent: n as f64 * quantile * (1.0 - quantile),
                hidden: inside as f64 * part * (1.0 - part),
            }
        };
        quantiles.iter().enumerate().map(residuals).collect()
    }
}

/// For each value, the number of times in lower steps and the number in its own step.
fn counts(times: &Histogram<u32>, values: &[u64]) -> Vec<(u64, u64)> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|&at| values[at]);
    let mut found = vec![(0, 0); values.len()];
    // Times below `from` are already counted. For a value beyond its longest time a histogram returns its last counter.
    let (mut below, mut from, longest) = (0, 0, times.max());
    for at in order {
        let low = times.lowest_equivalent(values[at]);
        if low > from {
            below += if from <= longest { times.count_between(from, low - 1) } else { 0 };
            from = low;
        }
        found[at] = (below, if low <= longest { times.count_at(values[at]).into() } else { 0 });
    }
    found
}

// === impl Cosines ===

impl Cosines {
    /// Positions count requests, not time, so a pause has no length.
    fn new(batches: &[Batch<'_>]) -> Self {
        let n: f64 = batches.iter().map(|batch| batch.times.len() as f64).sum();
        let mut before = 0.0;
        let position = |batch: &Batch<'_>| {
            let middle = before + batch.times.len() as f64 / 2.0;
            before += batch.times.len() as f64;
            middle / n
        };
        let positions: Vec<f64> = batches.iter().map(position).collect();
        let cosine = |k: usize| positions.iter().map(|position| (PI * k as f64 * position).cos()).collect();
        Self((1..=FAST.min(batches.len() - 1)).map(cosine).collect())
    }

    /// The variance of the sum of residuals, from the slowest cosines. The variance that the histograms hide is
    /// multiplied by `alike`.
    fn slow(&self, residuals: &Residuals, alike: f64) -> f64 {
        mean_square(&self.0[..SLOW], &residuals.of_batch) + residuals.hidden * alike
    }

    /// The variance over that of independent times, from the other cosines; at least 1.
    fn fast(&self, residuals: &Residuals, alike: f64) -> f64 {
        let variance = mean_square(&self.0[SLOW..], &residuals.of_batch) + residuals.hidden * alike;
        if residuals.independent > 0.0 { (variance / residuals.independent).max(1.0) } else { 1.0 }
    }
}

/// The mean square of the coefficients of these cosines, scaled to be the variance of the sum.
fn mean_square(cosines: &[Vec<f64>], residuals: &[f64]) -> f64 {
    let coefficient =
        |cosine: &Vec<f64>| cosine.iter().zip(residuals).map(|(cosine, residual)| cosine * residual).sum::<f64>();
    cosines.iter().map(|cosine| 2.0 * coefficient(cosine).powi(2)).sum::<f64>() / cosines.len() as f64
}
