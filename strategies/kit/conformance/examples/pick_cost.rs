//! Measures the cost of a pick, the plugin boundary included: nanoseconds, or instructions under callgrind.
//!
//! `cargo run --release -p lb-strategy-conformance --example pick_cost -- --strategy target/release/libround_robin.so`
//!
//! It times batches of 1,000 picks with 3, 10 and 100 backends. It takes the median batch of each run, and reports the
//! lowest of 5 runs: on a shared machine the lowest has the least disturbance.
//!
//! For instructions, run it under `valgrind --tool=callgrind --toggle-collect='*measured_picks*'`. The cost of a pick
//! is the instructions of `measured_picks` divided by the printed number of picks. The loop itself has about 10 of
//! them. `--runs N` and `--batches N` make it shorter.

use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use lb_strategy_conformance::{Picker, Strategy, World};
use lb_strategy_host::{Loader, PickRequest, Wanted};
use serde_json::json;

const PICKS_PER_BATCH: u64 = 1000;
const BACKENDS: [usize; 3] = [3, 10, 100];

struct Arguments {
    strategy: PathBuf,
    runs: usize,
    batches: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse()?;
    let directory = std::env::temp_dir().join(format!("pick_cost.{}", std::process::id()));
    let loader = Loader::new(directory.clone(), 1);
    let plugin = loader.load(&Wanted { path: &arguments.strategy, name: None, sha256: None })?;
    std::fs::remove_dir_all(directory)?;
    println!(
        "strategy {} {}, {} runs of {} batches",
        plugin.name(),
        plugin.version(),
        arguments.runs,
        arguments.batches
    );
    let mut picks = 0;
    for backends in BACKENDS {
        let picker = World::of(backends).picker(&Strategy::new(plugin.clone(), &json!({}))?)?;
        measured_picks(&picker, 0, PICKS_PER_BATCH);
        let run = || {
            let mut batches: Vec<u64> =
                (0..arguments.batches as u64).map(|batch| nanoseconds(&picker, batch)).collect();
            batches.sort_unstable();
            batches[batches.len() / 2] as f64 / PICKS_PER_BATCH as f64
        };
        let medians: Vec<f64> = (0..arguments.runs).map(|_| run()).collect();
        let lowest = medians.iter().copied().fold(f64::INFINITY, f64::min);
        println!("{backends:>4} backends: {lowest:6.2} ns per pick (p50 of each run: {medians:.2?})");
        picks += PICKS_PER_BATCH * (1 + arguments.runs as u64 * arguments.batches as u64);
    }
    println!("{picks} picks in all");
    Ok(())
}

fn nanoseconds(picker: &Picker, batch: u64) -> u64 {
    let start = Instant::now();
    measured_picks(picker, batch * PICKS_PER_BATCH, PICKS_PER_BATCH);
    start.elapsed().as_nanos() as u64
}

/// Picks as a worker does: a new request each time, and the result is used.
#[inline(never)]
fn measured_picks(picker: &Picker, first: u64, picks: u64) {
    for number in first..first + picks {
        // An odd multiplier spreads the numbers over the ring and is one instruction.
        let hash = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let request = PickRequest {
            worker: Some(0),
            attempt: 0,
            tried: &[],
            key: Some((b"123456", hash)),
            random: hash,
            now_ns: number,
            dry: false,
            lookup: &(),
        };
        black_box(picker.pick(black_box(&request)));
    }
}

// === impl Arguments ===

impl Arguments {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut parsed = Self { strategy: PathBuf::new(), runs: 5, batches: 2000 };
        let mut words = std::env::args().skip(1);
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--strategy" => parsed.strategy = value.into(),
                "--runs" => parsed.runs = value.parse()?,
                "--batches" => parsed.batches = value.parse()?,
                _ => return Err(format!("{flag} is unknown: --strategy PATH, --runs N, --batches N").into()),
            }
        }
        if parsed.strategy.as_os_str().is_empty() || parsed.runs == 0 || parsed.batches == 0 {
            return Err("--strategy PATH is needed, and at least one run and batch".into());
        }
        Ok(parsed)
    }
}
