//! The laws of service times, costs, delays and pauses.
//!
//! The words are those of the experiments and of `mock-server`, so a plan means the same here and there. Logarithms
//! come from the crate `libm`, so that a seed gives the same times on every machine. Invariant: no draw is longer than
//! an hour.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::streams::Draws;
use crate::time::Time;

/// A law of lengths of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Law {
    /// Always 0.
    #[default]
    None,
    Constant {
        time: Time,
    },
    Exponential {
        mean: Time,
    },
    Lognormal {
        median: Time,
        sigma: f64,
    },
    /// Negative draws are repeated, so the mean lies above `mean`: by 29 % if both are equal.
    Normal {
        mean: Time,
        deviation: Time,
    },
    /// `long` with this probability, else `short`.
    Bimodal {
        short: Time,
        long: Time,
        share: f64,
    },
    /// A heavy tail: no variance for a shape up to 2.
    Pareto {
        mean: Time,
        shape: f64,
    },
}

/// Why a text is no law.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no law: write none, constant:5ms, exponential:10ms (mean), lognormal:10ms,0.5 (median, sigma), \
     normal:10ms,2ms (mean, deviation), bimodal:5ms,100ms,0.1 (short, long, share of long) or pareto:10ms,1.5 (mean, \
     shape); no time above 1h"
)]
pub struct BadLaw(String);

const LONGEST: Time = Time::seconds(3_600);

// === impl Law ===

impl Law {
    /// A length of time by this law, in nanoseconds.
    #[inline]
    pub fn draw(&self, draws: &mut Draws) -> u64 {
        let ns = match *self {
            Self::None => return 0,
            Self::Constant { time } => return time.ns,
            Self::Exponential { mean } => mean.ns as f64 * draws.exponential(),
            Self::Lognormal { median, sigma } => median.ns as f64 * libm::exp(sigma * draws.normal()),
            Self::Normal { mean, deviation } => loop {
                let drawn = mean.ns as f64 + deviation.ns as f64 * draws.normal();
                if drawn >= 0.0 {
                    break drawn;
                }
            },
            Self::Bimodal { short, long, share } => return if draws.unit() <= share { long.ns } else { short.ns },
            Self::Pareto { mean, shape } => {
                mean.ns as f64 * (shape - 1.0) / shape * libm::pow(draws.unit(), -1.0 / shape)
            }
        };
        ns.min(LONGEST.ns as f64) as u64
    }

    pub const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The mean in nanoseconds, without the cut at an hour.
    pub fn mean_ns(&self) -> f64 {
        match *self {
            Self::None => 0.0,
            Self::Constant { time } => time.ns as f64,
            Self::Exponential { mean } | Self::Pareto { mean, .. } => mean.ns as f64,
            Self::Lognormal { median, sigma } => median.ns as f64 * libm::exp(sigma * sigma / 2.0),
            Self::Normal { mean, deviation } if deviation.is_zero() => mean.ns as f64,
            Self::Normal { mean, deviation } => {
                // The mean of a normal law without its part below 0.
                let cut = mean.ns as f64 / deviation.ns as f64;
                let density = libm::exp(-cut * cut / 2.0) / std::f64::consts::TAU.sqrt();
                let above = libm::erfc(-cut / std::f64::consts::SQRT_2) / 2.0;
                mean.ns as f64 + deviation.ns as f64 * density / above
            }
            Self::Bimodal { short, long, share } => long.ns as f64 * share + short.ns as f64 * (1.0 - share),
        }
    }

    fn is_valid(&self) -> bool {
        match *self {
            Self::None => true,
            Self::Constant { time } => time <= LONGEST,
            Self::Exponential { mean } => mean <= LONGEST,
            Self::Lognormal { median, sigma } => median <= LONGEST && (0.0..=10.0).contains(&sigma),
            Self::Normal { mean, deviation } => mean <= LONGEST && deviation <= LONGEST,
            Self::Bimodal { short, long, share } => short.max(long) <= LONGEST && (0.0..=1.0).contains(&share),
            Self::Pareto { mean, shape } => mean <= LONGEST && shape > 1.0 && shape <= 100.0,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (law, arguments) = text.trim().split_once(':').unwrap_or((text.trim(), ""));
        let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
        let time = |text: &str| text.parse::<Time>().ok();
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
        let law = match (law, &*arguments) {
            ("none" | "0", [""]) => Self::None,
            ("constant", [at]) => Self::Constant { time: time(at)? },
            ("exponential", [mean]) => Self::Exponential { mean: time(mean)? },
            ("lognormal", [median, sigma]) => Self::Lognormal { median: time(median)?, sigma: number(sigma)? },
            ("normal", [mean, deviation]) => Self::Normal { mean: time(mean)?, deviation: time(deviation)? },
            ("bimodal", [short, long, share]) => {
                Self::Bimodal { short: time(short)?, long: time(long)?, share: number(share)? }
            }
            ("pareto", [mean, shape]) => Self::Pareto { mean: time(mean)?, shape: number(shape)? },
            _ => return None,
        };
        Some(law).filter(Self::is_valid)
    }
}

impl FromStr for Law {
    type Err = BadLaw;

    fn from_str(text: &str) -> Result<Self, BadLaw> {
        Self::parse(text).ok_or_else(|| BadLaw(text.to_owned()))
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "none"),
            Self::Constant { time } => write!(f, "constant:{time}"),
            Self::Exponential { mean } => write!(f, "exponential:{mean}"),
            Self::Lognormal { median, sigma } => write!(f, "lognormal:{median},{sigma}"),
            Self::Normal { mean, deviation } => write!(f, "normal:{mean},{deviation}"),
            Self::Bimodal { short, long, share } => write!(f, "bimodal:{short},{long},{share}"),
            Self::Pareto { mean, shape } => write!(f, "pareto:{mean},{shape}"),
        }
    }
}

impl<'de> Deserialize<'de> for Law {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Law {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::{Purpose, Stream};

    const LAWS: [&str; 7] = [
        "none",
        "constant:5ms",
        "exponential:10ms",
        "lognormal:10ms,0.5",
        "normal:10ms,10ms",
        "bimodal:5ms,100ms,0.1",
        "pareto:10ms,3",
    ];

    #[test]
    fn the_mean_of_many_draws_is_the_mean_of_the_law() {
        for text in LAWS {
            let law: Law = text.parse().unwrap();
            let stream = Stream::new(3, Purpose::Service);
            let sum: f64 = (0..200_000).map(|n| law.draw(&mut stream.draws(n)) as f64).sum();
            let (found, wanted) = (sum / 200_000.0, law.mean_ns());
            assert!((found - wanted).abs() <= wanted * 0.015, "{text}: {found}, not {wanted}");
        }
        let normal: Law = "normal:10ms,10ms".parse().unwrap();
        assert!((normal.mean_ns() / 12.876e6 - 1.0).abs() < 1e-3, "29 % above the mean without the cut");
    }

    #[test]
    fn a_law_is_read_and_written() {
        for text in LAWS {
            let law: Law = text.parse().unwrap();
            assert_eq!(law.to_string(), text);
        }
        for text in ["", "5ms", "constant", "constant:2h", "normal:5ms", "bimodal:1ms,2ms,1.5", "pareto:1ms,1", "x:1ms"]
        {
            let error = text.parse::<Law>().unwrap_err().to_string();
            assert!(error.contains("is no law"), "{error}");
        }
    }
}
