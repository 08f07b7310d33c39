//! Conditions on a stored run, for CI: `p99<50ms`, `errors<0.1%`, `max_over_mean<1.1`, `regression(p99)<5%`.
//!
//! Each must hold for every arm and size of the run, or for the arm that is named before a colon. Invariant: a request without a good
//! answer counts as infinitely slow, or a server that fails quickly would pass.

use std::str::FromStr;

use thiserror::Error;

use crate::load::parse_duration;
use crate::model::{Cell, Latencies, Run, samples_needed};
use crate::statistics::{jain, max_over_mean};

/// One condition, as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    /// The only arm that it is about.
    arm: Option<String>,
    metric: Metric,
    is_below: bool,
    or_equal: bool,
    bound: f64,
}

#[derive(Clone, Debug, PartialEq)]
enum Metric {
    /// Milliseconds.
    Percentile {
        quantile: f64,
        of_service: bool,
    },
    /// Shares.
    Errors,
    Unsent,
    AnsweredWithin {
        ms: f64,
    },
    Rps,
    MaxOverMean,
    Jain,
    /// This run's percentile over the baseline run's, less 1.
    Regression {
        quantile: f64,
    },
    /// This run's share of errors less the baseline run's: of shares that may be 0 there is no ratio.
    MoreErrors,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is no threshold: write [ARM:]METRIC<VALUE (or <=, >, >=) with p50 … p99.9 or service_p99 (as p99<50ms), \
     answered_within(1s) (as >99%), errors or unsent (as errors<0.1%), rps, max_over_mean, jain, or regression(p99) (as <5%) or \
     regression(errors) (as <=0.1%, so much more of all requests), which need --baseline"
)]
pub struct BadThreshold(String);

/// What came of a condition for one arm and size.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    pub is_kept: bool,
    /// `round_robin, N = 3: p99<50ms, found 61.5 ms`.
    pub text: String,
}

/// All cells of an arm at one size.
struct Group<'a> {
    arm: &'a str,
    n: u32,
    cells: Vec<&'a Cell>,
    latencies: Latencies,
}

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
        Ok(Self { text: text.trim().to_owned(), arm, metric, is_below, or_equal, bound })
    }
}

impl Threshold {
    /// Whether a baseline run is needed to judge it.
    pub fn needs_baseline(&self) -> bool {
        matches!(self.metric, Metric::Regression { .. } | Metric::MoreErrors)
    }

    /// For every arm and size that it is about. Empty if there is none.
    pub fn judge(&self, run: &Run, baseline: Option<&Run>) -> Vec<Judgement> {
        let about = |group: &Group<'_>| self.arm.as_deref().is_none_or(|arm| arm == group.arm);
        groups(run).iter().filter(|group| about(group)).map(|group| self.judge_group(group, baseline)).collect()
    }

    fn judge_group(&self, group: &Group<'_>, baseline: Option<&Run>) -> Judgement {
        let found = self.metric.value(group, baseline);
        let holds = |value: f64| {
            (self.or_equal && value == self.bound)
                || if self.is_below { value < self.bound } else { value > self.bound }
        };
        let (is_kept, said) = match &found {
            Ok(value) => (holds(*value), self.metric.say(*value)),
            // what cannot be said is not kept
            Err(why) => (false, why.clone()),
        };
        Judgement { is_kept, text: format!("{}, N = {}: {}, found {said}", group.arm, group.n, self.text) }
    }
}

// === impl Metric ===

impl Metric {
    fn parse(name: &str) -> Option<Self> {
        let inside = |prefix: &str| name.strip_prefix(prefix)?.strip_prefix('(')?.strip_suffix(')');
        let quantile = |name: &str| {
            let percent: f64 = name.strip_prefix('p')?.parse().ok()?;
            (percent > 0.0 && percent < 100.0).then_some(percent / 100.0)
        };
        Some(match name {
            "errors" => Self::Errors,
            "unsent" => Self::Unsent,
            "rps" => Self::Rps,
            "max_over_mean" | "peak_mean" => Self::MaxOverMean,
            "jain" => Self::Jain,
            _ => {
                if let Some(within) = inside("answered_within") {
                    return Some(Self::AnsweredWithin { ms: parse_duration(within)?.as_secs_f64() * 1e3 });
                }
                if inside("regression") == Some("errors") {
                    return Some(Self::MoreErrors);
                }
                if let Some(of) = inside("regression") {
                    return Some(Self::Regression { quantile: quantile(of)? });
                }
                let (of_service, name) = match name.strip_prefix("service_") {
                    Some(name) => (true, name),
                    None => (false, name),
                };
                Self::Percentile { quantile: quantile(name)?, of_service }
            }
        })
    }

    fn parse_bound(&self, text: &str) -> Option<f64> {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        match self {
            Self::Percentile { .. } => parse_duration(text).map(|time| time.as_secs_f64() * 1e3),
            Self::Errors | Self::Unsent | Self::AnsweredWithin { .. } | Self::Regression { .. } | Self::MoreErrors => {
                match text.strip_suffix('%') {
                    Some(percent) => number(percent).map(|percent| percent / 100.0),
                    None => number(text),
                }
            }
            Self::Rps => number(text.trim_end_matches("/s")),
            Self::MaxOverMean | Self::Jain => number(text),
        }
    }

    fn value(&self, group: &Group<'_>, baseline: Option<&Run>) -> Result<f64, String> {
        let counts = || group.counts();
        match *self {
            Self::Percentile { quantile, of_service } => group.percentile_ms(quantile, of_service),
            // of no request none failed, but nothing was shown either
            Self::Errors | Self::Unsent if group.due() == 0 => Err("no request".to_owned()),
            Self::Errors => Ok(group.share(|cell| cell.errors)),
            Self::Unsent => Ok(group.share(|cell| cell.unsent)),
            Self::MoreErrors => {
                let errors = |cell: &Cell| cell.errors;
                Ok(group.share(errors) - group.of(baseline)?.share(errors))
            }
            Self::AnsweredWithin { ms } => Ok(group.answered_within(ms)),
            Self::Rps => Ok(group.rps()),
            Self::MaxOverMean => max_over_mean(&counts()).ok_or_else(|| "no request".to_owned()),
            Self::Jain => jain(&counts()).ok_or_else(|| "no request".to_owned()),
            Self::Regression { quantile } => {
                let theirs = group.of(baseline)?.percentile_ms(quantile, false)?;
                Ok(group.percentile_ms(quantile, false)? / theirs - 1.0)
            }
        }
    }

    fn say(&self, value: f64) -> String {
        match self {
            Self::Percentile { .. } if value.is_infinite() => "so many requests had no good answer".to_owned(),
            Self::Percentile { .. } => format!("{value:.3} ms"),
            Self::Regression { .. } | Self::MoreErrors => format!("{:+.2} %", value * 100.0),
            Self::Errors | Self::Unsent | Self::AnsweredWithin { .. } => format!("{:.3} %", value * 100.0),
            Self::Rps => format!("{value:.1}/s"),
            Self::MaxOverMean | Self::Jain => format!("{value:.4}"),
        }
    }
}

// === impl Group ===

fn groups(run: &Run) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for cell in &run.results.cells {
        let latencies = run.latencies.get(&cell.key()).cloned().unwrap_or_default();
        match groups.iter_mut().find(|group| group.arm == cell.arm && group.n == cell.n) {
            Some(group) => {
                group.cells.push(cell);
                group.latencies.add(&latencies);
            }
            None => groups.push(Group { arm: &cell.arm, n: cell.n, cells: vec![cell], latencies }),
        }
    }
    groups
}

impl Group<'_> {
    /// The same arm and size in the baseline.
    fn of<'a>(&self, baseline: Option<&'a Run>) -> Result<Group<'a>, String> {
        let baseline = baseline.ok_or("no baseline (--baseline DIR)")?;
        let theirs = groups(baseline).into_iter().find(|other| other.arm == self.arm && other.n == self.n);
        theirs.ok_or_else(|| "the baseline has no such arm and size".to_owned())
    }

    /// Sent or not.
    fn due(&self) -> u64 {
        self.cells.iter().map(|cell| cell.requests + cell.unsent).sum()
    }

    fn share(&self, of: fn(&Cell) -> u64) -> f64 {
        self.cells.iter().map(|cell| of(cell)).sum::<u64>() as f64 / self.due().max(1) as f64
    }

    fn rps(&self) -> f64 {
        let seconds = self.cells.iter().map(|cell| cell.duration_ns).sum::<u64>() as f64 / 1e9;
        self.cells.iter().map(|cell| cell.good()).sum::<u64>() as f64 / seconds.max(1e-9)
    }

    fn counts(&self) -> Vec<f64> {
        let mut counts = std::collections::BTreeMap::new();
        for backend in self.cells.iter().flat_map(|cell| &cell.backends) {
            *counts.entry(&backend.id).or_insert(0.0) += backend.requests as f64;
        }
        counts.into_values().collect()
    }

    fn percentile_ms(&self, quantile: f64, of_service: bool) -> Result<f64, String> {
        let (due, needed) = (self.due(), samples_needed(quantile));
        if due < needed {
            return Err(format!("{due} requests, and it needs {needed}"));
        }
        let good = if of_service { &self.latencies.service } else { &self.latencies.latency };
        let rank = (quantile * due as f64).ceil();
        if rank > good.len() as f64 {
            return Ok(f64::INFINITY);
        }
        Ok(good.value_at_quantile(rank / good.len() as f64) as f64 / 1e6)
    }

    fn answered_within(&self, ms: f64) -> f64 {
        let latency = &self.latencies.latency;
        let within = if latency.is_empty() { 0 } else { latency.count_between(0, (ms * 1e6) as u64) };
        within as f64 / self.due().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(answers: u64, errors: u64, cell: &mut Cell) -> Group<'_> {
        let mut latencies = Latencies::new();
        (1..=answers).for_each(|ms| latencies.record(ms * 1_000_000, ms * 500_000));
        (cell.requests, cell.errors) = (answers + errors, errors);
        Group { arm: "a", n: 3, cells: vec![cell], latencies }
    }

    fn cell() -> Cell {
        let json = r#"{"arm":"a","n":3,"block":1,"at_ms":0,"duration_ns":1000000000,"requests":0,"errors":0,"retries":null,
            "unsent":0,"asked_rps":null,"jain_in_flight":null,"chi_square_p":null,
            "backends":[{"id":"1","requests":30,"errors":0,"expected":null},{"id":"2","requests":10,"errors":0,"expected":null}]}"#;
        serde_json::from_str(json).expect("a cell")
    }

    fn judged(text: &str, answers: u64, errors: u64) -> Judgement {
        text.parse::<Threshold>().expect(text).judge_group(&group(answers, errors, &mut cell()), None)
    }

    #[test]
    fn each_metric_is_measured_in_its_unit() {
        for (text, is_kept) in [
            ("p50<501ms", true),
            ("p50<499ms", false),
            ("service_p50<251ms", true),
            ("rps>=1000", true),
            ("rps>1000", false),
            ("errors<=0%", true),
            ("answered_within(0.25s)>24%", true),
            ("answered_within(0.25s)>26%", false),
            ("peak_mean<1.6", true),
            ("max_over_mean<1.4", false),
            ("jain>0.79", true),
            ("p99.9<10s", false),
        ] {
            let judgement = judged(text, 1000, 0);
            assert_eq!(judgement.is_kept, is_kept, "{}", judgement.text);
        }
    }

    #[test]
    fn errors_are_infinitely_slow() {
        assert!(judged("p90<905ms", 1000, 0).is_kept);
        let failing = judged("p90<10h", 800, 200);
        assert!(!failing.is_kept && failing.text.contains("no good answer"), "{}", failing.text);
    }

    #[test]
    fn failing_is_no_throughput() {
        assert!(judged("rps>=400", 400, 600).is_kept);
        let failing = judged("rps>400", 400, 600);
        assert!(!failing.is_kept && failing.text.ends_with("found 400.0/s"), "{}", failing.text);
    }

    #[test]
    fn errors_always_have_a_value_where_there_was_a_request() {
        assert!(judged("errors<=0", 1, 0).is_kept && !judged("errors<=0", 0, 1).is_kept);
        let nothing = judged("errors<=0", 0, 0);
        assert!(!nothing.is_kept && nothing.text.ends_with("found no request"), "{}", nothing.text);
    }

    #[test]
    fn what_is_no_threshold_is_refused() {
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
