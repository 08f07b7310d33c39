//! A run compared with earlier runs of the same setting.
//!
//! Blocks of one run share the processes and the state of the machine; two runs do not. Only several runs show how much
//! runs differ, so this module does not use the blocks of a run. Let B ≥ 3 earlier runs have mean m and standard
//! deviation s of their logarithms. A further run of the same truth lies within m ± t(B − 1) · s · √(1 + 1/B). This is
//! the prediction interval of a normal law (Meeker, Hahn and Escobar, "Statistical Intervals", 2nd edition 2017,
//! chapter 4). The interval of the true ratio extends equally far on either side of the ratio that was found.
//!
//! Percentiles of queues are skewed to the right even as logarithms. So up to 6.3 % of runs pass an end of nominal 95
//! %. Ends are therefore of nominal [`NOMINAL`], with which at most 5 % pass. The tests below measure it on simulated
//! queues. False alarms are at most 5 % if the truth lies on the limit. They are at most 2.5 % if nothing changed and
//! the limit is 5 %. With five earlier runs and a limit of 5 %, 90 % of checks find a run that is 30 % slower. This
//! holds if single runs differ by a standard deviation of up to 4.7 %.
//!
//! One or two runs do not show how much runs differ. Then the only possible finding is that a run takes more than
//! [`BEYOND`] times as long.

use statrs::distribution::{Beta, ContinuousCDF, StudentsT};

/// A run that takes more than this many times as long is worse even if the differences between runs are unknown.
pub const BEYOND: f64 = 2.0;

/// The fewest earlier runs that show how much runs differ.
const RUNS_MIN: usize = 3;
/// The nominal level of each end of an interval; for a normal law it would be 0.95.
const NOMINAL: f64 = 0.965;
/// The smallest standard deviation between runs: that of a uniform law over the step of a histogram of three digits.
const RESOLUTION: f64 = 1.0 / 1024.0 / 3.464_101_615_137_754_6;

/// A time of a run divided by that of earlier runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimesOfRuns {
    /// Relative to the geometric mean of the earlier runs.
    pub ratio: f64,
    /// `None` for fewer than three runs.
    pub interval: Option<(f64, f64)>,
}

/// A share of a run minus that of earlier runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SharesOfRuns {
    /// Relative to the share in all requests of the earlier runs together.
    pub difference: f64,
    /// `None` for fewer than three runs.
    pub interval: Option<(f64, f64)>,
    share: f64,
    /// An upper limit of the earlier share, from the chance within runs alone.
    earlier_at_most: f64,
}

// === impl TimesOfRuns ===

impl TimesOfRuns {
    /// `None` if there are no earlier times, or if one is not positive and finite. A new time may be infinite.
    pub fn new(earlier: &[f64], new: f64) -> Option<Self> {
        let is_time = |time: &f64| time.is_finite() && *time > 0.0;
        if earlier.is_empty() || !earlier.iter().all(is_time) || new.is_nan() || new <= 0.0 {
            return None;
        }
        let logs: Vec<f64> = earlier.iter().map(|time| time.ln()).collect();
        let log = new.ln() - mean(&logs);
        let interval = further_run(&logs).map(|(t, s)| {
            let half = t * s.max(RESOLUTION) * (1.0 + 1.0 / logs.len() as f64).sqrt();
            ((log - half).exp(), (log + half).exp())
        });
        Some(Self { ratio: log.exp(), interval })
    }

    /// Whether it is more than `limit` times the earlier runs; `None` if the data cannot decide.
    pub fn exceeds(&self, limit: f64) -> Option<bool> {
        match self.interval {
            Some((low, _)) => Some(low > limit),
            None => (self.ratio > BEYOND.max(limit)).then_some(true),
        }
    }
}

// === impl SharesOfRuns ===

impl SharesOfRuns {
    /// From pairs (part, all). `None` if a run has no requests.
    ///
    /// Shares of runs differ by at least the chance of a binomial law. Its variance is computed with one success and
    /// one failure added; otherwise it would be 0 if nothing failed. Source: Agresti and Caffo, "Simple and Effective
    /// Confidence Intervals for Proportions", 2000.
    pub fn new(earlier: &[(u64, u64)], new: (u64, u64)) -> Option<Self> {
        if earlier.is_empty() || earlier.iter().chain([&new]).any(|(part, all)| *all == 0 || part > all) {
            return None;
        }
        let (part, all) = earlier.iter().fold((0.0, 0.0), |sum, of| (sum.0 + of.0 as f64, sum.1 + of.1 as f64));
        let shares: Vec<f64> = earlier.iter().map(|of| of.0 as f64 / of.1 as f64).collect();
        let share = new.0 as f64 / new.1 as f64;
        let difference = share - part / all;
        let variance = |part: f64, all: f64| {
            let share = (part + 1.0) / (all + 2.0);
            share * (1.0 - share) / all
        };
        let interval = further_run(&shares).map(|(t, s)| {
            let of_earlier = (s * s / shares.len() as f64).max(variance(part, all));
            let of_new = (s * s).max(variance(new.0 as f64, new.1 as f64));
            let half = t * (of_earlier + of_new).sqrt();
            (difference - half, difference + half)
        });
        // Clopper and Pearson, "The Use of Confidence or Fiducial Limits", 1934
        let law = Beta::new(part + 1.0, all - part).ok();
        let earlier_at_most = law.map_or(1.0, |law| law.inverse_cdf(NOMINAL));
        Some(Self { difference, interval, share, earlier_at_most })
    }

    /// Whether it exceeds the earlier share by more than `limit`; `None` if the data cannot decide.
    pub fn exceeds(&self, limit: f64) -> Option<bool> {
        match self.interval {
            Some((low, _)) => Some(low > limit),
            None => (self.share > BEYOND * self.earlier_at_most && self.difference > limit).then_some(true),
        }
    }
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

/// Student's quantile and the standard deviation of runs; `None` for too few runs.
fn further_run(numbers: &[f64]) -> Option<(f64, f64)> {
    if numbers.len() < RUNS_MIN {
        return None;
    }
    let (mean, freedom) = (mean(numbers), numbers.len() as f64 - 1.0);
    let variance = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / freedom;
    let law = StudentsT::new(0.0, 1.0, freedom).expect("one degree of freedom or more");
    Some((law.inverse_cdf(NOMINAL), variance.sqrt()))
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use fastrand::Rng;

    use super::*;

    const CHECKS: usize = 4_000;
    const RUNS: usize = 1_000;
    const REQUESTS: usize = 20_000;
    const LIMIT: f64 = 1.05;

    /// p50, p90 and p99 of runs of an M/M/1 queue at half its capacity. Each run begins empty and is warmed up; the
    /// service time is 1.
    fn queues() -> &'static [[f64; 3]] {
        static QUEUES: LazyLock<Vec<[f64; 3]>> = LazyLock::new(|| {
            let mut random = Rng::with_seed(20_261_129);
            (0..RUNS).map(|_| queue(&mut random)).collect()
        });
        &QUEUES
    }

    /// Lindley's recursion: a request waits for the time of the one before it, minus the gap between both.
    fn queue(random: &mut Rng) -> [f64; 3] {
        let mut exponential = |mean: f64| -mean * (1.0 - random.f64()).ln();
        let (mut waits, mut times) = (0.0_f64, Vec::with_capacity(REQUESTS));
        for request in 0..REQUESTS + 200 {
            let took = waits + exponential(1.0);
            waits = (took - exponential(2.0)).max(0.0);
            if request >= 200 {
                times.push(took);
            }
        }
        [0.5, 0.9, 0.99]
            .map(|quantile| *times.select_nth_unstable_by((quantile * REQUESTS as f64) as usize, f64::total_cmp).1)
    }

    /// A draw from a standard normal law (Box and Muller).
    fn normal(random: &mut Rng) -> f64 {
        (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos()
    }

    /// A percentile of one run: that of a random queue, times a factor of this run.
    fn run(random: &mut Rng, percentile: usize, deviation: f64) -> f64 {
        queues()[random.usize(..RUNS)][percentile] * (deviation * normal(random)).exp()
    }

    /// The share of 4,000 checks of a run that is `slower` times as slow, in which it was found worse than the limit.
    fn found(slower: f64, earlier: usize, percentile: usize, deviation: f64, seed: u64) -> f64 {
        let mut random = Rng::with_seed(seed);
        let mut check = || {
            let before: Vec<f64> = (0..earlier).map(|_| run(&mut random, percentile, deviation)).collect();
            let now = run(&mut random, percentile, deviation) * slower;
            TimesOfRuns::new(&before, now).expect("times").exceeds(LIMIT) == Some(true)
        };
        (0..CHECKS).filter(|_| check()).count() as f64 / CHECKS as f64
    }

    /// The standard deviation of single runs, as logarithm: differences between runs and chance within them.
    fn spread(percentile: usize, deviation: f64) -> f64 {
        let mut random = Rng::with_seed(3);
        let logs: Vec<f64> = (0..20_000).map(|_| run(&mut random, percentile, deviation).ln()).collect();
        (logs.iter().map(|log| (log - mean(&logs)).powi(2)).sum::<f64>() / logs.len() as f64).sqrt()
    }

    /// Two standard errors of 4,000 checks.
    const CHANCE: f64 = 0.007;

    #[test]
    fn of_queues_whose_runs_differ_few_alarms_are_false() {
        for percentile in 0..3 {
            for (seed, deviation) in [(1, 0.0), (2, 0.03), (3, 0.045), (4, 0.06), (5, 0.2)] {
                for earlier in [3, 5, 10] {
                    let same = found(1.0, earlier, percentile, deviation, seed);
                    let border = found(LIMIT, earlier, percentile, deviation, seed + 10);
                    let what = format!(
                        "percentile {percentile}, sd {deviation}, {earlier} runs: {same}, on the limit {border}"
                    );
                    println!("{what}");
                    assert!(border <= 0.05 + CHANCE && same <= if deviation < 0.1 { 0.025 } else { 0.05 }, "{what}");
                }
            }
        }
    }

    #[test]
    fn thirty_percent_are_found_against_five_runs() {
        for (percentile, deviation) in [(0, 0.0), (0, 0.03), (0, 0.042), (1, 0.03), (1, 0.04), (2, 0.0)] {
            let (share, spread) = (found(1.3, 5, percentile, deviation, 5), spread(percentile, deviation));
            println!("percentile {percentile}, sd {deviation} (of single runs {spread:.4}): found {share:.4}");
            assert!(spread <= 0.047 && share >= 0.9, "percentile {percentile}, sd {deviation}, {spread}: {share}");
        }
    }

    #[test]
    fn one_or_two_runs_show_only_more_than_twice_the_time() {
        for earlier in [&[10.0][..], &[9.0, 11.0]] {
            let exceeds = |new: f64, limit: f64| TimesOfRuns::new(earlier, new).expect("times").exceeds(limit);
            assert_eq!([5.0, 10.0, 19.5].map(|new| exceeds(new, LIMIT)), [None; 3]);
            assert_eq!([20.5, f64::INFINITY].map(|new| exceeds(new, LIMIT)), [Some(true); 2]);
            assert_eq!(exceeds(25.0, 3.0), None, "within the limit");
        }
    }

    #[test]
    fn the_interval_is_that_of_the_textbook() {
        // s of these logarithms is 0.1, t(0.965, 2) = 3.57826
        let earlier = [-0.1_f64, 0.0, 0.1].map(f64::exp);
        let of = TimesOfRuns::new(&earlier, 1.5).expect("times");
        let (low, high) = of.interval.expect("three runs");
        let half = 3.578_26 * 0.1 * (4.0_f64 / 3.0).sqrt();
        assert!((of.ratio - 1.5).abs() < 1e-9 && (low.ln() - 1.5_f64.ln() + half).abs() < 1e-4, "{of:?}");
        assert!((high.ln() - 1.5_f64.ln() - half).abs() < 1e-4, "{of:?}");
        assert_eq!(TimesOfRuns::new(&[1.0, f64::INFINITY, 1.0], 1.0), None);
        assert_eq!(TimesOfRuns::new(&[], 1.0), None);
        let endless = TimesOfRuns::new(&earlier, f64::INFINITY).expect("times");
        assert_eq!(endless.exceeds(LIMIT), Some(true));
    }

    /// Failures of a run of 2,000 requests: a Poisson draw (from exponential steps), times a factor of this run.
    fn failed(random: &mut Rng, share: f64, deviation: f64) -> (u64, u64) {
        let (mean, mut sum, mut failures) = (2_000.0 * share * (deviation * normal(random)).exp(), 0.0, 0);
        loop {
            sum -= (1.0 - random.f64()).ln();
            if sum > mean {
                return (failures, 2_000);
            }
            failures += 1;
        }
    }

    #[test]
    fn of_shares_few_alarms_are_false_and_many_failures_are_found() {
        for (share, deviation, limit) in [(0.0005, 0.0, 0.0), (0.02, 0.0, 0.0), (0.02, 0.2, 0.0), (0.02, 0.3, 0.005)] {
            let mut random = Rng::with_seed(9);
            let mut found = |new: f64| {
                let mut check = || {
                    let earlier: Vec<_> = (0..5).map(|_| failed(&mut random, share, deviation)).collect();
                    let new = failed(&mut random, new, deviation);
                    SharesOfRuns::new(&earlier, new).expect("requests").exceeds(limit) == Some(true)
                };
                (0..CHECKS).filter(|_| check()).count() as f64 / CHECKS as f64
            };
            let (same, more) = (found(share), found(share + 0.08));
            println!("share {share}, sd {deviation}, limit {limit}: {same} and {more}");
            assert!(same <= 0.05 + CHANCE && more >= 0.9, "{share}, {limit}: {same}, {more}");
        }
    }

    #[test]
    fn of_one_earlier_run_more_failures_must_be_more_than_twice_and_beyond_chance() {
        let exceeds =
            |new: u64, limit: f64| SharesOfRuns::new(&[(0, 10_000)], (new, 10_000)).expect("some").exceeds(limit);
        // 0 failures of 10,000: the upper limit is about 3 failures
        assert_eq!([0, 1, 5].map(|new| exceeds(new, 0.0)), [None; 3]);
        assert_eq!([7, 5_000].map(|new| exceeds(new, 0.0)), [Some(true); 2]);
        assert_eq!(exceeds(7, 0.001), None);
        assert_eq!(SharesOfRuns::new(&[(0, 0)], (0, 1)), None);
        assert_eq!(SharesOfRuns::new(&[(1, 1)], (1, 1)).expect("all failed").exceeds(0.0), None);
    }
}
