//! The backends of each pool, and all consequences when a backend is added, removed or changed.
//!
//! [`Membership`] is the only place that changes members. So live flags, gauges, checkers, processes, log and the next
//! build agree. `sources` and `plan` compute which members there should be. `overlay` holds the changes that an
//! operator made at run time, and `drains` their deadlines. `checks` takes outcomes of health checks, `outliers` looks
//! at failures of requests, and `shares` has slow start. `replicas`, `joins` and `attach` are the commands of the
//! course. Arrows: membership uses health, launcher, pools and publish, and none of them names it.

mod attach;
mod changes;
mod checks;
mod drains;
mod joins;
mod loads;
mod outliers;
mod overlay;
mod plan;
mod refused;
mod replicas;
mod reports;
mod shares;
mod sources;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use self::drains::Drains;
use self::joins::Joins;
use crate::config::{Config, Course};
use crate::control::api::{BackendStatus, ControlError, EjectionStatus, Replicas, SlowStartStatus};
use crate::control::health::{Checked, Checkers, Polls};
use crate::control::launcher::{Death, Launcher};
use crate::control::pools::{Entry, Member, Origin, PoolKey, Replaced};
use crate::control::publish::{FollowUp, Publisher};
use crate::control::state::OverlayWriter;
use crate::telemetry::BackendGauges;

pub(super) use attach::Resolved;
pub(super) use drains::Drained;
pub(super) use overlay::Overlay;
pub(super) use plan::{Plan, Replica, fresh_names, vet_backends};
pub(super) use replicas::taken_ports;
pub(super) use sources::Launched;

/// How long a stop waits for the overlay to be written.
const WRITE_MAX: Duration = Duration::from_secs(5);

/// A backend over all pools.
pub(super) type BackendKey = (PoolKey, Arc<str>);

/// The channels on which tasks of membership report.
pub(super) struct Reports {
    pub(super) checked: mpsc::Sender<Checked<BackendKey>>,
    pub(super) resolved: mpsc::Sender<Resolved>,
    pub(super) drained: mpsc::Sender<Drained>,
}

pub(super) struct Membership {
    checkers: Checkers<BackendKey>,
    polls: Polls<BackendKey>,
    gauges: HashMap<BackendKey, Arc<BackendGauges>>,
    launcher: Option<Launcher>,
    /// The last death of replicas that have not joined since.
    deaths: HashMap<Arc<str>, Death>,
    joins: Joins,
    drains: Drains,
    /// The pools whose backups serve, as the log said.
    on_backups: HashSet<PoolKey>,
    /// As last written; `None` if unknown.
    overlay: Option<Overlay>,
    writer: Option<OverlayWriter>,
    /// Draws fresh names, and the replicas to remove.
    random: fastrand::Rng,
    resolved: mpsc::Sender<Resolved>,
    drained: mpsc::Sender<Drained>,
    /// Zero of the clock of outlier detection and of slow start.
    opened: Instant,
    /// Until then alarms wait, because a look takes a snapshot of all counts.
    deaf_until: Option<Instant>,
}

// === impl Membership ===

impl Membership {
    /// Takes over the members that the publisher has: checks them, and starts the processes of launched ones.
    pub(super) fn new(
        desk: &mut Publisher,
        launcher: Option<Launcher>,
        overlay: Option<Overlay>,
        writer: Option<OverlayWriter>,
        reports: Reports,
    ) -> Self {
        let Reports { checked, resolved, drained } = reports;
        let mut membership = Self {
            checkers: Checkers::new(checked),
            polls: Polls::new(),
            gauges: HashMap::new(),
            launcher,
            deaths: HashMap::new(),
            joins: Joins::default(),
            drains: Drains::default(),
            on_backups: HashSet::new(),
            overlay,
            writer,
            random: random(&desk.config.course),
            resolved,
            drained,
            opened: Instant::now(),
            deaf_until: None,
        };
        for pool in desk.pools.keys() {
            for member in desk.pools[pool].members.snapshot() {
                membership.came(desk, pool, &member);
                if member.entry.origin == Origin::Launched
                    && let Some(launcher) = &mut membership.launcher
                {
                    launcher.launch(member.id(), member.entry.socket);
                }
            }
        }
        // The first look sees the initial set, which does not start slowly.
        membership.look_at_shares(desk);
        membership.write_overlay(desk);
        membership
    }

    /// A member was added to the list. Creates its gauges, and its checker unless its process has yet to start.
    pub(super) fn came(&mut self, desk: &Publisher, pool: PoolKey, member: &Member) {
        let key = (pool, member.id().clone());
        let gauges = desk.metrics.backend_gauges(&desk.pools[pool].name, member.id());
        self.gauges.insert(key.clone(), gauges);
        if member.entry.draining {
            self.drains.note(pool, member);
        }
        self.show(pool, member);
        self.poll(desk, pool, member);
        let is_launched = member.entry.origin == Origin::Launched;
        if !is_launched || self.is_up(member.id()) {
            let joins = is_launched && !member.standing.is_healthy();
            let seed = lb_strategy_host::backend_id(member.id());
            let (address, rules) = (&member.backend.address, desk.health(pool));
            self.checkers.watch(key, address, member.entry.socket, joins, seed, rules);
        }
    }

    /// A member was taken out of the list. Views of workers may still contain it.
    pub(super) fn goes(&mut self, pool: PoolKey, member: &Member) {
        let key = (pool, member.id().clone());
        self.checkers.forget(&key);
        self.polls.follow(key.clone(), None);
        self.gauges.remove(&key);
        if pool == PoolKey::DEFAULT {
            self.deaths.remove(member.id());
        }
    }

    /// A pool's members were replaced, and the next publish has the new ones.
    pub(super) fn replaced(&mut self, desk: &mut Publisher, pool: PoolKey, replaced: &Replaced) {
        for member in &replaced.gone {
            tracing::info!(pool = %desk.pools[pool].name, backend = %member.id(), "backend is removed and drains");
            self.goes(pool, member);
            let deadline = self.drains.deadline(&(pool, member.id().clone()));
            let member = Box::new(member.clone());
            desk.wait(pool, FollowUp::Removed { pool, member, supervisor: None, deadline });
        }
        for member in &replaced.came {
            self.came(desk, pool, member);
        }
        self.show_all(desk, pool);
    }

    /// Brings the gauges of a pool and of its members up to date.
    fn show_all(&self, desk: &Publisher, pool: PoolKey) {
        let state = &desk.pools[pool];
        desk.metrics.set_panic(&state.name, state.members.is_in_panic());
        state.members.iter().for_each(|member| self.show(pool, member));
    }

    /// Brings a member's gauges up to date.
    fn show(&self, pool: PoolKey, member: &Member) {
        if let Some(gauges) = self.gauges.get(&(pool, member.id().clone())) {
            gauges.set_up(member.can_serve());
            gauges.set_weight(u32::from(member.entry.weight));
            gauges.set_info(&member.backend.address, member.entry.origin.name(), member.entry.labels.json());
            gauges.set_share(member.share());
            gauges.set_ejected(member.eligibility().ejected);
        }
    }

    /// A reload has replaced the configuration, which was `before`.
    pub(super) fn configured(&mut self, desk: &mut Publisher, before: &Config) {
        if before.course.seed != desk.config.course.seed {
            self.random = random(&desk.config.course);
        }
        for pool in desk.pools.keys() {
            let rules = desk.health(pool);
            desk.pools[pool].members.initial = rules.initial;
            // The members of a new pool have their checkers already.
            let same = before.pools.iter().find(|old| *old.name == *desk.pools[pool].name);
            if same.is_some_and(|old| old.health != rules) {
                self.check_by_new_rules(desk, pool, &rules);
            }
            for member in desk.pools[pool].members.snapshot() {
                self.poll(desk, pool, &member);
            }
        }
        self.follow_new_rules(desk);
        self.drains.keep(|pool| desk.pools.get(pool).is_some());
        self.on_backups.retain(|pool| desk.pools.get(*pool).is_some());
    }

    /// Shows and publishes what a change of one member changed for others.
    pub(in crate::control) fn follow_eligibility(&mut self, desk: &mut Publisher) {
        for pool in desk.pools.keys() {
            self.tell_backups(desk, pool);
            if desk.pools[pool].members.take_changed() {
                self.show_all(desk, pool);
                if desk.pools[pool].is_outdated() {
                    desk.touch(pool);
                }
            }
        }
    }

    /// Logs that backups begin or end to serve.
    fn tell_backups(&mut self, desk: &Publisher, pool: PoolKey) {
        let state = &desk.pools[pool];
        match state.members.has_backups_in_use() {
            true if self.on_backups.insert(pool) => {
                tracing::warn!(pool = %state.name, "no other backend can serve: the backups of the pool get requests");
            }
            false if self.on_backups.remove(&pool) => {
                tracing::info!(pool = %state.name, "the backups of the pool stand by again");
            }
            _ => {}
        }
    }

    /// The next time at which something may be due without a message.
    pub(in crate::control) fn next_look(&self, desk: &Publisher) -> Option<Instant> {
        let hears = self.deaf_until.filter(|until| *until > Instant::now());
        let looks = [self.next_join_look(), self.next_outlier_look(desk), self.next_share_look(desk)];
        looks.into_iter().chain([self.next_drain_look(), hears]).flatten().min()
    }

    /// Gives each pool its rules for failing and starting backends.
    fn follow_new_rules(&mut self, desk: &mut Publisher) {
        for configured in desk.config.pools.clone() {
            let Some(pool) = desk.pools.key_of(&configured.name) else { continue };
            desk.pools[pool].set_rules(&configured);
            self.show_all(desk, pool);
            if desk.pools[pool].is_dirty {
                desk.touch(pool);
            }
        }
    }

    /// The difference between the configuration file and the members now.
    pub(super) fn overlay_now(desk: &Publisher) -> Overlay {
        let entries_of = |pool: &crate::control::pools::PoolState| -> Vec<Entry> {
            pool.members.iter().map(|member| member.entry.clone()).collect()
        };
        let entries: Vec<_> = desk.pools.iter().map(entries_of).collect();
        Overlay::of(&desk.config, &entries)
    }

    /// Writes the overlay if it has changed.
    pub(super) fn write_overlay(&mut self, desk: &Publisher) {
        let overlay = Self::overlay_now(desk);
        if self.overlay.as_ref() != Some(&overlay) {
            if let Some(writer) = &self.writer {
                writer.write(overlay.to_json());
            }
            self.overlay = Some(overlay);
        }
    }

    pub(super) fn overlay_status(&self) -> crate::control::api::OverlayStatus {
        let status = self.overlay.as_ref().map(Overlay::status).unwrap_or_default();
        crate::control::api::OverlayStatus { error: self.writer.as_ref().and_then(OverlayWriter::error), ..status }
    }

    /// The response to `GET /rep`.
    pub(super) fn replicas(desk: &Publisher) -> Replicas {
        Replicas(desk.pools[PoolKey::DEFAULT].members.iter().map(|member| member.entry.id.clone()).collect())
    }

    pub(super) fn backends_of(&self, desk: &Publisher, pool: PoolKey) -> Vec<BackendStatus> {
        desk.pools[pool].members.iter().map(|member| self.backend_status(desk, pool, member)).collect()
    }

    fn backend_status(&self, desk: &Publisher, pool: PoolKey, member: &Member) -> BackendStatus {
        use std::sync::atomic::Ordering::Relaxed;
        let launcher = self.launcher.as_ref().filter(|_| member.entry.origin == Origin::Launched);
        BackendStatus {
            pool: desk.pools[pool].name.to_string(),
            id: member.entry.id.clone(),
            address: member.entry.address.clone(),
            weight: member.entry.weight,
            backup: member.entry.backup,
            labels: member.entry.labels.clone(),
            origin: member.entry.origin.name(),
            eligible: member.backend.is_eligible(),
            healthy: member.standing.is_healthy(),
            checked: member.standing.is_checked(),
            draining: member.entry.draining,
            drain: self.drains.status(&(pool, member.id().clone())).filter(|_| member.entry.draining),
            ejection: self.ejection(desk, pool, member),
            slow_start: self.slow_start(desk, pool, member),
            in_flight: member.backend.in_flight(),
            consecutive_errors: member.backend.stats.consecutive_errors.load(Relaxed),
            load_report: self.load_report(desk, pool, member),
            reason: member.standing.reason().map(str::to_owned),
            pid: launcher.and_then(|launcher| launcher.pid(&member.entry.id)),
        }
    }

    fn ejection(&self, desk: &Publisher, pool: PoolKey, member: &Member) -> Option<EjectionStatus> {
        let state = desk.pools[pool].members.outlier_state(member)?;
        let ejection = state.ejection?;
        Some(EjectionStatus {
            reason: ejection.cause.to_string(),
            left_ms: ejection.until_ns.saturating_sub(self.clock_ns(Instant::now())) / 1_000_000,
            count: state.count,
        })
    }

    fn slow_start(&self, desk: &Publisher, pool: PoolKey, member: &Member) -> Option<SlowStartStatus> {
        let left_ns = desk.pools[pool].members.slow_start_left_ns(member, self.clock_ns(Instant::now()))?;
        Some(SlowStartStatus { percent: (member.share() / 10) as u8, left_ms: left_ns.div_ceil(1_000_000) })
    }

    /// Ends the processes and writes the last change.
    pub(super) async fn stop(self) {
        let Self { launcher, writer, checkers, .. } = self;
        drop(checkers);
        if let Some(launcher) = launcher {
            launcher.stop_all().await;
        }
        if let Some(writer) = writer
            && tokio::time::timeout(WRITE_MAX, writer.finish()).await.is_err()
        {
            tracing::error!(waited = ?WRITE_MAX, "the last change made at run time was not written: a restart loses it");
        }
    }

    /// Whether the process of this launched replica runs.
    fn is_up(&self, id: &str) -> bool {
        self.launcher.as_ref().is_some_and(|launcher| launcher.is_up(id))
    }
}

/// An error in the course's form.
fn refused(text: impl std::fmt::Display) -> ControlError {
    ControlError::Refused(format!("<Error> {text}"))
}

fn random(course: &Course) -> fastrand::Rng {
    course.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed)
}
