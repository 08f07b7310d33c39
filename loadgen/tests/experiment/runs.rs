//! Experiments that succeed: the content of the folder afterwards.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use loadgen::model::{Completeness, Conclusion, Load, Severity, Verdict};

use crate::support::{Lab, ended};

#[test]
fn a1_shares_and_accounts_for_every_request() {
    let lab = Lab::new();
    let ended = lab.run("scenario = \"A1\"\n[load]\nloop = \"closed\"\nconnections = 16\nrequests = 2_000");
    ended.was_carried_out();
    let run = lab.stored();
    let mut counts = run.results.cells[0].counts();
    counts.sort_unstable();
    assert_eq!(counts, [666, 667, 667]);
    let over_time: u64 = run.series[0].windows.iter().map(|window| window.answered).sum();
    assert_eq!(over_time, 2_000, "the windows include the first and the last moments");
    let account = &run.results.accounting[0];
    assert_eq!((account.client, account.balancer, account.attempts, &account.mismatch), (2_000, 2_000, 2_000, &None));
    assert!(account.backends.iter().all(|backend| backend.attempts == backend.served && !backend.is_lower_bound));
    for check in ["generator", "accounting"] {
        assert!(run.manifest.marks.iter().any(|mark| mark.check == check), "{check}: {:?}", run.manifest.marks);
    }
    assert!(run.manifest.marks.iter().all(|mark| mark.check != "accounting" || mark.severity == Severity::Passed));
    assert_eq!((run.manifest.completeness, run.manifest.seeds["run"]), (Completeness::Complete, 7));
    let expected = run.results.cells[0].backends[0].expected.expect("round robin declares its shares");
    assert!(expected.low >= 666.0 && expected.high <= 667.0);
    for file in
        ["report.html", "report.md", "results.csv", "scrapes/before-round_robin-lb.txt", "plan.json", "lb/lb.toml"]
    {
        assert!(lab.out().join(file).exists(), "{file}");
    }
    assert!(!lab.out().join("lb/state").exists(), "copies of plugins are not kept");
    lab.nothing_is_left_running();
}

#[test]
fn scrapes_of_a_run_are_stored_and_converted_to_openmetrics() {
    let lab = Lab::new();
    let load = "[load]\nloop = \"closed\"\nconnections = 8\nrequests = 700\n";
    let ran =
        lab.run(&format!("{load}[[arms]]\nstrategy = \"round_robin\"\n[[arms]]\nstrategy = \"least_connections\""));
    ran.was_carried_out();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.arg("openmetrics").arg(lab.out()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let told = ended(command.spawn().expect("loadgen starts"));
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert!(told.out.ends_with("# EOF\n") && told.err.contains(" scrapes of 127.0.0.1:"), "{}", told.err);
    // The first scrape is before the first request, the last one after the last response.
    let mut requests = BTreeMap::<&str, u64>::new();
    for line in told.out.lines().filter(|line| line.starts_with("lb_requests_total{")) {
        let words: Vec<&str> = line.rsplit(' ').take(2).collect();
        *requests.entry(words[0]).or_default() += words[1].parse::<u64>().expect("a count");
    }
    let counts: Vec<u64> = requests.into_values().collect();
    assert_eq!((counts.first(), counts.last()), (Some(&0), Some(&1_400)), "{counts:?}");
    assert!(told.out.contains("strategy=\"round_robin\"") && told.out.contains("strategy=\"least_connections\""));

    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.arg("openmetrics").arg(lab.path("nowhere")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let refused = ended(command.spawn().expect("loadgen starts"));
    assert_eq!((refused.code, refused.out.as_str()), (Some(2), ""));
    assert!(refused.err.contains("nowhere has no recorded scrapes"), "{}", refused.err);
}

#[test]
fn the_ring_of_the_course_sheet_has_its_exact_shares_through_the_real_proxy() {
    let lab = Lab::new();
    let ended = lab
        .run("[load]\nloop = \"closed\"\nconnections = 16\nrequests = 3_000\n[[arms]]\nstrategy = \"assignment_ring\"");
    ended.was_carried_out();
    let results = lab.stored().results;
    let (cell, ring) = (&results.cells[0], results.rings.first().expect("lb returned the ring"));
    // 84.37, 4.69 and 10.94 %
    let expected: Vec<f64> =
        cell.backends.iter().map(|backend| backend.expected.expect("told").expected / 3_000.0).collect();
    for (found, published) in expected.iter().chain(&ring.shares).zip([0.8437, 0.0469, 0.1094].repeat(2)) {
        assert!((found - published).abs() < 0.001, "{expected:?} {ring:?}");
    }
    let slot = |at: usize| (ring.arcs[at].end * 512.0).round() as u32 - 1;
    assert_eq!((ring.arcs.len(), slot(0), slot(26), ring.arcs[0].backend), (27, 26, 114, 0), "{ring:?}");
    assert!(cell.chi_square_p.expect("the counts can be judged") > 0.01, "seed 7: {:?}", cell.counts());
}

#[test]
fn sizes_follow_each_other_and_keys_that_move_are_counted() {
    let lab = Lab::new();
    let ended = lab.run(
        "[load]\nloop = \"closed\"\nconnections = 8\nrequests = 300\n[backends]\nn = [1, 3, 2]\n\
         [[arms]]\nstrategy = \"consistent_hash\"",
    );
    ended.was_carried_out();
    let results = lab.stored().results;
    assert_eq!(
        results.cells.iter().map(|cell| (cell.n, cell.backends.len())).collect::<Vec<_>>(),
        [(1, 1), (3, 3), (2, 2)]
    );
    let moves: Vec<_> = results.disruptions.iter().map(|it| (it.from_n, it.to_n, it.keys)).collect();
    assert_eq!(moves, [(1, 3, 1_000), (3, 2, 1_000)]);
    // A third of the keys belonged to the removed server. No other key may move.
    let left = &results.disruptions[1];
    assert!((0.1..0.6).contains(&left.share_moved()), "{left:?}");
    assert!(results.accounting.iter().all(|account| account.mismatch.is_none()), "{:?}", results.accounting);
}

#[test]
fn arms_run_side_by_side_and_are_compared() {
    let lab = Lab::new();
    let ended = lab.run(
        "scenario = \"B\"\nbudget = \"12s\"\n[load]\nloop = \"open\"\nrate_rps = 150\n[blocks]\nsegment = \"300ms\"\n\
         wash_out = \"100ms\"\nverdicts = [\"latency_p50\"]\n[[arms]]\nstrategy = \"round_robin\"\n\
         [[arms]]\nlabel = \"least\"\nstrategy = \"least_connections\"",
    );
    ended.was_carried_out();
    let run = lab.stored();
    let comparison = run.results.comparison.expect("two arms");
    assert!(
        comparison.blocks >= 2 && comparison.blocks.is_multiple_of(2),
        "blocks come in pairs: {}",
        comparison.blocks
    );
    assert_eq!(run.results.cells.len(), 2 * comparison.blocks as usize);
    // On a busy machine, the generator is late, and such blocks have no latencies.
    let left = comparison.blocks as usize - comparison.dropped.len();
    let ratio = comparison.ratio("least", "latency_p50");
    assert_eq!(ratio.is_some(), left >= 2, "{left} blocks are left");
    assert!(ratio.is_none_or(|ratio| ratio.ratio > 0.0 && ratio.measure == comparison.primary));
    assert!(
        left >= 6 || ratio.is_none_or(|ratio| ratio.verdict == Verdict::Undecided),
        "too few blocks for a verdict: {ratio:?}"
    );
    assert_eq!(comparison.verdict_measures, ["latency_p50"]);
    assert!(comparison.ratio("least", "rps").is_none(), "the rate of an open loop is given");
    for check in ["generator", "machine", "accounting"] {
        assert!(run.manifest.marks.iter().any(|mark| mark.check == check), "{check}: {:?}", run.manifest.marks);
    }
    assert!(matches!(run.manifest.load, Load::Open { rate_rps, capacity_rps: None, .. } if rate_rps == 150.0));
    assert_eq!(run.results.accounting.len(), 1);
    assert_eq!(run.results.accounting[0].mismatch, None);
    // The requests of a block are the same for both arms.
    let asked = |block: u32| -> Vec<u64> {
        let of_block = run.results.cells.iter().filter(|cell| cell.block == block);
        of_block.map(|cell| cell.requests + cell.unsent).collect()
    };
    assert_eq!(asked(1)[0], asked(1)[1], "seed 7");
}

#[test]
fn a_replay_sends_the_same_load_and_check_compares_it_with_thresholds() {
    let lab = Lab::new();
    let ended_first = lab.run("[load]\nloop = \"closed\"\nconnections = 4\nrequests = 500");
    ended_first.was_carried_out();
    let again = Lab::new();
    let run = lab.out().join("run.json");
    let replay = ended(again.command(&["replay", run.to_str().expect("UTF-8")]).spawn().expect("loadgen starts"));
    replay.was_carried_out();
    assert!(
        replay.out.contains("compared with") && replay.out.contains("round_robin, N = 3, counts: "),
        "{}",
        replay.out
    );
    assert!(replay.out.contains("both exactly as declared: agrees"), "{}", replay.out);
    assert_eq!(again.stored().manifest.seeds, lab.stored().manifest.seeds);

    let check = |thresholds: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.arg("check").arg(lab.out());
        for threshold in thresholds {
            command.args(["--threshold", threshold]);
        }
        command.output().expect("loadgen starts").status.code()
    };
    // A busy machine makes timing invalid, but not shares and counts.
    let manifest = lab.stored().manifest;
    let is_valid = manifest.supports(Conclusion::Shares) && manifest.supports(Conclusion::Counts);
    assert_eq!(check(&["max_over_mean<1.01", "errors<=0%"]), Some(if is_valid { 0 } else { 1 }));
    assert_eq!(check(&["max_over_mean<1.01", "errors>1%"]), Some(if is_valid { 99 } else { 1 }));
    assert_eq!(check(&["p99<50"]), Some(2), "without a unit");
    assert_eq!(check(&["nobody:p50<1h"]), Some(2));
}

#[test]
fn a_running_balancer_is_used_and_left_as_it_was() {
    let lab = Lab::new();
    let theirs = lab.running_balancer("least_connections", 2);
    let admin = theirs.admin.clone();
    let arguments = ["a2", "--target", &theirs.target, "--admin", &admin, "--plan", "small.toml"];
    let text = "[load]\nloop = \"closed\"\nconnections = 4\nrequests = 200\n[backends]\nn = [1, 3]";
    std::fs::write(lab.path("small.toml"), text).expect("written");
    let ended = ended(lab.command(&arguments).spawn().expect("loadgen starts"));
    ended.was_carried_out();
    let run = lab.stored();
    assert_eq!(run.results.cells.iter().map(|cell| cell.n).collect::<Vec<_>>(), [1, 3]);
    assert!(run.results.accounting.iter().all(|account| account.mismatch.is_none()));
    assert!(run.manifest.marks.iter().all(|mark| mark.check != "put_back"), "{:?}", run.manifest.marks);
    let status = theirs.status();
    assert_eq!((status.strategy.as_str(), status.backends.len()), ("least_connections", 2));
}
