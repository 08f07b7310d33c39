//! Virtual time: nanoseconds, and their form in plans, such as "250ms".
//!
//! Invariant: the clock begins at [`START_NS`] and not at 0, because a time of 0 means "never" in the contract.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The first moment of a simulation: an hour, so that rules that look back see an idle past.
pub(crate) const START_NS: u64 = 3_600 * SECOND_NS;
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// A length of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    pub ns: u64,
}

/// Why a text is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time: write a number and a unit (ns, us, ms, s, m or h), as in 250ms")]
pub struct BadTime(String);

const UNITS: [(&str, f64); 6] = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3_600e9)];
/// A year.
const LONGEST_NS: f64 = 365.0 * 86_400e9;

// === impl Time ===

impl Time {
    pub const ZERO: Self = Self { ns: 0 };

    pub const fn ms(ms: u64) -> Self {
        Self { ns: ms * 1_000_000 }
    }

    pub const fn seconds(seconds: u64) -> Self {
        Self { ns: seconds * SECOND_NS }
    }

    pub fn as_seconds(self) -> f64 {
        self.ns as f64 / 1e9
    }

    pub const fn is_zero(self) -> bool {
        self.ns == 0
    }
}

impl FromStr for Time {
    type Err = BadTime;

    fn from_str(text: &str) -> Result<Self, BadTime> {
        let bad = || BadTime(text.to_owned());
        let text = text.trim();
        if text == "0" {
            return Ok(Self::ZERO);
        }
        let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(bad)?;
        let (number, unit) = text.split_at(unit_at);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        let number: f64 = number.trim().parse().map_err(|_| bad())?;
        let ns = (number * factor).round();
        if (0.0..=LONGEST_NS).contains(&ns) { Ok(Self { ns: ns as u64 }) } else { Err(bad()) }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ns {
            0 => write!(f, "0"),
            ns if ns.is_multiple_of(SECOND_NS) => write!(f, "{}s", ns / SECOND_NS),
            ns => write!(f, "{}ms", ns as f64 / 1e6),
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, ns) in [("0", 0), ("250ms", 250_000_000), ("1.5 s", 1_500_000_000), ("2m", 120_000_000_000)] {
            let time: Time = text.parse().unwrap();
            assert_eq!(time.ns, ns);
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        for text in ["", "5", "ms", "-1s", "1 fortnight", "inf s", "nan s", "400000h"] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }
}
