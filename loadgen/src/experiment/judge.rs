//! The expected counts of an arm, and the comparison of arms, from the results of `statistics`.

use super::arms::Declared;
use super::plan::{ArmPlan, BlockPlan, Plan};
use super::record::Record;
use super::stage::Stage;
use crate::load::Keys;
use crate::model::{Cell, CellKey, Comparison, DroppedBlock, Failures, GOOD_SHARE, Latencies, percentile_ns};
use crate::statistics::{
    ArmBlocks, DRIFT_LIMIT, Law, Measure, Question, Settings, Width, compare_family, describe, drift, half_widths,
    judge_failures, max_over_mean, ribbon, typical_share,
};

/// Measures that are reported without a verdict, beside the judged ones. For all of them less is better.
///
/// Errors are not among them: most blocks have none, and a ratio to 0 is undefined. They are judged first, by their
/// share of all requests ([`judge_failures`]). A plan about failures judges the share of good responses. Throughput is
/// not among them either: in an open loop it is the planned rate minus the failures.
const DESCRIBED: [&str; 5] = ["latency_p50", "latency_p90", "latency_p99", "service_p99", EVENNESS];
/// The highest count of a server over the mean. It is compared only between arms that both declare their counts. A
/// strategy without a declaration, such as least_connections, may share unevenly on purpose.
const EVENNESS: &str = "max_over_mean";
const QUANTILES: [f64; 12] = [0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999];

/// The law of this arm's counts over these backends, all of the same weight. The arm must be in charge. Shares that
/// depend on options come from the strategy itself; they are shares of uniform 6-digit ids.
pub(super) fn law(
    stage: &Stage,
    declared: &Declared,
    plan: &Plan,
    arm: &ArmPlan,
    pool: &[String],
    record: &mut Record,
) -> Option<Law> {
    let file = declared.arm(arm, "", None);
    let ring = if declared.may_tell_shares(&arm.strategy) { record.ring(stage, &arm.label, pool) } else { None };
    let told = ring.filter(|_| plan.requests.keys == Keys::Uniform).map(|ring| ring.shares.as_slice());
    // a malformed declaration is reported by the strategy's score card, not by a run
    Law::of(&file.expectation, &file.options, &vec![1; pool.len()], told).ok().flatten()
}

pub(super) fn settings(plan: &BlockPlan) -> Settings {
    Settings { equivalence: plan.equivalence, confidence: plan.confidence }
}

/// The complete blocks, and the data to compare them.
#[derive(Clone, Copy)]
pub(super) struct Measured<'a> {
    pub(super) record: &'a Record,
    pub(super) arms: &'a [ArmPlan],
    pub(super) plan: &'a BlockPlan,
    pub(super) blocks: u32,
    /// Blocks whose latencies are not used.
    pub(super) dropped: &'a [DroppedBlock],
}

/// The values of one measure for all arms.
struct Numbers<'a> {
    measure: Measure<'a>,
    baseline: Vec<Option<f64>>,
    others: Vec<(&'a str, Vec<Option<f64>>)>,
}

/// The measures with a verdict: those that the plan names, and the primary one.
pub(super) fn family(plan: &BlockPlan) -> Vec<&str> {
    let mut family: Vec<&str> = plan.verdicts.iter().map(String::as_str).collect();
    if !family.contains(&plan.primary.as_str()) {
        family.push(&plan.primary);
    }
    family
}

/// The number of comparisons that Holm's correction covers.
pub(super) fn family_size(plan: &BlockPlan, arms: usize) -> usize {
    family(plan).len() * arms.saturating_sub(1)
}

fn of_cell(cell: &Cell, latencies: &Latencies, measure: &str) -> Option<f64> {
    let percentile = |histogram, quantile| percentile_ns(histogram, quantile).map(|ns| ns as f64);
    match measure {
        "latency_p50" => percentile(&latencies.latency, 0.5),
        "latency_p90" => percentile(&latencies.latency, 0.9),
        "latency_p99" => percentile(&latencies.latency, 0.99),
        "service_p99" => percentile(&latencies.service, 0.99),
        EVENNESS => max_over_mean(&cell.loads()),
        GOOD_SHARE => good_share(cell),
        _ => None,
    }
}

/// Failures over all blocks; [`judge_failures`] decides whether the arm is comparable.
fn failures(record: &Record, arm: &str, blocks: u32, confidence: f64) -> Failures {
    let cells = || record.cells.iter().filter(|cell| cell.arm == arm && cell.block <= blocks);
    let (failed, unsent) = (cells().map(|cell| cell.errors).sum(), cells().map(|cell| cell.unsent).sum());
    let due = cells().map(|cell| cell.requests).sum::<u64>() + unsent;
    let shares: Vec<f64> = cells().filter_map(good_share).map(|good| 1.0 - good).collect();
    let in_a_block = typical_share(&shares, confidence);
    Failures { arm: arm.to_owned(), due, failed, unsent, is_comparable: true, in_a_block }
}

/// The share of the scheduled requests with a good response.
fn good_share(cell: &Cell) -> Option<f64> {
    let due = cell.requests + cell.unsent;
    (due > 0).then(|| cell.good() as f64 / due as f64)
}

// === impl Measured ===

impl<'a> Measured<'a> {
    /// The comparison of all arms with the first.
    pub(super) fn comparison(&self, stopped: String) -> Comparison {
        let Self { record, arms, plan, blocks, .. } = *self;
        let family = family(plan);
        let judged: Vec<Numbers<'_>> = family.iter().map(|measure| self.of_all(measure)).collect();
        let labelled: Vec<Vec<ArmBlocks<'_>>> = judged.iter().map(Numbers::arms).collect();
        let questions: Vec<Question<'_>> =
            judged.iter().zip(&labelled).map(|(numbers, arms)| numbers.question(arms)).collect();
        let mut ratios = compare_family(&questions, settings(plan));
        for measure in DESCRIBED.into_iter().filter(|measure| !family.contains(measure)) {
            let numbers = self.of_all(measure);
            ratios.extend(describe(&numbers.question(&numbers.arms()), settings(plan)));
        }
        let mut failures: Vec<Failures> =
            arms.iter().map(|arm| failures(record, &arm.label, blocks, plan.confidence)).collect();
        judge_failures(&mut failures, &mut ratios);
        let ribbons =
            arms.iter().filter_map(|arm| ribbon(&arm.label, &self.histograms(arm), &QUANTILES, plan.confidence));
        Comparison {
            baseline: arms[0].label.clone(),
            primary: plan.primary.clone(),
            verdict_measures: family.iter().map(|measure| (*measure).to_owned()).collect(),
            equivalence: plan.equivalence,
            confidence: plan.confidence,
            blocks,
            stopped,
            dropped: self.dropped.to_vec(),
            failures,
            ratios,
            ribbons: ribbons.collect(),
            drift: drift(&self.numbers(&arms[0].label, &plan.primary), DRIFT_LIMIT),
        }
    }

    /// The widths of the intervals of the primary measure, for all arms except the baseline.
    pub(super) fn half_widths(&self) -> Vec<Option<Width>> {
        let numbers = self.of_all(&self.plan.primary);
        half_widths(&numbers.baseline, &numbers.arms(), family_size(self.plan, self.arms.len()), settings(self.plan))
    }

    /// One value for each block of an arm, `None` with too few responses. Dropped blocks are left out, unless the
    /// measure is a count.
    fn numbers(&self, arm: &str, measure: &str) -> Vec<Option<f64>> {
        let number = |block: u32| {
            let cell = self.record.cells.iter().find(|cell| cell.arm == arm && cell.block == block)?;
            let key = CellKey { arm: arm.to_owned(), n: cell.n, block };
            of_cell(cell, self.record.latencies.get(&key)?, measure)
        };
        let counts = |block: &u32| [EVENNESS, GOOD_SHARE].contains(&measure) || !self.is_dropped(*block);
        (1..=self.blocks).filter(counts).map(number).collect()
    }

    fn of_all(&self, measure: &'a str) -> Numbers<'a> {
        let [baseline, others @ ..] = self.arms else { unreachable!("a plan has an arm") };
        let is_compared = |arm: &&ArmPlan| measure != EVENNESS || (self.has_law(baseline) && self.has_law(arm));
        let of = |arm: &'a ArmPlan| (arm.label.as_str(), self.numbers(&arm.label, measure));
        Numbers {
            measure: Measure { name: measure, more_is_better: measure == GOOD_SHARE },
            baseline: self.numbers(&baseline.label, measure),
            others: others.iter().filter(is_compared).map(of).collect(),
        }
    }

    /// Whether the cells of this arm have expected counts.
    fn has_law(&self, arm: &ArmPlan) -> bool {
        let mut cells = self.record.cells.iter().filter(|cell| cell.arm == arm.label && cell.block <= self.blocks);
        cells.all(|cell| cell.backends.iter().all(|backend| backend.expected.is_some()))
    }

    fn histograms(&self, arm: &ArmPlan) -> Vec<&'a hdrhistogram::Histogram<u64>> {
        let counts = |key: &CellKey| key.arm == arm.label && key.block <= self.blocks && !self.is_dropped(key.block);
        let of_arm = self.record.latencies.iter().filter(|(key, _)| counts(key));
        of_arm.map(|(_, latencies)| &*latencies.latency).collect()
    }

    fn is_dropped(&self, block: u32) -> bool {
        self.dropped.iter().any(|dropped| dropped.block == block)
    }
}

// === impl Numbers ===

impl Numbers<'_> {
    fn arms(&self) -> Vec<ArmBlocks<'_>> {
        self.others.iter().map(|(arm, numbers)| ArmBlocks { arm, numbers }).collect()
    }

    fn question<'b>(&'b self, arms: &'b [ArmBlocks<'b>]) -> Question<'b> {
        Question { measure: self.measure, baseline: &self.baseline, arms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict;

    /// Blocks of 1,000 requests each: `failed` of them fail at once, the others have a response after about `ms`.
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
        without(record, labels, blocks, &[])
    }

    fn without(record: &Record, labels: &[&str], blocks: u32, dropped: &[DroppedBlock]) -> Comparison {
        let Plan { arms, blocks: plan, .. } = plan(labels);
        let plan = plan.expect("blocks");
        Measured { record, arms: &arms, plan: &plan, blocks, dropped }.comparison("it was enough".into())
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
    fn good_responses_are_judged_by_their_share_also_in_dropped_blocks_and_without_failures() {
        let mut record = Record::default();
        for (arm, failed) in [("base", 500), ("half", 250), ("none", 0)] {
            measured(&mut record, arm, 8, failed, 10);
        }
        let Plan { arms, blocks: plan, .. } = plan(&["base", "half", "none"]);
        let verdicts = vec![GOOD_SHARE.to_owned()];
        let plan = BlockPlan { primary: GOOD_SHARE.to_owned(), verdicts, ..plan.expect("blocks") };
        let dropped = [DroppedBlock { block: 2, arms: vec!["half".into()], reason: "by 1 s at p50".into() }];
        let measured = Measured { record: &record, arms: &arms, plan: &plan, blocks: 8, dropped: &dropped };
        let comparison = measured.comparison("it was enough".into());
        for (arm, ratio, share) in [("half", 1.5, 0.25), ("none", 2.0, 0.0)] {
            let found = comparison.ratio(arm, GOOD_SHARE).expect("judged");
            assert!((found.ratio - ratio).abs() < 1e-9 && found.left_out == 0, "{found:?}");
            assert_eq!((found.verdict, found.more_is_better), (Verdict::Better, true), "{found:?}");
            let typical = comparison.failures_of(arm).and_then(|it| it.in_a_block).expect("blocks");
            assert_eq!((typical.low, typical.share, typical.high, typical.is_sound), (share, share, share, true));
        }
        let p90 = comparison.ratio("none", "latency_p90").expect("described");
        assert_eq!(p90.verdict, Verdict::NotComparable, "latencies are of other requests");
    }

    #[test]
    fn blocks_without_enough_good_responses_are_counted() {
        let mut record = Record::default();
        measured(&mut record, "base", 8, 0, 30);
        measured(&mut record, "arm", 8, 0, 10);
        let key = record.cells[10].key();
        let mut few = Latencies::new();
        few.record(1_000_000, 1_000_000);
        record.latencies.insert(key, few);
        let comparison = of(&record, &["base", "arm"], 8);
        assert_eq!(comparison.ratio("arm", "latency_p90").expect("said").left_out, 1);
    }

    #[test]
    fn a_dropped_block_has_no_latency_in_any_arm_and_keeps_its_counts() {
        let mut record = Record::default();
        measured(&mut record, "base", 9, 3, 30);
        measured(&mut record, "arm", 9, 3, 10);
        // the arm's second block is a hundred times slower, attributed to the generator
        let key = record.cells[10].key();
        let mut late = Latencies::new();
        (0..1000).for_each(|_| late.record(1_000_000_000, 1_000_000_000));
        record.latencies.insert(key, late);
        let dropped = [DroppedBlock { block: 2, arms: vec!["arm".into()], reason: "by 1 s at p50".into() }];
        let comparison = without(&record, &["base", "arm"], 9, &dropped);
        let ratio = comparison.ratio("arm", "latency_p90").expect("said");
        assert_eq!((ratio.left_out, ratio.verdict), (0, Verdict::Better), "{ratio:?}");
        assert!(ratio.high < 0.4, "the late block is not in it: {ratio:?}");
        let slowest = comparison.ribbons.iter().flat_map(|ribbon| &ribbon.points).map(|point| point.value_ns);
        assert!(slowest.fold(0.0, f64::max) < 1e8, "nor in the curves");
        assert_eq!((comparison.blocks, comparison.dropped.as_slice()), (9, &dropped[..]));
        let failures = comparison.failures_of("arm").expect("counted");
        assert_eq!((failures.due, failures.failed), (9_000, 27), "failures are counts");
    }

    #[test]
    fn verdicts_are_on_the_measures_of_the_plan_and_others_are_described() {
        let mut record = Record::default();
        measured(&mut record, "base", 12, 0, 30);
        measured(&mut record, "arm", 12, 0, 10);
        let comparison = of(&record, &["base", "arm"], 12);
        assert_eq!(comparison.verdict_measures, ["latency_p50", "latency_p90", "latency_p99"]);
        for measure in comparison.judged() {
            let ratio = comparison.ratio("arm", measure).expect("said");
            assert_eq!((ratio.verdict, ratio.p.is_some()), (Verdict::Better, true), "{ratio:?}");
        }
        let service = comparison.ratio("arm", "service_p99").expect("said");
        assert_eq!((service.verdict, service.p), (Verdict::Undecided, None), "{service:?}");
        assert!(comparison.ratio("arm", "rps").is_none(), "an open loop has the requested rate");
    }

    #[test]
    fn counts_are_compared_only_where_both_arms_declare_them() {
        let mut record = Record::default();
        for (arm, declares) in [("base", true), ("ring", true), ("least", false)] {
            measured(&mut record, arm, 8, 0, 10);
            let band = crate::model::Band { expected: 500.0, low: 450.0, high: 550.0 };
            for cell in record.cells.iter_mut().filter(|cell| cell.arm == arm) {
                let backend = |id: &str, requests| crate::model::BackendCount {
                    id: id.into(),
                    requests,
                    errors: 0,
                    expected: declares.then_some(band),
                };
                cell.backends = vec![backend("1", 500 + u64::from(cell.block)), backend("2", 500)];
            }
        }
        let comparison = of(&record, &["base", "ring", "least"], 8);
        assert!(comparison.ratio("ring", EVENNESS).is_some_and(|ratio| ratio.p.is_none()), "described");
        assert!(comparison.ratio("least", EVENNESS).is_none(), "least_connections declares nothing");
    }

    #[test]
    fn a_primary_measure_that_the_verdicts_do_not_name_gets_one() {
        let plan = plan(&["a", "b", "c"]).blocks.expect("blocks");
        assert_eq!(family_size(&plan, 3), 6);
        let plan = BlockPlan { primary: "service_p99".into(), ..plan };
        assert_eq!((family(&plan)[3], family_size(&plan, 3)), ("service_p99", 8));
    }
}
