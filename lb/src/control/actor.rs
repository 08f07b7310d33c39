//! The actor: the one task that owns the membership of every pool and publishes generations.
//!
//! Why an actor: commands, health, processes and builds all touch the same state, and one owner that takes them one after the other
//! needs no lock and has no order of its own to get wrong. Invariants: it never blocks and never waits for anything but its
//! next message (builds, name look-ups, writes and processes are elsewhere and report back); what a worker needs to obey at once
//! (eligibility) is said to the live backend before the generation that tells it is built.

mod attach;
mod changes;
mod listening;
mod pools;
mod publisher;
mod reload_ends;
mod reloading;
mod reloads;
mod replicas;
mod rolling_back;
mod settings;
mod status;
mod watching;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant as StdInstant;

use lb_strategy_host::Loader;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use self::attach::Resolved;
use self::publisher::{Built, Done, Publisher};
use self::reloads::{Reloads, Transaction};
use self::replicas::Join;
use super::builder::Builder;
use super::command::Command;
use super::health::Checkers;
use super::launcher::{Launcher, News};
use super::members::{Member, Origin};
use super::overlay::Overlay;
use super::pool_state::PoolState;
use super::pools::{PoolKey, Pools};
use super::probation::Tenure;
use super::reload::{Prepared, ReloadError, Trigger};
use super::state_dir::{OverlayWriter, StateDir};
use super::vet::Vetter;
use super::watch::Watch;
use crate::config::{Config, Source};
use crate::generation::{CourseCall, Hall};
use crate::listener::Listener;
use crate::telemetry::{BackendGauges, Metrics};

/// Reports that may wait for the actor; more of them wait at their sender.
pub(super) const EVENTS_MAX: usize = 1_024;
/// How long a stop waits for the overlay to be written.
const WRITE_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// What is reported to the actor.
pub(super) enum Event {
    /// A health check ended.
    Checked { checker: u64, pool: PoolKey, id: Arc<str>, outcome: Result<(), String> },
    /// Something happened to a launched replica.
    Replica { supervisor: u64, name: Arc<str>, news: News },
    /// The addresses of backends to attach are known.
    Resolved(Resolved),
    /// Configuration and plugins of a reload are ready, or refused.
    Prepared(Box<Result<Prepared, ReloadError>>),
    /// A removed replica has no request in flight any more, or its time is up.
    Drained { supervisor: u64 },
}

/// What the actor is made of.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) source: Option<Source>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) hall: Arc<Hall>,
    pub(super) builder: Builder,
    pub(super) listeners: Vec<Arc<Listener>>,
    /// Where the admin port is.
    pub(super) admin: SocketAddr,
    pub(super) course: Option<mpsc::Sender<CourseCall>>,
    pub(super) loader: Arc<Loader>,
    pub(super) vetter: Option<Arc<Vetter>>,
    pub(super) watch: Option<Watch>,
    pub(super) pools: Vec<PoolState>,
    pub(super) launcher: Option<Launcher>,
    pub(super) state: StateDir,
    pub(super) writer: Option<OverlayWriter>,
    /// As it is on disk; `None` when that is not known or to be replaced.
    pub(super) overlay: Option<Overlay>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) event_queue: mpsc::Receiver<Event>,
}

pub(super) struct Actor {
    config: Config,
    metrics: Arc<Metrics>,
    hall: Arc<Hall>,
    builder: Builder,
    /// Of the newest generation.
    listeners: Vec<Arc<Listener>>,
    /// Where the admin port is.
    admin: SocketAddr,
    /// Where the course's routes on the proxy's port go, when they are on.
    course: Option<mpsc::Sender<CourseCall>>,
    /// Of older ones, on their way out.
    closing: Vec<Arc<Listener>>,
    loader: Arc<Loader>,
    vetter: Option<Arc<Vetter>>,
    watch: Option<Watch>,
    pools: Pools,
    /// Out of every generation to come; workers may still have them.
    leaving: Vec<(PoolKey, PoolState)>,
    gauges: HashMap<(PoolKey, Arc<str>), Arc<BackendGauges>>,
    publisher: Publisher,
    reloads: Reloads,
    checkers: Checkers,
    launcher: Option<Launcher>,
    /// Who waits for replicas to join.
    joins: Vec<Join>,
    /// The last death of replicas that have not joined since.
    deaths: HashMap<Arc<str>, super::launcher::Death>,
    writer: Option<OverlayWriter>,
    /// As it was last written.
    overlay: Option<Overlay>,
    random: fastrand::Rng,
    started: StdInstant,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    event_queue: mpsc::Receiver<Event>,
    /// Held for its lock.
    _state: StateDir,
}

/// Why the actor woke up.
enum Wake {
    Command(Option<Command>),
    Event(Event),
    Built(Option<Built>),
    /// A worker acknowledged, or a time has come.
    Look,
}

// === impl Actor ===

impl Actor {
    /// Takes over, launches the replicas that are members already, and begins to check.
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            config,
            source,
            metrics,
            hall,
            builder,
            listeners,
            admin,
            course,
            loader,
            vetter,
            watch,
            pools,
            launcher,
            state,
            writer,
            overlay,
            commands,
            events,
            event_queue,
        } = parts;
        let random = settings::random(&config.course);
        let mut actor = Self {
            checkers: Checkers::new(config.health.clone(), events.clone()),
            gauges: HashMap::new(),
            publisher: Publisher::new(hall.current().number),
            reloads: Reloads::new(source),
            joins: Vec::new(),
            deaths: HashMap::new(),
            started: StdInstant::now(),
            _state: state,
            config,
            metrics,
            hall,
            builder,
            listeners,
            admin,
            course,
            closing: Vec::new(),
            loader,
            vetter,
            watch,
            pools: Pools::new(pools),
            leaving: Vec::new(),
            launcher,
            writer,
            overlay,
            random,
            commands,
            events,
            event_queue,
        };
        let probation = Tenure::begin(Instant::now(), actor.config.reload.probation);
        for pool in actor.pools.keys() {
            *actor.pools[pool].tenure_mut() = probation.clone();
            // No request has come yet.
            actor.publisher.settle_newest(Done::InCharge { pool, instance: actor.pools[pool].strategy.instance() });
            let members: Vec<Member> = actor.pools[pool].members.snapshot();
            for member in members {
                actor.member_came(pool, &member);
                if member.entry.origin == Origin::Launched
                    && let Some(launcher) = &mut actor.launcher
                {
                    launcher.launch(member.id(), member.entry.socket);
                }
            }
        }
        actor.write_overlay();
        actor
    }

    /// Runs until it is told to stop, or nobody is left who could tell.
    pub(super) async fn run(mut self) {
        loop {
            let until = self.next_look();
            let wake = tokio::select! {
                command = self.commands.recv() => Wake::Command(command),
                Some(event) = self.event_queue.recv() => Wake::Event(event),
                built = self.publisher.built() => Wake::Built(built),
                () = self.hall.acknowledgement() => Wake::Look,
                () = sleep_until(until) => Wake::Look,
            };
            match wake {
                Wake::Command(Some(Command::Stop(answer))) => {
                    self.stop().await;
                    let _ = answer.send(());
                    return;
                }
                Wake::Command(Some(command)) => self.command(command),
                Wake::Command(None) => return self.stop().await,
                Wake::Event(event) => self.event(event),
                Wake::Built(built) => self.publish(built),
                Wake::Look => {}
            }
            self.fail_late_joins();
            self.publisher.tell_if_stuck();
            self.look_at_probation();
            self.build_if_due();
            self.settle();
        }
    }

    fn command(&mut self, command: Command) {
        // The members that a reload's pickers are being made for do not change under it.
        if self.reloads.is_assembling()
            && matches!(command, Command::Add(..) | Command::Remove(..) | Command::Change { .. })
        {
            return self.reloads.defer(Wake::Command(Some(command)));
        }
        match command {
            Command::Reload { request, by, waits, answer } => {
                self.reload(Transaction::new(request, by, answer), waits);
            }
            Command::RollBack { pool, answer } => {
                let transaction =
                    Transaction { answers: vec![answer], ..Transaction::taking_back(Trigger::Admin, "by hand".into()) };
                self.roll_back_by_hand(pool.as_deref(), transaction);
            }
            Command::Replicas(answer) => drop(answer.send(self.replicas())),
            Command::Add(add, answer) => self.add(add, answer),
            Command::Remove(remove, answer) => self.remove(&remove, answer),
            Command::Status(answer) => drop(answer.send(self.status())),
            Command::Backends(answer) => drop(answer.send(self.backends())),
            Command::Explain(request, answer) => self.explain(request, answer),
            Command::Strategies(answer) => self.tell_strategies(answer),
            Command::Ring { pool, answer } => self.tell_ring(&pool, answer),
            Command::Change { pool, id, change, answer } => self.change(&pool, &id, change, answer),
            Command::Settled(answer) => self.join_all(answer),
            // Answered where the loop ends.
            Command::Stop(answer) => drop(answer),
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Checked { checker, pool, id, outcome } => self.checked(checker, pool, &id, outcome),
            Event::Replica { supervisor, name, news } => self.replica(supervisor, &name, news),
            Event::Resolved(_) if self.reloads.is_assembling() => self.reloads.defer(Wake::Event(event)),
            Event::Resolved(resolved) => self.attach_resolved(resolved),
            Event::Prepared(prepared) => self.reload_prepared(*prepared),
            Event::Drained { supervisor } => self.launcher.iter_mut().for_each(|launcher| launcher.stop(supervisor)),
        }
    }

    /// When to look again though nothing was reported.
    fn next_look(&self) -> Instant {
        let is_dirty = self.pools.iter().any(|pool| pool.is_dirty);
        let joins = self.joins.iter().map(|join| join.deadline);
        // Far, but not so far that arithmetic on it fails.
        let far = Instant::now() + std::time::Duration::from_secs(3600);
        joins.chain(self.publisher.next_look(is_dirty)).chain(self.next_probation_look()).min().unwrap_or(far)
    }

    /// Ends what was started. Commands that come in from now on are told that lb is stopping.
    async fn stop(self) {
        let Self { builder, pools, leaving, launcher, writer, checkers, commands, event_queue, publisher, .. } = self;
        drop((commands, checkers, event_queue, publisher));
        if let Some(launcher) = launcher {
            launcher.stop_all().await;
        }
        if let Some(writer) = writer
            && tokio::time::timeout(WRITE_MAX, writer.finish()).await.is_err()
        {
            tracing::error!("the last change made at run time could not be written in time");
        }
        builder.retire((pools.into_states(), leaving));
    }
}
