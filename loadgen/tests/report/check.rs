//! `check` on stored runs: each kind of condition against raw samples, validity, baselines and exit codes.
//!
//! Runs are written and read back first, because histograms from a file differ from recorded ones.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use loadgen::experiment::{Judgement, Outcome, Threshold};
use loadgen::model::*;

use crate::damaged::stored;
use crate::synthetic::b;

/// The outcome of each request of one block.
struct Block {
    /// Latency and service time of the good responses, in nanoseconds.
    good: Vec<(u64, u64)>,
    errors: u64,
    unsent: u64,
    duration_ns: u64,
    backends: [u64; 3],
}

/// A run as its raw samples.
pub(crate) struct Raw(Vec<Block>);

const ARM: &str = "round_robin";

/// A run with exponential times. Each of the 8 blocks is 1.9 times as slow as the one before, the last 90 times as the
/// first.
pub(crate) fn slowing(seed: u64, factor: f64) -> Raw {
    let mut random = fastrand::Rng::with_seed(seed);
    let block = |number: u32| {
        let mean_ns = 5e6 * factor * 1.9_f64.powi(number as i32 - 1);
        let mut exponential = |mean: f64| (-mean * (1.0 - random.f64()).ln()) as u64 + 200;
        let good = (0..300 - 7 * u64::from(number)).map(|_| {
            let service = exponential(mean_ns);
            (service + exponential(mean_ns / 10.0), service)
        });
        Block {
            good: good.collect(),
            errors: u64::from(number),
            unsent: u64::from(number % 2),
            duration_ns: 2_000_000_000 + 1_000_000 * u64::from(number),
            backends: [100, 90 - 5 * u64::from(number), 40],
        }
    };
    Raw((1..=8).map(block).collect())
}

static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
    let mut manifest = b().manifest;
    manifest.arms.truncate(1);
    manifest
});

// === impl Raw ===

impl Raw {
    pub(crate) fn run(&self) -> Run {
        let (mut results, mut latencies) = (Results::default(), std::collections::BTreeMap::new());
        for (number, block) in (1..).zip(&self.0) {
            let backend = |(at, requests): (usize, &u64)| BackendCount {
                id: format!("Server {}", at + 1),
                requests: *requests,
                errors: 0,
                expected: None,
            };
            let cell = Cell {
                arm: ARM.into(),
                n: 3,
                block: number,
                at_ms: 3_000 * u64::from(number),
                duration_ns: block.duration_ns,
                requests: block.good.len() as u64 + block.errors,
                errors: block.errors,
                error_kinds: [("status 503".to_owned(), block.errors)].into(),
                retries: Some(0),
                unsent: block.unsent,
                asked_rps: Some(840.0),
                jain_in_flight: None,
                chi_square_p: None,
                backends: block.backends.iter().enumerate().map(backend).collect(),
            };
            let mut recorded = Latencies::new();
            block.good.iter().for_each(|(latency, service)| recorded.record(*latency, *service));
            latencies.insert(cell.key(), recorded);
            results.cells.push(cell);
        }
        Run { manifest: MANIFEST.clone(), results, series: Vec::new(), latencies }
    }

    /// The run as `check` reads it.
    fn stored(&self) -> Run {
        let (_place, folder) = stored(&self.run());
        folder.read().expect("the folder can be read")
    }

    fn sum(&self, of: impl Fn(&Block) -> u64) -> f64 {
        self.0.iter().map(of).sum::<u64>() as f64
    }

    fn due(&self) -> f64 {
        self.sum(|block| block.good.len() as u64 + block.errors + block.unsent)
    }

    /// The percentile in milliseconds. A request without a good response counts as infinitely slow.
    fn percentile(&self, quantile: f64, of: fn(&(u64, u64)) -> u64) -> f64 {
        let mut times: Vec<u64> = self.0.iter().flat_map(|block| block.good.iter().map(of)).collect();
        times.sort_unstable();
        let rank = (quantile * self.due()).ceil() as usize;
        times.get(rank - 1).map_or(f64::INFINITY, |ns| *ns as f64 / 1e6)
    }

    fn totals(&self) -> [f64; 3] {
        [0, 1, 2].map(|at| self.sum(|block| block.backends[at]))
    }
}

fn judged(threshold: &str, run: &Run, baselines: &[Run]) -> Judgement {
    let mut all = threshold.parse::<Threshold>().expect(threshold).judge(run, baselines);
    assert_eq!(all.len(), 1, "{threshold}");
    all.remove(0)
}

/// Runs `loadgen check`. Returns the exit code and all output.
fn check(words: &[&str], run: &Path, baselines: &[&Path]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.arg("check").arg(run);
    for word in words {
        command.args(["--threshold", word]);
    }
    // The first baseline has its own flag, and the others share one.
    let (first, others) = baselines.split_at(baselines.len().min(1));
    for paths in [first, others].into_iter().filter(|paths| !paths.is_empty()) {
        command.arg("--baseline").args(paths);
    }
    let output = command.output().expect("loadgen starts");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code().expect("loadgen ended"), said)
}

/// Each limit is one percent above or below the value of the samples. The error of a histogram with three digits is
/// smaller.
#[test]
fn every_condition_uses_the_samples_of_all_blocks() {
    let (raw, before) = (slowing(1, 1.0), [2, 3, 4].map(|seed| slowing(seed, 0.5)));
    let (run, baselines) = (raw.stored(), before.each_ref().map(Raw::stored));
    assert!(run == raw.run(), "the run is unchanged by storing");
    let totals = raw.totals();
    let square = |numbers: &[f64]| numbers.iter().map(|number| number * number).sum::<f64>();
    let within = raw.sum(|block| block.good.iter().filter(|times| times.0 <= 1_000_000_000).count() as u64);
    assert!(within < raw.sum(|block| block.good.len() as u64) && within / raw.due() > 0.9, "some are slower than 1 s");
    let ms = |value: f64| format!("{:.0}us", value * 1e3);
    let percent = |value: f64| format!("{:.6}%", value * 100.0);
    type Say<'a> = &'a dyn Fn(f64) -> String;
    let plain: Say<'_> = &|value| format!("{value:.9}");
    let cases: [(&str, f64, Say<'_>); 10] = [
        ("p50", raw.percentile(0.5, |times| times.0), &ms),
        ("p90", raw.percentile(0.9, |times| times.0), &ms),
        ("p95", raw.percentile(0.95, |times| times.0), &ms),
        ("service_p90", raw.percentile(0.9, |times| times.1), &ms),
        ("errors", raw.sum(|block| block.errors) / raw.due(), &percent),
        ("unsent", raw.sum(|block| block.unsent) / raw.due(), &percent),
        ("answered_within(1s)", within / raw.due(), &percent),
        ("rps", raw.sum(|block| block.good.len() as u64) / raw.sum(|block| block.duration_ns) * 1e9, plain),
        ("max_over_mean", totals[0] / (totals.iter().sum::<f64>() / 3.0), plain),
        ("jain", totals.iter().sum::<f64>().powi(2) / (3.0 * square(&totals)), plain),
    ];
    for (metric, value, say) in cases {
        assert!(value.is_finite() && value > 0.0, "{metric}: {value}");
        for (sign, factor, wanted) in [
            ('<', 1.01, Outcome::Kept),
            ('<', 0.99, Outcome::Missed),
            ('>', 1.01, Outcome::Missed),
            ('>', 0.99, Outcome::Kept),
        ] {
            let found = judged(&format!("{metric}{sign}{}", say(value * factor)), &run, &[]);
            assert_eq!(found.outcome, wanted, "{value}: {}", found.text);
        }
    }

    // The interval of the ratio by hand: the 0.965 quantile of Student's t with two degrees of freedom is 3.5783.
    let quantile = |raw: &Raw| raw.percentile(0.9, |times| times.0).ln();
    let logs = before.each_ref().map(quantile);
    let mean = logs.iter().sum::<f64>() / 3.0;
    let deviation = (square(&logs.map(|log| log - mean)) / 2.0).sqrt();
    let low = (quantile(&raw) - mean - 3.5783 * deviation * (4.0_f64 / 3.0).sqrt()).exp();
    assert!((1.2..2.0).contains(&low), "{low}");
    for (factor, wanted) in [(1.01, Outcome::Kept), (0.99, Outcome::Missed)] {
        let found = judged(&format!("regression(p90)<{}", percent(low * factor - 1.0)), &run, &baselines);
        assert_eq!(found.outcome, wanted, "{low}: {}", found.text);
    }
    // The share of errors equals that of the baselines.
    assert_eq!(judged("regression(errors)<=0", &run, &baselines).outcome, Outcome::Kept);
    let mut failing = slowing(5, 1.0);
    failing.0[7].errors = 120;
    let found = judged("regression(errors)<=1%", &failing.stored(), &baselines);
    assert!(found.outcome == Outcome::Missed && found.text.contains("difference +4.789 %"), "{}", found.text);
}

/// All slow requests are in the later blocks. An earlier version left these blocks out of every sum.
#[test]
fn slow_later_blocks_miss_a_threshold() {
    let fast = || slowing(1, 0.01);
    let mut slow = fast();
    for block in &mut slow.0[4..] {
        block.good.iter_mut().for_each(|times| (times.0, times.1) = (times.0 * 100, times.1 * 100));
    }
    let baselines = [1, 2, 3].map(|seed| slowing(seed + 10, 0.01).stored());
    let (fast, slow) = (fast().stored(), slow.stored());
    assert_eq!(judged("regression(p90)<10%", &fast, &baselines).outcome, Outcome::Kept);
    let found = judged("regression(p90)<10%", &slow, &baselines);
    assert!(found.outcome == Outcome::Missed && found.text.contains("3 baselines"), "{}", found.text);
    let found = judged("regression(p90)<10%", &slow, &baselines[..1]);
    assert!(found.outcome == Outcome::Missed && found.text.contains("1 baseline"), "{}", found.text);
    // A request with an error is within no time. All others are.
    let all = slow.results.cells.iter().map(Cell::good).sum::<u64>() as f64;
    let due = slow.results.cells.iter().map(|cell| cell.requests + cell.unsent).sum::<u64>() as f64;
    let within = format!("answered_within(100s)>={:.6}%", all / due * 100.0 - 1e-5);
    assert_eq!(judged(&within, &slow, &[]).outcome, Outcome::Kept);
}

#[test]
fn a_condition_is_judged_only_if_its_conclusion_is_valid() {
    let raw = slowing(1, 1.0);
    let kinds = [
        ("p50<1h", Conclusion::Latency),
        ("service_p50<1h", Conclusion::Latency),
        ("answered_within(1h)>1%", Conclusion::Latency),
        ("rps>0", Conclusion::Throughput),
        ("max_over_mean<3", Conclusion::Shares),
        ("jain>0", Conclusion::Shares),
        ("errors<99%", Conclusion::Counts),
        ("unsent<99%", Conclusion::Counts),
    ];
    for void in Conclusion::all() {
        let mut run = raw.run();
        run.manifest.marks.push(Mark::invalid("generator", "it was late by 4 ms", &[void]));
        for (threshold, needed) in kinds {
            let found = judged(threshold, &run, &[]);
            let wanted = if needed == void { Outcome::CannotTell } else { Outcome::Kept };
            assert_eq!(found.outcome, wanted, "{void:?}: {}", found.text);
            assert_eq!(found.text.contains("it was late by 4 ms"), needed == void, "{}", found.text);
        }
    }
}

#[test]
fn blocks_with_a_late_generator_count_only_for_conditions_of_counts() {
    let raw = slowing(1, 1.0);
    let mut run = raw.run();
    let mut comparison = b().results.comparison.expect("a comparison of three arms");
    comparison.dropped =
        [7, 8].map(|block| DroppedBlock { block, arms: vec![ARM.into()], reason: "late".into() }).into();
    run.results.comparison = Some(comparison);
    let in_time = Raw(raw.0.into_iter().take(6).collect());
    let p90 = in_time.percentile(0.9, |times| times.0) * 1e3;
    for (factor, wanted) in [(1.01, Outcome::Kept), (0.99, Outcome::Missed)] {
        let found = judged(&format!("p90<{:.0}us", p90 * factor), &run, &[]);
        assert_eq!(found.outcome, wanted, "{}", found.text);
    }
    let all = slowing(1, 1.0);
    let errors = all.sum(|block| block.errors) / all.due() * 100.0;
    assert_eq!(judged(&format!("errors>{:.6}%", errors * 0.999), &run, &[]).outcome, Outcome::Kept);
    assert_eq!(judged(&format!("errors<{:.6}%", errors * 1.001), &run, &[]).outcome, Outcome::Kept);
    let comparison = run.results.comparison.as_mut().expect("the comparison was set above");
    comparison.dropped = (1..=8).map(|block| DroppedBlock { block, arms: vec![], reason: "late".into() }).collect();
    let found = judged("p50<1h", &run, &[]);
    assert!(found.outcome == Outcome::CannotTell && found.text.contains("the 8 blocks"), "{}", found.text);
}

#[test]
fn exit_codes_are_those_of_the_help() {
    let (_place, run) = stored(&slowing(1, 1.0).run());
    let run = run.path();
    assert_eq!(check(&["p50<1h", "jain>0.1"], run, &[]).0, 0);
    assert_eq!(check(&["p50<1us", "jain>0.1"], run, &[]).0, 99);
    let (code, said) = check(&["p99.9<1h", "jain>0.1"], run, &[]);
    assert!(code == 3 && said.contains("cannot tell: ") && said.contains("the metric needs 10000"), "{said}");
    assert_eq!(check(&["p99.9<1h", "p50<1us"], run, &[]).0, 99, "a missed threshold has precedence");
    let (code, said) = check(&[], run, &[]);
    assert!(code == 0 && said.contains("no threshold was given"), "{said}");
    assert_eq!(check(&["p50<1h"], Path::new("/nowhere"), &[]).0, 2);
    assert_eq!(check(&["nobody:p50<1h"], run, &[]).0, 2);
    let help = Command::new(env!("CARGO_BIN_EXE_loadgen")).args(["check", "--help"]).output().expect("loadgen starts");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(
        help.contains("cannot tell") && help.contains("0  every threshold is kept\n  99  a threshold is missed"),
        "{help}"
    );

    let marked = |marks: &[Mark], completeness: Option<Completeness>| {
        let mut run = slowing(1, 1.0).run();
        run.manifest.marks.extend_from_slice(marks);
        run.manifest.completeness = completeness.unwrap_or(Completeness::Complete);
        stored(&run)
    };
    let (_place, partial) = marked(&[], Some(Completeness::Partial { reason: "it was stopped".into() }));
    assert_eq!(check(&["p50<1h"], partial.path(), &[]).0, 1);
    let (_place, void) = marked(&[Mark::invalid("accounting", "counts differ", &Conclusion::all())], None);
    let (code, said) = check(&["p50<1h", "jain>0"], void.path(), &[]);
    assert!(code == 1 && said.contains("this run must not be believed (accounting)"), "{said}");
    let (_place, late) = marked(&[Mark::invalid("generator", "late", &Conclusion::OF_TIME)], None);
    let (code, said) = check(&["p50<1h", "jain>0"], late.path(), &[]);
    assert!(code == 3 && said.contains("?       round_robin") && said.contains("kept    round_robin"), "{said}");
    assert!(said.contains("believed in its latency and throughput (generator): late"), "{said}");
    assert_eq!(check(&["jain>0"], late.path(), &[]).0, 0);
    assert_eq!(check(&["jain<0", "p50<1h"], late.path(), &[]).0, 99);
    assert_eq!(check(&[], late.path(), &[]).0, 1, "its main conclusion is void");
}

#[test]
fn a_regression_needs_three_baselines() {
    let folders = [1, 2, 3, 4].map(|seed| stored(&slowing(seed, 1.0).run()));
    let [run, first, second, third] = folders.each_ref().map(|(_, folder)| folder.path());
    let (_place, slow) = stored(&slowing(5, 3.0).run());
    let limit = ["regression(p50)<5%"];
    for baselines in [&[first][..], &[first, second]] {
        let (code, said) = check(&limit, run, baselines);
        assert!(code == 3 && said.contains("fewer than three baselines do not show"), "{said}");
        let (code, said) = check(&limit, slow.path(), baselines);
        assert!(code == 99 && said.starts_with("MISSED") && said.contains("ratio "), "{said}");
    }
    let (code, said) = check(&limit, run, &[first, second, third]);
    assert!(code == 0 && said.contains("90 % interval ") && said.contains("3 baselines), limit 1.050"), "{said}");
    assert_eq!(check(&limit, slow.path(), &[first, second, third]).0, 99);
    assert_eq!(check(&limit, run, &[]).0, 2);
    let (code, said) = check(&["regression(errors)<=0.1%"], run, &[first]);
    assert!(code == 3 && said.contains("limit +0.100 %"), "{said}");
    assert_eq!(check(&["regression(errors)<=0.1%"], run, &[first, second, third]).0, 0);

    for twice in [&[first, second, first][..], &[first, run], &[&first.join("../run")]] {
        let is_itself = twice.len() == 1;
        let (code, said) = check(&limit, if is_itself { first } else { run }, twice);
        assert!(code == 2 && said.contains("is the same run") && said.lines().count() == 1, "{said}");
    }
    let (_place, copy) = stored(&slowing(2, 1.0).run());
    let (code, said) = check(&limit, run, &[first, copy.path()]);
    assert!(code == 2 && said.contains("is the same run"), "{said}");
}

#[test]
fn a_run_with_far_fewer_requests_is_not_compared_with_longer_ones() {
    let baselines = [2, 3, 4].map(|seed| slowing(seed, 1.0).run());
    let mut short = slowing(1, 1.0);
    short.0.truncate(3);
    let found = judged("regression(p50)<5%", &short.run(), &baselines);
    assert!(found.outcome == Outcome::CannotTell && found.text.contains("scatter more than the"), "{}", found.text);
}
