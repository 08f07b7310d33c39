//! The cost of an exchange from end to end, in memory: head in, pick through the plugin boundary, head and body out, on
//! keep-alive connections. Requests have no body, or one of 8 KiB. `round_robin` streams bodies, and `prefix_affinity`
//! gets them before the pick. The difference is the cost of that and of the hash.
//!
//! Run `cargo bench -p lb --features bench --bench exchange`. A sample is 1,000 requests, one after the other. The
//! client's and the backend's task run on the same thread and count, too. Times depend on the machine and its load;
//! compare builds on a quiet machine.
//!
//! First comes the cost of holding 8 KiB before the pick, without a hash. Two strategies that differ only in
//! `BODY_BYTES` take turns, so both see the same load of the machine. The limit is 2 µs a request.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use divan::Bencher;
use divan::counter::ItemsCount;
use lb::bench::World;
use lb_strategy::abi::LbStrategyTable;
use lb_strategy::ffi::hooks::table;
use lb_strategy::{Backends, Error, Host, NoOptions, Pick, Request};
use lb_strategy_host::{Loader, Strategy, Wanted, plugin_from_table};
use serde_json::json;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

const REQUESTS: u64 = 1_000;
const BODY_BYTES: u32 = 8192;
/// Samples of each of the two strategies, and the requests of one. They are so short that most are not interrupted by
/// another process.
const PAIRS: usize = 4_001;
const REQUESTS_OF_A_SAMPLE: u64 = 50;

/// Picks the first candidate. It asks for `BYTES` of each body and does not read them.
struct Asks<const BYTES: u32>;

static STREAMS: LbStrategyTable = table::<Asks<0>>("0", "bench");
static HOLDS: LbStrategyTable = table::<Asks<BODY_BYTES>>("0", "bench");

fn main() {
    let is_measured = std::env::args().all(|argument| argument != "--test" && argument != "--list");
    if is_measured {
        compare_holding();
    }
    divan::main();
}

/// Prints the difference between a body that streams and one that is held before the pick.
fn compare_holding() {
    let runtime = runtime();
    let mut worlds = [&STREAMS, &HOLDS].map(|table| {
        let plugin = plugin_from_table(table, 1).expect("a sound table");
        let strategy = Strategy::new(plugin, &json!({})).expect("it has no options");
        runtime.block_on(World::new(&strategy, BODY_BYTES as usize))
    });
    let mut samples = [const { Vec::new() }; 2];
    for pair in 0..PAIRS {
        // Each is first in every second pair.
        for side in [pair % 2, 1 - pair % 2] {
            let began = Instant::now();
            runtime.block_on(worlds[side].run(REQUESTS_OF_A_SAMPLE));
            samples[side].push(began.elapsed().as_secs_f64() * 1e6 / REQUESTS_OF_A_SAMPLE as f64);
        }
    }
    samples.iter_mut().for_each(|all| all.sort_by(f64::total_cmp));
    for (name, place) in [("lowest tenth", PAIRS / 10), ("median", PAIRS / 2)] {
        let [streams, holds] = [samples[0][place], samples[1][place]];
        let more = holds - streams;
        println!(
            "8 KiB before the pick, {name}: {more:.2} µs more a request ({streams:.2} µs streamed, {holds:.2} µs held)"
        );
    }
    for world in worlds {
        assert_eq!(runtime.block_on(world.end()), 0, "requests are left in flight");
    }
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
    measure(bencher, name, BODY_BYTES as usize);
}

fn measure(bencher: Bencher<'_, '_>, name: &str, body_bytes: usize) {
    let runtime = runtime();
    let mut world = runtime.block_on(World::new(&strategy(name), body_bytes));
    bencher.counter(ItemsCount::new(REQUESTS)).bench_local(|| runtime.block_on(world.run(REQUESTS)));
    assert_eq!(runtime.block_on(world.end()), 0, "requests are left in flight");
}

fn runtime() -> LocalRuntime {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    runtime.expect("a runtime can be made")
}

// === impl Asks ===

impl<const BYTES: u32> lb_strategy::Strategy for Asks<BYTES> {
    const NAME: &'static str = "asks";
    const BODY_BYTES: u32 = BYTES;
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        backends.candidate(request, 0).map_or(Pick::NoBackend, |(index, _)| Pick::Backend(index))
    }
}
