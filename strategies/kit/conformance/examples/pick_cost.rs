//! Measures the cost of a pick, the plugin boundary included: nanoseconds, or instructions under callgrind.
//!
//! `cargo run --release -p lb-strategy-conformance --example pick_cost` measures every shipped strategy, which it
//! builds first. `--strategy PATH`, also several times, measures these libraries instead.
//!
//! It times batches of picks with 3 to 10,000 backends. It takes the median batch of each run, and reports the lowest
//! of 5 runs: on a shared machine the lowest has the least disturbance. A batch has 1,000 picks, or fewer of slow ones.
//! A run has up to 2,000 batches and ends after half a second. It also reports the time in which a picker is made. Some
//! shipped strategies refuse very many backends with their default options. Then the options in `FOR_MANY` are used and
//! printed.
//!
//! For instructions, run it under `valgrind --tool=callgrind --toggle-collect='*measured_picks*'` with one `--strategy`
//! and one size, `--backends N`. The cost of a pick is the instructions of `measured_picks` divided by the printed
//! number of picks. The loop itself has about 10 of them. `--runs N` and `--batches N` make it shorter.

use std::error::Error;
use std::fmt;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lb_strategy_conformance::{Picker, Strategy, World};
use lb_strategy_host::{Loader, PickRequest, Wanted};
use serde_json::{Value, json};

const PICKS_PER_BATCH: u64 = 1000;
const BACKENDS: [usize; 5] = [3, 10, 100, 1000, 10_000];
/// A batch of slow picks has fewer of them, so that it takes about this long.
const BATCH_TIME: Duration = Duration::from_millis(5);
/// Different keys, a power of two. The hash is another one in each pick.
const KEYS: usize = 1 << 12;
const RUN_TIME: Duration = Duration::from_millis(500);
const BATCHES_MIN: usize = 3;

/// Options of shipped strategies with which they accept 10,000 backends.
const FOR_MANY: [(&str, &str); 5] = [
    ("anchor_hash", r#"{"capacity":16384}"#),
    ("assignment_ring", r#"{"slots":131072}"#),
    ("bounded_hash", r#"{"virtual_nodes":100}"#),
    ("consistent_hash", r#"{"virtual_nodes":100}"#),
    ("local_rendezvous", r#"{"points":100}"#),
];

struct Arguments {
    /// Empty: the shipped ones.
    strategies: Vec<PathBuf>,
    backends: Vec<usize>,
    runs: usize,
    batches: usize,
}

/// The cost of a strategy's picks with one number of backends.
#[derive(Debug)]
struct Cost {
    backends: usize,
    options: Value,
    /// The shortest time in which a new instance made its picker.
    made_in: Duration,
    /// The median of each run in nanoseconds, or why the strategy refuses so many backends.
    medians: Result<Vec<f64>, String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse()?;
    let mut picks = 0;
    for strategy in arguments.libraries() {
        for cost in measure(&strategy, &arguments, &mut picks)? {
            println!("{cost}");
        }
    }
    println!("{picks} picks in all");
    Ok(())
}

/// The costs of one strategy, for each number of backends. Adds the number of its picks to `picks`.
fn measure(library: &Path, arguments: &Arguments, picks: &mut u64) -> Result<Vec<Cost>, Box<dyn Error>> {
    let directory = std::env::temp_dir().join(format!("pick_cost.{}", std::process::id()));
    let loader = Loader::new(directory.clone(), 1);
    let plugin = loader.load(&Wanted { path: library, name: None, sha256: None });
    let _ = std::fs::remove_dir_all(directory);
    let plugin = plugin?;
    println!("{} {}, {} runs of {} batches", plugin.name(), plugin.version(), arguments.runs, arguments.batches);
    let mut costs = Vec::new();
    let for_many = FOR_MANY.iter().find(|(name, _)| *name == plugin.name()).map(|(_, options)| *options);
    for &backends in &arguments.backends {
        let world = World::of(backends);
        let picker = |options: &Value| {
            let strategy = Strategy::new(plugin.clone(), options).map_err(|error| error.to_string())?;
            world.picker(&strategy)
        };
        let mut options = json!({});
        let mut made = picker(&options);
        if let (Err(_), Some(for_many)) = (&made, for_many) {
            options = serde_json::from_str(for_many)?;
            made = picker(&options);
        }
        let times = (0..arguments.runs).map(|_| {
            let start = Instant::now();
            let _ = black_box(picker(&options));
            start.elapsed()
        });
        let made_in = times.min().unwrap_or_default();
        let medians = made.map(|picker| (0..arguments.runs).map(|_| run(&picker, arguments.batches, picks)).collect());
        costs.push(Cost { backends, options, made_in, medians });
    }
    Ok(costs)
}

/// The median batch of one run, in nanoseconds per pick.
fn run(picker: &Picker, batches: usize, made: &mut u64) -> f64 {
    let keys: Vec<String> = (0..KEYS).map(|number| format!("{:06}", number * 7_919 % 1_000_000)).collect();
    let mut time = |first: u64, picks: u64| {
        let start = Instant::now();
        measured_picks(picker, &keys, first, picks);
        *made += picks;
        start.elapsed()
    };
    // Fills the caches, too.
    let estimate = time(0, 10).max(Duration::from_nanos(1)) / 10;
    let size = (BATCH_TIME.as_nanos() / estimate.as_nanos().max(1)).clamp(1, u128::from(PICKS_PER_BATCH)) as u64;
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < batches && (times.len() < BATCHES_MIN || start.elapsed() < RUN_TIME) {
        times.push(time(times.len() as u64 * size, size).as_nanos() as f64 / size as f64);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Picks as a worker does: a new request each time, and the result is used.
#[inline(never)]
fn measured_picks(picker: &Picker, keys: &[String], first: u64, picks: u64) {
    for number in first..first + picks {
        // An odd multiplier spreads the numbers over the ring and is one instruction.
        let hash = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let request = PickRequest {
            worker: Some(0),
            attempt: 0,
            tried: &[],
            key: Some((keys[number as usize % KEYS].as_bytes(), hash)),
            random: hash,
            now_ns: number,
            dry: false,
            body_length: Some(0),
            lookup: &(),
        };
        black_box(picker.pick(black_box(&request)));
    }
}

// === impl Cost ===

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backends, options, made_in, medians } = self;
        match medians {
            Ok(medians) => {
                let lowest = medians.iter().copied().fold(f64::INFINITY, f64::min);
                write!(f, "{backends:>6} backends: {lowest:9.2} ns per pick (p50 of each run: {medians:.2?}), ")?;
                write!(f, "made in {made_in:.2?}")?;
                if *options == json!({}) { Ok(()) } else { write!(f, " with {options}") }
            }
            Err(reason) => write!(f, "{backends:>6} backends: refused: {reason}"),
        }
    }
}

// === impl Arguments ===

impl Arguments {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut parsed = Self { strategies: Vec::new(), backends: Vec::new(), runs: 5, batches: 2000 };
        let mut words = std::env::args().skip(1);
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--strategy" => parsed.strategies.push(value.into()),
                "--backends" => parsed.backends.push(value.parse()?),
                "--runs" => parsed.runs = value.parse()?,
                "--batches" => parsed.batches = value.parse()?,
                _ => {
                    let flags = "--strategy PATH, --backends N, --runs N, --batches N";
                    return Err(format!("{flag} is unknown: {flags}").into());
                }
            }
        }
        if parsed.runs == 0 || parsed.batches == 0 {
            return Err("at least one run and one batch are needed".into());
        }
        if parsed.backends.is_empty() {
            parsed.backends = BACKENDS.to_vec();
        }
        Ok(parsed)
    }

    fn libraries(&self) -> Vec<PathBuf> {
        if self.strategies.is_empty() {
            lb_strategy_built::shipped().map(lb_strategy_built::library).collect()
        } else {
            self.strategies.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_strategy_is_measured_up_to_ten_thousand_backends() {
        let arguments =
            Arguments { strategies: Vec::new(), backends: vec![BACKENDS[0], BACKENDS[4]], runs: 1, batches: 1 };
        assert_eq!(BACKENDS[4], 10_000);
        let libraries = arguments.libraries();
        assert_eq!(libraries.len(), lb_strategy_built::shipped().count());
        for library in libraries {
            let mut picks = 0;
            let costs = measure(&library, &arguments, &mut picks).unwrap_or_else(|error| panic!("{error}"));
            let [few, many] = &costs[..] else { panic!("two sizes, not {costs:?}") };
            for cost in [few, many] {
                assert!(cost.medians.as_ref().is_ok_and(|medians| medians[0] > 0.0), "{}: {cost}", library.display());
            }
            assert!(picks > 0);
        }
    }
}
