//! Runs strategies in a world that is written as TOML, and prints one row for each.
//!
//! `cargo run --release -p lb-strategy-simulator --example simulate WORLD.toml STRATEGY...`. A strategy is a name in
//! the workspace or the path of a library. Its options follow a `?` as JSON: `consistent_hash?{"virtual_nodes":40}`.
//! The environment variable `SEEDS` is the number of seeds, by default 3.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lb_strategy_host::{Loader, Plugin, Wanted};
use lb_strategy_simulator::{Results, Simulation, World};
use serde_json::{Value, json};

fn open(loader: &Loader, strategy: &str) -> Result<Arc<Plugin>, Box<dyn Error>> {
    let (path, name): (PathBuf, _) = match strategy.ends_with(".so") {
        true => (strategy.into(), None),
        false => (lb_strategy_built::library(strategy), Some(strategy)),
    };
    Ok(loader.load(&Wanted { path: &path, name, sha256: None })?)
}

/// The row of one run. Percentiles are those of good responses.
fn row(strategy: &str, results: &Results) -> String {
    let ms = |quantile| results.latency.quantile_ns(quantile) as f64 / 1e6;
    let good = results.endings.good as f64 / (results.requests as f64).max(1.0) * 100.0;
    let stopped = if results.stopped.is_some() { "  stopped: overload" } else { "" };
    format!(
        "{strategy:32} {:4} {:9} {good:8.3} {:9.2} {:9.2} {:9.2} {:9.2} {:9.3}{stopped}",
        results.seed,
        results.requests,
        results.latency.mean_ns() / 1e6,
        ms(0.5),
        ms(0.99),
        ms(0.999),
        results.peak_to_mean()
    )
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("the first argument is the file of a world, as in docs/simulator.md")?;
    let world: World = toml::from_str(&std::fs::read_to_string(Path::new(&file))?)?;
    if let Some(load) = world.load() {
        println!("load: {:.1} % of the capacity", load * 100.0);
    }
    let seeds: u64 = std::env::var("SEEDS").map_or(Ok(3), |seeds| seeds.parse())?;
    let folder = tempfile::tempdir()?;
    let loader = Loader::new(folder.path().join("copies"), 1).with_group_writable(true);
    println!("{:32} seed  requests   good %   mean ms    p50 ms    p99 ms  p99.9 ms  peak/mean", "strategy");
    for argument in arguments {
        let (strategy, options) = argument.split_once('?').unwrap_or((&argument, ""));
        let options: Value = if options.is_empty() { json!({}) } else { serde_json::from_str(options)? };
        let plugin = open(&loader, strategy)?;
        for seed in 1..=seeds {
            println!("{}", row(&argument, &Simulation::new(&world, &plugin, &options, seed)?.run()?));
        }
    }
    Ok(())
}
