//! Publishing: from changed members to a generation that every worker has taken up.
//!
//! Invariants: one build at a time, on the builder; changes meanwhile go into the next one; builds are spaced by the larger of 10 ms
//! and ten times the last build, so that a strategy with slow lists slows itself and nobody else; whoever waits is answered when a
//! generation with his change is with all workers (or 2 s later); a list that a strategy refuses is rolled back and never published.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use lb_strategy_host::HookError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Actor;
use crate::config::Route;
use crate::control::command::{BackendStatus, ControlError, Replicas};
use crate::control::members::{Member, Origin, close};
use crate::control::pool_state::{Assembled, Assembly};
use crate::control::pools::PoolKey;
use crate::control::probation::Tenure;
use crate::control::reload::{Handed, PoolJob, ReloadError, ReloadReport, assemble};
use crate::generation::{Generation, Settings};
use crate::pool::Backend;

const SPACING_MIN: Duration = Duration::from_millis(10);
/// Builds take at most one part in so many of the time.
const SPACING_BUILDS: u32 = 10;
/// A build that takes longer is reported.
const BUSY_MAX: Duration = Duration::from_secs(1);
/// How long an answer waits for the slowest worker.
const SETTLE_MAX: Duration = Duration::from_secs(2);

pub(super) struct Publisher {
    /// Of the newest generation.
    number: u64,
    /// Counts changes; what a generation contains is said by the count at its build.
    changes: u64,
    /// The changes that the newest generation contains.
    covered: u64,
    building: Option<Building>,
    next_build: Instant,
    waiting: Vec<Waiter>,
    settling: Vec<Settling>,
}

struct Building {
    covers: u64,
    since: Instant,
    is_told: bool,
    result: Pin<Box<dyn Future<Output = Option<Built>> + Send>>,
}

/// What came back from the builder.
pub(super) struct Built {
    pools: Vec<(PoolKey, Result<Assembled, HookError>)>,
    /// In place of that, when it was a reload's.
    pub(super) reload: Option<Result<Vec<Handed>, ReloadError>>,
    took: Duration,
}

/// What to do when a change is with every worker.
pub(super) enum Done {
    Replicas(oneshot::Sender<Result<Replicas, ControlError>>),
    /// What was begun is undone again, and this is why.
    Undone {
        answer: oneshot::Sender<Result<Replicas, ControlError>>,
        error: ControlError,
    },
    Change {
        pool: PoolKey,
        id: Arc<str>,
        answer: oneshot::Sender<Result<BackendStatus, ControlError>>,
    },
    Settled(oneshot::Sender<Result<(), ControlError>>),
    Reload {
        answers: Vec<oneshot::Sender<Result<ReloadReport, ReloadError>>>,
        report: Box<ReloadReport>,
    },
    /// No worker has these in its view any more.
    Replaced(Vec<Arc<Backend>>),
    /// Every worker asks this instance: its probation counts from here.
    InCharge {
        pool: PoolKey,
        instance: u64,
    },
    /// No worker has this pool in its view any more.
    PoolLeft {
        pool: PoolKey,
    },
    /// No worker has it in its view any more.
    Removed {
        pool: PoolKey,
        member: Box<Member>,
        supervisor: Option<u64>,
    },
}

struct Waiter {
    pool: PoolKey,
    change: u64,
    done: Done,
}

struct Settling {
    number: u64,
    deadline: Instant,
    done: Done,
}

// === impl Publisher ===

impl Publisher {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            changes: 0,
            covered: 0,
            building: None,
            next_build: Instant::now(),
            waiting: Vec::new(),
            settling: Vec::new(),
        }
    }

    /// Waits for the build that runs, for ever if there is none.
    pub(super) async fn built(&mut self) -> Option<Built> {
        match &mut self.building {
            Some(building) => building.result.as_mut().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn next_look(&self, is_dirty: bool) -> Option<Instant> {
        let build = match &self.building {
            None => is_dirty.then_some(self.next_build),
            Some(building) => (!building.is_told).then(|| building.since + BUSY_MAX),
        };
        self.settling.iter().map(|settling| settling.deadline).chain(build).min()
    }

    /// Says once per build that it takes too long; nothing else can be done about it, and only its waiters wait.
    pub(super) fn tell_if_stuck(&mut self) {
        if let Some(building) = &mut self.building
            && !building.is_told
            && building.since.elapsed() >= BUSY_MAX
        {
            building.is_told = true;
            tracing::error!("a strategy has kept the builder busy for {BUSY_MAX:?}: changes of backends wait for it");
        }
    }

    /// `done` when all that was changed so far is with every worker.
    pub(super) fn wait(&mut self, pool: PoolKey, done: Done) {
        self.waiting.push(Waiter { pool, change: self.changes, done });
    }

    fn begin(&mut self, result: impl Future<Output = Option<Built>> + Send + 'static) {
        let (covers, since) = (self.changes, Instant::now());
        self.building = Some(Building { covers, since, is_told: false, result: Box::pin(result) });
    }

    /// `done` when the newest generation is with every worker.
    pub(super) fn settle_newest(&mut self, done: Done) {
        self.settling.push(Settling { number: self.number, deadline: Instant::now() + SETTLE_MAX, done });
    }

    fn settle_from(&mut self, waiters: Vec<Waiter>) {
        let (number, deadline) = (self.number, Instant::now() + SETTLE_MAX);
        self.settling.extend(waiters.into_iter().map(|waiter| Settling { number, deadline, done: waiter.done }));
    }
}

// === impl Actor: publishing ===

impl Actor {
    /// Something that the lists of this pool tell has changed.
    pub(super) fn touch(&mut self, pool: PoolKey) {
        self.pools[pool].is_dirty = true;
        self.publisher.changes += 1;
    }

    pub(super) fn build_if_due(&mut self) {
        let publisher = &mut self.publisher;
        if publisher.building.is_some() {
            return;
        }
        if let Some(prepared) = self.reloads.take_ready() {
            return self.assemble_reload(prepared);
        }
        if !self.pools.iter().any(|pool| pool.is_dirty) {
            // What is waited for is published already.
            let waiting = std::mem::take(&mut publisher.waiting);
            publisher.settle_from(waiting);
            return;
        }
        if Instant::now() < publisher.next_build {
            return;
        }
        let dirty = self.pools.entries_mut().filter(|(_, pool)| pool.is_dirty);
        let assemblies: Vec<(PoolKey, Assembly)> = dirty.map(|(index, pool)| (index, pool.assembly())).collect();
        let builder = self.builder.clone();
        let job = move || {
            let began = StdInstant::now();
            let pools = assemblies.into_iter().map(|(index, assembly)| (index, assembly.build())).collect();
            Built { pools, reload: None, took: began.elapsed() }
        };
        publisher.begin(async move { builder.run(job).await });
    }

    /// The builder makes a reload's pickers next.
    pub(super) fn build_reload(&mut self, jobs: Vec<PoolJob>) {
        let builder = self.builder.clone();
        let job = move || {
            let began = StdInstant::now();
            Built { pools: Vec::new(), reload: Some(assemble(jobs)), took: began.elapsed() }
        };
        self.publisher.begin(async move { builder.run(job).await });
    }

    /// A build ended: what worked is published, what did not is rolled back.
    pub(super) fn publish(&mut self, built: Option<Built>) {
        let Some(Building { covers, .. }) = self.publisher.building.take() else { return };
        // Only a bug of ours panics on the builder (plugins catch theirs); which pool it was about is not known then.
        let broke = built.is_none();
        let Built { pools, reload, took } =
            built.unwrap_or(Built { pools: Vec::new(), reload: None, took: Duration::ZERO });
        self.publisher.next_build = Instant::now() + SPACING_MIN.max(took * SPACING_BUILDS);
        if self.reloads.is_assembling() {
            return self.reload_assembled(reload, covers);
        }
        let mut refused: Vec<(PoolKey, String)> = Vec::new();
        let mut adopted = false;
        for (index, result) in pools {
            match result {
                Ok(assembled) => {
                    self.pools[index].adopt(assembled);
                    adopted = true;
                }
                Err(error) => refused.push((index, error.to_string())),
            }
        }
        if broke {
            refused.extend(self.pools.keys().into_iter().map(|index| (index, "the builder broke".to_owned())));
        }
        for (index, reason) in &refused {
            self.roll_back(*index, reason);
        }
        if !adopted {
            return;
        }
        let current = self.hall.current();
        self.put_in_force(covers, current.routes.clone(), current.settings.clone());
    }

    /// Publishes what the pools have, and lets those wait for the workers whose changes are in it.
    pub(super) fn put_in_force(&mut self, covers: u64, routes: Vec<Route>, settings: Arc<Settings>) {
        self.publisher.number += 1;
        self.publisher.covered = covers;
        let number = self.publisher.number;
        self.hall.publish(Generation {
            number,
            pools: self.pools.iter().filter_map(crate::control::pool_state::PoolState::published).collect(),
            routes,
            listeners: self.listeners.clone(),
            settings,
            course: self.course.clone().filter(|_| self.config.course.on_proxy_port),
        });
        self.metrics.set_generation(number);
        let (done, waiting) =
            std::mem::take(&mut self.publisher.waiting).into_iter().partition(|waiter| waiter.change <= covers);
        self.publisher.waiting = waiting;
        self.publisher.settle_from(done);
        self.write_overlay();
    }

    /// Answers those whose generation is with all workers, and frees what nobody holds any more.
    pub(super) fn settle(&mut self) {
        let now = Instant::now();
        let settling = std::mem::take(&mut self.publisher.settling);
        let (done, settling): (Vec<_>, Vec<_>) =
            settling.into_iter().partition(|one| self.hall.is_settled(one.number) || one.deadline <= now);
        self.publisher.settling = settling;
        for Settling { number, mut done, .. } in done {
            if !self.hall.is_settled(number) {
                let sentence = format!("generation {number} was not taken up by every worker within {SETTLE_MAX:?}");
                tracing::warn!("{sentence}");
                if let Done::Reload { report, .. } = &mut done {
                    report.warnings.push(format!("{sentence}: see /healthz"));
                }
            }
            self.finish(done);
        }
        let free = self.hall.take_free();
        if !free.is_empty() {
            self.builder.retire(free);
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Replicas(answer) => drop(answer.send(Ok(self.replicas()))),
            Done::Undone { answer, error } => drop(answer.send(Err(error))),
            Done::Change { pool, id, answer } => {
                let member = self.pools.get(pool).and_then(|pool| pool.members.get(&id));
                let status = member.map(|member| self.backend_status(pool, member));
                let gone = || ControlError::NotFound(format!("backend {id:?} was removed meanwhile"));
                drop(answer.send(status.ok_or_else(gone)));
            }
            Done::Settled(answer) => drop(answer.send(Ok(()))),
            Done::Reload { answers, report } => {
                answers.into_iter().for_each(|answer| drop(answer.send(Ok((*report).clone()))));
            }
            Done::Replaced(backends) => backends.iter().for_each(|backend| close(backend)),
            Done::InCharge { pool, instance } => {
                let Some(pool) = self.pools.get_mut(pool) else { return };
                let counted = self.metrics.pick_totals(&pool.name);
                if pool.strategy.instance() == instance
                    && let Tenure::OnProbation(probation) = pool.tenure_mut()
                {
                    probation.starts_from(counted);
                }
            }
            Done::PoolLeft { pool } => self.pool_left(pool),
            Done::Removed { pool, member, supervisor } => self.member_left(pool, &member, supervisor),
        }
    }

    /// The strategy refused a pool's list: the membership that is published stays in force.
    fn roll_back(&mut self, index: PoolKey, reason: &str) {
        let pool = &mut self.pools[index];
        tracing::error!("pool {}: the change is undone: {reason}", pool.name);
        let gone = pool.roll_back();
        let (failed, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.publisher.waiting).into_iter().partition(|waiter| waiter.pool == index);
        self.publisher.waiting = waiting;
        for member in &gone {
            self.member_goes(index, member);
            let supervisor = self.launcher.as_ref().and_then(|launcher| launcher.current(member.id()));
            self.publisher.settling.push(Settling {
                number: self.publisher.number,
                deadline: Instant::now() + SETTLE_MAX,
                done: Done::Removed { pool: index, member: Box::new(member.clone()), supervisor },
            });
            if let (Some(launcher), Some(supervisor)) = (&mut self.launcher, supervisor) {
                launcher.give_up(supervisor);
            }
        }
        let error = || ControlError::Failed(format!("<Error> The strategy refused the change: {reason}"));
        for waiter in failed {
            match waiter.done {
                Done::Replicas(answer) => drop(answer.send(Err(error()))),
                Done::Undone { answer, error } => drop(answer.send(Err(error))),
                Done::Change { answer, .. } => drop(answer.send(Err(error()))),
                Done::Settled(answer) => drop(answer.send(Err(error()))),
                // Never waits for a build.
                Done::Reload { .. } | Done::InCharge { .. } | Done::PoolLeft { .. } | Done::Replaced(_) => {}
                // It is a member again; its process was not touched yet.
                Done::Removed { supervisor, .. } => {
                    if let (Some(launcher), Some(supervisor)) = (&mut self.launcher, supervisor) {
                        launcher.keep(supervisor);
                    }
                }
            }
        }
        if index == PoolKey::DEFAULT {
            self.fail_joins_of(&gone, reason);
        }
        for member in self.pools[index].members.snapshot() {
            let is_running = self.launcher.as_ref().is_some_and(|launcher| launcher.is_up(member.id()));
            if !self.checkers.is_watched(index, member.id()) && (member.entry.origin != Origin::Launched || is_running)
            {
                self.member_came(index, &member);
            }
            self.show(index, &member);
        }
    }
}
