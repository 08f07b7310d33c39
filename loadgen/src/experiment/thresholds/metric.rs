//! The metrics of conditions: how each is written, computed from a group of cells, judged against baselines, and
//! reported.

use super::group::Group;
use super::{Found, Outcome};
use crate::load::parse_duration;
use crate::model::{Cell, Conclusion};
use crate::statistics::{BEYOND, SharesOfRuns, TimesOfRuns, jain, max_over_mean};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Metric {
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
    /// The percentile of this run over that of the baseline runs, minus 1.
    Regression {
        quantile: f64,
    },
    /// The share of errors of this run minus that of the baseline runs. A ratio of shares that may be 0 is undefined.
    MoreErrors,
}

/// With fewer requests than this part of a baseline's, percentiles of a run scatter more than the baselines show.
const REQUESTS_LEAST: f64 = 0.5;

// === impl Metric ===

impl Metric {
    pub(super) fn parse(name: &str) -> Option<Self> {
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

    pub(super) fn parse_bound(&self, text: &str) -> Option<f64> {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        let share = || match text.strip_suffix('%') {
            Some(percent) => number(percent).map(|percent| percent / 100.0),
            None => number(text),
        };
        match self {
            Self::Percentile { .. } => parse_duration(text).map(|time| time.as_secs_f64() * 1e3),
            Self::Errors | Self::Unsent | Self::AnsweredWithin { .. } | Self::MoreErrors => share(),
            Self::Regression { .. } => share().filter(|bound| *bound > -1.0),
            Self::Rps => number(text.trim_end_matches("/s")),
            Self::MaxOverMean | Self::Jain => number(text),
        }
    }

    pub(super) fn needs_baseline(&self) -> bool {
        matches!(self, Self::Regression { .. } | Self::MoreErrors)
    }

    pub(super) fn conclusion(&self) -> Conclusion {
        match self {
            Self::Percentile { .. } | Self::AnsweredWithin { .. } | Self::Regression { .. } => Conclusion::Latency,
            Self::Rps => Conclusion::Throughput,
            Self::MaxOverMean | Self::Jain => Conclusion::Shares,
            Self::Errors | Self::Unsent | Self::MoreErrors => Conclusion::Counts,
        }
    }

    /// The value of one run. [`Self::judge_regression`] judges metrics that need baselines.
    pub(super) fn value(&self, group: &Group<'_>) -> Result<f64, String> {
        let even = |value: Option<f64>| value.ok_or_else(|| "no request".to_owned());
        match *self {
            Self::Percentile { quantile, of_service } => group.percentile_ms(quantile, of_service),
            Self::Regression { quantile } => group.percentile_ms(quantile, false),
            Self::Errors | Self::MoreErrors => group.share(|cell: &Cell| cell.errors),
            Self::Unsent => group.share(|cell| cell.unsent),
            Self::AnsweredWithin { ms } => group.answered_within(ms),
            Self::Rps => group.rps(),
            Self::MaxOverMean => even(max_over_mean(&group.counts())),
            Self::Jain => even(jain(&group.counts())),
        }
    }

    /// Judges a run against its baselines: the same arm and size of each.
    pub(super) fn judge_regression(
        &self,
        group: &Group<'_>,
        earlier: &[&Group<'_>],
        limit: f64,
    ) -> Result<Found, String> {
        let runs = match earlier.len() {
            1 => "1 baseline".to_owned(),
            number => format!("{number} baselines"),
        };
        let (exceeds, found, interval, limit) = match self {
            Self::MoreErrors => {
                let of = |group: &Group<'_>| (group.errors(), group.due());
                let all: Vec<(u64, u64)> = earlier.iter().map(|group| of(group)).collect();
                let shares = SharesOfRuns::new(&all, of(group)).ok_or("a run has no request")?;
                let points = |share: f64| format!("{:+.3} %", share * 100.0);
                let interval = shares.interval.map(|(low, high)| format!("{} to {}", points(low), points(high)));
                let found = format!("difference {} of all requests", points(shares.difference));
                (shares.exceeds(limit), found, interval, points(limit))
            }
            _ => {
                let least = earlier.iter().map(|group| group.due_in_time()).min().unwrap_or(0);
                if (group.due_in_time() as f64) < REQUESTS_LEAST * least as f64 {
                    let due = group.due_in_time();
                    return Err(format!("{due} requests scatter more than the {least} of a baseline; measure as long"));
                }
                let before = earlier.iter().map(|group| self.value(group)).collect::<Result<Vec<f64>, _>>();
                let before = before.map_err(|why| format!("a baseline has {why}"))?;
                let now = self.value(group)?;
                let times =
                    TimesOfRuns::new(&before, now).ok_or("too many requests of a baseline had no good response")?;
                let interval = times.interval.map(|(low, high)| format!("{low:.3} to {high:.3}"));
                let found = match now.is_infinite() {
                    true => "too many requests had no good response".to_owned(),
                    false => format!("ratio {:.3}", times.ratio),
                };
                (times.exceeds(1.0 + limit), found, interval, format!("{:.3}", 1.0 + limit))
            }
        };
        let interval = match interval {
            // each end has 95 %, so the interval has 90 %
            Some(interval) => format!("90 % interval {interval}"),
            None => "no interval".to_owned(),
        };
        let told = format!("{found} ({interval}, {runs}), limit {limit}");
        Ok(match exceeds {
            Some(true) => (Outcome::Missed, format!("found {told}")),
            Some(false) => (Outcome::Kept, format!("found {told}")),
            None => {
                let why = "fewer than three baselines do not show how much runs differ";
                (Outcome::CannotTell, format!("cannot tell: {told}; it is not worse beyond {BEYOND} times, and {why}"))
            }
        })
    }

    pub(super) fn say(&self, value: f64) -> String {
        match self {
            Self::Percentile { .. } | Self::Regression { .. } if value.is_infinite() => {
                "too many requests had no good response".to_owned()
            }
            Self::Percentile { .. } | Self::Regression { .. } => format!("{value:.3} ms"),
            Self::Errors | Self::Unsent | Self::AnsweredWithin { .. } | Self::MoreErrors => {
                format!("{:.3} %", value * 100.0)
            }
            Self::Rps => format!("{value:.1}/s"),
            Self::MaxOverMean | Self::Jain => format!("{value:.4}"),
        }
    }
}
