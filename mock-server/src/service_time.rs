//! Service times: the law of the time for which a request keeps a worker busy, and the generator that draws from it.
//!
//! Experiments depend on the law, so this code is pure, without clock or socket, and tests check its moments.
//!
//! Invariants:
//! - Every arriving request takes exactly one [`Lot`], and each lot takes exactly three numbers of the generator. So
//!   request k gets the same lot when a switch changes or a header overrides a draw.
//! - A drawn time is never longer than [`SERVICE_TIME_MAX`].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// The longest service time that can be drawn or requested.
pub(crate) const SERVICE_TIME_MAX: Duration = Duration::from_secs(3600);

/// The law of the service time. Default: none; the response is immediate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ServiceTime {
    /// The response is immediate.
    #[default]
    None,
    /// Always the same.
    Constant(Duration),
    /// Memoryless, given by its mean: most times are short, a few long. The second M in M/M/c.
    Exponential { mean: Duration },
    /// A long right tail, like real servers: `median · exp(sigma · normal)`.
    Lognormal { median: Duration, sigma: f64 },
}

/// Why a text is not a service time.
#[derive(Debug, Error, PartialEq)]
pub enum BadServiceTime {
    #[error("{0:?} is not a duration: write a number and a unit, such as 250us, 1.5ms or 2s")]
    Duration(String),
    #[error("{0:?} is not a sigma: write a number from 0 to 10, as in lognormal:10ms,0.5")]
    Sigma(String),
    #[error("{0:?} is longer than an hour")]
    TooLong(String),
    #[error("{0:?} is not a law: use 0, constant:5ms, exponential:10ms (mean) or lognormal:10ms,0.5 (median, sigma)")]
    Law(String),
}

/// The random draws for one arriving request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lot {
    pub(crate) service_time: Duration,
    /// Uniform in [0, 1): the request fails if this is below the failure rate.
    pub(crate) failure_draw: f64,
}

/// The one generator of a server.
#[derive(Debug)]
pub(crate) struct Generator {
    random: fastrand::Rng,
}

/// Reads a duration written as a number and a unit: `250us`, `1.5ms`, `2s`; `0` needs no unit. At most one hour.
pub fn parse_duration(text: &str) -> Result<Duration, BadServiceTime> {
    let bad = || BadServiceTime::Duration(text.to_owned());
    let trimmed = text.trim();
    let unit_at = trimmed.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(unit_at);
    let number: f64 = number.trim().parse().map_err(|_| bad())?;
    let second = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "" if number == 0.0 => 1.0,
        _ => return Err(bad()),
    };
    if !number.is_finite() || number < 0.0 {
        return Err(bad());
    }
    let seconds = number * second;
    if seconds > SERVICE_TIME_MAX.as_secs_f64() {
        return Err(BadServiceTime::TooLong(text.to_owned()));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// `seconds` as a duration between 0 and [`SERVICE_TIME_MAX`]. NaN becomes the maximum.
pub(crate) fn clamped(seconds: f64) -> Duration {
    let max = SERVICE_TIME_MAX.as_secs_f64();
    Duration::from_secs_f64(if seconds.is_nan() { max } else { seconds.clamp(0.0, max) })
}

// === impl ServiceTime ===

impl ServiceTime {
    /// The time for two uniform numbers in [0, 1) under this law.
    fn at(self, first: f64, second: f64) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Constant(time) => time,
            // 1 - u lies in (0, 1], so the logarithm is finite.
            Self::Exponential { mean } => clamped(-mean.as_secs_f64() * (1.0 - first).ln()),
            Self::Lognormal { median, sigma } => {
                // The first normal number of Box and Muller. The second is dropped, so that a lot takes three numbers.
                let normal = (-2.0 * (1.0 - first).ln()).sqrt() * (std::f64::consts::TAU * second).cos();
                clamped(median.as_secs_f64() * (sigma * normal).exp())
            }
        }
    }
}

impl FromStr for ServiceTime {
    type Err = BadServiceTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let Some((law, argument)) = text.split_once(':') else {
            return match parse_duration(text) {
                Ok(Duration::ZERO) => Ok(Self::None),
                Ok(time) => Ok(Self::Constant(time)),
                Err(BadServiceTime::Duration(_)) => Err(BadServiceTime::Law(text.to_owned())),
                Err(error) => Err(error),
            };
        };
        match law {
            "constant" => Ok(Self::Constant(parse_duration(argument)?)),
            "exponential" => Ok(Self::Exponential { mean: parse_duration(argument)? }),
            "lognormal" => {
                let (median, sigma_text) =
                    argument.split_once(',').ok_or_else(|| BadServiceTime::Law(text.to_owned()))?;
                let median = parse_duration(median)?;
                match sigma_text.trim().parse::<f64>() {
                    Ok(sigma) if (0.0..=10.0).contains(&sigma) => Ok(Self::Lognormal { median, sigma }),
                    _ => Err(BadServiceTime::Sigma(sigma_text.to_owned())),
                }
            }
            _ => Err(BadServiceTime::Law(text.to_owned())),
        }
    }
}

impl fmt::Display for ServiceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_nanos() as f64 / 1e6;
        match *self {
            Self::None => write!(f, "0"),
            Self::Constant(time) => write!(f, "constant:{}ms", ms(time)),
            Self::Exponential { mean } => write!(f, "exponential:{}ms", ms(mean)),
            Self::Lognormal { median, sigma } => write!(f, "lognormal:{}ms,{sigma}", ms(median)),
        }
    }
}

// === impl Generator ===

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed) }
    }

    /// The lot of the next arriving request.
    pub(crate) fn next_lot(&mut self, law: ServiceTime) -> Lot {
        let (first, second, failure_draw) = (self.random.f64(), self.random.f64(), self.random.f64());
        Lot { service_time: law.at(first, second), failure_draw }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 42;

    fn draws_seconds(law: ServiceTime, count: usize) -> Vec<f64> {
        let mut generator = Generator::new(SEED);
        let mut draws: Vec<f64> = (0..count).map(|_| generator.next_lot(law).service_time.as_secs_f64()).collect();
        draws.sort_by(f64::total_cmp);
        draws
    }

    #[test]
    fn every_law_is_read_and_written_back_as_itself() {
        for text in ["0", "constant:5ms", "constant:0.25ms", "exponential:10ms", "lognormal:10ms,0.5"] {
            let law: ServiceTime = text.parse().expect(text);
            assert_eq!(law.to_string(), text);
        }
        assert_eq!("1.5ms".parse(), Ok(ServiceTime::Constant(Duration::from_micros(1500))));
        assert_eq!("constant:2s".parse(), Ok(ServiceTime::Constant(Duration::from_secs(2))));
    }

    #[test]
    fn the_error_for_a_bad_law_names_the_valid_form() {
        for text in [
            "",
            "five",
            "5",
            "constant:",
            "constant:-1ms",
            "constant:5 minutes",
            "constant:nanms",
            "uniform:5ms",
            "lognormal:10ms",
            "lognormal:10ms,x",
            "lognormal:10ms,-1",
            "exponential:3601s",
        ] {
            let error = text.parse::<ServiceTime>().expect_err(text);
            assert!(error.to_string().len() > 20, "{text}: {error}");
        }
    }

    #[test]
    fn exponential_has_its_mean_and_its_median_of_mean_times_ln_2() {
        let draws = draws_seconds("exponential:10ms".parse().unwrap(), 100_000);
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        assert!((mean / 0.010 - 1.0).abs() < 0.02, "seed {SEED}: mean {mean}");
        let median = draws[draws.len() / 2];
        assert!((median / (0.010 * 2f64.ln()) - 1.0).abs() < 0.02, "seed {SEED}: median {median}");
    }

    #[test]
    fn lognormal_has_its_median_and_its_sigma() {
        let draws = draws_seconds("lognormal:10ms,0.5".parse().unwrap(), 100_000);
        let median = draws[draws.len() / 2];
        assert!((median / 0.010 - 1.0).abs() < 0.02, "seed {SEED}: median {median}");
        // The quantile 0.8413 is one sigma above the median.
        let above = draws[(draws.len() as f64 * 0.8413) as usize];
        assert!((above / (0.010 * 0.5f64.exp()) - 1.0).abs() < 0.02, "seed {SEED}: {above}");
    }

    #[test]
    fn the_same_seed_draws_the_same_lots_and_another_seed_others() {
        let law = ServiceTime::Exponential { mean: Duration::from_millis(10) };
        let lots = |seed| {
            let mut generator = Generator::new(seed);
            (0..100).map(|_| generator.next_lot(law)).collect::<Vec<_>>()
        };
        assert_eq!(lots(7), lots(7));
        assert_ne!(lots(7), lots(8));
    }

    #[test]
    fn the_law_does_not_shift_the_failure_draws() {
        let mut plain = Generator::new(SEED);
        let mut drawn = Generator::new(SEED);
        let law = ServiceTime::Lognormal { median: Duration::from_millis(1), sigma: 1.0 };
        for _ in 0..100 {
            let (a, b) = (plain.next_lot(ServiceTime::None), drawn.next_lot(law));
            assert_eq!(a.failure_draw, b.failure_draw);
        }
    }

    #[test]
    fn no_draw_is_longer_than_an_hour() {
        let law = ServiceTime::Lognormal { median: SERVICE_TIME_MAX, sigma: 10.0 };
        let draws = draws_seconds(law, 1000);
        assert_eq!(draws.last(), Some(&3600.0));
    }
}
