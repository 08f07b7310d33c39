//! What changes about members: they come and go, checks speak, an operator drains or weighs them.
//!
//! Invariant: every change goes through here, so that live flags, gauges, checkers, log and the next build agree.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::Actor;
use super::publisher::Done;
use crate::config::{WEIGHT_MAX, check_weight};
use crate::control::command::{BackendStatus, Change, ControlError};
use crate::control::members::{Member, Origin};
use crate::control::overlay::Overlay;
use crate::control::pools::PoolKey;
use crate::control::standing::State;

/// How often a draining replica is looked at; its counter wakes nobody.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

impl Actor {
    /// A member is there: gauges, and a checker unless its process has yet to be started.
    pub(super) fn member_came(&mut self, pool: PoolKey, member: &Member) {
        let name = self.pools[pool].name.clone();
        let gauges = self.metrics.backend_gauges(&name, member.id());
        self.gauges.insert((pool, member.id().clone()), gauges);
        self.show(pool, member);
        let is_launched = member.entry.origin == Origin::Launched;
        if !is_launched || self.launcher.as_ref().is_some_and(|launcher| launcher.is_up(member.id())) {
            let joins = is_launched && !member.standing.is_healthy();
            self.checkers.watch(pool, member.id(), &member.backend.address, member.entry.socket, joins);
        }
    }

    /// A member was taken out of the list; workers may still have it.
    pub(super) fn member_goes(&mut self, pool: PoolKey, member: &Member) {
        self.checkers.forget(pool, member.id());
        self.gauges.remove(&(pool, member.id().clone()));
        if pool == PoolKey::DEFAULT {
            self.deaths.remove(member.id());
        }
    }

    /// No worker has it in its view any more. A process of ours ends when its last request did. Requests are counted by id: while
    /// another of the same name is busy, the old one is kept for as long as draining may take.
    pub(super) fn member_left(&mut self, pool: PoolKey, member: &Member, supervisor: Option<u64>) {
        // A pool that is gone takes the series of all that was in it along.
        if let Some(pool) = self.pools.get(pool).filter(|pool| !pool.members.contains(member.id())) {
            self.metrics.retire_backend(&pool.name, member.id());
        }
        let Some(supervisor) = supervisor else { return };
        let (backend, events, drain) = (member.backend.clone(), self.events.clone(), self.config.timeouts.drain);
        tokio::spawn(async move {
            let idle = async {
                while backend.in_flight() > 0 {
                    sleep(DRAIN_LOOK).await;
                }
            };
            if tokio::time::timeout(drain, idle).await.is_err() {
                let (id, left) = (&backend.id, backend.in_flight());
                tracing::warn!("replica {id} is stopped after {drain:?} of draining with {left} requests in flight");
            }
            let _ = events.send(super::Event::Drained { supervisor }).await;
        });
    }

    /// A health check ended.
    pub(super) fn checked(&mut self, checker: u64, pool: PoolKey, id: &Arc<str>, outcome: Result<(), String>) {
        if !self.checkers.is_current(pool, id, checker) {
            return;
        }
        if let Some(gauges) = self.gauges.get(&(pool, id.clone())) {
            gauges.health_check(outcome.is_ok());
        }
        let rules = &self.config.health;
        let was_starting = self.pools[pool].members.get(id).is_some_and(|m| m.standing.state() == State::Starting);
        let change = self.pools[pool].members.update(id, |member| member.standing.check(outcome, rules)).flatten();
        if let Some(up) = change {
            self.health_changed(pool, id, up);
            if was_starting {
                self.joined(id);
            }
        }
    }

    /// The health of a member changed: told, counted and published.
    pub(super) fn health_changed(&mut self, pool: PoolKey, id: &Arc<str>, up: bool) {
        if let Some(gauges) = self.gauges.get(&(pool, id.clone())) {
            gauges.health_transition(up);
        }
        let Some(member) = self.pools[pool].members.get(id).cloned() else { return };
        let (name, address) = (&self.pools[pool].name, &member.entry.address);
        match member.standing.reason() {
            None => tracing::info!("pool {name}: backend {id} ({address}) is up"),
            Some(reason) => tracing::warn!("pool {name}: backend {id} ({address}) is down: {reason}"),
        }
        self.show(pool, &member);
        self.touch(pool);
    }

    pub(super) fn change(
        &mut self,
        pool: &str,
        id: &str,
        change: Change,
        answer: oneshot::Sender<Result<BackendStatus, ControlError>>,
    ) {
        match self.try_change(pool, id, change) {
            Ok((pool, id)) => self.publisher.wait(pool, Done::Change { pool, id, answer }),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    fn try_change(&mut self, name: &str, id: &str, change: Change) -> Result<(PoolKey, Arc<str>), ControlError> {
        let no_pool = || ControlError::NotFound(format!("there is no pool {name:?}"));
        let pool = self.pools.key_of(name).ok_or_else(no_pool)?;
        let member = self.pools[pool].members.get(id).cloned();
        let no_backend = || ControlError::NotFound(format!("there is no backend {id:?} in pool {name:?}"));
        let before = member.ok_or_else(no_backend)?;
        if let Change::Weight(weight) = change {
            check_weight(i64::from(weight)).map_err(ControlError::Refused)?;
            debug_assert!(weight <= WEIGHT_MAX);
        }
        // A process that is not there cannot be talked into health.
        let is_absent = before.entry.origin == Origin::Launched
            && !self.launcher.as_ref().is_some_and(|launcher| launcher.is_up(id));
        let health = self.pools[pool].members.update(id, |member| match change {
            Change::Drain => {
                member.entry.draining = true;
                None
            }
            Change::Ready => {
                member.entry.draining = false;
                if is_absent { None } else { member.standing.trust() }
            }
            Change::Weight(weight) => {
                member.entry.weight = weight;
                None
            }
        });
        let id = before.id().clone();
        if let Some(Some(up)) = health {
            self.health_changed(pool, &id, up);
            self.joined(&id);
        }
        if let Some(after) = self.pools[pool].members.get(&id).cloned()
            && after.entry != before.entry
        {
            match change {
                Change::Drain => tracing::info!("pool {name}: backend {id} drains"),
                Change::Ready => tracing::info!("pool {name}: backend {id} takes requests again"),
                Change::Weight(weight) => tracing::info!("pool {name}: backend {id} has weight {weight}"),
            }
            self.show(pool, &after);
            self.touch(pool);
        }
        Ok((pool, id))
    }

    /// Brings a member's gauges up to date.
    pub(super) fn show(&self, pool: PoolKey, member: &Member) {
        if let Some(gauges) = self.gauges.get(&(pool, member.id().clone())) {
            gauges.set_up(member.backend.is_eligible());
            gauges.set_weight(u32::from(member.entry.weight));
        }
    }

    /// Writes what differs from the configuration file, if that has changed.
    pub(super) fn write_overlay(&mut self) {
        let entries: Vec<Vec<_>> =
            self.pools.iter().map(|pool| pool.members.iter().map(|member| member.entry.clone()).collect()).collect();
        let overlay = Overlay::of(&self.config, &entries);
        if self.overlay.as_ref() != Some(&overlay) {
            self.overlay = Some(overlay.clone());
            if let Some(writer) = &self.writer {
                writer.write(overlay);
            }
        }
    }
}
