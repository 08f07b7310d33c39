//! The cost of an exchange from end to end, in memory: head in, pick through the plugin boundary, head and body out, on
//! keep-alive connections. Requests have no body, or one of 8 KiB. `round_robin` streams bodies, and `prefix_affinity`
//! gets them before the pick. The difference is the cost of that and of the hash.
//!
//! Run `cargo bench -p lb --features bench --bench exchange`. A sample is 1,000 requests, one after the other. The
//! client's and the backend's task run on the same thread and count, too. Times depend on the machine and its load;
//! compare builds on a quiet machine.

use std::path::PathBuf;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use lb::bench::World;
use lb_strategy_host::{Loader, Strategy, Wanted};
use serde_json::json;
use tokio::runtime::{Builder, LocalOptions};

const REQUESTS: u64 = 1_000;

fn main() {
    divan::main();
}

fn strategy(name: &str) -> Arc<Strategy> {
    let path = lb_strategy_built::library(name);
    let copies = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench-exchange-plugins");
    let plugin = Loader::new(copies, 1).load(&Wanted { path: &path, name: Some(name), sha256: None });
    Strategy::new(plugin.expect("it loads"), &json!({})).expect("its default options are valid")
}

#[divan::bench(sample_size = 1)]
fn thousand_requests(bencher: Bencher<'_, '_>) {
    measure(bencher, "round_robin", 0);
}

#[divan::bench(sample_size = 1, args = ["round_robin", "prefix_affinity"])]
fn thousand_bodies(bencher: Bencher<'_, '_>, name: &str) {
    measure(bencher, name, 8192);
}

fn measure(bencher: Bencher<'_, '_>, name: &str, body_bytes: usize) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let runtime = runtime.expect("a runtime can be made");
    let mut world = runtime.block_on(World::new(&strategy(name), body_bytes));
    bencher.counter(ItemsCount::new(REQUESTS)).bench_local(|| runtime.block_on(world.run(REQUESTS)));
    assert_eq!(runtime.block_on(world.end()), 0, "requests are left in flight");
}
