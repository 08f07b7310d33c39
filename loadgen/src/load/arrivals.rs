//! The laws of arrival, and the absolute schedule that follows from one of them.
//!
//! Why its own file: a schedule is a pure function of (law, seed). It has no clock, so no event during a load can shift
//! it.
//!
//! Invariants: times never decrease. Constant and ramp are computed from the number of the request, not summed up, so
//! they do not drift. The same law and seed give the same times.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::draw::{Stream, draws};

/// The law of arrival. Rates are requests per second, above 0.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Arrivals {
    /// Open loop, memoryless: independent exponential gaps, as from many independent clients.
    Poisson { rps: f64 },
    /// Open loop, equal gaps.
    Constant { rps: f64 },
    /// Open loop, the rate changes linearly over this time and then stays.
    Ramp { from: f64, to: f64, over: Duration },
    /// Closed loop: each of the clients sends its next request after its last response. The server sets the pace.
    Closed { connections: usize },
}

/// The scheduled send times of an open loop, in nanoseconds from its start. Never ends.
#[derive(Clone, Debug)]
pub struct Schedule {
    law: Law,
    seed: u64,
    index: u64,
}

#[derive(Clone, Debug)]
enum Law {
    Poisson { mean_gap_ns: f64, last_ns: f64 },
    Constant { gap_ns: f64 },
    Ramp { from: f64, to: f64, over_s: f64 },
}

const NANOS: f64 = 1e9;

// === impl Arrivals ===

impl Arrivals {
    /// In words, for reports.
    pub fn in_words(&self) -> String {
        match self {
            Self::Poisson { rps } => format!("open loop, {rps} requests/s with exponential gaps (Poisson)"),
            Self::Constant { rps } => format!("open loop, {rps} requests/s at equal gaps"),
            Self::Ramp { from, to, over } => {
                format!("open loop, from {from} to {to} requests/s within {} s", over.as_secs_f64())
            }
            Self::Closed { connections } => format!(
                "closed loop, {connections} clients, each waits for its response: a slow server gets fewer requests, so latencies are service times and hide the wait of new clients"
            ),
        }
    }

    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }

    /// The requested rate at the end, in requests per second; `None` in a closed loop.
    pub fn rps(&self) -> Option<f64> {
        match *self {
            Self::Poisson { rps } | Self::Constant { rps } => Some(rps),
            Self::Ramp { to, .. } => Some(to),
            Self::Closed { .. } => None,
        }
    }
}

// === impl Schedule ===

impl Schedule {
    /// `None` for a closed loop, which has no schedule.
    pub fn new(arrivals: &Arrivals, seed: u64) -> Option<Self> {
        let law = match *arrivals {
            Arrivals::Poisson { rps } => Law::Poisson { mean_gap_ns: NANOS / rps, last_ns: 0.0 },
            Arrivals::Constant { rps } => Law::Constant { gap_ns: NANOS / rps },
            Arrivals::Ramp { from, to, over } => Law::Ramp { from, to, over_s: over.as_secs_f64() },
            Arrivals::Closed { .. } => return None,
        };
        Some(Self { law, seed, index: 0 })
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let index = self.index;
        self.index += 1;
        let ns = match &mut self.law {
            Law::Poisson { mean_gap_ns, last_ns } => {
                // 1 - u lies in (0, 1], so the logarithm is finite.
                *last_ns -= *mean_gap_ns * (1.0 - draws(self.seed, index, Stream::Gap).f64()).ln();
                *last_ns
            }
            Law::Constant { gap_ns } => index as f64 * *gap_ns,
            Law::Ramp { from, to, over_s } => ramp_s(*from, *to, *over_s, index as f64) * NANOS,
        };
        Some(ns as u64)
    }
}

/// The time at which `count` requests have been scheduled: the inverse of `from·t + (to - from)·t² / 2·over`. This form
/// has no cancellation for slow ramps. After the ramp the rate is `to`.
fn ramp_s(from: f64, to: f64, over_s: f64, count: f64) -> f64 {
    let in_ramp = (from + to) / 2.0 * over_s;
    if count >= in_ramp {
        return over_s + (count - in_ramp) / to;
    }
    let slope = (to - from) / over_s;
    // Rounding may make the root's argument negative for the last requests of a falling ramp.
    2.0 * count / (from + (from * from + 2.0 * slope * count).max(0.0).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(arrivals: Arrivals, seed: u64, count: usize) -> Vec<u64> {
        Schedule::new(&arrivals, seed).unwrap().take(count).collect()
    }

    #[test]
    fn constant_has_not_drifted_after_a_million() {
        let times = times(Arrivals::Constant { rps: 30_000.0 }, 1, 1_000_001);
        for (index, ns) in times.iter().enumerate() {
            let exact = (index as u128 * 1_000_000_000 / 30_000) as u64;
            assert!(ns.abs_diff(exact) <= 1, "request {index} at {ns}, not {exact}");
        }
    }

    #[test]
    fn poisson_gaps_are_exponential_by_kolmogorov_and_smirnov() {
        let (seed, count) = (20_261_122, 200_000);
        let times = times(Arrivals::Poisson { rps: 1000.0 }, seed, count);
        let mut gaps: Vec<f64> = std::iter::once(times[0])
            .chain(times.windows(2).map(|pair| pair[1] - pair[0]))
            .map(|ns| ns as f64 / 1e6)
            .collect();
        gaps.sort_by(f64::total_cmp);
        let distance = gaps
            .iter()
            .enumerate()
            .map(|(rank, gap)| {
                let law = 1.0 - (-gap).exp();
                (law - rank as f64 / count as f64).abs().max((law - (rank + 1) as f64 / count as f64).abs())
            })
            .fold(0.0, f64::max);
        // The 1 % point of the Kolmogorov distribution.
        assert!(distance < 1.63 / (count as f64).sqrt(), "seed {seed}: distance {distance}");
    }

    #[test]
    fn poisson_gaps_are_uncorrelated() {
        let (seed, count) = (4711, 200_000);
        let times = times(Arrivals::Poisson { rps: 1000.0 }, seed, count);
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6 - 1.0).collect();
        let correlation = gaps.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / gaps.len() as f64;
        assert!(correlation.abs() < 4.0 / (count as f64).sqrt(), "seed {seed}: {correlation}");
    }

    #[test]
    fn a_ramp_has_its_rates_at_both_ends_and_stays_at_the_last() {
        for (from, to) in [(100.0, 1000.0), (1000.0, 100.0), (500.0, 500.0)] {
            let arrivals = Arrivals::Ramp { from, to, over: Duration::from_secs(10) };
            let times = times(arrivals, 1, 12_000);
            let between = |from_s: f64, to_s: f64| {
                times.iter().filter(|ns| (from_s..to_s).contains(&(**ns as f64 / 1e9))).count() as f64
            };
            let slope = (to - from) / 10.0;
            assert!((between(0.0, 1.0) - (from + slope / 2.0)).abs() <= 1.0, "{from} to {to}: first second");
            assert!((between(9.0, 10.0) - (to - slope / 2.0)).abs() <= 1.0, "{from} to {to}: last second");
            assert!((between(0.0, 10.0) - (from + to) * 5.0).abs() <= 1.0, "{from} to {to}: all of it");
            assert!((between(11.0, 12.0) - to).abs() <= 1.0, "{from} to {to}: after it");
            assert!(times.is_sorted());
        }
    }

    #[test]
    fn a_seed_gives_one_schedule() {
        let poisson = Arrivals::Poisson { rps: 10.0 };
        assert_eq!(times(poisson, 5, 1000), times(poisson, 5, 1000));
        assert_ne!(times(poisson, 5, 10), times(poisson, 6, 10));
    }
}
