//! Rounds: periodic probes, a task for each backend of a pool whose strategy in charge asks for them.
//!
//! Why beside the builder: a probe waits for the network. Only its end is given to the builder, which tells the
//! strategy.
//!
//! Invariants: the tasks are those of the generation in force. A task has at most one probe on its way, and waits until
//! the strategy was told of it. An ineligible backend gets none. In all pools together at most [`AT_ONCE`] probes are
//! on their way, and at most one begins in [`GAP`]. A task keeps nothing that a plugin made: the picker comes from the
//! generation in force when a probe has ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, SemaphorePermit, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::Builder;
use super::duties::Probed;
use crate::config::ProbePolicy;
use crate::control::health::probe;
use crate::generation::{Hall, PoolGeneration};
use crate::pool::Backend;
use crate::telemetry::Metrics;

/// A strategy that asks for probes in shorter intervals gets them in this one.
const EVERY_MIN: Duration = Duration::from_millis(10);
/// A connection is a descriptor, and few are reserved for control.
const AT_ONCE: usize = 128;
/// At most 1,000 probes a second. Each needs a connection of its own.
const GAP: Duration = Duration::from_millis(1);
/// A timer may be late by this without slowing the probes down.
const SLACK: Duration = Duration::from_millis(10);

/// The running tasks.
pub(super) struct Rounds {
    /// By instance and backend.
    running: HashMap<(u64, u64), Round>,
    means: Arc<Means>,
}

/// What all tasks share.
struct Means {
    hall: Arc<Hall>,
    builder: Builder,
    metrics: Arc<Metrics>,
    pace: Pace,
}

/// The bounds over all pools.
struct Pace {
    places: Semaphore,
    next: Mutex<Instant>,
}

struct Round {
    probing: Probing,
    task: AbortHandle,
}

/// What one task probes.
#[derive(Clone)]
struct Probing {
    pool: Arc<str>,
    /// The instance that gets the ends.
    instance: u64,
    backend: Arc<Backend>,
    policy: Arc<ProbePolicy>,
    every: Duration,
    /// The response headers that the strategy names.
    names: Arc<[Box<[u8]>]>,
}

// === impl Rounds ===

impl Rounds {
    pub(super) fn new(hall: Arc<Hall>, builder: Builder, metrics: Arc<Metrics>) -> Self {
        let means = Means { hall, builder, metrics, pace: Pace::new() };
        Self { running: HashMap::new(), means: Arc::new(means) }
    }

    /// Probes the backends of these pools from now on, and no others. A task that would be the same goes on.
    pub(super) fn follow(&mut self, pools: &[Arc<PoolGeneration>]) {
        let mut before = std::mem::take(&mut self.running);
        for pool in pools {
            let wanted = Probing::of(pool);
            let count = wanted.len() as u32;
            for (place, probing) in (0..).zip(wanted) {
                let key = (probing.instance, probing.backend.number);
                let same = before.remove(&key).filter(|round| round.probing.is(&probing));
                // So the first probes of a pool are spread over the interval.
                let begin = || Round::begin(&self.means, &probing, probing.every * place / count);
                self.running.insert(key, same.unwrap_or_else(begin));
            }
        }
    }
}

// === impl Round ===

impl Round {
    fn begin(means: &Arc<Means>, probing: &Probing, pause: Duration) -> Self {
        let task = tokio::spawn(probing.clone().run(means.clone(), pause)).abort_handle();
        Self { probing: probing.clone(), task }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Probing ===

impl Probing {
    /// Those of a pool: none without a path, or if the strategy asks for none.
    fn of(pool: &Arc<PoolGeneration>) -> Vec<Self> {
        let strategy = pool.picker.strategy();
        let every = Duration::from_millis(strategy.plugin().probe_ms().into());
        let Some(policy) = pool.probe.as_ref().filter(|_| !every.is_zero()) else { return Vec::new() };
        let probing = |backend: &Arc<Backend>| Self {
            pool: pool.name.clone(),
            instance: strategy.instance(),
            backend: backend.clone(),
            policy: policy.clone(),
            every: every.max(EVERY_MIN),
            names: strategy.plugin().response_headers().clone(),
        };
        pool.backends.iter().map(probing).collect()
    }

    /// Whether another one for the same instance and id would be the same.
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.backend, &other.backend) && self.policy == other.policy
    }

    async fn run(self, means: Arc<Means>, pause: Duration) {
        let gauges = means.metrics.backend_gauges(&self.pool, &self.backend.id);
        let mut ticks = interval_at(Instant::now() + pause, self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.backend.is_eligible() {
                continue;
            }
            let place = means.pace.turn().await;
            // Not only before the wait for a turn.
            if self.backend.is_eligible() {
                let end = probe(self.backend.socket, &self.backend.address, &self.policy, &self.names).await;
                drop(place);
                let outcome = end.outcome.into();
                let (told, is_told) = oneshot::channel();
                if let Some(pool) = means.pool_of(self.instance) {
                    let now_ns = end.ended.saturating_duration_since(means.hall.opened()).as_nanos() as u64;
                    means.builder.probed(Probed { pool, backend_id: self.backend.number, end, now_ns, told });
                    // An error means that the strategy is no longer in charge.
                    let _ = is_told.await;
                }
                // So a reader of the count finds the strategy told.
                gauges.probe(outcome);
            }
        }
    }
}

// === impl Means ===

impl Means {
    /// The pool of this instance in the generation in force.
    fn pool_of(&self, instance: u64) -> Option<Arc<PoolGeneration>> {
        let generation = self.hall.current();
        generation.pools.iter().find(|pool| pool.picker.strategy().instance() == instance).cloned()
    }
}

// === impl Pace ===

impl Pace {
    fn new() -> Self {
        Self { places: Semaphore::new(AT_ONCE), next: Mutex::new(Instant::now()) }
    }

    /// Waits until a probe may begin. The probe is on its way until the permit is dropped.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed, so this cannot fail.
        let place = self.places.acquire().await.ok();
        // Both waits are in the order of arrival. A task that ends while it waits leaves the queue.
        let mut next = self.next.lock().await;
        let now = Instant::now();
        let at = (*next).max(now.checked_sub(SLACK).unwrap_or(now));
        if at > now {
            sleep_until(at).await;
        }
        *next = at + GAP;
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_thousand_probes_a_second_begin_also_if_timers_are_late() {
        let (pace, began) = (Pace::new(), Instant::now());
        for _ in 0..3_000 {
            drop(pace.turn().await);
        }
        let took = began.elapsed();
        assert!((Duration::from_millis(2_985)..Duration::from_millis(3_050)).contains(&took), "{took:?}");
        // After a pause there are at most as many at once as the slack has room for.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let began = Instant::now();
        let mut at_once = 0;
        while began.elapsed().is_zero() {
            drop(pace.turn().await);
            at_once += 1;
        }
        assert!((2..=13).contains(&at_once), "{at_once}");
    }

    #[tokio::test(start_paused = true)]
    async fn probes_on_their_way_keep_others_back() {
        let pace = Pace::new();
        let mut places = Vec::new();
        for _ in 0..AT_ONCE {
            places.push(pace.turn().await);
        }
        let late = tokio::time::timeout(Duration::from_secs(3_600), pace.turn());
        assert!(late.await.is_err());
        places.pop();
        assert!(pace.turn().await.is_some());
    }
}
