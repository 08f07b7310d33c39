//! Thresholds: conditions on a run, such as `p99<50ms`, and their verdicts.
//!
//! Invariant: for a percentile, requests without a good response count as infinitely slow. Otherwise a server that
//! fails half of its requests quickly would pass.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::load::{Latencies, Segment, parse_duration};
use crate::model::samples_needed;

/// One condition, as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    metric: Metric,
    relation: Relation,
    /// Milliseconds, a share, or requests per second.
    bound: f64,
    /// Whether the condition must not hold.
    is_negated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    Percentile { of: Clock, quantile: f64 },
    Mean(Clock),
    Max(Clock),
    Errors,
    Rps,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Clock {
    Latency,
    Service,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Relation {
    Below,
    AtMost,
    Above,
    AtLeast,
}

#[derive(Debug, Error, PartialEq)]
#[error(
    "{0:?} is no threshold: write METRIC<VALUE (or <=, >, >=), such as p99<50ms (p50 … p99.9, mean, max), service_p99<20ms, errors<0.1% \
     or rps>1000"
)]
pub struct BadThreshold(String);

/// Whether a threshold was kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) threshold: String,
    pub(super) is_kept: bool,
    /// The measured value in the threshold's unit; `None` if there is none.
    pub(super) value: Option<f64>,
    /// In words.
    pub(super) found: String,
}

// === impl Threshold ===

impl Threshold {
    /// A condition that must not hold, for `--fail-if`.
    pub(super) fn negated(mut self) -> Self {
        self.is_negated = !self.is_negated;
        self
    }

    pub(super) fn judge(&self, total: &Segment) -> Verdict {
        let (value, found) = match self.value(total) {
            Ok(value) => (Some(value), self.metric.say(value)),
            Err(why) => (None, why),
        };
        let holds = value.map(|value| self.relation.holds(value, self.bound));
        // a threshold without a value is missed, negated or not
        let is_kept = holds.is_some_and(|holds| holds != self.is_negated);
        Verdict { threshold: self.to_string(), is_kept, value, found }
    }

    fn value(&self, total: &Segment) -> Result<f64, String> {
        let of = |clock: Clock| match clock {
            Clock::Latency => &total.latency,
            Clock::Service => &total.service,
        };
        let ms = |ns: f64| ns / 1e6;
        let some = |latencies: &Latencies| {
            if latencies.is_empty() { Err("there was no good response".to_owned()) } else { Ok(()) }
        };
        match self.metric {
            Metric::Percentile { of: clock, quantile } => {
                let requests = total.due - total.unfinished;
                let needed = samples_needed(quantile);
                if requests < needed {
                    return Err(format!("it needs {needed} requests, there were {requests}"));
                }
                let rank = (quantile * requests as f64).ceil();
                let good = of(clock).len();
                if rank > good as f64 {
                    return Ok(f64::INFINITY);
                }
                Ok(ms(of(clock).value_at_quantile(rank / good as f64) as f64))
            }
            Metric::Mean(clock) => some(of(clock)).map(|()| ms(of(clock).mean())),
            Metric::Max(clock) => some(of(clock)).map(|()| ms(of(clock).max() as f64)),
            Metric::Errors => Ok(total.failure_share()),
            Metric::Rps => Ok(total.good_rps()),
        }
    }
}

impl FromStr for Threshold {
    type Err = BadThreshold;

    fn from_str(text: &str) -> Result<Self, BadThreshold> {
        let bad = || BadThreshold(text.to_owned());
        let at = text.find(['<', '>']).ok_or_else(bad)?;
        let (metric, rest) = text.split_at(at);
        let relation = if rest.starts_with("<=") {
            Relation::AtMost
        } else if rest.starts_with(">=") {
            Relation::AtLeast
        } else if rest.starts_with('<') {
            Relation::Below
        } else {
            Relation::Above
        };
        let value = rest.trim_start_matches(['<', '>', '=']).trim();
        let metric = Metric::parse(metric.trim()).ok_or_else(bad)?;
        let bound = metric.parse_bound(value).ok_or_else(bad)?;
        Ok(Self { text: text.trim().to_owned(), metric, relation, bound, is_negated: false })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_negated { write!(f, "not {}", self.text) } else { f.write_str(&self.text) }
    }
}

// === impl Metric ===

impl Metric {
    fn parse(name: &str) -> Option<Self> {
        let (clock, name) = match name.strip_prefix("service_") {
            Some(name) => (Clock::Service, name),
            None => (Clock::Latency, name),
        };
        match (clock, name) {
            (_, "mean") => Some(Self::Mean(clock)),
            (_, "max") => Some(Self::Max(clock)),
            (Clock::Latency, "errors") => Some(Self::Errors),
            (Clock::Latency, "rps") => Some(Self::Rps),
            _ => {
                let percent: f64 = name.strip_prefix('p')?.parse().ok()?;
                (percent > 0.0 && percent < 100.0).then(|| Self::Percentile { of: clock, quantile: percent / 100.0 })
            }
        }
    }

    fn parse_bound(self, text: &str) -> Option<f64> {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| *number >= 0.0);
        match self {
            Self::Percentile { .. } | Self::Mean(_) | Self::Max(_) => {
                parse_duration(text).map(|time| time.as_secs_f64() * 1e3)
            }
            Self::Errors => match text.strip_suffix('%') {
                Some(percent) => number(percent).map(|percent| percent / 100.0),
                None => number(text),
            },
            Self::Rps => number(text.trim_end_matches("/s")),
        }
    }

    fn say(self, value: f64) -> String {
        match self {
            Self::Percentile { .. } if value.is_infinite() => {
                "infinite: too many requests without a good response".to_owned()
            }
            Self::Percentile { .. } | Self::Mean(_) | Self::Max(_) => format!("{value:.3} ms"),
            Self::Errors => format!("{:.3} %", value * 100.0),
            Self::Rps => format!("{value:.1}/s"),
        }
    }
}

// === impl Relation ===

impl Relation {
    fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::Below => value < bound,
            Self::AtMost => value <= bound,
            Self::Above => value > bound,
            Self::AtLeast => value >= bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::ErrorKind;

    /// Good responses of 1, 2, 3, … ms, and errors.
    fn segment(good: u64, errors: u64) -> Segment {
        let mut segment = Segment::new(0);
        for ms in 1..=good {
            segment.latency.record(ms * 1_000_000).unwrap();
            segment.service.record(500_000).unwrap();
        }
        segment.statuses.insert(200, good);
        (segment.due, segment.answered, segment.to_ns) = (good + errors, good, 2_000_000_000);
        (0..errors).for_each(|_| segment.errors.count(ErrorKind::Timeout));
        segment
    }

    fn kept(text: &str, segment: &Segment) -> bool {
        text.parse::<Threshold>().unwrap().judge(segment).is_kept
    }

    #[test]
    fn each_relation_holds_on_its_side_of_the_bound() {
        let run = segment(1000, 0);
        for (text, expected) in [
            ("p50<501.5ms", true),
            ("p50<499ms", false),
            ("p99 <= 1s", true),
            ("p99>2s", false),
            ("mean<600ms", true),
            ("max<900ms", false),
            ("service_p99<1ms", true),
            ("service_max>1ms", false),
            ("errors<0.1%", true),
            ("errors<=0", true),
            ("rps>=499", true),
            ("rps>501/s", false),
        ] {
            assert_eq!(kept(text, &run), expected, "{text}: {:?}", text.parse::<Threshold>().unwrap().judge(&run));
        }
        let fails: Threshold = "p99>50ms".parse().unwrap();
        assert!(!fails.negated().judge(&run).is_kept, "--fail-if p99>50ms");
    }

    #[test]
    fn requests_without_a_good_response_are_infinitely_slow() {
        let run = segment(960, 40);
        assert!(kept("p95<1s", &run));
        assert!(!kept("p99<1h", &run), "4 % have no answer, so there is no 99th percentile");
        assert!(!kept("errors<1%", &run) && kept("errors<5%", &run));
        // The median of the good responses is not the median of all.
        let half = segment(500, 500);
        assert!(kept("p50<500.5ms", &half) && !kept("p50<400ms", &half));
    }

    #[test]
    fn a_threshold_with_too_few_requests_is_missed_negated_or_not() {
        let threshold: Threshold = "p99.9<1h".parse().unwrap();
        let verdict = threshold.judge(&segment(1000, 0));
        assert!(!verdict.is_kept && verdict.found.contains("10000"), "{verdict:?}");
        assert!(!"p99.9>1h".parse::<Threshold>().unwrap().negated().judge(&segment(1000, 0)).is_kept);
        assert!(!kept("mean<1h", &segment(0, 5)));
    }

    #[test]
    fn a_malformed_threshold_is_refused() {
        for bad in
            ["p99", "p99<50", "p0<1s", "p100<1s", "errors<x", "speed>1", "rps>-1", "service_rps>1", "<1s", "p99=1s"]
        {
            assert!(bad.parse::<Threshold>().is_err(), "{bad}");
        }
    }
}
