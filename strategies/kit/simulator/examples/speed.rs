//! How fast a simulation is: requests per second of processor time, and the memory that it took.
//!
//! `cargo run --release -p lb-strategy-simulator --example speed [FOLDER]`: the folder has the strategies' libraries.
//! Without it they are built.

use std::error::Error;
use std::path::Path;

use lb_strategy_host::{Loader, Wanted};
use lb_strategy_simulator::{Arrivals, Backends, Simulation, Time, World};
use serde_json::json;

/// Strategy, backends, balancers and seconds of virtual time. Each backend has a load of 70 %.
const CASES: [(&str, u32, u32, u64); 4] = [
    ("round_robin", 10, 1, 5_000),
    ("two_choices", 10, 1, 5_000),
    ("two_choices", 10_000, 1, 3),
    ("least_connections", 100, 16, 100),
];

fn world(backends: u32, balancers: u32, seconds: u64) -> World {
    let group =
        Backends { n: backends, service: "exponential:10ms".parse().unwrap_or_default(), ..Backends::default() };
    World {
        backends: vec![group],
        arrivals: Arrivals::Poisson { rps: 70.0 * f64::from(backends) },
        duration: Time::seconds(seconds),
        balancers,
        ..World::default()
    }
}

/// The processor time of this thread, so that other programs on the machine do not count.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

/// The largest memory of this process so far.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(|| "?".to_owned(), |line| line.trim().to_owned())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let loader = Loader::new(folder.path().join("copies"), 1).with_group_writable(true);
    for (name, backends, balancers, seconds) in CASES {
        let path = match std::env::args_os().nth(1) {
            Some(folder) => Path::new(&folder).join(lb_strategy_host::file_name(name)),
            None => lb_strategy_built::library(name),
        };
        let plugin = loader.load(&Wanted { path: &path, name: Some(name), sha256: None })?;
        let simulation = Simulation::new(&world(backends, balancers, seconds), &plugin, &json!({}), 1)?;
        let began = processor_seconds();
        let results = simulation.run()?;
        let rate = results.requests as f64 / (processor_seconds() - began);
        println!(
            "{name}, {backends} backends, {balancers} balancers: {rate:.2e} requests per processor second ({} requests, mean {:.1} ms, peak memory {})",
            results.requests,
            results.latency.mean_ns() / 1e6,
            peak_memory()
        );
    }
    Ok(())
}
