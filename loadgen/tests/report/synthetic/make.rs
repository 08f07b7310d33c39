//! The parts of synthetic runs: manifests, cells with their latencies, series, and comparisons.

use std::collections::BTreeMap;

use loadgen::model::*;
use serde_json::json;

const SECOND_NS: u64 = 1_000_000_000;

pub(super) fn arm(label: &str, strategy: &str, options: serde_json::Value, expectation: &str) -> Arm {
    let sha = |salt: &str| {
        let seed = label
            .bytes()
            .chain(salt.bytes())
            .fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        format!("{:016x}", seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(4)
    };
    Arm {
        label: label.into(),
        strategy: strategy.into(),
        strategy_sha256: sha("library"),
        options,
        cost_factor: 1.0,
        config_sha256: sha("config"),
        expectation: expectation.into(),
        safeguards: None,
    }
}

pub(super) fn round_robin() -> Arm {
    arm("round_robin", "round_robin", json!({}), r#"{"balance":"exact"}"#)
}

/// The ring of the course sheet for three servers, as lb returns it. Each virtual server has its slot, its server, and
/// its number of 6-digit ids.
const SHEET: [(u32, usize, u32); 27] = [
    (26, 0, 710155),
    (29, 0, 0),
    (30, 1, 0),
    (32, 1, 28125),
    (34, 0, 7032),
    (35, 2, 0),
    (37, 1, 0),
    (38, 2, 0),
    (41, 0, 7032),
    (42, 2, 0),
    (44, 1, 0),
    (49, 2, 7030),
    (50, 0, 0),
    (53, 1, 14062),
    (58, 2, 7032),
    (61, 0, 0),
    (64, 1, 0),
    (69, 2, 7032),
    (74, 0, 7031),
    (77, 1, 0),
    (82, 2, 63282),
    (89, 0, 21093),
    (92, 1, 0),
    (97, 2, 7032),
    (106, 0, 7031),
    (109, 1, 0),
    (114, 2, 7031),
];

pub(super) fn sheet_ring(arm: &str) -> Ring {
    ring(arm, &SHEET.map(|(slot, server, ids)| (f64::from(slot + 1) / 512.0, server, f64::from(ids) / 900_000.0)))
}

/// A ring of three servers with these arcs.
pub(super) fn ring(arm: &str, arcs: &[(f64, usize, f64)]) -> Ring {
    let backends: Vec<String> = (1..=3).map(|server| format!("Server {server}")).collect();
    let share = |server| arcs.iter().filter(|arc| arc.1 == server).map(|arc| arc.2).sum();
    let arcs = arcs.iter().copied().map(RingArc::from).collect();
    Ring { arm: arm.into(), n: 3, backends, shares: (0..3).map(share).collect(), arcs }
}

pub(super) fn manifest(scenario: Scenario, words: &str, arms: Vec<Arm>, load: Load) -> Manifest {
    Manifest {
        schema: SCHEMA,
        scenario,
        title: String::new(),
        command: words.split(' ').map(str::to_owned).collect(),
        loadgen: Program { version: "0.1.0".into(), commit: "6f1c0de58a20c1f9".into() },
        lb: Some(Program { version: "0.1.0".into(), commit: "6f1c0de58a20c1f9".into() }),
        started: "2026-11-22T15:04:05Z".into(),
        duration_ms: 48_200,
        budget_ms: 60_000,
        arms,
        load,
        backends: BackendsDescription {
            description: "mock-server, exponential service time of mean 10 ms, 4 requests at a time".into(),
            keys: "uniform 6-digit ids".into(),
            target: "http://balancer.example/home".into(),
        },
        seeds: BTreeMap::from([
            ("run".into(), 20_261_122),
            ("arrivals".into(), 7),
            ("keys".into(), 11),
            ("order".into(), 13),
        ]),
        host: Host {
            name: "laboratory".into(),
            cpu: "AMD EPYC 7B13".into(),
            cores: 2,
            kernel: "Linux 6.8.0".into(),
            load_before: 0.31,
            load_after: Some(1.84),
            steal: Some(0.002),
        },
        completeness: Completeness::Complete,
        marks: vec![
            passed("send_lag", "p99 of the send lag was 0.08 ms, 0.7 % of the median latency"),
            passed("own_cpu", "loadgen used 41 % of one core"),
        ],
    }
}

pub(super) fn passed(check: &str, reason: &str) -> Mark {
    Mark::passed(check, reason)
}

pub(super) fn closed() -> Load {
    Load::Closed { connections: 64, requests: 10_000 }
}

pub(super) fn open() -> Load {
    Load::Open { arrivals: Arrivals::Poisson, rate_rps: 840.0, capacity_rps: Some(1_200.0), outstanding_max: 4_096 }
}

/// Requests drawn by share, or exactly even with `is_exact` and equal shares.
pub(super) fn counts(rng: &mut fastrand::Rng, requests: u64, shares: &[f64], is_exact: bool) -> Vec<u64> {
    let mut counts = vec![0; shares.len()];
    for request in 0..requests {
        let draw = rng.f64() * shares.iter().sum::<f64>();
        let mut sum = 0.0;
        let drawn = shares.iter().position(|share| {
            sum += share;
            draw < sum
        });
        let at = if is_exact { (request % shares.len() as u64) as usize } else { drawn.unwrap_or(shares.len() - 1) };
        counts[at] += 1;
    }
    counts
}

/// The band with 95 of 100 counts, by the normal law.
pub(super) fn band(requests: u64, share: f64, is_exact: bool) -> Band {
    let expected = requests as f64 * share;
    let half = if is_exact { 1.0 } else { 1.96 * (expected * (1.0 - share)).sqrt() };
    Band { low: expected - half, expected, high: expected + half }
}

pub(super) struct Plan<'a> {
    pub(super) arm: &'a str,
    pub(super) block: u32,
    pub(super) at_ms: u64,
    pub(super) requests: u64,
    pub(super) shares: &'a [f64],
    pub(super) is_exact: bool,
    pub(super) rps: f64,
    /// Mean of the waiting time, which grows with load, in milliseconds.
    pub(super) wait_ms: f64,
    pub(super) chi_square_p: Option<f64>,
    pub(super) has_bands: bool,
}

pub(super) fn cell(rng: &mut fastrand::Rng, plan: &Plan<'_>) -> (Cell, Latencies) {
    let n = plan.shares.len();
    let counts = counts(rng, plan.requests, plan.shares, plan.is_exact);
    let backend = |(at, &requests): (usize, &u64)| BackendCount {
        id: format!("Server {}", at + 1),
        requests,
        errors: 0,
        expected: plan.has_bands.then(|| band(plan.requests, plan.shares[at], plan.is_exact)),
    };
    let mut latencies = Latencies::new();
    for _ in 0..plan.requests {
        let exponential = |rng: &mut fastrand::Rng, mean: f64| -mean * (1.0 - rng.f64()).ln();
        let service = 0.4 + exponential(rng, 10.0) + exponential(rng, plan.wait_ms);
        let latency = service + exponential(rng, 0.05);
        latencies.record((latency * 1e6) as u64, (service * 1e6) as u64);
    }
    let cell = Cell {
        arm: plan.arm.into(),
        n: n as u32,
        block: plan.block,
        at_ms: plan.at_ms,
        duration_ns: (plan.requests as f64 / plan.rps * SECOND_NS as f64) as u64,
        requests: plan.requests,
        errors: 0,
        error_kinds: BTreeMap::new(),
        retries: Some(0),
        unsent: 0,
        asked_rps: None,
        jain_in_flight: None,
        chi_square_p: plan.chi_square_p,
        backends: counts.iter().enumerate().map(backend).collect(),
    };
    (cell, latencies)
}

pub(super) fn accounting(cells: &[Cell]) -> Vec<Accounting> {
    let of = |cell: &Cell| Accounting {
        stretch: format!("{}, N = {}, block {}", cell.arm, cell.n, cell.block),
        client: cell.requests,
        balancer: cell.requests,
        attempts: cell.requests + cell.retries.unwrap_or(0),
        backends: cell
            .backends
            .iter()
            .map(|it| BackendAccount {
                id: it.id.clone(),
                attempts: it.requests,
                served: it.requests,
                is_lower_bound: false,
            })
            .collect(),
        mismatch: None,
    };
    cells.iter().map(of).collect()
}

/// Windows of 100 ms over a cell: `rps` shared by the cell's counts, percentiles around those given.
pub(super) fn series(rng: &mut fastrand::Rng, cell: &Cell, asked_rps: Option<f64>, p50_ms: f64, p99_ms: f64) -> Series {
    let windows = cell.duration_ns / (SECOND_NS / 10);
    let all = cell.requests.max(1) as f64;
    let window = |number: u64| {
        let rps = cell.rps() * (0.92 + 0.16 * rng.f64());
        let jitter = |rng: &mut fastrand::Rng, ms: f64| Some((ms * (0.8 + 0.4 * rng.f64()) * 1e6) as u64);
        let backends: Vec<u64> =
            cell.backends.iter().map(|it| (rps * 0.1 * it.requests as f64 / all).round() as u64).collect();
        let asked = asked_rps.map(|rate| (rate * 0.1 * (0.9 + 0.2 * rng.f64())) as u64);
        let (answered, p50_ns, p99_ns) = ((rps * 0.1) as u64, jitter(rng, p50_ms), jitter(rng, p99_ms));
        let ended = Some(Ended { answered, errors: 0, p50_ns, p99_ns, backends: backends.clone() });
        Window { at_ms: cell.at_ms + number * 100, asked, answered, errors: 0, p50_ns, p99_ns, backends, ended }
    };
    Series {
        arm: cell.arm.clone(),
        n: cell.n,
        block: cell.block,
        window_ms: 100,
        backends: cell.backends.iter().map(|it| it.id.clone()).collect(),
        windows: (0..windows.max(1)).map(window).collect(),
    }
}

pub(super) fn run(manifest: Manifest, measured: Vec<(Cell, Latencies)>) -> Run {
    let latencies = measured.iter().map(|(cell, latencies)| (cell.key(), latencies.clone())).collect();
    let cells: Vec<Cell> = measured.into_iter().map(|(cell, _)| cell).collect();
    let accounting = accounting(&cells);
    Run { manifest, results: Results { cells, accounting, ..Results::default() }, series: Vec::new(), latencies }
}

/// Ratios by the geometric mean over blocks, with an interval of the normal law. That is exact enough for a picture.
pub(super) fn comparison(run: &Run, blocks: u32, dropped: Vec<DroppedBlock>) -> Comparison {
    let arms: Vec<&str> = run.manifest.arms.iter().map(|arm| arm.label.as_str()).collect();
    let value = |arm: &str, block: u32, quantile: f64| {
        let key = CellKey { arm: arm.into(), n: 3, block };
        run.latencies[&key].latency.value_at_quantile(quantile) as f64
    };
    let mut ratios = Vec::new();
    for (measure, quantile) in [("latency_p99", 0.99), ("latency_p90", 0.9), ("latency_p50", 0.5)] {
        for arm in &arms[1..] {
            let logs: Vec<f64> = (1..=blocks)
                .filter(|block| dropped.iter().all(|dropped| dropped.block != *block))
                .map(|block| (value(arm, block, quantile) / value(arms[0], block, quantile)).ln())
                .collect();
            let mean = logs.iter().sum::<f64>() / logs.len() as f64;
            let deviation = (logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (logs.len() - 1) as f64).sqrt();
            let half = 2.36 * deviation / (logs.len() as f64).sqrt();
            let (low, high) = ((mean - half).exp(), (mean + half).exp());
            let verdict = match (low, high) {
                (low, high) if low > 1.0 / 1.05 && high < 1.05 => Verdict::Equivalent,
                (_, high) if high < 1.0 && mean < -0.05 => Verdict::Better,
                (low, _) if low > 1.0 && mean > 0.05 => Verdict::Worse,
                _ => Verdict::Undecided,
            };
            let further_blocks = (verdict == Verdict::Undecided).then_some(14);
            let p = Some(if verdict == Verdict::Undecided { 0.21 } else { 0.0003 });
            ratios.push(Ratio {
                arm: (*arm).into(),
                measure: measure.into(),
                more_is_better: false,
                ratio: mean.exp(),
                low,
                high,
                left_out: 0,
                is_sound: true,
                p,
                verdict,
                further_blocks,
            });
        }
    }
    // Measures without a verdict: the given rate of an open loop, and counts.
    for (measure, value) in [("rps", 1.0), ("max_over_mean", 1.02)] {
        let (low, high) = (value - 0.001, value + 0.001);
        ratios.extend(arms[1..].iter().map(|arm| Ratio {
            arm: (*arm).into(),
            measure: measure.into(),
            more_is_better: measure == "rps",
            ratio: value,
            low,
            high,
            left_out: 0,
            is_sound: true,
            p: None,
            verdict: Verdict::Equivalent,
            further_blocks: None,
        }));
    }
    let ribbon = |arm: &&str| Ribbon {
        arm: (*arm).into(),
        points: (0..70)
            .map(|step| {
                let quantile = 1.0 - 10_f64.powf(-f64::from(step) / 20.0);
                let values: Vec<f64> = (1..=blocks).map(|block| value(arm, block, quantile)).collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let half = mean * (0.02 + 0.03 * quantile.powi(4));
                PercentilePoint { quantile, low_ns: mean - half, value_ns: mean, high_ns: mean + half }
            })
            .collect(),
    };
    Comparison {
        baseline: arms[0].into(),
        primary: "latency_p99".into(),
        verdict_measures: ["latency_p50", "latency_p90", "latency_p99"].map(str::to_owned).into(),
        dropped,
        equivalence: 0.05,
        confidence: 0.95,
        blocks,
        stopped: "the budget of 240 s was used up".into(),
        failures: Vec::new(),
        ratios,
        ribbons: arms.iter().map(ribbon).collect(),
        drift: Some(Drift { ratio: 1.01, limit: 0.1 }),
    }
}

pub(crate) fn event(at_ms: u64, until_ms: Option<u64>, kind: EventKind, text: &str) -> Event {
    let backend = ["Server 1", "Server 2", "Server 3"].into_iter().find(|id| text.contains(id)).map(str::to_owned);
    Event { at_ms, until_ms, kind, backend, text: text.to_owned() }
}
