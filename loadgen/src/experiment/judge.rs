//! What the counts of an arm should be, and what is concluded of arms side by side: the answers of `statistics`, put together.

use super::arms::Declared;
use super::plan::{ArmPlan, BlockPlan, Plan};
use super::record::Record;
use crate::load::Keys;
use crate::model::{Cell, CellKey, Comparison, Failures, Latencies, Ratio, percentile_ns};
use crate::report::ring;
use crate::statistics::{
    ArmBlocks, DRIFT_LIMIT, Law, Measure, Settings, compare, drift, judge_failures, max_over_mean, ribbon,
};

/// What is compared beside the primary measure, and whether more of it is better. Errors are not among them: most blocks have none, and
/// over none there is no ratio. They are judged by their share of all requests, before all else ([`judge_failures`]).
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
    let mut failures: Vec<Failures> = arms.iter().map(|arm| failures(record, &arm.label, blocks)).collect();
    judge_failures(&mut failures, &mut ratios);
    let histograms = |arm: &ArmPlan| {
        let of_arm = record.latencies.iter().filter(|(key, _)| key.arm == arm.label && key.block <= blocks);
        of_arm.map(|(_, latencies)| &latencies.latency).collect::<Vec<_>>()
    };
    let ribbons = arms.iter().filter_map(|arm| ribbon(&arm.label, &histograms(arm), &QUANTILES, plan.confidence));
    Comparison {
        baseline: baseline.clone(),
        primary: plan.primary.clone(),
        verdict_measures: Vec::new(),
        equivalence: plan.equivalence,
        confidence: plan.confidence,
        blocks,
        stopped,
        dropped: Vec::new(),
        failures,
        ratios,
        ribbons: ribbons.collect(),
        drift: drift(&numbers(record, baseline, &plan.primary, blocks), DRIFT_LIMIT),
    }
}

/// Over all blocks; whether that is comparable is said by [`judge_failures`].
fn failures(record: &Record, arm: &str, blocks: u32) -> Failures {
    let cells = || record.cells.iter().filter(|cell| cell.arm == arm && cell.block <= blocks);
    let (failed, unsent) = (cells().map(|cell| cell.errors).sum(), cells().map(|cell| cell.unsent).sum());
    let due = cells().map(|cell| cell.requests).sum::<u64>() + unsent;
    Failures { arm: arm.to_owned(), due, failed, unsent, is_comparable: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict;

    /// Blocks of 1,000 requests each: `failed` of them at once, the others answered after about `ms`.
    fn measured(record: &mut Record, arm: &str, blocks: u32, failed: u64, ms: u64) {
        for block in 1..=blocks {
            let cell: Cell = serde_json::from_value(serde_json::json!({
                "arm": arm, "n": 2, "block": block, "at_ms": 0, "duration_ns": 5_000_000_000_u64, "requests": 1000,
                "errors": failed, "unsent": 0, "backends": [],
            }))
            .expect("a cell");
            let mut latencies = Latencies::new();
            let ns = |request: u64| ms * 1_000_000 + 1000 * (request + u64::from(block));
            (failed..1000).for_each(|request| latencies.record(ns(request), ns(request)));
            record.latencies.insert(cell.key(), latencies);
            record.cells.push(cell);
        }
    }

    fn plan(labels: &[&str]) -> Plan {
        let arm = |label: &&str| format!("[[arms]]\nlabel = {label:?}\nstrategy = \"round_robin\"\n");
        let arms: String = labels.iter().map(arm).collect();
        let text = format!("[load]\nloop = \"open\"\nrate_rps = 1\n[blocks]\nprimary = \"latency_p90\"\n{arms}");
        Plan::parse(&text, "plan.toml".as_ref()).expect("a plan")
    }

    fn of(record: &Record, labels: &[&str], blocks: u32) -> Comparison {
        let plan = plan(labels);
        comparison(record, &plan.arms, &plan.blocks.expect("blocks"), blocks, "it was enough".into())
    }

    #[test]
    fn an_arm_that_is_quick_because_it_fails_more_has_no_verdict() {
        let mut record = Record::default();
        for (arm, failed, ms) in [("base", 500, 30), ("sink", 718, 10), ("quick", 505, 10)] {
            measured(&mut record, arm, 8, failed, ms);
        }
        let comparison = of(&record, &["base", "sink", "quick"], 8);
        let of_sink = comparison.ratios.iter().filter(|ratio| ratio.arm == "sink");
        assert!(of_sink.clone().count() > 1);
        for ratio in of_sink {
            assert_eq!((ratio.verdict, ratio.further_blocks), (Verdict::NotComparable, None), "{ratio:?}");
        }
        let failures = comparison.failures_of("sink").expect("counted");
        assert_eq!((failures.due, failures.failed, failures.unsent), (8000, 5744, 0));
        assert_eq!(comparison.ratio("quick", "latency_p90").expect("said").verdict, Verdict::Better);
    }

    #[test]
    fn blocks_without_enough_good_answers_are_counted() {
        let mut record = Record::default();
        measured(&mut record, "base", 8, 0, 30);
        measured(&mut record, "arm", 8, 0, 10);
        let key = record.cells[10].key();
        let mut few = Latencies::new();
        few.record(1_000_000, 1_000_000);
        record.latencies.insert(key, few);
        let comparison = of(&record, &["base", "arm"], 8);
        assert_eq!(comparison.ratio("arm", "latency_p90").expect("said").left_out, 1);
        assert_eq!(comparison.ratio("arm", "rps").expect("said").left_out, 0);
    }
}
