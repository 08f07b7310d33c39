//! A snapshot: plain numbers, summed over the workers in one pass under the hub's lock.
//!
//! Why: text and protocol objects are made from it without the lock, so a worker that builds its view never waits for a
//! scrape's formatting. Invariant: every number here was read once, so a histogram's count and buckets, or a total and
//! its parts, agree.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::RuntimeMetrics;

use super::cell::{HistogramSum, PAUSE_BOUNDS_NS, REQUEST_BOUNDS_NS};
use super::code::{KNOWN_BACKEND_CODES, KNOWN_CODES};
use super::gauges::BackendInfo;
use super::hook_panics::{Instances, PanicSums};
use super::hub::{self, State};
use super::probes::ProbeSums;
use super::reason::{
    EjectionReason, ErrorReason, HedgeResult, ProbeKind, QueueRefusal, ReportResult, RetryReason, SessionResult,
    SwapKind,
};
use super::reloads::Reloads;
use super::retired::{Past, add};
use super::shard::{BackendShard, GET, PoolShard};
use super::strategies::{Answers, Replaced};

pub(super) struct Snapshot {
    pub generation: u64,
    pub take_up: HistogramSum,
    pub reloads: Vec<Reloads>,
    pub runtimes: Vec<Runtime>,
    pub listeners: Vec<Listener>,
    pub requests: Vec<Requests>,
    /// The same for series that no scrape shows any more. Forgotten listeners and pools have no name in it.
    pub unshown: Vec<Requests>,
    pub pools: BTreeMap<Arc<str>, PoolSum>,
    pub backends: Vec<BackendSum>,
}

/// The runtime of one worker.
pub(super) struct Runtime {
    pub worker: usize,
    pub busy_seconds: f64,
    pub queued: usize,
    pub tasks: usize,
}

/// Client connections of one listener.
pub(super) struct Listener {
    pub listener: Arc<str>,
    pub open: i64,
    pub accepted: u64,
    pub rejected: u64,
}

/// Requests of one pool that came by one listener.
#[derive(Clone)]
pub(super) struct Requests {
    pub listener: Arc<str>,
    pub pool: Arc<str>,
    pub in_flight: i64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// By code and method column.
    pub by_code: BTreeMap<(u16, usize), u64>,
    /// By class.
    pub durations: BTreeMap<usize, HistogramSum>,
}

/// The series of a pool as a whole.
pub(super) struct PoolSum {
    pub errors: [u64; ErrorReason::COUNT],
    pub retries: [u64; RetryReason::COUNT],
    pub retries_denied: u64,
    pub hedges: [u64; HedgeResult::COUNT],
    pub sessions: [u64; SessionResult::COUNT],
    pub queued: i64,
    pub queue_entries: u64,
    pub queue_wait_ns: u64,
    pub queue_refusals: [u64; QueueRefusal::COUNT],
    /// `None`: it has none.
    pub adaptive_limit: Option<u64>,
    pub connect: HistogramSum,
    pub probes: ProbeSums,
    /// A strategy is in charge: the pool is in service.
    pub has_strategy: bool,
    /// The strategy's name and version, if known.
    pub strategy: Option<(Arc<str>, Arc<str>)>,
    pub answers: BTreeMap<Arc<str>, Answers>,
    pub hook_panics: PanicSums,
    pub retired_instances: usize,
    pub is_in_panic: bool,
    pub swaps: [u64; SwapKind::COUNT],
}

/// One backend of a pool.
pub(super) struct BackendSum {
    pub pool: Arc<str>,
    pub backend: Arc<str>,
    pub in_flight: i64,
    pub opened: u64,
    pub active: i64,
    pub idle: i64,
    pub by_code: BTreeMap<u16, u64>,
    pub errors: [u64; ErrorReason::COUNT],
    pub to_head: HistogramSum,
    pub load_reports: [u64; ReportResult::COUNT],
    pub health: Option<Health>,
}

/// The state of one backend, set by control.
pub(super) struct Health {
    /// Whether it is up, its weight, and its share in thousandths; `None` for a removed backend.
    pub standing: Option<(i64, i64, i64)>,
    pub checks_ok: u64,
    pub checks_failed: u64,
    pub transitions_up: u64,
    pub transitions_down: u64,
    /// Whether it is ejected; `None` for a removed backend.
    pub ejected: Option<i64>,
    pub ejections: [u64; EjectionReason::COUNT],
    /// `None` for a removed backend.
    pub info: Option<BackendInfo>,
}

const EMPTY: HistogramSum = HistogramSum::new(REQUEST_BOUNDS_NS);

// === impl Snapshot ===

impl Snapshot {
    /// Sums `state`, after a look at retired backends at the time `now`.
    pub(super) fn take(state: &mut State, now: Instant) -> Snapshot {
        state.look_again(now);
        let mut snapshot = Snapshot {
            generation: state.generation,
            take_up: HistogramSum::new(PAUSE_BOUNDS_NS),
            reloads: state.reloads.to_vec(),
            runtimes: state.runtimes.iter().map(|(worker, runtime)| Runtime::read(*worker, runtime)).collect(),
            listeners: Vec::new(),
            requests: Vec::new(),
            unshown: vec![state.gone.clone()],
            pools: BTreeMap::new(),
            backends: Vec::new(),
        };
        state.workers.values().for_each(|shard| snapshot.take_up.add(&shard.take_up));
        for (listener, shards) in state.listeners.iter().filter(|(listener, _)| !state.is_hidden(listener)) {
            snapshot.listeners.push(Listener {
                listener: listener.clone(),
                open: shards.values().map(|shard| shard.open.get()).sum(),
                accepted: shards.values().map(|shard| shard.accepted.get()).sum(),
                rejected: shards.values().map(|shard| shard.rejected.get()).sum(),
            });
        }
        for ((listener, name), shards) in &state.pools {
            let mut requests = Requests::new(listener.clone(), name.clone());
            let pool = snapshot.pools.entry(name.clone()).or_default();
            for shard in shards.values() {
                requests.add(shard);
                pool.add(shard);
            }
            // hidden ones still count for the pool as a whole
            let is_shown = !state.is_hidden(listener) && !state.is_pool_hidden(name);
            if is_shown { &mut snapshot.requests } else { &mut snapshot.unshown }.push(requests);
        }
        for name in state.queues.keys() {
            snapshot.pools.entry(name.clone()).or_default().adaptive_limit = state.adaptive_limit(name);
        }
        for (name, strategies) in &state.strategies {
            let pool = snapshot.pools.entry(name.clone()).or_default();
            pool.strategy = Some((strategies.name.clone(), strategies.version.clone()));
            pool.answers = strategies.charged(&state.answers(name));
            pool.hook_panics = state.instances.get_mut(name).map(Instances::sums).unwrap_or_default();
            pool.retired_instances = state.replaced.get_mut(name).map_or(0, Replaced::count);
            pool.is_in_panic = state.in_panic.contains(name);
            pool.swaps = state.swaps.get(name).copied().unwrap_or_default();
        }
        for (name, past) in &state.past {
            let pool = snapshot.pools.entry(name.clone()).or_default();
            snapshot.unshown.push(past.requests(name));
            pool.connect = past.connects.clone();
            pool.probes = past.probes;
            pool.take_over(past);
        }
        for ((pool, name), backend) in &state.backends {
            // hidden ones still count here: the pool's histogram does not end with a backend
            let of_pool = snapshot.pools.entry(pool.clone()).or_default();
            of_pool.add_backend(backend);
            if !backend.retired.is_some_and(|retired| retired.hidden) {
                snapshot.backends.push(BackendSum::of(pool.clone(), name.clone(), backend));
            }
        }
        snapshot.pools.retain(|name, _| !state.is_pool_hidden(name));
        for (_, pool) in snapshot.pools.iter_mut().filter(|(name, _)| state.retired_pools.contains_key(*name)) {
            pool.has_strategy = false;
        }
        snapshot
    }
}

// === impl Runtime ===

impl Runtime {
    /// A worker's runtime has one thread, number 0.
    fn read(worker: usize, runtime: &RuntimeMetrics) -> Runtime {
        Runtime {
            worker,
            busy_seconds: runtime.worker_total_busy_duration(0).as_secs_f64(),
            queued: runtime.global_queue_depth(),
            tasks: runtime.num_alive_tasks(),
        }
    }
}

// === impl Requests ===

impl Requests {
    pub(super) fn new(listener: Arc<str>, pool: Arc<str>) -> Requests {
        Requests {
            listener,
            pool,
            in_flight: 0,
            request_bytes: 0,
            response_bytes: 0,
            by_code: KNOWN_CODES.map(|code| ((code, GET), 0)).into(),
            durations: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, shard: &PoolShard) {
        // Every count is named here, so that a new one does not compile before it is summed: here and in `take_over`,
        // or where the pool as a whole is summed (`PoolSum` and `Past`), or by strategy (`Answers`).
        let PoolShard {
            in_flight,
            request_bytes,
            response_bytes,
            requests,
            durations,
            errors: _,
            retries: _,
            retries_denied: _,
            hedges: _,
            sessions: _,
            queued: _,
            held: _,
            queue_entries: _,
            queue_wait_ns: _,
            queue_refusals: _,
            fallbacks: _,
            picks: _,
            pick_time: _,
            last_timed_ns: _,
        } = shard;
        self.in_flight += in_flight.get();
        self.request_bytes += request_bytes.get();
        self.response_bytes += response_bytes.get();
        requests.each(|code, method, count| *self.by_code.entry((code, method)).or_default() += count);
        for (class, histogram) in durations.made() {
            self.durations.entry(class).or_insert(EMPTY).add(histogram);
        }
    }

    /// Adds the counts of another listener or pool.
    pub(super) fn take_over(&mut self, other: &Requests) {
        let Requests { listener: _, pool: _, in_flight, request_bytes, response_bytes, by_code, durations } = other;
        self.in_flight += in_flight;
        self.request_bytes += request_bytes;
        self.response_bytes += response_bytes;
        by_code.iter().for_each(|(column, count)| *self.by_code.entry(*column).or_default() += count);
        for (class, durations) in durations {
            self.durations.entry(*class).or_insert(EMPTY).add_since(durations, &EMPTY);
        }
    }
}

// === impl PoolSum ===

impl Default for PoolSum {
    fn default() -> PoolSum {
        PoolSum {
            errors: [0; ErrorReason::COUNT],
            retries: [0; RetryReason::COUNT],
            retries_denied: 0,
            hedges: [0; HedgeResult::COUNT],
            sessions: [0; SessionResult::COUNT],
            queued: 0,
            queue_entries: 0,
            queue_wait_ns: 0,
            queue_refusals: [0; QueueRefusal::COUNT],
            adaptive_limit: None,
            connect: EMPTY,
            probes: ProbeSums::default(),
            has_strategy: true,
            strategy: None,
            answers: BTreeMap::new(),
            hook_panics: PanicSums::new(),
            retired_instances: 0,
            is_in_panic: false,
            swaps: [0; SwapKind::COUNT],
        }
    }
}

impl PoolSum {
    fn add(&mut self, shard: &PoolShard) {
        add(&mut self.errors, &shard.errors);
        add(&mut self.retries, &shard.retries);
        add(&mut self.hedges, &shard.hedges);
        add(&mut self.sessions, &shard.sessions);
        add(&mut self.queue_refusals, &shard.queue_refusals);
        self.retries_denied += shard.retries_denied.get();
        self.queued += shard.queued.get();
        self.queue_entries += shard.queue_entries.get();
        self.queue_wait_ns += shard.queue_wait_ns.get();
    }

    fn add_backend(&mut self, backend: &hub::BackendSeries) {
        for shard in backend.shards.values() {
            self.connect.add(&shard.connect);
            self.probes.add(ProbeKind::Pick, &shard.probes);
        }
        if let Some(gauges) = &backend.gauges {
            self.probes.add(ProbeKind::Periodic, &gauges.probes);
        }
    }

    fn take_over(&mut self, past: &Past) {
        self.errors.iter_mut().zip(past.errors).for_each(|(sum, past)| *sum += past);
        self.retries.iter_mut().zip(past.retries).for_each(|(sum, past)| *sum += past);
        self.hedges.iter_mut().zip(past.hedges).for_each(|(sum, past)| *sum += past);
        self.sessions.iter_mut().zip(past.sessions).for_each(|(sum, past)| *sum += past);
        self.queue_refusals.iter_mut().zip(past.queue_refusals).for_each(|(sum, past)| *sum += past);
        self.retries_denied += past.retries_denied;
        self.queue_entries += past.queue_entries;
        self.queue_wait_ns += past.queue_wait_ns;
    }
}

// === impl BackendSum ===

impl BackendSum {
    fn of(pool: Arc<str>, name: Arc<str>, backend: &hub::BackendSeries) -> BackendSum {
        let mut sum = BackendSum {
            pool,
            backend: name,
            in_flight: 0,
            opened: 0,
            active: 0,
            idle: 0,
            by_code: KNOWN_BACKEND_CODES.map(|code| (code, 0)).into(),
            errors: [0; ErrorReason::COUNT],
            to_head: EMPTY,
            load_reports: [0; ReportResult::COUNT],
            health: None,
        };
        for shard in backend.shards.values() {
            // Every count is named here, so that a new one does not compile before it is summed. `connect` and `probes`
            // are summed by pool, in `Snapshot::take` and `Past`.
            let BackendShard {
                in_flight,
                connections_opened,
                connections_active,
                connections_idle,
                responses,
                errors,
                to_head,
                connect: _,
                load_reports,
                probes: _,
            } = &**shard;
            sum.in_flight += in_flight.get();
            sum.opened += connections_opened.get();
            sum.active += connections_active.get();
            sum.idle += connections_idle.get();
            responses.each(|code, _, count| *sum.by_code.entry(code).or_default() += count);
            add(&mut sum.errors, errors);
            sum.to_head.add(to_head);
            add(&mut sum.load_reports, load_reports);
        }
        backend.gauges.iter().for_each(|gauges| add(&mut sum.load_reports, &gauges.load_reports));
        sum.health = backend.gauges.as_ref().map(|gauges| Health {
            standing: backend.retired.is_none().then(|| (gauges.up.get(), gauges.weight.get(), gauges.share.get())),
            checks_ok: gauges.checks_ok.get(),
            checks_failed: gauges.checks_failed.get(),
            transitions_up: gauges.transitions_up.get(),
            transitions_down: gauges.transitions_down.get(),
            ejected: backend.retired.is_none().then(|| gauges.ejected.get()),
            ejections: std::array::from_fn(|reason| gauges.ejections[reason].get()),
            info: gauges.info.lock().clone().filter(|_| backend.retired.is_none()),
        });
        sum
    }
}
