//! Worlds, and strategies from the libraries that the workspace builds.

use std::sync::Arc;

use lb_strategy_host::{Loader, Plugin, Wanted};
use lb_strategy_simulator::{Results, Simulation, World};
use serde_json::json;

/// `n` backends with one worker each.
pub(crate) fn world(n: u32, service: &str) -> World {
    World::of(n, service.parse().unwrap())
}

/// The library of a strategy.
pub(crate) fn plugin(name: &str) -> Arc<Plugin> {
    let folder = tempfile::tempdir().unwrap();
    let path = lb_strategy_built::library(name);
    let loader = Loader::new(folder.path().join("copies"), 1).with_group_writable(true);
    loader.load(&Wanted { path: &path, name: Some(name), sha256: None }).unwrap()
}

/// The results of a strategy without options.
pub(crate) fn run(strategy: &str, world: &World, seed: u64) -> Results {
    Simulation::new(world, &plugin(strategy), &json!({}), seed).unwrap().run().unwrap()
}
