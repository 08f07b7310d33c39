//! The conclusions about the arms: ratios to the baseline with their intervals, and verdicts.
//!
//! Invariant: these are the results of `statistics`, with all numbers behind them. No rule of judgement is here.

use serde::{Deserialize, Serialize};

use super::manifest::Conclusion;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The label of the arm by which the others are divided.
    pub baseline: String,
    /// The primary measure: `latency_p99`.
    pub primary: String,
    /// The measures with a verdict, corrected together: `latency_p50`, `latency_p90`, `latency_p99`. Empty in older
    /// runs, in which only the primary measure has verdicts ([`Self::judged`]).
    #[serde(default)]
    pub verdict_measures: Vec<String>,
    /// Half-width of the zone in which a difference does not matter, relative: 0.05 is 1/1.05 to 1.05.
    pub equivalence: f64,
    /// The least confidence of each interval: 0.95. With several arms, some intervals have more.
    pub confidence: f64,
    /// The number of blocks in which every arm ran.
    pub blocks: u32,
    /// Why the run stopped, for example `the budget of 240 s left no room for another round of blocks`.
    pub stopped: String,
    /// Dropped blocks: the generator was late, so their latencies are not used in any arm.
    #[serde(default)]
    pub dropped: Vec<DroppedBlock>,
    /// The failures of each arm, the baseline's first; empty in older runs.
    #[serde(default)]
    pub failures: Vec<Failures>,
    /// One for each measure and each arm except the baseline. An arm with fewer than two values of a measure has none.
    pub ratios: Vec<Ratio>,
    /// One for each arm, the baseline included; may be empty.
    #[serde(default)]
    pub ribbons: Vec<Ribbon>,
    pub drift: Option<Drift>,
}

/// A block in which the generator was late, so none of its latencies counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedBlock {
    pub block: u32,
    /// The labels of the arms in whose segments it was late.
    pub arms: Vec<String>,
    /// For example `by 1.2 ms at p90, where 0.8 ms are allowed`.
    pub reason: String,
}

/// The measure of good responses: their share of the scheduled requests. Its verdict is about counts, not about times.
pub const GOOD_SHARE: &str = "good_share";

/// Requests of an arm without a good response, over all blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failures {
    pub arm: String,
    /// Requests in the schedule, sent or not.
    pub due: u64,
    /// The part that was sent and got no response with a status below 400.
    pub failed: u64,
    /// The part that was not sent in time.
    pub unsent: u64,
    /// Whether its share of failures is close to that of the baseline, so that the good responses of both are to the
    /// same requests.
    pub is_comparable: bool,
    /// The share of such requests in a block; `None` with fewer than two blocks, and in older runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_a_block: Option<TypicalShare>,
}

/// The typical share of the blocks, 0..1, with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TypicalShare {
    pub share: f64,
    pub low: f64,
    pub high: f64,
    /// Whether there were enough blocks for the confidence. If not, `low` and `high` are only a guide.
    pub is_sound: bool,
}

/// An arm divided by the baseline, pair by pair within blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    pub arm: String,
    /// `latency_p50`, `latency_p90`, `latency_p99`, `service_p99`, `good_share`, `rps`, `max_over_mean`.
    pub measure: String,
    /// Whether more of the measure is better, as for `rps`.
    pub more_is_better: bool,
    pub ratio: f64,
    pub low: f64,
    pub high: f64,
    /// Blocks left out because one of the two arms had too few good responses for the measure.
    #[serde(default)]
    pub left_out: u32,
    /// Whether there were enough blocks for the confidence. If not, `low` and `high` are only a guide.
    #[serde(default = "yes")]
    pub is_sound: bool,
    /// After the correction for the number of comparisons; `None` for a measure without a verdict.
    pub p: Option<f64>,
    pub verdict: Verdict,
    /// The number of further blocks that would probably decide it; `None` if it is decided, or if no number of them
    /// would decide it.
    pub further_blocks: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Better,
    Worse,
    Equivalent,
    Undecided,
    /// The arm and the baseline have good responses to different requests, so their latencies cannot be compared.
    NotComparable,
}

/// The percentile curve of an arm with its interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ribbon {
    pub arm: String,
    /// In ascending order of quantiles.
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

/// The drift of the machine: the change of the baseline over its blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// The last block divided by the first, by the line through the primary measure of all blocks.
    pub ratio: f64,
    /// The largest relative change of a valid run.
    pub limit: f64,
}

fn yes() -> bool {
    true
}

// === impl Comparison ===

impl Comparison {
    /// The measures with a verdict.
    pub fn judged(&self) -> Vec<&str> {
        match self.verdict_measures.is_empty() {
            true => vec![self.primary.as_str()],
            false => self.verdict_measures.iter().map(String::as_str).collect(),
        }
    }

    /// The conclusion that its verdicts belong to.
    pub fn conclusion(&self) -> Conclusion {
        if self.primary == GOOD_SHARE { Conclusion::Counts } else { Conclusion::Latency }
    }

    /// The number of blocks that its verdicts are from. Counts of dropped blocks are used.
    pub fn judged_blocks(&self) -> u32 {
        match self.conclusion() {
            Conclusion::Counts => self.blocks,
            _ => self.blocks.saturating_sub(self.dropped.len() as u32),
        }
    }

    /// Whether its verdicts are about latencies, and those of this arm cannot be compared with the baseline's.
    pub fn has_latencies_apart(&self, arm: &str) -> bool {
        let is_apart = self.failures_of(arm).is_some_and(|failures| !failures.is_comparable);
        is_apart && self.conclusion() == Conclusion::Latency
    }

    pub fn is_dropped(&self, block: u32) -> bool {
        self.dropped.iter().any(|dropped| dropped.block == block)
    }

    /// The ratio of an arm in a measure.
    pub fn ratio(&self, arm: &str, measure: &str) -> Option<&Ratio> {
        self.ratios.iter().find(|ratio| ratio.arm == arm && ratio.measure == measure)
    }

    /// The failures of this arm, if they were stored.
    pub fn failures_of(&self, arm: &str) -> Option<&Failures> {
        self.failures.iter().find(|failures| failures.arm == arm)
    }
}

// === impl Failures ===

impl Failures {
    /// The share of scheduled requests without a good response: 0..1.
    pub fn share(&self) -> f64 {
        self.failed.saturating_add(self.unsent) as f64 / self.due.max(1) as f64
    }
}
