//! The keys of requests, sent as `x-key`. A hashing strategy picks by them.
//!
//! All have six digits, 100000 to 999999, the range of the course's request ids. The key of request i is a function of
//! (seed, i).

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::draw::{Stream, draws};

/// How keys are chosen.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Keys {
    /// No `x-key` is sent.
    #[default]
    None,
    /// 100000, 100001, … in order; after 999999 from the start.
    Sequential,
    /// Each of the 900,000 keys is equally likely, as in the course.
    Uniform,
    /// The share of the key of rank r (100000 is rank 1) is proportional to 1/r^exponent, over `keys` keys.
    Zipf { keys: u32, exponent: f64 },
    /// The key 100000 takes this share of all requests; the others are uniform.
    Hot { share: f64 },
}

/// For some time one key, 100000, takes this share of all requests. The other requests keep their usual keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HotKey {
    /// By scheduled send time, from the end of the warm-up; in a closed loop by actual send time.
    pub from: Duration,
    pub until: Duration,
    pub share: f64,
}

/// Why a text or a value is not a choice of keys.
#[derive(Debug, Error, PartialEq)]
pub enum BadKeys {
    #[error(
        "{0:?} is no choice of keys: write none, sequential, uniform, zipf:KEYS,EXPONENT (as zipf:10000,1.1) or hot:SHARE (as hot:0.5)"
    )]
    Text(String),
    #[error("zipf needs 1 to 900000 keys, not {0}")]
    Count(u32),
    #[error("the exponent of zipf must be above 0 and at most 10, not {0}")]
    Exponent(f64),
    #[error("the share of the hot key must be from 0 to 1, not {0}")]
    Share(f64),
}

/// [`Keys`] prepared for draws.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chooser {
    None,
    Sequential,
    Uniform,
    Zipf(Zipf),
    Hot(f64),
}

/// Rejection-inversion: Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone discrete
/// distributions", ACM TOMACS 6(3), 1996. It needs no table and, on average, little more than one number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Zipf {
    keys: f64,
    exponent: f64,
    area_low: f64,
    area_high: f64,
    accepted_below: f64,
}

/// The first key, and the hot one.
pub(super) const FIRST: u32 = 100_000;
const COUNT: u32 = 900_000;

// === impl Keys ===

impl Keys {
    pub fn check(&self) -> Result<(), BadKeys> {
        match *self {
            Self::Zipf { keys, .. } if !(1..=COUNT).contains(&keys) => Err(BadKeys::Count(keys)),
            Self::Zipf { exponent, .. } if !(exponent > 0.0 && exponent <= 10.0) => Err(BadKeys::Exponent(exponent)),
            Self::Hot { share } if !(0.0..=1.0).contains(&share) => Err(BadKeys::Share(share)),
            _ => Ok(()),
        }
    }
}

impl FromStr for Keys {
    type Err = BadKeys;

    fn from_str(text: &str) -> Result<Self, BadKeys> {
        let bad = || BadKeys::Text(text.to_owned());
        let (kind, arguments) = text.split_once(':').unwrap_or((text, ""));
        let keys = match (kind, arguments) {
            ("none", "") => Self::None,
            ("sequential", "") => Self::Sequential,
            ("uniform", "") => Self::Uniform,
            ("zipf", arguments) => {
                let (keys, exponent) = arguments.split_once(',').ok_or_else(bad)?;
                Self::Zipf {
                    keys: keys.trim().parse().map_err(|_| bad())?,
                    exponent: exponent.trim().parse().map_err(|_| bad())?,
                }
            }
            ("hot", share) => Self::Hot { share: share.trim().parse().map_err(|_| bad())? },
            _ => return Err(bad()),
        };
        keys.check()?;
        Ok(keys)
    }
}

// === impl HotKey ===

impl HotKey {
    pub(super) fn check(&self) -> Result<(), BadKeys> {
        if (0.0..=1.0).contains(&self.share) { Ok(()) } else { Err(BadKeys::Share(self.share)) }
    }

    /// Whether it takes request `index`.
    pub(super) fn takes(&self, seed: u64, index: u64) -> bool {
        draws(seed, index, Stream::Hot).f64() < self.share
    }
}

// === impl Chooser ===

impl From<Keys> for Chooser {
    fn from(keys: Keys) -> Self {
        match keys {
            Keys::None => Self::None,
            Keys::Sequential => Self::Sequential,
            Keys::Uniform => Self::Uniform,
            Keys::Zipf { keys, exponent } => Self::Zipf(Zipf::new(keys, exponent)),
            Keys::Hot { share } => Self::Hot(share),
        }
    }
}

impl Chooser {
    /// The key of request `index`.
    pub(super) fn key(&self, seed: u64, index: u64) -> Option<u32> {
        let mut random = draws(seed, index, Stream::Key);
        match self {
            Self::None => None,
            Self::Sequential => Some(FIRST + (index % u64::from(COUNT)) as u32),
            Self::Uniform => Some(random.u32(FIRST..FIRST + COUNT)),
            Self::Zipf(zipf) => Some(FIRST - 1 + zipf.rank(&mut random)),
            Self::Hot(share) if random.f64() < *share => Some(FIRST),
            Self::Hot(_) => Some(random.u32(FIRST..FIRST + COUNT)),
        }
    }
}

// === impl Zipf ===

impl Zipf {
    fn new(keys: u32, exponent: f64) -> Self {
        let mut zipf = Self { keys: f64::from(keys), exponent, area_low: 0.0, area_high: 0.0, accepted_below: 0.0 };
        zipf.area_low = zipf.area(1.5) - 1.0;
        zipf.area_high = zipf.area(zipf.keys + 0.5);
        zipf.accepted_below = 2.0 - zipf.area_inverse(zipf.area(2.5) - zipf.height(2.0));
        zipf
    }

    fn rank(&self, random: &mut fastrand::Rng) -> u32 {
        loop {
            let area = self.area_high + random.f64() * (self.area_low - self.area_high);
            let at = self.area_inverse(area);
            let rank = at.round().clamp(1.0, self.keys);
            if rank - at <= self.accepted_below || area >= self.area(rank + 0.5) - self.height(rank) {
                return rank as u32;
            }
        }
    }

    /// The weight of a rank.
    fn height(&self, at: f64) -> f64 {
        at.powf(-self.exponent)
    }

    /// The integral of [`Self::height`], except for a constant.
    fn area(&self, at: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power.abs() < 1e-9 { at.ln() } else { (at.powf(power) - 1.0) / power }
    }

    fn area_inverse(&self, area: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power.abs() < 1e-9 { area.exp() } else { (1.0 + power * area).powf(1.0 / power) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(keys: Keys, seed: u64, count: u64) -> std::collections::BTreeMap<u32, u64> {
        let chooser = Chooser::from(keys);
        let mut counts = std::collections::BTreeMap::new();
        for index in 0..count {
            *counts.entry(chooser.key(seed, index).unwrap()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn zipf_follows_its_law_by_chi_square() {
        use statrs::distribution::{ChiSquared, ContinuousCDF};
        for (seed, exponent) in [(1, 0.5), (2, 1.0), (3, 1.1), (4, 2.0)] {
            let (keys, count) = (50, 200_000);
            let counts = counts(Keys::Zipf { keys, exponent }, seed, count);
            let weight = |rank: u32| f64::from(rank).powf(-exponent);
            let total: f64 = (1..=keys).map(weight).sum();
            let statistic: f64 = (1..=keys)
                .map(|rank| {
                    let expected = weight(rank) / total * count as f64;
                    let seen = counts.get(&(FIRST - 1 + rank)).copied().unwrap_or(0) as f64;
                    (seen - expected).powi(2) / expected
                })
                .sum();
            let p = 1.0 - ChiSquared::new(f64::from(keys - 1)).unwrap().cdf(statistic);
            assert!(p > 0.001, "exponent {exponent}, seed {seed}: p {p}");
            assert_eq!(counts.values().sum::<u64>(), count, "no key outside the range");
            assert!(counts.keys().all(|key| (FIRST..FIRST + keys).contains(key)));
        }
    }

    #[test]
    fn uniform_keys_have_the_range_of_the_course() {
        let counts = counts(Keys::Uniform, 9, 100_000);
        assert!(counts.keys().all(|key| (100_000..=999_999).contains(key)));
        let low = counts.iter().filter(|(key, _)| **key < 550_000).map(|(_, count)| count).sum::<u64>();
        assert!(low.abs_diff(50_000) < 700, "{low} in the lower half");
    }

    #[test]
    fn a_hot_key_takes_its_share() {
        let hot = counts(Keys::Hot { share: 0.3 }, 9, 100_000)[&FIRST];
        assert!(hot.abs_diff(30_000) < 600, "{hot}");
    }

    #[test]
    fn sequential_keys_begin_at_the_first_and_start_again() {
        let chooser = Chooser::from(Keys::Sequential);
        let keys: Vec<_> = [0, 1, 899_999, 900_000].map(|index| chooser.key(1, index)).to_vec();
        assert_eq!(keys, [Some(100_000), Some(100_001), Some(999_999), Some(100_000)]);
    }

    #[test]
    fn a_written_form_is_parsed_as_its_value() {
        assert_eq!("zipf:1000,1.1".parse(), Ok(Keys::Zipf { keys: 1000, exponent: 1.1 }));
        assert_eq!("hot:0.5".parse(), Ok(Keys::Hot { share: 0.5 }));
        assert_eq!("none".parse(), Ok(Keys::None));
        for bad in ["", "zipf", "zipf:0,1", "zipf:10,0", "hot:2", "uniform:3", "random", "zipf:10,NaN", "hot:NaN"] {
            assert!(bad.parse::<Keys>().is_err(), "{bad}");
        }
    }
}
