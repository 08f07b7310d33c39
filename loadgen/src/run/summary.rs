//! What a run says in numbers, before it is printed as text or JSON.
//!
//! Invariant: a percentile is given only where enough samples lie beyond it; otherwise the number needed is said instead.

use serde::Serialize;
use std::collections::BTreeMap;

use super::threshold::{Threshold, Verdict};
use super::{EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_THRESHOLD};
use crate::load::{Latencies, Outcome, Plan, Segment};
use crate::model::percentile_ns;

/// The percentiles of a report.
pub(super) const QUANTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999)];

/// One run.
pub(super) struct Summary<'a> {
    pub(super) url: &'a str,
    pub(super) plan: &'a Plan,
    pub(super) outcome: &'a Outcome,
    pub(super) total: Segment,
    pub(super) verdicts: Vec<Verdict>,
}

/// A distribution of times in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Times {
    pub(super) samples: u64,
    /// All of these are missing where there is no sample.
    pub(super) min: Option<f64>,
    pub(super) mean: Option<f64>,
    pub(super) deviation: Option<f64>,
    pub(super) max: Option<f64>,
    /// By name; `None` for one with too few samples.
    pub(super) percentiles: BTreeMap<&'static str, Option<f64>>,
}

// === impl Summary ===

impl<'a> Summary<'a> {
    pub(super) fn of(outcome: &'a Outcome, plan: &'a Plan, url: &'a str, thresholds: &[Threshold]) -> Self {
        let total = outcome.total();
        let verdicts = thresholds.iter().map(|threshold| threshold.judge(&total)).collect();
        Self { url, plan, outcome, total, verdicts }
    }

    /// What must not be overlooked, for stderr.
    pub(super) fn complaints(&self) -> Vec<String> {
        let missed = self.verdicts.iter().filter(|verdict| !verdict.is_kept);
        let mut lines: Vec<_> =
            missed.map(|verdict| format!("threshold missed: {}: {}", verdict.threshold, verdict.found)).collect();
        if self.outcome.aborted {
            lines.push("interrupted: these are partial results".to_owned());
        } else if self.is_unanswered() {
            let why = self.outcome.first_errors.values().next();
            let why = why.map_or("none was sent".to_owned(), String::clone);
            lines.push(format!("no request was answered: {why}"));
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

    /// Numbers say nothing about a server where the load was not what was asked for, and keep no threshold either.
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
            deviation: some(latencies.stdev()),
            max: some(latencies.max() as f64),
            percentiles: QUANTILES.into_iter().map(|(name, quantile)| (name, percentile(quantile))).collect(),
        }
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
    fn no_sample_is_no_number() {
        let times = Times::of(&new_latencies());
        assert_eq!((times.min, times.mean, times.percentiles["p50"]), (None, None, None));
    }
}
