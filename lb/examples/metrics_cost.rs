//! The cost of counting: all updates of metrics that `lb` makes for one successful request, and nothing else.
//!
//! `cargo run --release -p lb --example metrics_cost` (some seconds)
//!
//! The steps are those of `proxy` for a request on keep-alive connections:
//!
//! - in flight goes up and down;
//! - a pick is counted, and one in 128 is timed;
//! - an idle connection is taken and returned;
//! - status and duration of the attempt, bytes, and status and duration of the request are counted.
//!
//! Each worker has its own shards and finds them as in `proxy`. The time of the same loop without the steps is
//! subtracted. The metrics alone need the clock only for timed picks; its other readings serve the strategies'
//! statistics anyway.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use http::Method;
use lb::telemetry::{BackendShard, Metrics, PoolShard};

const REQUESTS: u32 = 2_000_000;
const ROUNDS: usize = 11;
const WORKERS: usize = 2;

/// The shards of one worker, as in its view.
struct Shards {
    pools: RefCell<Vec<Option<Arc<PoolShard>>>>,
    backends: Vec<Arc<BackendShard>>,
}

fn main() {
    println!("{WORKERS} workers at once, {REQUESTS} requests each, median of {ROUNDS} rounds");
    for backends in [1, 3, 100] {
        let metrics = Metrics::new();
        let shards = |worker| Shards::new(&metrics, worker, backends);
        let with = median_ns(shards, Shards::count);
        let without = median_ns(shards, |_, random, _| {
            black_box(random);
        });
        println!("{backends:>3} backends: {:.1} ns per request", with - without);
    }
}

/// Nanoseconds of one step, the median over rounds of the slowest worker.
fn median_ns(shards: impl Fn(usize) -> Shards + Sync, step: impl Fn(&Shards, u64, u64) + Sync) -> f64 {
    let round = |_| {
        let start = Barrier::new(WORKERS);
        let work = |worker: usize| {
            let shards = shards(worker);
            let mut random = fastrand::Rng::with_seed(worker as u64);
            start.wait();
            let began = Instant::now();
            for request in 0..u64::from(REQUESTS) {
                // 12 µs apart, as on a busy worker.
                step(&shards, random.u64(..), request * 12_000);
            }
            began.elapsed().as_nanos() as f64 / f64::from(REQUESTS)
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..WORKERS).map(|worker| scope.spawn(move || work(worker))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no worker panics")).fold(0.0, f64::max)
        })
    };
    let mut rounds: Vec<f64> = (0..ROUNDS).map(round).collect();
    rounds.sort_unstable_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

// === impl Shards ===

impl Shards {
    fn new(metrics: &Metrics, worker: usize, backends: usize) -> Self {
        let pool = metrics.pool(worker, "127.0.0.1:8080", "default");
        let backend = |number| metrics.backend(worker, "default", &format!("b{number}"));
        Self { pools: RefCell::new(vec![Some(pool)]), backends: (0..backends).map(backend).collect() }
    }

    fn of_pool<T>(&self, note: impl FnOnce(&PoolShard) -> T) -> Option<T> {
        self.pools.borrow().get(black_box(0))?.as_deref().map(note)
    }

    /// One request.
    fn count(&self, random: u64, now_ns: u64) {
        // 50 µs to 2 ms, so that neither bucket nor branch is predictable.
        let duration_ns = 50_000 + random % 1_950_000;
        let backend = &self.backends[(random >> 32) as usize % self.backends.len()];
        self.of_pool(|pool| pool.in_flight.inc());
        if self.of_pool(|pool| pool.pick_begins(now_ns)).unwrap_or_default() {
            let began = Instant::now();
            black_box(());
            self.of_pool(|pool| pool.pick_timed(began.elapsed()));
        }
        backend.in_flight.inc();
        backend.connections_idle.dec();
        backend.connections_active.inc();
        backend.response(black_box(200), duration_ns / 2);
        self.of_pool(|pool| pool.response_bytes.add(100));
        backend.connections_active.dec();
        backend.connections_idle.inc();
        backend.in_flight.dec();
        self.of_pool(|pool| {
            pool.request_finished(black_box(&Method::GET), black_box(200), duration_ns);
            pool.in_flight.dec();
        });
    }
}
