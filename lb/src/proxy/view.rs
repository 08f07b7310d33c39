//! A worker's own view of the newest generation: what it owns beside what all share.
//!
//! Invariants: a pool and a backend of the view outlive generations as long as their name and address do, so idle connections and
//! counters stay; a request holds `Rc`s of these, never of a generation; replacing the view drops all that is held of the old one.

use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::listeners::Listeners;
use super::upstream::Upstream;
use crate::generation::{Generation, PoolGeneration, Settings};
use crate::pool::Backend;
use crate::telemetry::{BackendShard, Metrics, PoolShard};

/// What this worker routes by.
pub(super) struct View {
    pub(super) generation: Arc<Generation>,
    /// In the generation's order.
    pub(super) pools: Vec<Rc<Pool>>,
    pub(super) settings: Rc<Settings>,
}

/// A pool as this worker knows it.
pub(super) struct Pool {
    pub(super) name: Arc<str>,
    /// This worker's counters, by the listener's place.
    shards: RefCell<Vec<Option<Arc<PoolShard>>>>,
    current: RefCell<Option<Current>>,
}

/// What one generation says of a pool.
pub(super) struct Current {
    pub(super) shared: Arc<PoolGeneration>,
    /// In the order of `shared.backends`.
    pub(super) members: Vec<Rc<Member>>,
}

/// A backend as this worker knows it: the shared counters, its own shard, its own idle connections.
pub(super) struct Member {
    pub(super) backend: Arc<Backend>,
    pub(super) shard: Arc<BackendShard>,
    /// The youngest at the back.
    idle: RefCell<VecDeque<Idle>>,
    /// No longer in the view: connections that come back are closed.
    gone: Cell<bool>,
}

struct Idle {
    upstream: Box<Upstream>,
    since: Instant,
}

// === impl View ===

impl View {
    /// The view of `generation`, taking over from `old` whatever still stands.
    pub(super) fn new(
        generation: Arc<Generation>,
        old: Option<&View>,
        metrics: &Metrics,
        worker: usize,
        listeners: &Listeners,
    ) -> Self {
        let pools = generation
            .pools
            .iter()
            .map(|shared| {
                let pool = old
                    .and_then(|old| old.pools.iter().find(|pool| pool.name == shared.name))
                    .cloned()
                    .unwrap_or_else(|| Pool::new(&shared.name, metrics, worker, listeners));
                pool.replace(shared.clone(), metrics, worker);
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

    /// Takes up that listeners have got or given up their places.
    pub(super) fn hear(&self, listeners: &Listeners, metrics: &Metrics, worker: usize) {
        self.pools.iter().for_each(|pool| pool.hear(listeners, metrics, worker));
    }

    /// Every backend of every pool.
    pub(super) fn each_member(&self, mut visit: impl FnMut(&Member)) {
        for pool in &self.pools {
            if let Some(current) = &*pool.current.borrow() {
                current.members.iter().for_each(|member| visit(member));
            }
        }
    }
}

// === impl Pool ===

impl Pool {
    fn new(name: &Arc<str>, metrics: &Metrics, worker: usize, listeners: &Listeners) -> Rc<Self> {
        let pool = Self { name: name.clone(), shards: RefCell::default(), current: RefCell::new(None) };
        pool.hear(listeners, metrics, worker);
        Rc::new(pool)
    }

    fn hear(&self, listeners: &Listeners, metrics: &Metrics, worker: usize) {
        let shard = |name: Option<&Arc<str>>| name.map(|name| metrics.pool(worker, name, &self.name));
        *self.shards.borrow_mut() = listeners.names().map(shard).collect();
    }

    /// Notes something in the counters for requests that came by the listener at this place.
    pub(super) fn count<T>(&self, listener: usize, note: impl FnOnce(&PoolShard) -> T) -> Option<T> {
        let shards = self.shards.borrow();
        shards.get(listener)?.as_deref().map(note)
    }

    /// What the newest generation says; `None` when it has no such pool. Must not be held over an await.
    pub(super) fn current(&self) -> Ref<'_, Option<Current>> {
        self.current.borrow()
    }

    fn replace(&self, shared: Arc<PoolGeneration>, metrics: &Metrics, worker: usize) {
        let mut current = self.current.borrow_mut();
        let old = current.take().map_or(Vec::new(), |old| old.members);
        let members = shared
            .backends
            .iter()
            .map(|backend| {
                let kept = old.iter().find(|member| Arc::ptr_eq(&member.backend, backend)).cloned();
                kept.unwrap_or_else(|| {
                    let shard = metrics.backend(worker, &shared.name, &backend.id);
                    Rc::new(Member::new(backend.clone(), shard))
                })
            })
            .collect::<Vec<_>>();
        for member in &old {
            if !members.iter().any(|kept| Rc::ptr_eq(kept, member)) {
                member.leave();
            }
        }
        *current = Some(Current { shared, members });
    }

    fn clear(&self) {
        if let Some(old) = self.current.borrow_mut().take() {
            old.members.iter().for_each(|member| member.leave());
        }
    }
}

// === impl Member ===

impl Member {
    fn new(backend: Arc<Backend>, shard: Arc<BackendShard>) -> Self {
        Self { backend, shard, idle: RefCell::default(), gone: Cell::new(false) }
    }

    /// The youngest idle connection that is not older than `oldest`; those found too old are closed.
    pub(super) fn take_idle(&self, oldest: Instant) -> Option<Box<Upstream>> {
        let mut idle = self.idle.borrow_mut();
        let found = idle.pop_back()?;
        if found.since >= oldest {
            self.shard.connections_idle.dec();
            return Some(found.upstream);
        }
        // The youngest is too old, so all are.
        self.shard.connections_idle.set(0);
        idle.clear();
        None
    }

    /// Keeps a connection for the next request, unless there are `most` already.
    pub(super) fn put_idle(&self, upstream: Box<Upstream>, now: Instant, most: usize) {
        let mut idle = self.idle.borrow_mut();
        if self.gone.get() || most == 0 {
            return;
        }
        if idle.len() >= most {
            idle.pop_front();
        } else {
            self.shard.connections_idle.inc();
        }
        idle.push_back(Idle { upstream, since: now });
    }

    /// Closes idle connections from before `oldest`.
    pub(super) fn purge_idle(&self, oldest: Instant) {
        let mut idle = self.idle.borrow_mut();
        let keep_from = idle.partition_point(|entry| entry.since < oldest);
        idle.drain(..keep_from);
        self.shard.connections_idle.set(idle.len() as i64);
    }

    fn leave(&self) {
        self.gone.set(true);
        self.shard.connections_idle.set(0);
        self.idle.borrow_mut().clear();
    }
}
