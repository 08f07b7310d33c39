//! The cost of a request: a service time by a law, in the header `x-service-time-us`, which `mock-server` follows.
//!
//! Why with the request and not at the server: the cost of request i is a function of (seed, i). So every arm of a
//! comparison gets the same work in the same order, and chance does not hide the difference between arms.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::draw::{Stream, draws, normal};

/// The header that carries a cost, in whole microseconds.
pub const COST_HEADER: &str = "x-service-time-us";

/// The law of the cost. No draw is longer than an hour.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Cost {
    /// The header is not sent: the server's own law applies.
    #[default]
    None,
    Constant {
        time: Duration,
    },
    Exponential {
        mean: Duration,
    },
    /// Negative draws are repeated, so the mean lies above `mean`: by 29 % if both are equal.
    Normal {
        mean: Duration,
        deviation: Duration,
    },
    /// A heavy tail: no variance for a shape up to 2. The shortest is `mean · (shape - 1) / shape`.
    Pareto {
        mean: Duration,
        shape: f64,
    },
}

/// Why a text is not a cost.
#[derive(Debug, Error, PartialEq)]
pub enum BadCost {
    #[error(
        "{0:?} is no law of cost: write none, constant:5ms, exponential:10ms (mean), normal:10ms,10ms (mean, deviation) or \
         pareto:10ms,1.5 (mean, shape)"
    )]
    Text(String),
    #[error("the shape of pareto must be above 1 and at most 100, not {0}")]
    Shape(f64),
    #[error("a cost of {0:?} is longer than an hour")]
    TooLong(Duration),
}

/// The longest cost that `mock-server` accepts.
const MAX: Duration = Duration::from_secs(3600);

// === impl Cost ===

impl Cost {
    pub fn check(&self) -> Result<(), BadCost> {
        let time = match *self {
            Self::None => Duration::ZERO,
            Self::Constant { time } => time,
            Self::Exponential { mean } => mean,
            Self::Normal { mean, deviation } => mean.max(deviation),
            Self::Pareto { shape, .. } if !(shape > 1.0 && shape <= 100.0) => return Err(BadCost::Shape(shape)),
            Self::Pareto { mean, .. } => mean,
        };
        if time > MAX { Err(BadCost::TooLong(time)) } else { Ok(()) }
    }

    /// The same law with all times multiplied by `factor`.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        match self {
            Self::None => Self::None,
            Self::Constant { time } => Self::Constant { time: time.mul_f64(factor) },
            Self::Exponential { mean } => Self::Exponential { mean: mean.mul_f64(factor) },
            Self::Normal { mean, deviation } => {
                Self::Normal { mean: mean.mul_f64(factor), deviation: deviation.mul_f64(factor) }
            }
            Self::Pareto { mean, shape } => Self::Pareto { mean: mean.mul_f64(factor), shape },
        }
    }

    /// The cost of request `index`, in microseconds.
    pub(super) fn us(&self, seed: u64, index: u64) -> Option<u64> {
        let mut random = draws(seed, index, Stream::Cost);
        let seconds = match *self {
            Self::None => return None,
            Self::Constant { time } => time.as_secs_f64(),
            Self::Exponential { mean } => -mean.as_secs_f64() * (1.0 - random.f64()).ln(),
            Self::Normal { mean, deviation } => loop {
                let drawn = mean.as_secs_f64() + deviation.as_secs_f64() * normal(&mut random);
                if drawn >= 0.0 {
                    break drawn;
                }
            },
            Self::Pareto { mean, shape } => {
                mean.as_secs_f64() * (shape - 1.0) / shape * (1.0 - random.f64()).powf(-1.0 / shape)
            }
        };
        Some((seconds.min(MAX.as_secs_f64()) * 1e6).round() as u64)
    }
}

impl FromStr for Cost {
    type Err = BadCost;

    fn from_str(text: &str) -> Result<Self, BadCost> {
        let bad = || BadCost::Text(text.to_owned());
        let time = |text: &str| super::parse_duration(text).ok_or_else(bad);
        let (law, arguments) = text.split_once(':').unwrap_or((text, ""));
        let pair = || arguments.split_once(',').ok_or_else(bad);
        let cost = match law {
            "none" if arguments.is_empty() => Self::None,
            "constant" => Self::Constant { time: time(arguments)? },
            "exponential" => Self::Exponential { mean: time(arguments)? },
            "normal" => Self::Normal { mean: time(pair()?.0)?, deviation: time(pair()?.1)? },
            "pareto" => Self::Pareto { mean: time(pair()?.0)?, shape: pair()?.1.trim().parse().map_err(|_| bad())? },
            _ => return Err(bad()),
        };
        cost.check()?;
        Ok(cost)
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_nanos() as f64 / 1e6;
        match *self {
            Self::None => write!(f, "none"),
            Self::Constant { time } => write!(f, "constant:{}ms", ms(time)),
            Self::Exponential { mean } => write!(f, "exponential:{}ms", ms(mean)),
            Self::Normal { mean, deviation } => write!(f, "normal:{}ms,{}ms", ms(mean), ms(deviation)),
            Self::Pareto { mean, shape } => write!(f, "pareto:{}ms,{shape}", ms(mean)),
        }
    }
}

#[cfg(test)]
mod tests {
    use statrs::distribution::{ContinuousCDF, Exp, Normal, Pareto};

    use super::*;

    /// The largest distance of the drawn milliseconds from a law.
    fn distance(cost: Cost, seed: u64, law: impl Fn(f64) -> f64) -> f64 {
        let mut ms: Vec<f64> = (0..50_000).map(|index| cost.us(seed, index).unwrap() as f64 / 1e3).collect();
        ms.sort_by(f64::total_cmp);
        let count = ms.len() as f64;
        ms.iter().enumerate().map(|(rank, ms)| (law(*ms) - (rank as f64 + 0.5) / count).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn draws_follow_their_laws_by_kolmogorov_and_smirnov() {
        let seed = 1966;
        let critical = 1.63 / 50_000_f64.sqrt();
        let mean = Duration::from_millis(100);
        let exponential = Exp::new(0.01).unwrap();
        assert!(distance(Cost::Exponential { mean }, seed, |ms| exponential.cdf(ms)) < critical, "seed {seed}");
        let normal = Normal::new(100.0, 100.0).unwrap();
        let truncated = |ms| (normal.cdf(ms) - normal.cdf(0.0)) / (1.0 - normal.cdf(0.0));
        assert!(distance(Cost::Normal { mean, deviation: mean }, seed, truncated) < critical, "seed {seed}");
        let pareto = Pareto::new(100.0 / 3.0, 1.5).unwrap();
        assert!(distance(Cost::Pareto { mean, shape: 1.5 }, seed, |ms| pareto.cdf(ms)) < critical, "seed {seed}");
    }

    #[test]
    fn a_law_times_a_factor_draws_the_same_numbers_times_that_factor() {
        for text in ["constant:5ms", "exponential:10ms", "normal:10ms,5ms", "pareto:10ms,1.5"] {
            let cost: Cost = text.parse().unwrap();
            for index in 0..1000 {
                let (once, longer) = (cost.us(7, index).unwrap() as f64, cost.times(1.5).us(7, index).unwrap() as f64);
                assert!((longer - 1.5 * once).abs() <= 1.5, "{text}, request {index}: {once} and {longer} µs");
            }
        }
        assert_eq!(Cost::None.times(1.5), Cost::None);
    }

    #[test]
    fn a_written_form_is_parsed_as_its_value() {
        let ms = Duration::from_millis;
        for (text, cost) in [
            ("none", Cost::None),
            ("constant:5ms", Cost::Constant { time: ms(5) }),
            ("exponential:10ms", Cost::Exponential { mean: ms(10) }),
            ("normal:10ms,20ms", Cost::Normal { mean: ms(10), deviation: ms(20) }),
            ("pareto:10ms,1.5", Cost::Pareto { mean: ms(10), shape: 1.5 }),
        ] {
            assert_eq!(text.parse(), Ok(cost));
            assert_eq!(cost.to_string(), text);
        }
        for bad in [
            "",
            "5ms",
            "pareto:10ms",
            "pareto:10ms,1",
            "normal:10ms",
            "exponential:-1s",
            "constant:2h",
            "constant:7200s",
        ] {
            assert!(bad.parse::<Cost>().is_err(), "{bad}");
        }
    }
}
