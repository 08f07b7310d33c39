//! The publisher: the state in force, and the way from a change to a generation that every worker has.
//!
//! Invariants: changes that arrive during a build go into the next one. A list that a strategy refuses is rolled back
//! and never published. Generations and strategies that no worker needs are dropped on the builder, where plugin code
//! may run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_strategy_host::HookError;
use tokio::time::{Instant, timeout};

use super::builds::{Builds, Built, Ended};
use super::duties::{Office, Post, Rebuilds};
use super::listeners::Listeners;
use super::rounds::Rounds;
use super::waiting::{TAKE_UP_MAX, Waited, Waiting};
use super::{Builder, FollowUp, PoolJob, assemble, settings};
use crate::access_log::AccessLog;
use crate::config::{Config, Health, OwnAddress, Reach};
use crate::control::pools::{Assembled, Assembly, Member, PoolKey, PoolState, Pools, saved_text};
use crate::generation::{Generation, Hall, OwnRoutes, Settings};
use crate::listener::Listener;
use crate::telemetry::Metrics;

/// How long lb ignores a strategy that asks for new pickers after it refused a list. It would be asked forever.
const DEAF: Duration = Duration::from_secs(1);
/// The time that strategies have at the end of lb to export what they have learnt.
const EXPORT_MAX: Duration = Duration::from_secs(2);

/// The parts of a new publisher.
pub(in crate::control) struct InForce {
    pub(in crate::control) config: Config,
    pub(in crate::control) metrics: Arc<Metrics>,
    pub(in crate::control) hall: Arc<Hall>,
    pub(in crate::control) builder: Builder,
    pub(in crate::control) pools: Vec<PoolState>,
    pub(in crate::control) listeners: Vec<Arc<Listener>>,
    /// The address of the admin port.
    pub(in crate::control) admin: SocketAddr,
    pub(in crate::control) own_routes: Option<OwnRoutes>,
    pub(in crate::control) missing_path: &'static str,
}

pub(in crate::control) struct Publisher {
    pub(in crate::control) config: Config,
    pub(in crate::control) metrics: Arc<Metrics>,
    pub(in crate::control) hall: Arc<Hall>,
    pub(in crate::control) builder: Builder,
    pub(in crate::control) pools: Pools,
    pub(in crate::control) listeners: Listeners,
    /// Pools that no later generation has. Workers may still have them.
    leaving: Vec<(PoolKey, PoolState)>,
    admin: SocketAddr,
    /// Used if `course.on_proxy_port` is set.
    own_routes: Option<OwnRoutes>,
    /// Used if `course.missing_path_is_400` is set.
    missing_path: &'static str,
    /// The first checks that the start waits for have ended. Backends that come later wait only for themselves.
    has_checked: bool,
    /// The number of the newest generation.
    number: u64,
    /// Counts changes. A build covers the changes up to the count when it began.
    changes: u64,
    builds: Builds,
    waiting: Waiting,
    office: Arc<Office>,
    /// The instances that have duties on the builder.
    posts: Vec<Post>,
    rounds: Rounds,
    /// Pools whose strategy refused a list, and until when lb ignores that it asks for new pickers.
    deaf: Vec<(PoolKey, Instant)>,
}

/// An event that the publisher waits for.
pub(in crate::control) enum Progress {
    Ended(Ended),
    /// A worker has taken up a generation.
    Acknowledged,
    /// Strategies ask for new pickers.
    Rebuild,
}

/// A pool whose strategy refused its list: the published membership is in force again.
pub(in crate::control) struct Refused {
    pub(in crate::control) pool: PoolKey,
    pub(in crate::control) reason: String,
    /// Members that are removed again.
    pub(in crate::control) gone: Vec<Member>,
    /// The callers that waited for the list.
    pub(in crate::control) waiters: Vec<FollowUp>,
}

// === impl Publisher ===

impl Publisher {
    pub(in crate::control) fn new(parts: InForce) -> Self {
        let InForce { config, metrics, hall, builder, pools, listeners, admin, own_routes, missing_path } = parts;
        let (opened, rebuilds) = (hall.opened(), Rebuilds::default());
        let office = Arc::new(Office { metrics: metrics.clone(), rebuilds, opened });
        let mut publisher = Self {
            has_checked: hall.current().awaited == 0,
            number: hall.current().number,
            changes: 0,
            builds: Builds::new(),
            waiting: Waiting::default(),
            leaving: Vec::new(),
            office,
            posts: Vec::new(),
            rounds: Rounds::new(hall.clone(), builder.clone(), metrics.clone()),
            deaf: Vec::new(),
            pools: Pools::new(pools),
            listeners: Listeners::new(listeners),
            config,
            metrics,
            hall,
            builder,
            admin,
            own_routes,
            missing_path,
        };
        publisher.assign_duties();
        publisher
    }

    /// Marks the pool: its lists have changed.
    pub(in crate::control) fn touch(&mut self, pool: PoolKey) {
        self.pools[pool].is_dirty = true;
        self.changes += 1;
    }

    /// `follow_up` is due when every worker has all changes so far, or [`TAKE_UP_MAX`] after their publish.
    pub(in crate::control) fn wait(&mut self, pool: PoolKey, follow_up: FollowUp) {
        self.waiting.add(pool, self.changes, follow_up);
    }

    /// `follow_up` is due when every worker has the newest generation, or after [`TAKE_UP_MAX`].
    pub(in crate::control) fn wait_for_newest(&mut self, follow_up: FollowUp) {
        self.waiting.add_published(self.number, follow_up);
    }

    /// The addresses that no backend may have: those of `config`, and those where lb listens, with the ports that it
    /// got.
    pub(in crate::control) fn reach(&self, config: &Config, listeners: &[Arc<Listener>]) -> Reach {
        reach(config, listeners, self.admin)
    }

    /// Waits for the next progress of builds and workers. Can be dropped and called again.
    pub(in crate::control) async fn progress(&mut self) -> Progress {
        tokio::select! {
            ended = self.builds.ended() => Progress::Ended(ended),
            () = self.hall.acknowledgement() => Progress::Acknowledged,
            () = self.office.rebuilds.asked() => Progress::Rebuild,
        }
    }

    /// The next time at which something may be due without a report.
    pub(in crate::control) fn next_look(&self) -> Option<Instant> {
        self.waiting.next_deadline().into_iter().chain(self.builds.next_look(self.is_dirty())).min()
    }

    pub(in crate::control) fn tell_if_stuck(&mut self) {
        self.builds.tell_if_stuck();
    }

    /// What the strategies have learnt, as the text of a file. `None` if the builder does not respond in time.
    pub(in crate::control) fn learnt(&self) -> impl Future<Output = Option<String>> + Send + use<> {
        let pools: Vec<_> = self.pools.iter().map(PoolState::learning).collect();
        let builder = self.builder.clone();
        async move {
            match timeout(EXPORT_MAX, builder.run(move || saved_text(pools))).await {
                Ok(Some(Ok(text))) => return Some(text),
                Ok(Some(Err(error))) => tracing::error!(%error, "learnt state cannot be written"),
                Ok(None) => tracing::error!("learnt state is not written: the builder broke"),
                Err(_) => tracing::error!("learnt state is not written: the strategies took over {EXPORT_MAX:?}"),
            }
            None
        }
    }

    /// Marks the pools whose strategy in charge asks for a new picker. Not before a build may begin: a reload that runs
    /// may put another strategy in charge.
    fn mark_rebuilds(&mut self) {
        let now = Instant::now();
        self.deaf.retain(|(_, until)| now < *until);
        for (pool, instance) in self.office.rebuilds.take() {
            let is_in_use = self.pools.get(pool).is_some_and(|pool| pool.uses(instance));
            if is_in_use && !self.deaf.iter().any(|(deaf, _)| *deaf == pool) {
                self.touch(pool);
            }
        }
    }

    pub(in crate::control) fn is_building(&self) -> bool {
        self.builds.is_running()
    }

    /// Begins a build for pools whose members changed, unless one runs or the spacing forbids it.
    pub(in crate::control) fn build_if_due(&mut self) {
        if self.builds.is_running() {
            return;
        }
        self.mark_rebuilds();
        if !self.is_dirty() {
            // The changes that callers wait for are published already.
            return self.waiting.published(self.changes, self.number);
        }
        if !self.builds.is_due() {
            return;
        }
        let dirty = self.pools.entries_mut().filter(|(_, pool)| pool.is_dirty);
        let assemblies: Vec<(PoolKey, Assembly)> = dirty.map(|(key, pool)| (key, pool.assembly())).collect();
        let job = move || Built::Members(assemblies.into_iter().map(|(key, one)| (key, one.build())).collect());
        self.builds.begin(&self.builder, self.changes, job);
    }

    /// The builder makes a reload's pickers next. No build may be running.
    pub(in crate::control) fn build_reload(&mut self, jobs: Vec<PoolJob>) {
        self.builds.begin(&self.builder, self.changes, move || Built::Reload(assemble(jobs)));
    }

    /// A build of members ended: publishes accepted lists and rolls back refused ones. `None`: the builder broke.
    pub(in crate::control) fn publish_members(
        &mut self,
        covers: u64,
        pools: Option<Vec<(PoolKey, Result<Assembled, HookError>)>>,
    ) -> Vec<Refused> {
        let Some(pools) = pools else {
            // Plugins catch their panics, so this is a defect of lb. The pool that caused it is unknown.
            return self
                .pools
                .keys()
                .into_iter()
                .map(|pool| self.roll_back(pool, "the builder broke".into()))
                .collect();
        };
        let mut refused = Vec::new();
        let mut is_adopted = false;
        for (pool, result) in pools {
            match result {
                Ok(mut assembled) => {
                    let refused = std::mem::take(&mut assembled.refused);
                    self.pools[pool].adopt(assembled);
                    is_adopted = true;
                    for (instance, error) in refused {
                        self.switch_off_shadow(pool, instance, format!("it refused a list: {error}"));
                    }
                }
                Err(error) => refused.push(self.roll_back(pool, error.to_string())),
            }
        }
        // While the start waits for first checks, a refusal must not hold back that they have ended.
        if is_adopted || !self.has_checked {
            self.put_in_force(covers, self.hall.current().settings.clone());
        }
        refused
    }

    /// The rules for the checks of the pool's backends.
    pub(in crate::control) fn health(&self, pool: PoolKey) -> Arc<Health> {
        let name = self.pools.get(pool).map(|pool| &*pool.name);
        let configured = self.config.pools.iter().find(|configured| Some(&*configured.name) == name);
        configured.map_or(&self.config.health, |pool| &pool.health).clone()
    }

    /// The settings of the configuration for requests, with this log.
    pub(in crate::control) fn settings(&self, access_log: Option<AccessLog>) -> Arc<Settings> {
        settings(&self.config, access_log, self.missing_path)
    }

    /// Publishes the state in force, with the changes up to `covers` in the pools' lists.
    pub(in crate::control) fn put_in_force(&mut self, covers: u64, settings: Arc<Settings>) {
        self.number += 1;
        let awaited = if self.has_checked { 0 } else { awaited(self.pools.iter()) };
        self.has_checked = awaited == 0;
        self.hall.publish(Generation {
            number: self.number,
            pools: self.pools.iter().filter_map(PoolState::published).collect(),
            routes: self.config.routes.clone(),
            policies: self.config.policies.clone(),
            awaited,
            listeners: self.listeners.open().to_vec(),
            settings,
            own_routes: self.own_routes.clone().filter(|_| self.config.course.on_proxy_port),
        });
        self.metrics.set_generation(self.number);
        self.waiting.published(covers, self.number);
        self.assign_duties();
    }

    /// Returns the actions that are due because every worker has a generation, or because the wait was too long. Frees
    /// generations that no worker holds.
    pub(in crate::control) fn due(&mut self) -> Vec<FollowUp> {
        let free = self.hall.take_free();
        if !free.is_empty() {
            self.builder.retire(free);
        }
        let hall = &self.hall;
        let waited = self.waiting.take_due(|number| hall.is_taken_up(number));
        waited.into_iter().map(told_if_late).collect()
    }

    /// The pools that `left`, found by [`Pools::arrange`], are dropped when no worker's view has them, or after
    /// [`TAKE_UP_MAX`]. Until then their backends stay eligible, because a worker may still pick one of them.
    pub(in crate::control) fn see_off(&mut self, left: Vec<(PoolKey, PoolState)>) {
        for (pool, state) in left {
            self.leaving.push((pool, state));
            self.wait_for_newest(FollowUp::PoolLeft { pool });
        }
    }

    /// The wait for the workers is over: drops the pool.
    pub(in crate::control) fn pool_left(&mut self, key: PoolKey) {
        let Some(index) = self.leaving.iter().position(|(leaving, _)| *leaving == key) else { return };
        let (_, mut pool) = self.leaving.swap_remove(index);
        pool.members.close();
        // A new pool of the same name counts on in the same series.
        if self.pools.key_of(&pool.name).is_none() {
            self.metrics.retire_pool(&pool.name);
        }
        self.builder.retire(pool);
    }

    /// Drops pools and strategies on the builder.
    pub(in crate::control) fn stop(self) {
        self.builder.set_duties(Vec::new(), self.office);
        self.builder.retire((self.pools.into_states(), self.leaving, self.posts));
    }

    fn is_dirty(&self) -> bool {
        self.pools.iter().any(|pool| pool.is_dirty)
    }

    /// The strategies in charge get the duties of the builder, if others have them, and their probes.
    fn assign_duties(&mut self) {
        let posts: Vec<Post> = self.pools.entries().flat_map(|(key, pool)| Post::all(key, pool)).collect();
        let is_same = posts.len() == self.posts.len() && posts.iter().zip(&self.posts).all(|(new, old)| new.is(old));
        if !is_same {
            self.builder.set_duties(posts.clone(), self.office.clone());
            // Plugin code runs when the last reference goes.
            let before = std::mem::replace(&mut self.posts, posts);
            self.builder.retire(before);
        }
        self.rounds.follow(&self.hall.current().pools);
    }

    fn roll_back(&mut self, pool: PoolKey, reason: String) -> Refused {
        tracing::error!(pool = %self.pools[pool].name, reason, "the strategy refused a list of backends: the one before stays");
        self.deaf.push((pool, Instant::now() + DEAF));
        let gone = self.pools[pool].roll_back();
        Refused { pool, reason, gone, waiters: self.waiting.take_refused(pool) }
    }
}

/// How many backends wait for their first check.
pub(in crate::control) fn awaited<'a>(pools: impl Iterator<Item = &'a PoolState>) -> usize {
    pools.flat_map(|pool| pool.members.iter()).filter(|member| member.standing.is_waiting()).count()
}

/// The addresses that no backend may have: those of `config`, and those where lb listens, with the ports that it got.
pub(in crate::control) fn reach(config: &Config, listeners: &[Arc<Listener>], admin: SocketAddr) -> Reach {
    let mut reach = Reach::of(&config.proxy, &config.admin);
    let listeners = listeners.iter().map(|listener| OwnAddress { key: "proxy.listen", address: listener.address() });
    reach.own.extend(listeners.chain([OwnAddress { key: "admin.listen", address: admin }]));
    reach
}

fn told_if_late(waited: Waited) -> FollowUp {
    let Waited { number, is_with_all, mut follow_up } = waited;
    if !is_with_all {
        let sentence = format!("not every worker has taken up generation {number} within {TAKE_UP_MAX:?}");
        tracing::warn!("{sentence}");
        if let FollowUp::Reload { report, .. } = &mut follow_up {
            report.warnings.push(format!("{sentence}: see /healthz"));
        }
    }
    follow_up
}
