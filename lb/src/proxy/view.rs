//! A worker's own view of the newest generation: the worker's own data beside the shared data.
//!
//! Invariants: a pool and a backend of the view are kept over generations while their name and address stay. So idle
//! connections and counters stay. A request holds `Rc`s of these, never of a generation. Replacing the view drops all
//! references to the old generation.

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lb_balance::{RetryBudget, RetryRules, Thresholds};
use tokio::time::Instant;

use super::listeners::Listeners;
use super::upstream::{Idle, Waiting};
use crate::config::RetryPolicy;
use crate::generation::{Generation, PoolGeneration, Settings};
use crate::pool::Backend;
use crate::telemetry::{BackendShard, Metrics, PoolShard};

/// The worker that owns a view.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    pub(super) number: usize,
    /// How many workers there are.
    pub(super) workers: usize,
    /// Clock zero, the same for all workers.
    pub(super) epoch: Instant,
}

/// The worker's routing data.
pub(super) struct View {
    pub(super) generation: Arc<Generation>,
    /// In the generation's order.
    pub(super) pools: Vec<Rc<PoolView>>,
    pub(super) settings: Rc<Settings>,
}

/// A pool with this worker's data.
pub(super) struct PoolView {
    pub(super) name: Arc<str>,
    /// This worker's counters, by the listener's place.
    shards: RefCell<Vec<Option<Arc<PoolShard>>>>,
    current: RefCell<Option<Current>>,
    retries: RefCell<Rc<Retries>>,
}

/// The retries of a pool in one worker: the rules, and the worker's part of the budget. A request keeps those that it
/// began with.
pub(super) struct Retries {
    policy: RetryPolicy,
    budget: RefCell<RetryBudget>,
}

/// One generation's data of a pool.
pub(super) struct Current {
    pub(super) shared: Arc<PoolGeneration>,
    /// In the order of `shared.backends`.
    pub(super) members: Vec<Rc<MemberView>>,
}

/// A backend with this worker's data: the shared counters, its own shard, its own idle connections, and its requests
/// that wait for a response.
pub(super) struct MemberView {
    pub(super) backend: Arc<Backend>,
    pub(super) shard: Arc<BackendShard>,
    pub(super) idle: Idle,
    pub(super) waiting: Waiting,
    pub(super) thresholds: Cell<Thresholds>,
}

// === impl View ===

impl View {
    /// The view of `generation`. Takes from `old` the parts that are still valid.
    pub(super) fn new(
        generation: Arc<Generation>,
        old: Option<&View>,
        metrics: &Metrics,
        owner: Owner,
        listeners: &Listeners,
    ) -> Self {
        let pools = generation
            .pools
            .iter()
            .map(|shared| {
                let pool = old
                    .and_then(|old| old.pools.iter().find(|pool| pool.name == shared.name))
                    .cloned()
                    .unwrap_or_else(|| PoolView::new(shared, metrics, owner, listeners));
                pool.replace(shared.clone(), metrics, owner);
                pool
            })
            .collect::<Vec<_>>();
        for pool in old.map_or(&[][..], |old| &old.pools) {
            if !pools.iter().any(|kept| Rc::ptr_eq(kept, pool)) {
                pool.clear();
            }
        }
        let settings = match old {
            Some(old) if *old.settings == *generation.settings => old.settings.clone(),
            _ => Rc::new((*generation.settings).clone()),
        };
        Self { generation, pools, settings }
    }

    /// Updates the counters after listeners got or lost their places.
    pub(super) fn hear(&self, listeners: &Listeners, metrics: &Metrics, worker: usize) {
        self.pools.iter().for_each(|pool| pool.hear(listeners, metrics, worker));
    }

    /// Closes the connection to a backend that has been idle the longest; false if none is idle.
    pub(super) fn close_longest_idle(&self) -> bool {
        let mut oldest = None;
        self.each_member(|member| oldest = [oldest, member.idle.oldest()].into_iter().flatten().min());
        let Some(oldest) = oldest else { return false };
        self.each_member(|member| member.idle.purge(oldest + Duration::from_nanos(1)));
        true
    }

    /// Every backend of every pool.
    pub(super) fn each_member(&self, mut visit: impl FnMut(&MemberView)) {
        for pool in &self.pools {
            if let Some(current) = &*pool.current.borrow() {
                current.members.iter().for_each(|member| visit(member));
            }
        }
    }
}

// === impl PoolView ===

impl PoolView {
    fn new(shared: &PoolGeneration, metrics: &Metrics, owner: Owner, listeners: &Listeners) -> Rc<Self> {
        let pool = Self {
            name: shared.name.clone(),
            shards: RefCell::default(),
            current: RefCell::new(None),
            retries: RefCell::new(Retries::new(shared.retry, owner)),
        };
        pool.hear(listeners, metrics, owner.number);
        Rc::new(pool)
    }

    fn hear(&self, listeners: &Listeners, metrics: &Metrics, worker: usize) {
        let shard = |name: Option<&Arc<str>>| name.map(|name| metrics.pool(worker, name, &self.name));
        *self.shards.borrow_mut() = listeners.names().map(shard).collect();
    }

    /// The counters for requests that came by the listener at this place.
    pub(super) fn shard(&self, listener: usize) -> Option<Arc<PoolShard>> {
        self.shards.borrow().get(listener)?.clone()
    }

    /// The newest generation's data; `None` if it has no such pool. Must not be held over an await.
    pub(super) fn current(&self) -> Ref<'_, Option<Current>> {
        self.current.borrow()
    }

    #[inline]
    pub(super) fn retries(&self) -> Rc<Retries> {
        self.retries.borrow().clone()
    }

    fn replace(&self, shared: Arc<PoolGeneration>, metrics: &Metrics, owner: Owner) {
        if self.retries.borrow().policy != shared.retry {
            self.retries.replace(Retries::new(shared.retry, owner));
        }
        let mut current = self.current.borrow_mut();
        let old = current.take().map_or(Vec::new(), |old| old.members);
        let mut old: HashMap<_, _> = old.into_iter().map(|member| (Arc::as_ptr(&member.backend), member)).collect();
        let members = shared
            .backends
            .iter()
            .map(|backend| {
                old.remove(&Arc::as_ptr(backend)).unwrap_or_else(|| {
                    let shard = metrics.backend(owner.number, &shared.name, &backend.id);
                    Rc::new(MemberView::new(backend.clone(), shard))
                })
            })
            .collect();
        for member in old.values() {
            member.look();
            member.idle.close();
        }
        let current = current.insert(Current { shared, members });
        for member in &current.members {
            member.thresholds.set(current.shared.thresholds);
            member.look();
        }
    }

    fn clear(&self) {
        if let Some(old) = self.current.borrow_mut().take() {
            for member in &old.members {
                member.look();
                member.idle.close();
            }
        }
    }
}

// === impl Retries ===

impl Retries {
    fn new(policy: RetryPolicy, owner: Owner) -> Rc<Self> {
        let budget = RetryBudget::new(policy.budget, owner.workers, owner.clock_ns(Instant::now()));
        Rc::new(Self { policy, budget: RefCell::new(budget) })
    }

    #[inline]
    pub(super) fn rules(&self) -> &RetryRules {
        &self.policy.rules
    }

    /// The time limit of a step of one attempt.
    #[inline]
    pub(super) fn within(&self, limit: Duration) -> Duration {
        self.policy.rules.per_attempt_ns.map_or(limit, |ns| limit.min(Duration::from_nanos(ns)))
    }

    /// A request begins.
    #[inline]
    pub(super) fn request(&self, now_ns: u64) {
        self.budget.borrow_mut().request(now_ns);
    }

    /// Takes a retry out of the budget; false if there is none.
    pub(super) fn take(&self, now_ns: u64) -> bool {
        self.budget.borrow_mut().take(now_ns)
    }
}

// === impl Owner ===

impl Owner {
    /// Nanoseconds on the clock that strategies see.
    #[inline]
    pub(super) fn clock_ns(&self, now: Instant) -> u64 {
        (now - self.epoch).as_nanos() as u64
    }
}

// === impl MemberView ===

impl MemberView {
    /// Ends the requests that wait for a response, if the backend is lost.
    pub(super) fn look(&self) {
        self.waiting.note(self.backend.loss());
    }

    fn new(backend: Arc<Backend>, shard: Arc<BackendShard>) -> Self {
        Self {
            backend,
            idle: Idle::new(shard.clone()),
            shard,
            waiting: Waiting::default(),
            thresholds: Cell::new(Thresholds::OFF),
        }
    }
}
