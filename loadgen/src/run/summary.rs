//! The numbers of a run, before they are printed as text or JSON.
//!
//! Invariant: a percentile has a value only if enough samples lie beyond it. Otherwise the report says how many samples
//! it needs.

use serde::Serialize;
use std::collections::BTreeMap;

use super::threshold::{Threshold, Verdict};
use super::{EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_THRESHOLD};
use crate::load::{self, Latencies, Outcome, Plan, Segment, Stretch};
use crate::model::percentile_ns;
use crate::statistics::{Batch, Bounds, Intervals, intervals};

/// The percentiles of a report.
pub(super) const QUANTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999)];

/// The summary of one run.
pub(super) struct Summary<'a> {
    pub(super) url: &'a str,
    pub(super) plan: &'a Plan,
    pub(super) outcome: &'a Outcome,
    pub(super) total: Segment,
    pub(super) latency: Times,
    pub(super) service: Times,
    pub(super) verdicts: Vec<Verdict>,
}

/// A distribution of times in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Times {
    pub(super) samples: u64,
    /// `None` without samples.
    pub(super) min: Option<f64>,
    pub(super) mean: Option<f64>,
    pub(super) max: Option<f64>,
    /// By name; `None` for one with too few samples.
    pub(super) percentiles: BTreeMap<&'static str, Option<f64>>,
    /// `None` for times without intervals.
    #[serde(flatten)]
    pub(super) intervals: Option<Told>,
}

/// The intervals of the mean and the percentiles at [`CONFIDENCE`], in milliseconds, by name. Each name is in exactly
/// one of the two maps.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Told {
    pub(super) intervals_95: BTreeMap<&'static str, [f64; 2]>,
    /// The reasons of numbers without an interval.
    pub(super) without_interval: BTreeMap<&'static str, String>,
}

pub(super) const CONFIDENCE: f64 = 0.95;

// === impl Summary ===

impl<'a> Summary<'a> {
    pub(super) fn of(outcome: &'a Outcome, plan: &'a Plan, url: &'a str, thresholds: &[Threshold]) -> Self {
        let total = outcome.total();
        let verdicts = thresholds.iter().map(|threshold| threshold.judge(&total)).collect();
        let latency = Times::with_intervals(&total.latency, outcome, |stretch| &stretch.latency);
        let is_closed = plan.arrivals.is_closed();
        let service =
            Times::with_intervals(
                &total.service,
                outcome,
                |stretch| {
                    if is_closed { &stretch.latency } else { &stretch.service }
                },
            );
        Self { url, plan, outcome, total, latency, service, verdicts }
    }

    /// The important findings, for stderr.
    pub(super) fn complaints(&self) -> Vec<String> {
        let missed = self.verdicts.iter().filter(|verdict| !verdict.is_kept);
        let mut lines: Vec<_> =
            missed.map(|verdict| format!("threshold missed: {}: {}", verdict.threshold, verdict.found)).collect();
        if self.outcome.aborted {
            lines.push("interrupted: these are partial results".to_owned());
        } else if self.is_unanswered() {
            let why = self.outcome.first_errors.values().next();
            let why = why.map_or("no request was sent".to_owned(), String::clone);
            lines.push(format!("no response to any request: {why}"));
        }
        if !self.outcome.aborted {
            lines.extend(self.outcome.doubts.iter().map(|doubt| format!("not to be believed: {doubt}")));
        }
        lines
    }

    pub(super) fn exit_code(&self) -> u8 {
        if self.outcome.aborted {
            EXIT_INTERRUPTED
        } else if self.verdicts.iter().any(|verdict| !verdict.is_kept) {
            EXIT_THRESHOLD
        } else if self.is_unanswered() || self.is_doubtful() {
            EXIT_FAILURE
        } else {
            0
        }
    }

    /// If the load was not as planned, the numbers do not describe the server. Then the exit code shows failure, even
    /// if thresholds are kept.
    fn is_doubtful(&self) -> bool {
        !self.outcome.doubts.is_empty()
    }

    fn is_unanswered(&self) -> bool {
        self.total.answered == 0
    }
}

// === impl Times ===

impl Times {
    pub(super) fn of(latencies: &Latencies) -> Self {
        let samples = latencies.len();
        let some = |ns: f64| (samples > 0).then_some(ns / 1e6);
        let percentile = |quantile| percentile_ns(latencies, quantile).map(|ns| ns as f64 / 1e6);
        Self {
            samples,
            min: some(latencies.min() as f64),
            mean: some(latencies.mean()),
            max: some(latencies.max() as f64),
            percentiles: QUANTILES.into_iter().map(|(name, quantile)| (name, percentile(quantile))).collect(),
            intervals: None,
        }
    }

    /// `of`: the same times by stretches of the run.
    fn with_intervals(latencies: &Latencies, outcome: &Outcome, of: impl Fn(&Stretch) -> &load::Times) -> Self {
        let batch = |stretch| {
            let times: &load::Times = of(stretch);
            Batch { sum_ns: times.sum_ns, times: &times.counts }
        };
        let batches: Vec<Batch<'_>> = outcome.batches.stretches().iter().map(batch).collect();
        let found = intervals(latencies, &batches, &QUANTILES.map(|(_, quantile)| quantile), CONFIDENCE);
        Self { intervals: Some(Told::of(found)), ..Self::of(latencies) }
    }
}

// === impl Told ===

impl Told {
    fn of(found: Intervals) -> Self {
        let mut told = Self::default();
        let names = std::iter::once("mean").chain(QUANTILES.map(|(name, _)| name));
        for (name, found) in names.zip(std::iter::once(found.mean).chain(found.percentiles)) {
            match found {
                Ok(Bounds { low_ns, high_ns }) => {
                    told.intervals_95.insert(name, [low_ns / 1e6, high_ns / 1e6]);
                }
                Err(why) => {
                    told.without_interval.insert(name, why.to_string());
                }
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::new_latencies;

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        let mut latencies = new_latencies();
        (0..999).for_each(|_| latencies.record(1_000_000).unwrap());
        let times = Times::of(&latencies);
        assert!(times.percentiles["p95"].is_some() && times.percentiles["p99"].is_none());
        latencies.record(1_000_000).unwrap();
        assert!(Times::of(&latencies).percentiles["p99"].is_some());
    }

    #[test]
    fn each_number_of_a_run_has_an_interval_that_holds_it_or_a_reason() {
        let (mut segment, mut batches) = (Segment::new(0), load::Batches::new(0));
        let mut random = fastrand::Rng::with_seed(1);
        for number in 0..5_000 {
            let latency = (-1e6 * (1.0 - random.f64()).ln()) as u64;
            segment.latency.record(latency).unwrap();
            batches.note(number * 1_000_000, latency, Some(latency / 2));
        }
        let outcome = Outcome {
            warm_up: None,
            segments: vec![segment],
            batches,
            windows: Vec::new(),
            backends: Vec::new(),
            cpu_s: Vec::new(),
            wall_s: 5.0,
            aborted: false,
            punctuality: load::Punctuality::OnTime,
            doubts: Vec::new(),
            first_errors: BTreeMap::new(),
        };
        let times = Times::with_intervals(&outcome.segments[0].latency, &outcome, |stretch| &stretch.latency);
        let told = times.intervals.clone().expect("they were asked for");
        assert_eq!(told.intervals_95.keys().copied().collect::<Vec<_>>(), ["mean", "p50", "p75", "p90", "p95"]);
        assert_eq!(told.without_interval.keys().copied().collect::<Vec<_>>(), ["p99", "p99.9"]);
        assert!(told.without_interval["p99"].starts_with("an interval needs about 1"), "{told:?}");
        for (name, [low, high]) in told.intervals_95 {
            let number = if name == "mean" { times.mean } else { times.percentiles[name] };
            assert!((low..=high).contains(&number.expect("of 5,000")), "{name}: {times:?}");
        }
    }

    #[test]
    fn no_sample_is_no_number() {
        let times = Times::of(&new_latencies());
        assert_eq!((times.min, times.mean, times.percentiles["p50"]), (None, None, None));
    }
}
