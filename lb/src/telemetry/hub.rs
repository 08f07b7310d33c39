//! The hub: hands out the shards, remembers them, and sums them. So workers need to know neither each other nor
//! scrapes.
//!
//! Invariants: two requests for the same worker and thing return the same shard, so counts go on over a reload. Sums
//! never go back while a series is shown. The lock is taken when views are built and at scrapes, never for a request,
//! and never while text is made.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Instant;

use lb_strategy_host::HookPanics;
use parking_lot::Mutex;
use prometheus::{Registry, TextEncoder};
use tokio::runtime::RuntimeMetrics;

use super::access_log::AccessLogCounts;
use super::collector::HubCollector;
use super::gauges::BackendGauges;
use super::hook_panics::Instances;
use super::plugins::Plugins;
use super::process::ProcessCollector;
use super::reason::SwapKind;
use super::reloads::{ReloadEnd, Reloads, ReloadsByKind};
use super::retired::{Past, Retired};
use super::shadows::Shadows;
use super::shard::{BackendShard, ConnectionShard, PoolShard, QueueShard, WorkerShard};
use super::snapshot::{Requests, Snapshot};
use super::strategies::{Answers, Replaced, Strategies};
use super::totals::{PickTotals, QueueTotals};

/// The metrics of one balancer.
pub struct Metrics {
    shared: Arc<Shared>,
    registry: Registry,
}

/// The content type of `Metrics::render`; Prometheus 3 refuses a scrape without it.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Shared by the hub and its collector.
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) access_log: Arc<AccessLogCounts>,
    pub(super) plugins: Plugins,
    pub(super) shadows: Shadows,
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
}

/// All shards by subject. Names are shared strings because every scrape copies them.
pub(super) struct State {
    pub(super) generation: u64,
    pub(super) workers: Workers<WorkerShard>,
    pub(super) listeners: BTreeMap<Arc<str>, Workers<ConnectionShard>>,
    pub(super) pools: BTreeMap<(Arc<str>, Arc<str>), Workers<PoolShard>>,
    /// By pool.
    pub(super) queues: BTreeMap<Arc<str>, Workers<QueueShard>>,
    pub(super) strategies: BTreeMap<Arc<str>, Strategies>,
    pub(super) instances: BTreeMap<Arc<str>, Instances>,
    pub(super) backends: BTreeMap<(Arc<str>, Arc<str>), BackendSeries>,
    /// By pool and kind.
    pub(super) swaps: BTreeMap<Arc<str>, [u64; SwapKind::COUNT]>,
    /// Pools with too few backends that are up.
    pub(super) in_panic: BTreeSet<Arc<str>>,
    /// By pool.
    pub(super) replaced: BTreeMap<Arc<str>, Replaced>,
    /// By kind.
    pub(super) reloads: ReloadsByKind,
    /// By worker.
    pub(super) runtimes: BTreeMap<usize, RuntimeMetrics>,
    /// Closed listeners.
    pub(super) retired_listeners: BTreeMap<Arc<str>, Retired>,
    /// Removed pools, with all of their backends.
    pub(super) retired_pools: BTreeMap<Arc<str>, Retired>,
    /// By pool.
    pub(super) past: BTreeMap<Arc<str>, Past>,
    /// The requests of forgotten pools.
    pub(super) gone: Requests,
}

/// The shards of one subject, by worker.
pub(super) type Workers<T> = BTreeMap<usize, Arc<T>>;

#[derive(Default)]
pub(super) struct BackendSeries {
    pub(super) shards: Workers<BackendShard>,
    pub(super) gauges: Option<Arc<BackendGauges>>,
    pub(super) retired: Option<Retired>,
}

// === impl Metrics ===

impl Metrics {
    pub fn new() -> Arc<Metrics> {
        Metrics::with_clock(Instant::now)
    }

    /// Like `new`, with the caller's clock; read when a backend is retired and at scrapes.
    pub fn with_clock(clock: impl Fn() -> Instant + Send + Sync + 'static) -> Arc<Metrics> {
        let (state, clock) = (Mutex::new(State::new()), Box::new(clock));
        let (plugins, shadows) = (Plugins::default(), Shadows::default());
        let shared = Arc::new(Shared { state, access_log: Arc::default(), plugins, shadows, clock });
        let registry = Registry::new();
        registry.register(Box::new(HubCollector::new(shared.clone()))).expect("names in names.rs are valid and differ");
        registry.register(Box::new(ProcessCollector::new())).expect("names in names.rs are valid and differ");
        Arc::new(Metrics { shared, registry })
    }

    /// A worker's shard for counts about itself.
    pub fn worker(&self, worker: usize) -> Arc<WorkerShard> {
        let mut state = self.shared.state.lock();
        state.workers.entry(worker).or_insert_with(|| Arc::new(WorkerShard::new())).clone()
    }

    /// The shard of a worker for one listener's client connections.
    pub fn connections(&self, worker: usize, listener: &str) -> Arc<ConnectionShard> {
        let mut state = self.shared.state.lock();
        state.listeners.entry(listener.into()).or_default().entry(worker).or_default().clone()
    }

    /// The listener is open: its series stay from now on.
    pub fn listener_opened(&self, listener: &str) {
        self.shared.state.lock().retired_listeners.remove(listener);
    }

    /// The listener is closed to new clients. Its series are removed `RETIRED_SERIES_STAY` after a scrape first found
    /// no open connection.
    pub fn retire_listener(&self, listener: &str) {
        let now = (self.shared.clock)();
        let mut state = self.shared.state.lock();
        state.retired_listeners.entry(listener.into()).or_default();
        state.look_again(now);
    }

    /// The shard of a worker for the requests of `pool` by `listener`.
    pub fn pool(&self, worker: usize, listener: &str, pool: &str) -> Arc<PoolShard> {
        let mut state = self.shared.state.lock();
        let shards = state.pools.entry((listener.into(), pool.into())).or_default();
        shards.entry(worker).or_insert_with(|| Arc::new(PoolShard::new())).clone()
    }

    /// The shard of a worker for the queue of `pool`.
    pub fn queue(&self, worker: usize, pool: &str) -> Arc<QueueShard> {
        let mut state = self.shared.state.lock();
        state.queues.entry(pool.into()).or_default().entry(worker).or_default().clone()
    }

    /// The shard of a worker for one backend of a pool. Puts a retired backend back in service.
    pub fn backend(&self, worker: usize, pool: &str, backend: &str) -> Arc<BackendShard> {
        let mut state = self.shared.state.lock();
        let entry = state.backends.entry((pool.into(), backend.into())).or_default();
        entry.retired = None;
        entry.shards.entry(worker).or_insert_with(|| Arc::new(BackendShard::new())).clone()
    }

    /// Control's gauges of one backend of a pool. Puts a retired backend back in service.
    pub fn backend_gauges(&self, pool: &str, backend: &str) -> Arc<BackendGauges> {
        let mut state = self.shared.state.lock();
        let entry = state.backends.entry((pool.into(), backend.into())).or_default();
        entry.retired = None;
        entry.gauges.get_or_insert_default().clone()
    }

    /// The backend left the pool. To be called when no worker's view has it, because a request for its shard puts it
    /// back in service. `lb_backend_up`, `lb_backend_weight` and `lb_backend_info` are removed at once: a removed
    /// backend is neither up nor down. The other series are removed `RETIRED_SERIES_STAY` after a scrape first found
    /// nothing in flight.
    pub fn retire_backend(&self, pool: &str, backend: &str) {
        let now = (self.shared.clock)();
        let mut state = self.shared.state.lock();
        if let Some(entry) = state.backends.get_mut(&(pool.into(), backend.into())) {
            entry.retired.get_or_insert_default();
            entry.look_again(now);
        }
        drop(state);
        self.shared.shadows.backend_goes(pool, backend, now);
    }

    /// The pool gets requests: its series stay from now on.
    pub fn pool_opened(&self, pool: &str) {
        self.shared.state.lock().retired_pools.remove(pool);
    }

    /// The pool is removed with all of its backends; to be called when no worker's view has it. `lb_strategy_info` and
    /// the series of its plugin are removed at once. The other series are removed `RETIRED_SERIES_STAY` after a scrape
    /// first found nothing in flight.
    pub fn retire_pool(&self, pool: &str) {
        let now = (self.shared.clock)();
        let mut state = self.shared.state.lock();
        for (_, backend) in state.backends.iter_mut().filter(|((name, _), _)| **name == *pool) {
            backend.retired.get_or_insert_default();
        }
        state.retired_pools.entry(pool.into()).or_default();
        state.look_again(now);
        drop(state);
        self.shared.plugins.forget(pool);
        self.shared.shadows.pool_goes(pool, now);
    }

    /// The strategy in charge of a pool from now on.
    pub fn set_strategy(&self, pool: &str, strategy: &str, version: &str) {
        let mut state = self.shared.state.lock();
        let counted = state.answers(pool);
        match state.strategies.get_mut(pool) {
            Some(strategies) => strategies.hand_over(strategy, version, counted),
            None => {
                state.strategies.insert(pool.into(), Strategies::new(strategy, version));
            }
        }
    }

    /// An instance of `strategy` is in charge of a pool; it counts its panics in `panics`.
    pub fn instance_in_charge(&self, pool: &str, strategy: &str, panics: Arc<HookPanics>) {
        self.shared.state.lock().instances.entry(pool.into()).or_default().push(strategy, panics);
    }

    /// Whether so few backends of the pool are up that the rules of panic decide.
    pub fn set_panic(&self, pool: &str, is_in_panic: bool) {
        let mut state = self.shared.state.lock();
        match is_in_panic {
            true => state.in_panic.insert(pool.into()),
            false => state.in_panic.remove(pool),
        };
    }

    /// Another instance was put in charge of a pool.
    pub fn strategy_swapped(&self, pool: &str, kind: SwapKind) {
        let mut state = self.shared.state.lock();
        state.swaps.entry(pool.into()).or_default()[kind as usize] += 1;
    }

    /// An instance was replaced and is not kept; it is counted while a reference to it exists.
    pub fn strategy_retired(&self, pool: &str, instance: Weak<dyn Any + Send + Sync>) {
        self.shared.state.lock().replaced.entry(pool.into()).or_default().push(instance);
    }

    /// A reload ended.
    pub fn reload_ended(&self, end: ReloadEnd) {
        let now = seconds_since_the_epoch();
        Reloads::ended(&mut self.shared.state.lock().reloads, end, now);
    }

    /// The runtime that a worker's tasks run on.
    pub fn runtime(&self, worker: usize, runtime: RuntimeMetrics) {
        self.shared.state.lock().runtimes.insert(worker, runtime);
    }

    /// The counters of the access log, for every file.
    pub fn access_log(&self) -> Arc<AccessLogCounts> {
        self.shared.access_log.clone()
    }

    /// The generation in force.
    pub fn set_generation(&self, number: u64) {
        self.shared.state.lock().generation = number;
    }

    /// The exposition, to be sent with `CONTENT_TYPE`.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(64 * 1024);
        // the encoder fails only on families without name or series, and gather() returns none of these
        TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text).expect("writing to memory");
        text
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}

fn seconds_since_the_epoch() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

// === impl Shared ===

impl Shared {
    pub(super) fn now(&self) -> Instant {
        (self.clock)()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let now = self.now();
        Snapshot::take(&mut self.state.lock(), now)
    }

    pub(super) fn pick_totals(&self, pool: &str) -> PickTotals {
        self.state.lock().answers(pool).totals()
    }

    pub(super) fn queue_totals(&self, pool: &str) -> QueueTotals {
        let state = self.state.lock();
        let of_pool = state.pools.iter().filter(|((_, name), _)| **name == *pool);
        let (mut waiting, mut held) = (0, 0);
        for shard in of_pool.flat_map(|(_, shards)| shards.values()) {
            waiting += shard.queued.get();
            held += shard.held.get();
        }
        let [waiting, held] = [waiting, held].map(|sum| sum.max(0) as u64);
        QueueTotals { waiting, held, adaptive_limit: state.adaptive_limit(pool) }
    }
}

// === impl State ===

impl State {
    fn new() -> State {
        let started = seconds_since_the_epoch();
        State {
            generation: 0,
            workers: BTreeMap::new(),
            listeners: BTreeMap::new(),
            pools: BTreeMap::new(),
            queues: BTreeMap::new(),
            strategies: BTreeMap::new(),
            instances: BTreeMap::new(),
            backends: BTreeMap::new(),
            swaps: BTreeMap::new(),
            in_panic: BTreeSet::new(),
            replaced: BTreeMap::new(),
            reloads: std::array::from_fn(|_| Reloads::new(started)),
            runtimes: BTreeMap::new(),
            retired_listeners: BTreeMap::new(),
            retired_pools: BTreeMap::new(),
            past: BTreeMap::new(),
            gone: Requests::new("".into(), "".into()),
        }
    }

    /// The results of a pool's strategies, over all workers and listeners.
    pub(super) fn answers(&self, pool: &str) -> Answers {
        let mut answers = self.past.get(pool).map(|past| past.answers.clone()).unwrap_or_default();
        let of_pool = self.pools.iter().filter(|((_, name), _)| **name == *pool);
        of_pool.flat_map(|(_, shards)| shards.values()).for_each(|shard| answers.add(shard));
        answers
    }

    /// The adaptive limit of a pool, over all workers; `None` if it has none.
    pub(super) fn adaptive_limit(&self, pool: &str) -> Option<u64> {
        let limit: i64 = self.queues.get(pool)?.values().map(|shard| shard.adaptive_limit.get()).sum();
        (limit > 0).then_some(limit as u64)
    }
}
