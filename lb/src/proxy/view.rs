//! A worker's own view of the newest generation: the worker's own data beside the shared data.
//!
//! Invariants: a pool and a backend of the view are kept over generations while their name and address stay. So idle
//! connections and counters stay. A request holds `Rc`s of these, never of a generation. Replacing the view drops all
//! references to the old generation.

mod adaptive;
mod room;
mod shadows;

use std::cell::{Cell, OnceCell, Ref, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lb_balance::{BudgetRules, Caps, Hedge, RetryBudget, Thresholds};
use tokio::time::Instant;

use self::adaptive::Adaptive;
pub(super) use self::shadows::ShadowView;
use super::listeners::Listeners;
use super::owner::Owner;
use super::queue::{Line, Lines};
use super::sessions::Sessions;
use super::upstream::{Idle, Probing, Waiting};
use crate::config::{Policy, StickySessions};
use crate::generation::{Generation, Place, PoolGeneration, Settings};
use crate::load_report;
use crate::pool::Backend;
use crate::telemetry::{BackendShard, Metrics, PoolShard};

/// The worker's routing data.
pub(super) struct View {
    pub(super) generation: Arc<Generation>,
    /// In the generation's order.
    pub(super) pools: Vec<Rc<PoolView>>,
    /// In the generation's order. The worker's own, because a count of references that workers share is slow.
    policies: Rc<[Rc<Policy>]>,
    pub(super) settings: Rc<Settings>,
}

/// What the view says about a request. The request keeps it, over reloads too.
pub(super) struct Routed {
    pub(super) pool: Rc<PoolView>,
    pub(super) policy: Rc<Policy>,
    pub(super) settings: Rc<Settings>,
}

/// A pool with this worker's data.
pub(super) struct PoolView {
    pub(super) name: Arc<str>,
    /// This worker's counters, by the listener's place.
    shards: RefCell<Vec<Option<Arc<PoolShard>>>>,
    current: RefCell<Option<Current>>,
    /// This worker's part of the pool's budget for retries, with its rules.
    budget: RefCell<(BudgetRules, RetryBudget)>,
    /// Of each of its backends.
    caps: Cell<Caps>,
    adaptive: Adaptive,
    /// The times to head of its requests that may be hedged; `None` before the first one.
    pub(super) hedge: RefCell<Option<Hedge>>,
    /// The requests that wait for a backend with room.
    pub(super) line: Rc<Line>,
}

/// A retry out of the budget. It is put back on drop, unless an attempt followed: the client may leave, and the pick
/// may fail.
pub(super) struct TakenRetry(Option<Rc<PoolView>>);

/// One generation's data of a pool.
pub(super) struct Current {
    pub(super) shared: Arc<PoolGeneration>,
    /// In the order of `shared.backends`.
    pub(super) members: Vec<Rc<MemberView>>,
    /// If they are sticky.
    pub(super) sessions: Option<Sessions>,
    /// In the order of `shared.shadows`.
    pub(super) shadows: Vec<ShadowView>,
}

/// A backend with this worker's data: the shared counters, its own shard, its own idle connections, and its requests
/// that wait for a response.
pub(super) struct MemberView {
    pub(super) backend: Arc<Backend>,
    pub(super) shard: Arc<BackendShard>,
    pub(super) idle: Idle,
    pub(super) waiting: Waiting,
    /// Empty before the first probe.
    pub(super) probing: OnceCell<Box<Probing>>,
    pub(super) thresholds: Cell<Thresholds>,
}

// === impl View ===

impl View {
    /// The view of `generation`. Takes from `old` the parts that are still valid.
    pub(super) fn new(
        generation: Arc<Generation>,
        old: Option<&View>,
        metrics: &Metrics,
        lines: &Lines,
        listeners: &Listeners,
    ) -> Self {
        let pools = generation
            .pools
            .iter()
            .enumerate()
            .map(|(index, shared)| {
                let policy = &generation.policies[index];
                let budget = policy.retry.budget;
                let pool = old
                    .and_then(|old| old.pools.iter().find(|pool| pool.name == shared.name))
                    .cloned()
                    .unwrap_or_else(|| PoolView::new(&shared.name, budget, metrics, lines, listeners));
                pool.replace(&generation, index, metrics, lines.owner());
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
        let policies = match old {
            Some(old) if Arc::ptr_eq(&old.generation.policies, &generation.policies) => old.policies.clone(),
            _ => generation.policies.iter().map(|policy| Rc::new(policy.clone())).collect(),
        };
        Self { generation, pools, policies, settings }
    }

    /// The data of a request at `place`.
    #[inline]
    pub(super) fn at(&self, place: Place) -> Routed {
        let (pool, policy) = (self.pools[place.pool].clone(), self.policies[place.policy].clone());
        Routed { pool, policy, settings: self.settings.clone() }
    }

    /// Closes connections to backends that have been idle for longer than their pool allows, or than `most`.
    pub(super) fn purge(&self, now: Instant, most: Duration) {
        for (pool, policy) in self.pools.iter().zip(&*self.policies) {
            let Some(oldest) = now.checked_sub(policy.timeouts.upstream_idle.min(most)) else { continue };
            pool.each_member(|member| member.purge(oldest));
        }
    }

    /// Ends the requests that wait for a lost backend, and wakes those that wait for a backend that has recovered.
    pub(super) fn look(&self) {
        self.each_member(MemberView::look);
        self.pools.iter().for_each(|pool| pool.stir());
    }

    /// Follows the bell of this worker.
    pub(super) fn answer_bell(&self) {
        self.pools.iter().for_each(|pool| pool.answer());
    }

    /// Updates the counters after listeners got or lost their places.
    pub(super) fn hear(&self, listeners: &Listeners, metrics: &Metrics, worker: usize) {
        self.pools.iter().for_each(|pool| pool.hear(listeners, metrics, worker));
    }

    /// Closes the connection to a backend that has been idle the longest; false if none is idle.
    pub(super) fn close_longest_idle(&self) -> bool {
        let mut oldest = None;
        self.each_member(|member| oldest = [oldest, member.oldest()].into_iter().flatten().min());
        let Some(oldest) = oldest else { return false };
        self.each_member(|member| member.purge(oldest + Duration::from_nanos(1)));
        true
    }

    /// Every backend of every pool.
    fn each_member(&self, mut visit: impl FnMut(&MemberView)) {
        self.pools.iter().for_each(|pool| pool.each_member(&mut visit));
    }
}

// === impl PoolView ===

impl PoolView {
    fn new(name: &Arc<str>, budget: BudgetRules, metrics: &Metrics, lines: &Lines, listeners: &Listeners) -> Rc<Self> {
        let pool = Self {
            name: name.clone(),
            shards: RefCell::default(),
            current: RefCell::new(None),
            budget: RefCell::new(full_budget(lines.owner(), budget)),
            caps: Cell::default(),
            adaptive: Adaptive::new(metrics.queue(lines.owner().number, name)),
            hedge: RefCell::default(),
            line: lines.of(name),
        };
        pool.hear(listeners, metrics, lines.owner().number);
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

    /// Whether the strategy gets keys.
    pub(super) fn wants_hash(&self) -> bool {
        self.current.borrow().as_ref().is_some_and(|current| current.shared.wants.hash)
    }

    pub(super) fn has_sessions(&self) -> bool {
        self.current.borrow().as_ref().is_some_and(|current| current.sessions.is_some())
    }

    /// A request begins.
    #[inline]
    pub(super) fn request(&self, now_ns: u64) {
        self.budget.borrow_mut().1.request(now_ns);
    }

    /// Whether the budget has a retry now.
    pub(super) fn has_retry(&self, now_ns: u64) -> bool {
        self.budget.borrow_mut().1.left(now_ns) > 0
    }

    /// Takes a retry out of the budget, if there is one.
    pub(super) fn take_retry(self: &Rc<Self>, now_ns: u64) -> Option<TakenRetry> {
        self.budget.borrow_mut().1.take(now_ns).then(|| TakenRetry(Some(self.clone())))
    }

    fn each_member(&self, mut visit: impl FnMut(&MemberView)) {
        if let Some(current) = &*self.current.borrow() {
            current.members.iter().for_each(|member| visit(member));
        }
    }

    /// Takes up the pool at `index` of a generation.
    fn replace(&self, generation: &Generation, index: usize, metrics: &Metrics, owner: Owner) {
        let (shared, Policy { retry, limits, queue, sticky, .. }) =
            (generation.pools[index].clone(), &generation.policies[index]);
        let rules = retry.budget;
        self.caps
            .set(Caps { requests: limits.requests_in_flight_per_backend, connections: limits.connections_per_backend });
        self.adaptive.set(queue.adaptive, owner);
        self.line.set_rules(queue, priorities(generation, index));
        if self.budget.borrow().0 != rules {
            self.budget.replace(full_budget(owner, rules));
        }
        let mut current = self.current.borrow_mut();
        let has_new_metrics = current.as_ref().is_some_and(|old| metrics_of(&old.shared) != metrics_of(&shared));
        let (old, old_sessions, kept) = current.take().map_or_else(Default::default, |old| {
            // Another pool has changed.
            let kept = Arc::ptr_eq(&old.shared, &shared).then_some(old.shadows);
            (old.members, old.sessions, kept)
        });
        let sessions = sticky.as_ref().map(|rules| sessions(rules, &shared, old_sessions));
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
            member.close();
        }
        let thresholds = shared.thresholds;
        let shadows = kept.unwrap_or_else(|| ShadowView::all(&shared, metrics, owner.number));
        for member in &current.insert(Current { shared, members, sessions, shadows }).members {
            member.thresholds.set(thresholds);
            // Each worker does this. So the last one forgets the reports that a worker read by the old list.
            if has_new_metrics {
                member.backend.forget_report();
            }
            member.look();
        }
        drop(current);
        self.close_surplus();
        self.answer();
        self.stir();
    }

    fn clear(&self) {
        if let Some(old) = self.current.borrow_mut().take() {
            for member in &old.members {
                member.look();
                member.close();
            }
        }
        self.adaptive.set(false, self.line.owner());
        // They find that the pool is gone.
        self.stir();
    }
}

fn full_budget(owner: Owner, rules: BudgetRules) -> (BudgetRules, RetryBudget) {
    (rules, RetryBudget::new(rules, owner.workers, owner.clock_ns(Instant::now())))
}

/// The priorities of the requests for the pool at `index`.
fn priorities(generation: &Generation, index: usize) -> impl Iterator<Item = u8> {
    let routed = generation.routes.iter().filter(move |route| route.pool == index).map(|route| route.policy);
    // A request without a route is for `default`.
    let unrouted = (index == 0).then_some(0);
    routed.chain(unrouted).map(|policy| generation.policies[policy].priority)
}

/// The metrics in the load reports of a pool; `None`: reports are not read.
fn metrics_of(shared: &PoolGeneration) -> Option<&load_report::Metrics> {
    shared.load_reports.as_ref().map(|policy| &*policy.metrics)
}

fn sessions(rules: &Arc<StickySessions>, shared: &PoolGeneration, old: Option<Sessions>) -> Sessions {
    let ids = shared.backends.iter().map(|backend| backend.id.clone()).collect();
    Sessions::new(rules, &shared.name, ids, old)
}

// === impl TakenRetry ===

impl TakenRetry {
    /// The attempt follows.
    pub(super) fn spend(mut self) {
        self.0 = None;
    }
}

impl Drop for TakenRetry {
    fn drop(&mut self) {
        if let Some(pool) = &self.0 {
            pool.budget.borrow_mut().1.put_back();
        }
    }
}

// === impl MemberView ===

impl MemberView {
    /// Ends the requests that wait for a response, if the backend is lost.
    pub(super) fn look(&self) {
        self.waiting.note(self.backend.loss());
    }

    /// Closes connections that have waited since before `oldest`.
    fn purge(&self, oldest: Instant) {
        self.idle.purge(oldest);
        if let Some(probing) = self.probing.get() {
            probing.idle.purge(oldest);
        }
    }

    /// The time since which its oldest connection waits.
    fn oldest(&self) -> Option<Instant> {
        let of_probes = self.probing.get().and_then(|probing| probing.idle.oldest());
        [self.idle.oldest(), of_probes].into_iter().flatten().min()
    }

    /// The backend is removed: its connections close when they are not in use.
    fn close(&self) {
        self.idle.close();
        if let Some(probing) = self.probing.get() {
            probing.idle.close();
        }
    }

    fn new(backend: Arc<Backend>, shard: Arc<BackendShard>) -> Self {
        Self {
            backend,
            idle: Idle::new(shard.clone()),
            shard,
            waiting: Waiting::default(),
            probing: OnceCell::new(),
            thresholds: Cell::new(Thresholds::OFF),
        }
    }
}
