//! The expected counts of an arm from its strategy's declaration: a band for each backend, and the probability of the
//! measured counts.
//!
//! The laws of the contract: with "exact", counts differ from the expected ones by at most 1. "multinomial" is
//! independent draws. With "ring:K", a share is itself drawn, Beta(K·w, K·(W−w)), and requests are drawn by it.
//! "by_options" is draws by the shares that `explain` gives. "by_load" and "by_latency" depend on the speed of the
//! backends, so there are no expected counts.

use serde::Deserialize;
use serde_json::Value;
use statrs::distribution::{Beta, Binomial, ContinuousCDF, DiscreteCDF};
use thiserror::Error;

use super::balance::chi_square_p;
use crate::model::Band;

/// A band holds the count of its backend in this share of all runs.
const COVERED: f64 = 0.95;

/// Shares are relative: they need not sum to 1.
#[derive(Clone, Debug, PartialEq)]
pub enum Law {
    Exact { shares: Vec<f64> },
    Multinomial { shares: Vec<f64> },
    Ring { points: u32, shares: Vec<f64> },
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("the strategy's expectation {declared:?} is not understood: {reason}")]
pub struct UnknownLaw {
    declared: String,
    reason: String,
}

/// The contract has other keys, which are not about counts.
#[derive(Deserialize)]
struct Declared {
    balance: Option<String>,
    #[serde(default)]
    weights: bool,
}

// === impl Law ===

impl Law {
    /// The law of a strategy with the declaration `declared` ("" is none), these options, and backends of these
    /// weights. `told` are the shares of its explanation, if any. `None` if there are no expected counts. The K of
    /// "ring:K" is the default of the strategy; the option `virtual_nodes` replaces it.
    pub fn of(
        declared: &str,
        options: &Value,
        weights: &[u32],
        told: Option<&[f64]>,
    ) -> Result<Option<Self>, UnknownLaw> {
        if declared.is_empty() {
            return Ok(None);
        }
        let refused = |reason: String| UnknownLaw { declared: declared.to_owned(), reason };
        let Declared { balance, weights: by_weight } =
            serde_json::from_str(declared).map_err(|error| refused(error.to_string()))?;
        let share = |weight: &u32| if by_weight { f64::from(*weight) } else { f64::from(u8::from(*weight > 0)) };
        let shares: Vec<f64> = weights.iter().map(share).collect();
        Ok(match balance.as_deref() {
            None | Some("by_load" | "by_latency") => None,
            Some("exact") => Some(Self::Exact { shares }),
            Some("multinomial") => Some(Self::Multinomial { shares }),
            Some("by_options") => told.map(|told| Self::Multinomial { shares: told.to_vec() }),
            Some(other) => {
                let points =
                    other.strip_prefix("ring:").and_then(|points| points.parse().ok()).filter(|points| *points > 0);
                let points = points.ok_or_else(|| refused(format!("{other:?} is no law that loadgen knows")))?;
                let chosen = options.get("virtual_nodes").and_then(Value::as_u64).and_then(|it| u32::try_from(it).ok());
                Some(Self::Ring { points: chosen.filter(|points| *points > 0).unwrap_or(points), shares })
            }
        })
    }

    /// The band of each backend's count for `total` requests.
    pub fn bands(&self, total: u64) -> Vec<Band> {
        let shares = self.normal_shares();
        shares.iter().map(|&share| self.band(share, total).unwrap_or(certain(share * total as f64))).collect()
    }

    /// The probability of counts at least as uneven as these. `None` with too few counts.
    pub fn p(&self, counts: &[u64]) -> Option<f64> {
        let total: u64 = counts.iter().sum();
        let shares = self.normal_shares();
        match self {
            // An exact count differs by at most one, always; no chance is involved.
            Self::Exact { .. } => {
                let off = |(&count, share): (&u64, &f64)| (count as f64 - share * total as f64).abs() <= 1.0 + 1e-6;
                Some(if counts.iter().zip(&shares).all(off) { 1.0 } else { 0.0 })
            }
            Self::Multinomial { .. } => chi_square_p(counts, &shares),
            Self::Ring { .. } => {
                let tail = |(&count, &share): (&u64, &f64)| {
                    let below = self.beta(share, total)?.cdf(count as f64 / total as f64);
                    Some(2.0 * below.min(1.0 - below))
                };
                let tails: Vec<f64> = counts.iter().zip(&shares).filter_map(tail).collect();
                // Shares of one ring depend on each other, so the smallest p is multiplied by their number
                // (Bonferroni).
                Some((tails.iter().copied().reduce(f64::min)? * tails.len() as f64).min(1.0))
            }
        }
    }

    fn normal_shares(&self) -> Vec<f64> {
        let (Self::Exact { shares } | Self::Multinomial { shares } | Self::Ring { shares, .. }) = self;
        let sum: f64 = shares.iter().sum();
        shares.iter().map(|share| if sum > 0.0 { share / sum } else { 0.0 }).collect()
    }

    /// `None` if the count is certain.
    fn band(&self, share: f64, total: u64) -> Option<Band> {
        let (expected, tail) = (share * total as f64, (1.0 - COVERED) / 2.0);
        match self {
            Self::Exact { .. } => {
                Some(Band { low: (expected - 1.0).ceil().max(0.0), expected, high: (expected + 1.0).floor() })
            }
            Self::Multinomial { .. } if share > 0.0 && share < 1.0 && total > 0 => {
                let law = Binomial::new(share, total).ok()?;
                Some(Band { low: law.inverse_cdf(tail) as f64, expected, high: law.inverse_cdf(1.0 - tail) as f64 })
            }
            Self::Multinomial { .. } => None,
            Self::Ring { .. } => {
                let (law, total) = (self.beta(share, total)?, total as f64);
                Some(Band { low: law.inverse_cdf(tail) * total, expected, high: law.inverse_cdf(1.0 - tail) * total })
            }
        }
    }

    /// The law of a ring backend's share of so many requests. The noise of the requests widens it as fewer points
    /// would.
    fn beta(&self, share: f64, total: u64) -> Option<Beta> {
        let Self::Ring { points, shares } = self else { return None };
        if share <= 0.0 || share >= 1.0 || total == 0 {
            return None;
        }
        let all_points = f64::from(*points) * shares.iter().sum::<f64>();
        let concentration = 1.0 / (1.0 / (all_points + 1.0) + 1.0 / total as f64);
        Beta::new(share * concentration, (1.0 - share) * concentration).ok()
    }
}

fn certain(count: f64) -> Band {
    Band { low: count, expected: count, high: count }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn law(balance: &str, options: Value, weights: &[u32]) -> Law {
        let declared = format!(r#"{{"balance":"{balance}","weights":true,"consistent":true}}"#);
        Law::of(&declared, &options, weights, Some(&[0.8, 0.2])).expect("understood").expect("a law")
    }

    fn assert_band(band: Band, low: f64, expected: f64, high: f64, within: f64) {
        let close = |found: f64, wanted: f64| (found - wanted).abs() <= within;
        assert!(close(band.low, low) && close(band.expected, expected) && close(band.high, high), "{band:?}");
    }

    #[test]
    fn bands_are_those_of_each_law() {
        let exact = law("exact", json!({}), &[1, 1, 1]).bands(10_000);
        assert_band(exact[0], 3333.0, 3333.33, 3334.0, 0.01);
        // Standard deviation √(10000 · 1/3 · 2/3) = 47.1
        let drawn = law("multinomial", json!({}), &[1, 1, 1]).bands(10_000);
        assert_band(drawn[0], 3241.0, 3333.33, 3426.0, 1.0);
        let told = law("by_options", json!({}), &[1, 1]).bands(10_000);
        assert_band(told[0], 7921.0, 8000.0, 8078.0, 1.0);
        // The law's published 99 % interval at N = 100 and 100 points is 0.76 to 1.27 of the mean; 95 % is ±1.96 ·
        // 0.0995.
        let ring = law("ring:100", json!({}), &[1; 100]).bands(100_000_000);
        assert_band(ring[0], 0.81e6, 1e6, 1.20e6, 0.01e6);
        let weighted = law("multinomial", json!({}), &[3, 1, 0]).bands(1000);
        assert_band(weighted[2], 0.0, 0.0, 0.0, 0.0);
        assert!((weighted[0].expected - 750.0).abs() < 1e-9);
    }

    #[test]
    fn an_option_says_how_many_points_the_ring_has() {
        let nine = law("ring:160", json!({ "virtual_nodes": 9 }), &[1, 1, 1]);
        assert_eq!(nine, law("ring:9", json!({}), &[1, 1, 1]));
        // Nine points give 419, 348 and 233 of 1000; 160 points do not.
        assert!(nine.p(&[419, 348, 233]).unwrap() > 0.2);
        assert!(law("ring:160", json!({}), &[1, 1, 1]).p(&[419, 348, 233]).unwrap() < 0.01);
    }

    #[test]
    fn p_separates_kept_laws_from_broken_ones() {
        let exact = law("exact", json!({}), &[1, 1, 1]);
        assert_eq!((exact.p(&[334, 333, 333]), exact.p(&[335, 333, 332])), (Some(1.0), Some(0.0)));
        let drawn = law("multinomial", json!({}), &[1, 1, 1]);
        assert!(drawn.p(&[3321, 3334, 3345]).unwrap() > 0.9 && drawn.p(&[3500, 3334, 3166]).unwrap() < 0.001);
        assert!(law("by_options", json!({}), &[1, 1]).p(&[8010, 1990]).unwrap() > 0.5);
    }

    /// Draws by each law stay in their bands in the promised share of runs.
    #[test]
    fn bands_have_their_coverage() {
        let mut random = fastrand::Rng::with_seed(6);
        let (drawn, ring) = (law("multinomial", json!({}), &[1, 2, 1]), law("ring:20", json!({}), &[1, 1, 1]));
        let (mut in_drawn, mut in_ring) = (0, 0);
        const RUNS: usize = 1000;
        let bands = (drawn.bands(400)[1], ring.bands(400)[1]);
        for _ in 0..RUNS {
            let count = (0..400).filter(|_| random.u8(..4) < 2).count() as f64;
            in_drawn += usize::from((bands.0.low..=bands.0.high).contains(&count));
            let mut points: Vec<(f64, usize)> = (0..60).map(|point| (random.f64(), point / 20)).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            let owner = |at: f64| points[points.partition_point(|point| point.0 < at) % 60].1;
            let count = (0..400).filter(|_| owner(random.f64()) == 1).count() as f64;
            in_ring += usize::from((bands.1.low..=bands.1.high).contains(&count));
        }
        for inside in [in_drawn, in_ring] {
            assert!((930..=975).contains(&inside), "{inside} of {RUNS} inside 95 % bands (seed 6)");
        }
    }

    #[test]
    fn a_declaration_without_counts_has_no_law() {
        let of = |declared: &str| Law::of(declared, &json!({}), &[1, 1], None);
        let by_latency = r#"{"balance":"by_latency"}"#;
        for nothing in ["", "{}", r#"{"balance":"by_load"}"#, by_latency, r#"{"balance":"by_options"}"#] {
            assert_eq!(of(nothing), Ok(None), "{nothing}");
        }
        for unknown in ["no json", r#"{"balance":"ring:0"}"#, r#"{"balance":"fair"}"#] {
            assert!(of(unknown).is_err(), "{unknown}");
        }
        let unweighted = Law::of(r#"{"balance":"exact"}"#, &json!({}), &[5, 1, 0], None);
        assert_eq!(unweighted, Ok(Some(Law::Exact { shares: vec![1.0, 1.0, 0.0] })));
    }
}
