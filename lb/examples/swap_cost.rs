//! The cost of a strategy swap for running requests: tail latency in windows with a swap, compared with quiet windows.
//!
//! `cargo build --release && cargo run --release -p lb --example swap_cost` (four minutes; `--json`, `--help`)
//!
//! It starts two mock servers and one `lb` with two pools of 50 backends. A closed loop finds the capacity; then an
//! open loop sends requests at half of it. Time is divided into windows of one second, in blocks of four in random
//! order:
//!
//! - one window has a warm swap: the plugin was tried before, and its verdict is stored;
//! - one has a cold swap to a new file content, which is staged, copied, tried in a child process and opened;
//! - two are quiet.
//!
//! The report has these figures:
//!
//! - the ratio of the median p99 of windows with a swap to that of quiet windows, for each kind of swap;
//! - the same ratio of quiet windows among themselves, which is the noise;
//! - the pauses of workers while they take up a generation;
//! - the growth of resident memory with each distinct content, from another `lb` without load.
//!
//! The generator, the servers and `lb` share the same cores and are not pinned, so absolute latencies depend on the
//! machine. Ratios are fair if all kinds of windows are disturbed alike, which the noise ratio shows.

mod measuring;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Parser;
use serde_json::{Value, json};

use measuring::load::{self, Schedule};
use measuring::stage::{Balancer, Build, Mock};
use measuring::statistics::{Ratio, median, quantile, ratio_of_medians};
use measuring::windows::{CALIBRATION, GAP, HAPPENS_AFTER, WARM_UP, WINDOW, loadavg, p99_us, sleep_until};

/// The number of first images that do not count for the memory, because they also fill caches and heaps.
const IMAGES_FIRST: usize = 10;

/// Measure the cost of a strategy swap for running requests
#[derive(Debug, Parser)]
struct Arguments {
    /// The build to measure, a folder with lb, mock-server and the plugins [default: the build of this program]
    #[arg(long, value_name = "FOLDER")]
    build: Option<PathBuf>,
    /// Blocks of four windows: a warm swap, a cold one, two quiet
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100))]
    blocks: u64,
    /// Backends in each of the two pools
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    backends: u64,
    /// Keep-alive connections of the load
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    connections: u64,
    /// Requests per second [default: half of the measured capacity]
    #[arg(long, value_name = "RATE")]
    rate: Option<f64>,
    /// Send requests with equal gaps, instead of as a Poisson process
    #[arg(long)]
    constant: bool,
    /// Distinct file contents to load, to measure the memory of each (lb keeps at most 128)
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u64).range(20..=120))]
    images: u64,
    /// Seed of the order of windows, the gaps and the interval
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Quiet,
    Warm,
    Cold,
}

/// The results of the windows of one kind.
#[derive(Clone, Debug, Default)]
struct Windows {
    /// One value per window, µs.
    p99_us: Vec<f64>,
    reload_ms: Vec<f64>,
}

struct Measured {
    capacity: f64,
    rate: f64,
    quiet: Windows,
    warm: Windows,
    cold: Windows,
    /// From the scheduled send time to the actual one, µs.
    lag_p50_us: f64,
    lag_p99_us: f64,
    requests: usize,
    take_ups: Vec<(f64, f64)>,
    loadavg: [String; 2],
}

struct Memory {
    images: usize,
    kib_per_image: f64,
    anonymous_kib_per_image: f64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    measuring::tell(run(&arguments), arguments.json, text)
}

fn run(arguments: &Arguments) -> Result<Value> {
    let build = Build::find(arguments.build.as_deref())?;
    let mocks = [Mock::start(&build, 1)?, Mock::start(&build, 2)?];
    let measured = latency(arguments, Balancer::start(&build, &mocks, arguments.backends as usize, "")?)?;
    let memory = memory(arguments, Balancer::start(&build, &mocks, arguments.backends as usize, "")?)?;
    Ok(report(arguments, &measured, &memory))
}

fn latency(arguments: &Arguments, mut lb: Balancer) -> Result<Measured> {
    let connections = arguments.connections as usize;
    // One swap there and one back, so that both verdicts are stored.
    for _ in 0..2 {
        lb.prepare_warm()?;
        lb.reload()?;
    }
    let before = loadavg();
    let capacity = load::capacity(lb.proxy, connections, CALIBRATION)?;
    let rate = arguments.rate.unwrap_or(capacity / 2.0);
    let mut random = fastrand::Rng::with_seed(arguments.seed);
    let order: Vec<Kind> = (0..arguments.blocks)
        .flat_map(|_| {
            let mut block = [Kind::Quiet, Kind::Quiet, Kind::Warm, Kind::Cold];
            random.shuffle(&mut block);
            block
        })
        .collect();
    let schedule = Schedule { per_second: rate, is_poisson: !arguments.constant, seed: arguments.seed };
    let before_take_ups = lb.take_ups()?;
    let (windows, samples) = load::open_loop(lb.proxy, connections, schedule, || {
        let mut begin = Instant::now() + WARM_UP;
        order
            .iter()
            .map(|kind| {
                match kind {
                    Kind::Quiet => {}
                    Kind::Warm => lb.prepare_warm()?,
                    Kind::Cold => lb.prepare_cold()?,
                }
                sleep_until(begin + HAPPENS_AFTER);
                let reload = if *kind == Kind::Quiet { None } else { Some(lb.reload()?) };
                let window = (*kind, begin, reload);
                sleep_until(begin + WINDOW);
                begin += WINDOW + GAP;
                Ok(window)
            })
            .collect::<Result<Vec<_>>>()
    })?;
    ensure!(
        lb.metric("lb_strategy_swaps_total{pool=\"default\",kind=\"rollback\"}")? == 0.0,
        "a strategy was rolled back during the measurement (the machine is too busy for its picks): measure again"
    );
    let (mut quiet, mut warm, mut cold) = (Windows::default(), Windows::default(), Windows::default());
    for (kind, begin, reload) in windows {
        let into = match kind {
            Kind::Quiet => &mut quiet,
            Kind::Warm => &mut warm,
            Kind::Cold => &mut cold,
        };
        into.p99_us.push(p99_us(&samples, begin)?);
        into.reload_ms.extend(reload.map(|took| took.as_secs_f64() * 1e3));
    }
    let mut lags: Vec<u64> = samples.iter().map(|sample| sample.lag_ns).collect();
    lags.sort_unstable();
    let take_ups = lb.take_ups()?.into_iter().zip(before_take_ups);
    Ok(Measured {
        capacity,
        rate,
        quiet,
        warm,
        cold,
        lag_p50_us: quantile(&lags, 0.5) as f64 / 1e3,
        lag_p99_us: quantile(&lags, 0.99) as f64 / 1e3,
        requests: samples.len(),
        take_ups: take_ups.map(|((bound, now), (_, before))| (bound, now - before)).collect(),
        loadavg: [before, loadavg()],
    })
}

fn memory(arguments: &Arguments, mut lb: Balancer) -> Result<Memory> {
    let mut resident = Vec::new();
    for _ in 0..arguments.images {
        lb.prepare_cold()?;
        lb.reload()?;
        resident.push(lb.resident()?);
    }
    let (from, to) = (resident[IMAGES_FIRST - 1], resident[resident.len() - 1]);
    let images = resident.len() - IMAGES_FIRST;
    Ok(Memory {
        images: resident.len(),
        kib_per_image: (to.all - from.all) as f64 / images as f64,
        anonymous_kib_per_image: (to.anonymous - from.anonymous) as f64 / images as f64,
    })
}

fn report(arguments: &Arguments, measured: &Measured, memory: &Memory) -> Value {
    let mut random = fastrand::Rng::with_seed(arguments.seed);
    let Measured { capacity, rate, quiet, warm, cold, lag_p50_us, lag_p99_us, requests, take_ups, loadavg } = measured;
    let every_other = |first: usize| quiet.p99_us.iter().skip(first).step_by(2).copied().collect::<Vec<_>>();
    let noise: Ratio = ratio_of_medians(&every_other(0), &every_other(1), &mut random);
    let mut kind = |windows: &Windows| {
        json!({
            "windows": windows.p99_us.len(),
            "median_p99_us": median(&windows.p99_us),
            "reload_ms_median": median(&windows.reload_ms),
            "reload_ms_max": windows.reload_ms.iter().copied().fold(0.0, f64::max),
            "p99_over_quiet": ratio_of_medians(&windows.p99_us, &quiet.p99_us, &mut random),
        })
    };
    let count = take_ups.last().map_or(0.0, |(_, count)| *count);
    let bound_of = |part: f64| take_ups.iter().find(|(_, up_to)| *up_to >= part * count).map(|(ns, _)| ns / 1e3);
    json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "loadavg_before_and_after": loadavg,
        "seed": arguments.seed,
        "backends_per_pool": arguments.backends,
        "connections": arguments.connections,
        "arrivals": if arguments.constant { "constant" } else { "poisson" },
        "capacity_per_s": capacity,
        "rate_per_s": rate,
        "requests": requests,
        "failed": 0,
        "send_lag_us": { "p50": lag_p50_us, "p99": lag_p99_us },
        "quiet": { "windows": quiet.p99_us.len(), "median_p99_us": median(&quiet.p99_us), "p99_over_quiet": noise },
        "warm": kind(warm),
        "cold": kind(cold),
        "take_up": {
            "count": count,
            "p50_us_at_most": bound_of(0.5),
            "p99_us_at_most": bound_of(0.99),
            "longest_us_at_most": bound_of(1.0),
            "up_to_ns": take_ups,
        },
        "memory": {
            "images": memory.images,
            "kib_per_image": memory.kib_per_image,
            "of_it_anonymous_kib": memory.anonymous_kib_per_image,
        },
    })
}

fn text(report: &Value) -> String {
    let number = |value: &Value, digits: usize| value.as_f64().map_or("?".to_owned(), |n| format!("{n:.digits$}"));
    let ratio = |of: &Value| {
        let [value, from, to] = ["value", "from", "to"].map(|part| number(&of[part], 2));
        format!("{value} (95 %: {from} to {to})")
    };
    let kind = |name: &str| {
        let of = &report[name];
        format!(
            "{name:<6} {:>3} windows, median p99 {:>6} µs, × quiet {}, reload {} ms median, {} ms longest",
            of["windows"],
            number(&of["median_p99_us"], 0),
            ratio(&of["p99_over_quiet"]),
            number(&of["reload_ms_median"], 1),
            number(&of["reload_ms_max"], 1),
        )
    };
    let (quiet, take_up, memory) = (&report["quiet"], &report["take_up"], &report["memory"]);
    [
        format!(
            "{} cores for generator, servers and lb together, none pinned; load average {} before, {} after; seed {}",
            report["cores"],
            report["loadavg_before_and_after"][0].as_str().unwrap_or("?"),
            report["loadavg_before_and_after"][1].as_str().unwrap_or("?"),
            report["seed"],
        ),
        format!(
            "{} requests per second ({}) of a capacity of {}; {} requests, none failed; sent late by {} µs p50, {} µs p99",
            number(&report["rate_per_s"], 0),
            report["arrivals"].as_str().unwrap_or("?"),
            number(&report["capacity_per_s"], 0),
            report["requests"],
            number(&report["send_lag_us"]["p50"], 0),
            number(&report["send_lag_us"]["p99"], 0),
        ),
        format!(
            "quiet  {:>3} windows, median p99 {:>6} µs, × quiet {}: the noise, one half of them over the other",
            quiet["windows"],
            number(&quiet["median_p99_us"], 0),
            ratio(&quiet["p99_over_quiet"]),
        ),
        kind("warm"),
        kind("cold"),
        format!(
            "a worker took up a generation ({} backends in each of 2 pools) {} times: p50 at most {} µs, p99 at most {} µs, longest at most {} µs",
            report["backends_per_pool"],
            number(&take_up["count"], 0),
            number(&take_up["p50_us_at_most"], 0),
            number(&take_up["p99_us_at_most"], 0),
            number(&take_up["longest_us_at_most"], 0),
        ),
        format!(
            "memory: {} KiB for each of {} distinct contents, {} KiB of it anonymous",
            number(&memory["kib_per_image"], 0),
            memory["images"],
            number(&memory["of_it_anonymous_kib"], 0),
        ),
    ]
    .join("\n")
}
