//! Synthetic runs: the data that an experiment of each scenario would store, from fixed seeds.
//!
//! The numbers arise like real ones: counts of draws, exponential service times, and a queue that grows with load. So
//! the reports look like real reports. Nothing is copied from a report.

mod make;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use loadgen::model::*;
use serde_json::json;

use make::*;

/// A run and the folder with its report.
pub(crate) struct Report {
    pub(crate) name: &'static str,
    pub(crate) run: Run,
    pub(crate) folder: Folder,
}

/// Every scenario with its report, made once.
pub(crate) fn reports() -> &'static [Report] {
    static REPORTS: LazyLock<Vec<Report>> = LazyLock::new(|| {
        let runs = [
            ("a1", a1()),
            ("a1-round-robin", a1_round_robin()),
            ("a2", a2()),
            ("a3", a3()),
            ("faults", faults()),
            ("b", b()),
            ("a4", a4()),
            ("partial", partial()),
            ("invalid", invalid()),
            ("b-late", late(b())),
            ("a4-late", late(a4())),
            ("a3-late", late(a3())),
            ("many", many()),
        ];
        runs.into_iter().map(|(name, run)| Report { name, folder: written(name, &run), run }).collect()
    });
    &REPORTS
}

fn written(name: &str, run: &Run) -> Folder {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("reports").join(name);
    let _ = std::fs::remove_dir_all(&path);
    let folder = Folder::new(path);
    folder.write(run).expect("a run can be stored");
    loadgen::report::write(&folder).expect("a report can be made");
    // For people to look at, like the reports.
    let summary = loadgen::report::summary(run, "report.html");
    std::fs::write(folder.file("summary.txt"), summary).expect("a summary can be stored");
    folder
}

/// The ring of the course at N = 3 with the functions of the sheet.
pub(crate) fn a1() -> Run {
    let mut rng = fastrand::Rng::with_seed(1);
    let ring = arm("assignment_ring", "assignment_ring", json!({}), r#"{"balance":"by_options"}"#);
    let shares = [0.84375, 0.04688, 0.10937];
    let plan = Plan {
        arm: "assignment_ring",
        block: 1,
        at_ms: 400,
        requests: 10_000,
        shares: &shares,
        is_exact: false,
        rps: 457.0,
        wait_ms: 118.0,
        chi_square_p: Some(0.43),
        has_bands: true,
    };
    let measured = vec![cell(&mut rng, &plan)];
    let mut run = run(
        manifest(Scenario::A1, "loadgen a1 --strategy assignment_ring --out runs/a1", vec![ring], closed()),
        measured,
    );
    run.results.rings = vec![sheet_ring("assignment_ring")];
    run.series = vec![series(&mut rng, &run.results.cells[0], None, 92.0, 540.0)];
    run
}

pub(crate) fn a1_round_robin() -> Run {
    let mut rng = fastrand::Rng::with_seed(2);
    let shares = [1.0 / 3.0; 3];
    let plan = Plan {
        arm: "round_robin",
        block: 1,
        at_ms: 400,
        requests: 10_000,
        shares: &shares,
        is_exact: true,
        rps: 1_150.0,
        wait_ms: 45.0,
        chi_square_p: None,
        has_bands: true,
    };
    let measured = vec![cell(&mut rng, &plan)];
    run(manifest(Scenario::A1, "loadgen a1 --out runs/a1", vec![round_robin()], closed()), measured)
}

/// Round robin and a ring, N = 1..6, three blocks each.
pub(crate) fn a2() -> Run {
    let mut rng = fastrand::Rng::with_seed(3);
    let ring = arm("ring, 9 points", "consistent_hash", json!({"virtual_nodes": 9}), r#"{"balance":"ring:9"}"#);
    let mut measured = Vec::new();
    let mut at_ms = 500;
    for block in 1..=3 {
        for n in 1..=6_usize {
            let weights: Vec<f64> = (0..n).map(|at| 1.0 + 0.45 * ((at * 7 + n * 3) as f64).sin()).collect();
            let even = vec![1.0 / n as f64; n];
            let uneven: Vec<f64> = weights.iter().map(|weight| weight / weights.iter().sum::<f64>()).collect();
            for (label, shares, is_exact) in [("round_robin", &even, true), ("ring, 9 points", &uneven, false)] {
                let fullest = shares.iter().copied().fold(0.0, f64::max);
                let rps = (395.0 / fullest).min(1_900.0) * (0.98 + 0.04 * rng.f64());
                let plan = Plan {
                    arm: label,
                    block,
                    at_ms,
                    requests: 10_000,
                    shares,
                    is_exact,
                    rps,
                    wait_ms: 64_000.0 / rps,
                    chi_square_p: (!is_exact).then_some(0.37),
                    has_bands: true,
                };
                let done = cell(&mut rng, &plan);
                at_ms += done.0.duration_ns / 1_000_000 + 500;
                measured.push(done);
            }
        }
    }
    let arms = vec![round_robin(), ring];
    let mut run =
        run(manifest(Scenario::A2, "loadgen a2 --arms round_robin,ring9.toml --out runs/a2", arms, closed()), measured);
    run.results.disruptions = (1..6)
        .map(|n| Disruption {
            arm: "ring, 9 points".into(),
            from_n: n,
            to_n: n + 1,
            keys: 10_000,
            moved: 10_000 / u64::from(n + 1) + 137,
        })
        .collect();
    run
}

/// The scheduled time of the first measured request of A3 on the run's clock. Set-up and warm-up come before.
const A3_BEGAN_MS: u64 = 3_400;

/// One of three servers is killed at 20 s of 40. Requests that were scheduled up to 400 ms before fail with it.
pub(crate) fn a3() -> Run {
    let mut rng = fastrand::Rng::with_seed(4);
    let shares = [0.34, 0.32, 0.34];
    let plan = Plan {
        arm: "round_robin",
        block: 1,
        at_ms: A3_BEGAN_MS,
        requests: 33_597,
        shares: &shares,
        is_exact: false,
        rps: 840.0,
        wait_ms: 14.0,
        chi_square_p: None,
        has_bands: false,
    };
    let mut done = cell(&mut rng, &plan);
    // The errors are added to the good responses, whose latencies are recorded.
    (done.0.requests, done.0.errors) = (done.0.requests + 3, 3);
    done.0.error_kinds = BTreeMap::from([("status 502".into(), 3)]);
    done.0.retries = Some(11);
    done.0.asked_rps = Some(840.0);
    let mut run = run(
        manifest(Scenario::A3, "loadgen a3 --seed 20261122 --out runs/a3", vec![round_robin()], open()),
        vec![done],
    );
    run.results.accounting[0].attempts += 8;
    run.results.accounting[0].backends[1].is_lower_bound = true;
    let event = |at_ms, kind, text: &str| Event {
        backend: Some("Server 2".into()),
        ..make::event(A3_BEGAN_MS + at_ms, None, kind, text)
    };
    run.results.events = vec![
        event(20_000, EventKind::Kill, "Server 2 killed"),
        event(20_031, EventKind::Detected, "out of rotation"),
        event(21_240, EventKind::Recovered, "back in rotation"),
    ];
    let mut series = series(&mut rng, &run.results.cells[0], Some(840.0), 13.0, 62.0);
    for window in &mut series.windows {
        let at_ms = window.at_ms - A3_BEGAN_MS;
        let suffer = |p50: &mut Option<u64>, p99: &mut Option<u64>, backends: &mut Vec<u64>| {
            let lost = backends[1];
            *backends = vec![backends[0] + lost / 2, 0, backends[2] + lost / 2];
            (*p50, *p99) = (p50.map(|ns| ns * 3), p99.map(|ns| ns * 4));
        };
        if (19_600..21_200).contains(&at_ms) {
            suffer(&mut window.p50_ns, &mut window.p99_ns, &mut window.backends);
        }
        window.errors = if at_ms == 19_600 { 3 } else { 0 };
        let ended = window.ended.as_mut().expect("counted");
        if (20_000..21_200).contains(&at_ms) {
            suffer(&mut ended.p50_ns, &mut ended.p99_ns, &mut ended.backends);
        }
        ended.errors = if at_ms == 20_000 { 3 } else { 0 };
    }
    run.series = vec![series];
    run
}

/// Every kind of fault, some at the same time, some close enough that their labels could overlap.
pub(crate) fn faults() -> Run {
    use EventKind::{Add, Detected, Errors, HotKey, Kill, Recovered, Remove, Slow, Stall, Undone};
    let mut run = a3();
    run.manifest.scenario = Scenario::Own;
    run.manifest.title = "Every fault".into();
    run.results.events = [
        (2_000, Some(6_000), Slow, "Server 1 slower ×10"),
        (4_000, Some(9_000), Slow, "Server 2 slower by 50ms"),
        (6_000, None, Undone, "Server 1 is normal again"),
        (8_500, Some(8_900), Stall, "Server 3 stalled"),
        (8_900, None, Undone, "Server 3 is normal again"),
        (9_000, None, Undone, "Server 2 is normal again"),
        (11_000, Some(18_000), HotKey, "one key has 80 % of the requests"),
        (12_000, Some(17_500), Errors, "Server 1 fails 50 % of its requests at once"),
        (18_000, None, Undone, "keys are as before"),
        (20_000, None, Kill, "Server 2 killed (SIGKILL)"),
        (20_031, None, Detected, "Server 2 gets no more requests"),
        (21_240, None, Recovered, "Server 2 gets requests again: all are back"),
        (30_000, None, Add, "1 server added (done within 412 ms)"),
        (34_000, None, Remove, "Server 3 removed"),
        (37_000, Some(39_900), Stall, "Server 1 stalled"),
        (38_000, Some(39_900), Slow, "Server 2 slower ×100"),
    ]
    .map(|(at_ms, until_ms, kind, text): (u64, Option<u64>, EventKind, &str)| {
        make::event(A3_BEGAN_MS + at_ms, until_ms.map(|until| A3_BEGAN_MS + until), kind, text)
    })
    .into();
    run
}

fn compared(
    scenario: Scenario,
    words: &str,
    seed: u64,
    arms: Vec<(Arm, f64, [f64; 3])>,
    dropped: Vec<DroppedBlock>,
) -> Run {
    const BLOCKS: u32 = 8;
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut measured, mut events, mut all_series, mut at_ms) = (Vec::new(), Vec::new(), Vec::new(), 2_000);
    for block in 1..=BLOCKS {
        let mut order: Vec<usize> = (0..arms.len()).collect();
        rng.shuffle(&mut order);
        let weather = 0.94 + 0.12 * rng.f64();
        for at in order {
            let (arm, wait_ms, shares) = &arms[at];
            let is_even = shares[0] == shares[2];
            let plan = Plan {
                arm: &arm.label,
                block,
                at_ms,
                requests: 2_500,
                shares,
                is_exact: is_even,
                rps: 840.0,
                wait_ms: wait_ms * weather * (0.96 + 0.08 * rng.f64()),
                chi_square_p: None,
                has_bands: is_even || scenario == Scenario::A4,
            };
            let mut done = cell(&mut rng, &plan);
            done.0.asked_rps = Some(840.0);
            done.0.jain_in_flight = Some(1.0 - 0.3 * (shares[0] - shares[2]).abs());
            events.push(make::event(at_ms - 1_000, None, EventKind::Swap, &arm.label));
            all_series.push(series(&mut rng, &done.0, Some(840.0), wait_ms + 9.0, 4.6 * (wait_ms + 6.0)));
            measured.push(done);
            at_ms += 4_000;
        }
    }
    let labels: Vec<Arm> = arms.iter().map(|arm| arm.0.clone()).collect();
    let mut run = run(manifest(scenario, words, labels, open()), measured);
    run.manifest.budget_ms = 240_000;
    run.manifest.duration_ms = at_ms;
    run.results.events = events;
    run.series = all_series;
    run.results.comparison = Some(comparison(&run, BLOCKS, dropped));
    run
}

/// Shares of three backends: the first gets more by `skew`, the last less.
fn skewed(skew: f64) -> [f64; 3] {
    [1.0 + skew, 1.0, 1.0 - skew].map(|share| share / 3.0)
}

fn dropped(block: u32, arms: &[&str]) -> DroppedBlock {
    let arms = arms.iter().map(|arm| (*arm).to_owned()).collect();
    DroppedBlock { block, arms, reason: "by 1.2 ms at p90, where 0.8 ms are allowed".into() }
}

/// A late generator: latency and throughput are void, the rest is valid.
pub(crate) fn late(mut run: Run) -> Run {
    let reason = "the generator was late in 5 of 24 segments, by 4.1 ms at p90, where 0.8 ms are allowed";
    run.manifest.marks[0] = Mark::invalid("generator", reason, &Conclusion::OF_TIME);
    run
}

/// A comparison of three arms.
pub(crate) fn b() -> Run {
    let least = arm("least_connections", "least_connections", json!({}), r#"{"balance":"by_load"}"#);
    let hash = arm("consistent_hash", "consistent_hash", json!({"virtual_nodes": 160}), r#"{"balance":"ring:160"}"#);
    compared(
        Scenario::B,
        "loadgen b --arms round_robin,least_connections,consistent_hash --budget 240s --out runs/b",
        5,
        vec![(round_robin(), 14.0, skewed(0.0)), (least, 3.0, skewed(0.02)), (hash, 19.0, skewed(0.08))],
        vec![dropped(3, &["consistent_hash"]), dropped(6, &["round_robin", "consistent_hash"])],
    )
}

/// Other hash functions for the course's ring.
pub(crate) fn a4() -> Run {
    let of = |label: &str, options| arm(label, "assignment_ring", options, r#"{"balance":"by_options"}"#);
    let mut run = compared(
        Scenario::A4,
        "loadgen a4 --plan config/experiments/a4.toml --out runs/a4",
        6,
        vec![
            (of("sheet", json!({})), 60.0, [0.84375, 0.046875, 0.109375]),
            (
                of("H = i^2+11i+19", json!({"request": "i^2 + 11i + 19", "server": "16(i-1) + 57j"})),
                22.0,
                [0.4375, 0.28125, 0.28125],
            ),
            (of("sheet, j from 1", json!({"first_virtual_index": 1})), 60.0, [0.8359375, 0.046875, 0.1171875]),
        ],
        Vec::new(),
    );
    let thirds = |arm, shares: [f64; 3]| ring(arm, &[(0.1, 0, shares[0]), (0.4, 1, shares[1]), (0.9, 2, shares[2])]);
    run.results.rings = vec![
        sheet_ring("sheet"),
        thirds("H = i^2+11i+19", [0.4375, 0.28125, 0.28125]),
        thirds("sheet, j from 1", [0.8359375, 0.046875, 0.1171875]),
    ];
    run
}

/// Interrupted in the second block.
pub(crate) fn partial() -> Run {
    let mut run = b();
    run.results.cells.truncate(4);
    let keys: Vec<CellKey> = run.results.cells.iter().map(Cell::key).collect();
    run.latencies.retain(|key, _| keys.contains(key));
    run.series.truncate(4);
    run.results.accounting.truncate(4);
    run.results.events.truncate(4);
    run.results.comparison = None;
    run.manifest.completeness = Completeness::Partial { reason: "interrupted (Ctrl-C) after 1 of 8 blocks".into() };
    run
}

/// The generator was late, and counts do not agree.
pub(crate) fn invalid() -> Run {
    let mut run = b();
    let reason = "p99 of the send lag was 4.1 ms, more than 10 % of the median latency of 16 ms";
    run.manifest.marks[0] = Mark::invalid("send_lag", reason, &Conclusion::all());
    run.results.accounting[1].balancer -= 2;
    run.results.accounting[1].mismatch = Some("client 2,500, balancer 2,498".into());
    run
}

/// Long names, special characters of HTML and Markdown, more arms than colours, and a backend with an unusual name.
pub(crate) fn many() -> Run {
    let labels = [
        "round_robin",
        "two choices <d=2> & friends | *starred*",
        "a strategy whose label is as long as people make them when they try many",
        "p2c",
        "peak_ewma",
        "maglev 65537",
        "ring \"160\"",
        "random",
    ];
    let arms = labels
        .iter()
        .enumerate()
        .map(|(at, label)| (arm(label, "round_robin", json!({}), ""), 4.0 + 2.0 * at as f64, skewed(0.01 * at as f64)));
    let mut run = compared(Scenario::B, "loadgen b --plan 'my plan.toml'", 7, arms.collect(), Vec::new());
    for cell in &mut run.results.cells {
        cell.backends[2].id = "backend-with-a-very-long-name.eu-central-1.example.org:8080".into();
    }
    run
}
