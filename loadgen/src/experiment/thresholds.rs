//! Conditions on a stored run, for CI: `p99<50ms`, `errors<0.1%`, `max_over_mean<1.1`, `regression(p99)<5%`.
//!
//! A condition must hold for every arm and size of the run, or for the arm before a colon. Invariants: a request
//! without a good response counts as infinitely slow; otherwise a server that fails quickly would pass. If the run's
//! checks make the conclusion of a condition void, its outcome is [`Outcome::CannotTell`].

#![deny(unused_must_use, clippy::let_underscore_must_use)]

mod group;
mod metric;

use std::str::FromStr;

use thiserror::Error;

use crate::model::{Conclusion, Run};
use group::{Group, groups};
use metric::Metric;

/// One condition with its original text.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    /// The only arm that it applies to; `None` for all arms.
    arm: Option<String>,
    metric: Metric,
    is_below: bool,
    or_equal: bool,
    bound: f64,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is no threshold: write [ARM:]METRIC<VALUE (or <=, >, >=) with p50 … p99.9 or service_p99 (as p99<50ms), \
     answered_within(1s) (as >99%), errors or unsent (as errors<0.1%), rps, max_over_mean, jain, or, always with < or <=, \
     regression(p99) (as <5%) or regression(errors) (as <=0.1%, so much more of all requests), which need --baseline"
)]
pub struct BadThreshold(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Kept,
    Missed,
    /// The numbers are not enough for a judgement.
    CannotTell,
}

/// The result of a condition for one arm and size.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub outcome: Outcome,
    /// For example `round_robin, N = 3: p99<50ms, found 61.5 ms`.
    pub text: String,
}

/// The outcome with the measured value in words.
type Found = (Outcome, String);

// === impl Threshold ===

impl FromStr for Threshold {
    type Err = BadThreshold;

    fn from_str(text: &str) -> Result<Self, BadThreshold> {
        let bad = || BadThreshold(text.to_owned());
        let at = text.find(['<', '>']).ok_or_else(bad)?;
        let (left, rest) = text.split_at(at);
        let (arm, name) = match left.rsplit_once(':') {
            Some((arm, name)) => (Some(arm.trim().to_owned()), name),
            None => (None, left),
        };
        let (is_below, rest) = (rest.starts_with('<'), &rest[1..]);
        let (or_equal, value) = match rest.strip_prefix('=') {
            Some(value) => (true, value),
            None => (false, rest),
        };
        let metric = Metric::parse(name.trim()).ok_or_else(bad)?;
        let bound = metric.parse_bound(value.trim()).ok_or_else(bad)?;
        // a regression can be shown, its absence cannot
        if metric.needs_baseline() && !is_below {
            return Err(bad());
        }
        Ok(Self { text: text.trim().to_owned(), arm, metric, is_below, or_equal, bound })
    }
}

impl Threshold {
    /// Whether baseline runs are needed to judge it.
    pub fn needs_baseline(&self) -> bool {
        self.metric.needs_baseline()
    }

    /// The conclusion that must be valid in the run and its baselines.
    pub fn conclusion(&self) -> Conclusion {
        self.metric.conclusion()
    }

    /// One judgement for each arm and size that it applies to. All baselines must be complete, of the same setting, and
    /// with a valid conclusion.
    pub fn judge(&self, run: &Run, baselines: &[Run]) -> Vec<Judgement> {
        let void = run.manifest.why_void(self.conclusion());
        let baselines: Vec<Vec<Group<'_>>> = baselines.iter().map(groups).collect();
        let about = |group: &Group<'_>| self.arm.as_deref().is_none_or(|arm| arm == group.arm);
        let judged = |group: &Group<'_>| {
            let (outcome, said) = match void {
                Some(mark) => (Outcome::CannotTell, format!("cannot tell: {} ({})", mark.reason, mark.check)),
                None => self.judge_group(group, &baselines).unwrap_or_else(|why| {
                    // neither kept nor missed: too few numbers
                    (Outcome::CannotTell, format!("cannot tell: {why}"))
                }),
            };
            Judgement { outcome, text: format!("{}, N = {}: {}, {said}", group.arm, group.n, self.text) }
        };
        groups(run).iter().filter(|group| about(group)).map(judged).collect()
    }

    fn judge_group(&self, group: &Group<'_>, baselines: &[Vec<Group<'_>>]) -> Result<Found, String> {
        if self.needs_baseline() {
            let same = |groups: &Vec<Group<'_>>| groups.iter().position(|of| of.arm == group.arm && of.n == group.n);
            let of = |groups| same(groups).map(|at: usize| &groups[at]);
            let earlier: Option<Vec<&Group<'_>>> = baselines.iter().map(of).collect();
            let earlier = earlier.ok_or("a baseline has no such arm and size")?;
            return self.metric.judge_regression(group, &earlier, self.bound);
        }
        let value = self.metric.value(group)?;
        let is_kept = (self.or_equal && value == self.bound)
            || if self.is_below { value < self.bound } else { value > self.bound };
        let outcome = if is_kept { Outcome::Kept } else { Outcome::Missed };
        Ok((outcome, format!("found {}", self.metric.say(value))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cell, Latencies};

    fn group(answers: u64, errors: u64, cell: &mut Cell) -> Group<'_> {
        let mut latencies = Latencies::new();
        (1..=answers).for_each(|ms| latencies.record(ms * 1_000_000, ms * 500_000));
        (cell.requests, cell.errors) = (answers + errors, errors);
        Group { arm: "a", n: 3, cells: vec![cell], in_time: vec![cell], latencies }
    }

    fn cell() -> Cell {
        let json = r#"{"arm":"a","n":3,"block":1,"at_ms":0,"duration_ns":1000000000,"requests":0,"errors":0,"retries":null,
            "unsent":0,"asked_rps":null,"jain_in_flight":null,"chi_square_p":null,
            "backends":[{"id":"1","requests":30,"errors":0,"expected":null},{"id":"2","requests":10,"errors":0,"expected":null}]}"#;
        serde_json::from_str(json).expect("a cell")
    }

    fn judged(text: &str, answers: u64, errors: u64) -> Result<Found, String> {
        text.parse::<Threshold>().expect(text).judge_group(&group(answers, errors, &mut cell()), &[])
    }

    fn outcome(text: &str, answers: u64, errors: u64) -> Outcome {
        judged(text, answers, errors).expect(text).0
    }

    #[test]
    fn each_metric_is_measured_in_its_unit() {
        for (text, wanted) in [
            ("p50<501ms", Outcome::Kept),
            ("p50<499ms", Outcome::Missed),
            ("service_p50<251ms", Outcome::Kept),
            ("rps>=1000", Outcome::Kept),
            ("rps>1000", Outcome::Missed),
            ("errors<=0%", Outcome::Kept),
            ("answered_within(0.25s)>24%", Outcome::Kept),
            ("answered_within(0.25s)>26%", Outcome::Missed),
            ("peak_mean<1.6", Outcome::Kept),
            ("max_over_mean<1.4", Outcome::Missed),
            ("jain>0.79", Outcome::Kept),
        ] {
            assert_eq!(outcome(text, 1000, 0), wanted, "{text}");
        }
    }

    #[test]
    fn a_percentile_of_too_few_requests_is_neither_kept_nor_missed() {
        assert_eq!(judged("p99.9<10s", 1000, 0), Err("1000 requests, and the metric needs 10000".to_owned()));
        assert_eq!(judged("answered_within(1s)>0%", 0, 0), Err("no request".to_owned()));
    }

    #[test]
    fn errors_are_infinitely_slow() {
        assert_eq!(outcome("p90<905ms", 1000, 0), Outcome::Kept);
        let failing = judged("p90<10h", 800, 200).expect("judged");
        assert!(failing.0 == Outcome::Missed && failing.1.contains("no good response"), "{failing:?}");
    }

    #[test]
    fn failed_requests_are_not_throughput() {
        assert_eq!(outcome("rps>=400", 400, 600), Outcome::Kept);
        assert_eq!(judged("rps>400", 400, 600), Ok((Outcome::Missed, "found 400.0/s".to_owned())));
    }

    #[test]
    fn errors_always_have_a_value_with_a_request() {
        assert_eq!([outcome("errors<=0", 1, 0), outcome("errors<=0", 0, 1)], [Outcome::Kept, Outcome::Missed]);
        assert_eq!(judged("errors<=0", 0, 0), Err("no request".to_owned()));
    }

    #[test]
    fn a_malformed_threshold_is_refused() {
        for bad in [
            "",
            "p99",
            "p99<",
            "p99<50",
            "p0<1s",
            "errors<x",
            "speed<1",
            "regression(x)<5%",
            "regression(errors)<1ms",
            "regression(p99)>5%",
            "regression(errors)>=0",
            "regression(p99)<-100%",
            "answered_within(5)>1%",
        ] {
            assert!(bad.parse::<Threshold>().is_err(), "{bad}");
        }
        let named: Threshold = "round robin: p99<1s".parse().expect("sound");
        assert_eq!(named.arm.as_deref(), Some("round robin"));
        for text in ["regression(p99)<5%", "regression(errors)<=0"] {
            assert!(text.parse::<Threshold>().expect("sound").needs_baseline(), "{text}");
        }
    }
}
