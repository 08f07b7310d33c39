//! What was concluded about the arms: ratios to the baseline with their intervals, and verdicts.
//!
//! Invariant: these are the answers of `statistics`, with everything that a reader needs to doubt them; no rule of judgement is here.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The label of the arm that the others are divided by.
    pub baseline: String,
    /// What verdicts are about: `latency_p99`.
    pub primary: String,
    /// The measures that have a verdict, corrected together: `latency_p50`, `latency_p90`, `latency_p99`. Empty in runs that were stored
    /// before this was told: only the primary measure has verdicts then ([`Self::judged`]).
    #[serde(default)]
    pub verdict_measures: Vec<String>,
    /// Width of the zone in which a difference does not matter, relative: 0.05 is 1/1.05 to 1.05.
    pub equivalence: f64,
    /// Confidence of each interval, at least: 0.95. Of several arms some are held to more.
    pub confidence: f64,
    /// Blocks that every arm ran in.
    pub blocks: u32,
    /// Why it stopped: `every interval is narrower than ±5 %`, `the budget of 240 s left no room for another round of blocks`.
    pub stopped: String,
    /// Blocks that no latency is taken from, in any arm, because the generator was late in them.
    #[serde(default)]
    pub dropped: Vec<DroppedBlock>,
    /// What each arm failed to answer, the baseline's first; empty in runs that were stored before this was told.
    #[serde(default)]
    pub failures: Vec<Failures>,
    /// For each arm but the baseline and each measure. Where an arm's measure could not be said in two blocks there is none.
    pub ratios: Vec<Ratio>,
    /// For each arm, the baseline included; may be empty.
    #[serde(default)]
    pub ribbons: Vec<Ribbon>,
    pub drift: Option<Drift>,
}

/// A block in which the generator was late, so that none of its latencies counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedBlock {
    pub block: u32,
    /// The labels of the arms during whose segments it was late.
    pub arms: Vec<String>,
    /// `by 1.2 ms at p90, where 0.8 ms are allowed`
    pub reason: String,
}

/// Requests of an arm that had no good answer, over all blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    pub arm: String,
    /// Requests that the schedule asked for, sent or not.
    pub due: u64,
    /// Of these: sent, and not answered with a status below 400.
    pub failed: u64,
    /// Of these: not sent in time.
    pub unsent: u64,
    /// Whether its share is that of the baseline, near enough that good answers of both are answers to the same requests.
    pub is_comparable: bool,
}

/// An arm divided by the baseline, pair by pair within blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    pub arm: String,
    /// `latency_p50`, `latency_p90`, `latency_p99`, `service_p99`, `rps`, `max_over_mean`.
    pub measure: String,
    /// Whether more of the measure is better, as of `rps`.
    pub more_is_better: bool,
    pub ratio: f64,
    pub low: f64,
    pub high: f64,
    /// Blocks that have no part in it, because too few requests had a good answer to say the measure of either arm.
    #[serde(default)]
    pub left_out: u32,
    /// Whether there were enough blocks for the confidence. If not, `low` and `high` are for orientation.
    #[serde(default = "yes")]
    pub is_sound: bool,
    /// After the correction for the number of arms.
    pub p: Option<f64>,
    pub verdict: Verdict,
    /// Blocks that would probably decide it; `None` if decided, or if no number of them would.
    pub further_blocks: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Better,
    Worse,
    Equivalent,
    Undecided,
    /// The arm and the baseline answered different requests: what they took is of different things.
    NotComparable,
}

/// The percentile curve of an arm with its interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ribbon {
    pub arm: String,
    /// By rising quantile.
    pub points: Vec<PercentilePoint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PercentilePoint {
    /// 0..1
    pub quantile: f64,
    pub low_ns: f64,
    pub value_ns: f64,
    pub high_ns: f64,
}

/// Whether the machine was the same at the end as at the start: the baseline against itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Last blocks divided by first blocks, of the primary measure.
    pub ratio: f64,
    /// Beyond this the run is invalid, relative.
    pub limit: f64,
}

fn yes() -> bool {
    true
}

// === impl Comparison ===

impl Comparison {
    /// The measures that have a verdict.
    pub fn judged(&self) -> Vec<&str> {
        match self.verdict_measures.is_empty() {
            true => vec![self.primary.as_str()],
            false => self.verdict_measures.iter().map(String::as_str).collect(),
        }
    }

    pub fn is_dropped(&self, block: u32) -> bool {
        self.dropped.iter().any(|dropped| dropped.block == block)
    }

    /// What is said of an arm's measure.
    pub fn ratio(&self, arm: &str, measure: &str) -> Option<&Ratio> {
        self.ratios.iter().find(|ratio| ratio.arm == arm && ratio.measure == measure)
    }

    /// What this arm failed to answer, where that was stored.
    pub fn failures_of(&self, arm: &str) -> Option<&Failures> {
        self.failures.iter().find(|failures| failures.arm == arm)
    }
}

// === impl Failures ===

impl Failures {
    /// Of the requests that were due, those without a good answer: 0..1.
    pub fn share(&self) -> f64 {
        self.failed.saturating_add(self.unsent) as f64 / self.due.max(1) as f64
    }
}
