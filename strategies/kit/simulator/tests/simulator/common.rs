//! Worlds, and strategies from the libraries that the workspace builds.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use lb_strategy_host::{Loader, Plugin, Wanted};
use lb_strategy_simulator::{Results, Simulation, World};
use serde_json::{Value, json};

/// Opened once in this process.
static PLUGINS: LazyLock<Mutex<BTreeMap<String, Arc<Plugin>>>> = LazyLock::new(Mutex::default);

/// `n` backends with one worker each.
pub(crate) fn world(n: u32, service: &str) -> World {
    World::of(n, service.parse().unwrap())
}

/// The library of a strategy.
pub(crate) fn plugin(name: &str) -> Arc<Plugin> {
    let mut plugins = PLUGINS.lock().unwrap_or_else(PoisonError::into_inner);
    let open = || {
        let folder = tempfile::tempdir().unwrap();
        let path = lb_strategy_built::library(name);
        let loader = Loader::new(folder.path().join("copies"), 1).with_group_writable(true);
        loader.load(&Wanted { path: &path, name: Some(name), sha256: None }).unwrap()
    };
    plugins.entry(name.to_owned()).or_insert_with(open).clone()
}

/// The results of a strategy without options.
#[track_caller]
pub(crate) fn run(strategy: &str, world: &World, seed: u64) -> Results {
    run_with(strategy, &json!({}), world, seed)
}

#[track_caller]
pub(crate) fn run_with(strategy: &str, options: &Value, world: &World, seed: u64) -> Results {
    Simulation::new(world, &plugin(strategy), options, seed).unwrap().run().unwrap()
}

/// `found` differs from `wanted` by at most this part of it.
#[track_caller]
pub(crate) fn assert_near(what: &str, found: f64, wanted: f64, part: f64) {
    assert!((found - wanted).abs() <= wanted * part, "{what}: {found}, not {wanted} ± {:.1} %", part * 100.0);
}
