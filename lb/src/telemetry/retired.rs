//! Retired backends, listeners and pools: how long their series are shown, and what stays of their counts.
//!
//! Invariants: a series is removed long after its last change, so that its last counts are scraped. Sums over series
//! that are added and removed never go back. Shards that a worker still holds are kept; otherwise the worker would
//! count into a shard that is never read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cell::{Counter, HistogramSum, REQUEST_BOUNDS_NS};
use super::hub::{BackendSeries, State, Workers};
use super::probes::ProbeSums;
use super::reason::{ErrorReason, HedgeResult, ProbeKind, QueueRefusal, RetryReason, SessionResult};
use super::shard::{ConnectionShard, PoolShard};
use super::snapshot::Requests;
use super::strategies::Answers;

/// How long the series of a retired thing stay after its last attempt or connection ended.
pub const RETIRED_SERIES_STAY: Duration = Duration::from_secs(300);

/// A backend that left its pool, or a closed listener.
#[derive(Clone, Copy, Default)]
pub(super) struct Retired {
    /// Since when it is idle, by the scrapes.
    idle_since: Option<Instant>,
    /// Its series are no longer shown.
    pub(super) hidden: bool,
}

/// The counts of a pool's forgotten backends and listeners.
pub(super) struct Past {
    pub(super) connects: HistogramSum,
    pub(super) probes: ProbeSums,
    pub(super) errors: [u64; ErrorReason::COUNT],
    pub(super) retries: [u64; RetryReason::COUNT],
    pub(super) retries_denied: u64,
    pub(super) hedges: [u64; HedgeResult::COUNT],
    pub(super) sessions: [u64; SessionResult::COUNT],
    pub(super) queue_entries: u64,
    pub(super) queue_wait_ns: u64,
    pub(super) queue_refusals: [u64; QueueRefusal::COUNT],
    pub(super) answers: Answers,
    /// Without pool or listener.
    requests: Requests,
}

/// Adds the values of the counters.
pub(super) fn add(sums: &mut [u64], counters: &[Counter]) {
    sums.iter_mut().zip(counters).for_each(|(sum, counter)| *sum += counter.get());
}

/// Whether only the hub holds them. Not a count: this also makes the last writes visible of a worker that just released
/// them.
fn are_ours<T>(shards: &mut Workers<T>) -> bool {
    shards.values_mut().all(|shard| Arc::get_mut(shard).is_some())
}

// === impl Retired ===

impl Retired {
    fn look_again(&mut self, is_busy: bool, now: Instant) {
        self.idle_since = if is_busy { None } else { self.idle_since.or(Some(now)) };
        self.hidden = self.idle_since.is_some_and(|since| now.saturating_duration_since(since) >= RETIRED_SERIES_STAY);
    }
}

// === impl BackendSeries ===

impl BackendSeries {
    pub(super) fn look_again(&mut self, now: Instant) {
        let in_flight: i64 = self.shards.values().map(|shard| shard.in_flight.get()).sum();
        if let Some(retired) = &mut self.retired {
            retired.look_again(in_flight > 0, now);
        }
    }
}

// === impl State: what is retired ===

impl State {
    /// Looks at retired things: hides those that were idle for long enough, and forgets them once only the hub holds
    /// their shards.
    pub(super) fn look_again(&mut self, now: Instant) {
        self.look_at_backends(now);
        self.look_at_listeners(now);
        self.look_at_pools(now);
    }

    pub(super) fn is_hidden(&self, listener: &str) -> bool {
        self.retired_listeners.get(listener).is_some_and(|retired| retired.hidden)
    }

    pub(super) fn is_pool_hidden(&self, pool: &str) -> bool {
        self.retired_pools.get(pool).is_some_and(|retired| retired.hidden)
    }

    fn look_at_backends(&mut self, now: Instant) {
        let past = &mut self.past;
        self.backends.retain(|(pool, _), backend| {
            backend.look_again(now);
            let forgettable = backend.retired.is_some_and(|retired| retired.hidden)
                && are_ours(&mut backend.shards)
                && backend.gauges.as_mut().is_none_or(|gauges| Arc::get_mut(gauges).is_some());
            if forgettable {
                let past = past.entry(pool.clone()).or_default();
                for shard in backend.shards.values() {
                    past.connects.add(&shard.connect);
                    past.probes.add(ProbeKind::Pick, &shard.probes);
                }
                if let Some(gauges) = &backend.gauges {
                    past.probes.add(ProbeKind::Periodic, &gauges.probes);
                }
            }
            !forgettable
        });
    }

    fn look_at_listeners(&mut self, now: Instant) {
        let Self { retired_listeners, listeners, pools, past, .. } = self;
        retired_listeners.retain(|name, retired| {
            let open = |shards: &Workers<ConnectionShard>| shards.values().map(|shard| shard.open.get()).sum::<i64>();
            retired.look_again(listeners.get(name).is_some_and(|shards| open(shards) > 0), now);
            let forgettable = retired.hidden
                && listeners.get_mut(name).is_none_or(are_ours)
                && pools.iter_mut().all(|((listener, _), shards)| listener != name || are_ours(shards));
            if forgettable {
                listeners.remove(name);
                pools.retain(|(listener, pool), shards| {
                    if listener == name {
                        past.entry(pool.clone()).or_default().take_over(shards);
                    }
                    listener != name
                });
            }
            !forgettable
        });
    }
}

// === impl State: retired pools ===

impl State {
    fn look_at_pools(&mut self, now: Instant) {
        let Self { retired_pools, pools, queues, backends, strategies, swaps, replaced, past, gone, .. } = self;
        retired_pools.retain(|name, retired| {
            let shards = pools.iter().filter(|((_, pool), _)| pool == name).flat_map(|(_, shards)| shards.values());
            let in_flight: i64 = shards.map(|shard| shard.in_flight.get()).sum();
            retired.look_again(in_flight > 0, now);
            let forgettable = retired.hidden
                && !backends.keys().any(|(pool, _)| pool == name)
                && queues.get_mut(name).is_none_or(are_ours)
                && pools.iter_mut().all(|((_, pool), shards)| pool != name || are_ours(shards));
            if forgettable {
                queues.remove(name);
                pools.retain(|(_, pool), shards| {
                    if pool == name {
                        shards.values().for_each(|shard| gone.add(shard));
                    }
                    pool != name
                });
                strategies.remove(name);
                swaps.remove(name);
                replaced.remove(name);
                past.remove(name).iter().for_each(|past| gone.take_over(&past.requests));
            }
            !forgettable
        });
    }
}

// === impl Past ===

impl Default for Past {
    fn default() -> Self {
        Self {
            connects: HistogramSum::new(REQUEST_BOUNDS_NS),
            probes: ProbeSums::default(),
            errors: [0; ErrorReason::COUNT],
            retries: [0; RetryReason::COUNT],
            retries_denied: 0,
            hedges: [0; HedgeResult::COUNT],
            sessions: [0; SessionResult::COUNT],
            queue_entries: 0,
            queue_wait_ns: 0,
            queue_refusals: [0; QueueRefusal::COUNT],
            answers: Answers::default(),
            requests: Requests::new("".into(), "".into()),
        }
    }
}

impl Past {
    /// The requests for `pool` by forgotten listeners.
    pub(super) fn requests(&self, pool: &Arc<str>) -> Requests {
        Requests { pool: pool.clone(), ..self.requests.clone() }
    }

    fn take_over(&mut self, shards: &Workers<PoolShard>) {
        for shard in shards.values() {
            add(&mut self.errors, &shard.errors);
            add(&mut self.retries, &shard.retries);
            self.retries_denied += shard.retries_denied.get();
            add(&mut self.hedges, &shard.hedges);
            add(&mut self.sessions, &shard.sessions);
            self.queue_entries += shard.queue_entries.get();
            self.queue_wait_ns += shard.queue_wait_ns.get();
            add(&mut self.queue_refusals, &shard.queue_refusals);
            self.answers.add(shard);
            self.requests.add(shard);
        }
    }
}
