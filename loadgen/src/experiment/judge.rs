//! What the counts of an arm should be, and what is concluded of arms side by side: the answers of `statistics`, put together.

use super::arms::Declared;
use super::plan::{ArmPlan, BlockPlan, Plan};
use super::record::Record;
use crate::load::Keys;
use crate::model::{Cell, CellKey, Comparison, Latencies, Ratio, percentile_ns};
use crate::report::ring;
use crate::statistics::{ArmBlocks, DRIFT_LIMIT, Law, Measure, Settings, compare, drift, max_over_mean, ribbon};

/// What is compared beside the primary measure, and whether more of it is better. Errors are not among them: most blocks have none, and
/// over none there is no ratio.
const MEASURES: [(&str, bool); 6] = [
    ("latency_p50", false),
    ("latency_p90", false),
    ("latency_p99", false),
    ("service_p99", false),
    ("rps", true),
    ("max_over_mean", false),
];
const QUANTILES: [f64; 12] = [0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999];

/// What this arm's counts should be over these backends, all of the same weight. Shares that hang on options are worked out where that
/// is possible, which is for the course's ring and its 6-digit ids.
pub(super) fn law(declared: &Declared, plan: &Plan, arm: &ArmPlan, pool: &[String]) -> Option<Law> {
    let file = declared.arm(arm, "");
    let ring = (plan.requests.keys == Keys::Uniform).then(|| ring::of(&file, pool)).flatten();
    let told = ring.as_ref().map(|ring| ring.shares.as_slice());
    // what a strategy declares that is not understood is a row of its score card, not of this run
    Law::of(&file.expectation, &file.options, &vec![1; pool.len()], told).ok().flatten()
}

pub(super) fn settings(plan: &BlockPlan) -> Settings {
    Settings { equivalence: plan.equivalence, confidence: plan.confidence }
}

/// One number of each block of an arm; `None` where it cannot be said.
pub(super) fn numbers(record: &Record, arm: &str, measure: &str, blocks: u32) -> Vec<Option<f64>> {
    let number = |block: u32| {
        let cell = record.cells.iter().find(|cell| cell.arm == arm && cell.block == block)?;
        let key = CellKey { arm: arm.to_owned(), n: cell.n, block };
        of_cell(cell, record.latencies.get(&key)?, measure)
    };
    (1..=blocks).map(number).collect()
}

fn of_cell(cell: &Cell, latencies: &Latencies, measure: &str) -> Option<f64> {
    let percentile = |histogram, quantile| percentile_ns(histogram, quantile).map(|ns| ns as f64);
    match measure {
        "latency_p50" => percentile(&latencies.latency, 0.5),
        "latency_p90" => percentile(&latencies.latency, 0.9),
        "latency_p99" => percentile(&latencies.latency, 0.99),
        "service_p99" => percentile(&latencies.service, 0.99),
        "rps" => Some(cell.rps()),
        "max_over_mean" => max_over_mean(&cell.loads()),
        _ => None,
    }
}

/// The comparison of all arms with the first, over blocks that all of them ran in.
pub(super) fn comparison(
    record: &Record,
    arms: &[ArmPlan],
    plan: &BlockPlan,
    blocks: u32,
    stopped: String,
    seed: u64,
) -> Comparison {
    let baseline = &arms[0].label;
    let mut ratios: Vec<Ratio> = Vec::new();
    for (name, more_is_better) in MEASURES {
        let of_baseline = numbers(record, baseline, name, blocks);
        let others: Vec<(&str, Vec<Option<f64>>)> =
            arms[1..].iter().map(|arm| (arm.label.as_str(), numbers(record, &arm.label, name, blocks))).collect();
        let others: Vec<ArmBlocks<'_>> = others.iter().map(|(arm, numbers)| ArmBlocks { arm, numbers }).collect();
        ratios.extend(compare(Measure { name, more_is_better }, &of_baseline, &others, settings(plan)));
    }
    let histograms = |arm: &ArmPlan| {
        let of_arm = record.latencies.iter().filter(|(key, _)| key.arm == arm.label && key.block <= blocks);
        of_arm.map(|(_, latencies)| &latencies.latency).collect::<Vec<_>>()
    };
    let ribbons = arms.iter().filter_map(|arm| ribbon(&arm.label, &histograms(arm), &QUANTILES, plan.confidence, seed));
    Comparison {
        baseline: baseline.clone(),
        primary: plan.primary.clone(),
        equivalence: plan.equivalence,
        confidence: plan.confidence,
        blocks,
        stopped,
        ratios,
        ribbons: ribbons.collect(),
        drift: drift(&numbers(record, baseline, &plan.primary, blocks), DRIFT_LIMIT),
    }
}
