//! The consequences of a health check's outcome.

use std::sync::Arc;

use super::{BackendKey, Membership};
use crate::control::health::{Checked, State};
use crate::control::pools::{Origin, PoolKey};
use crate::control::publish::Publisher;

// === impl Membership: checks ===

impl Membership {
    /// A health check has ended.
    pub(in crate::control) fn checked(&mut self, desk: &mut Publisher, checked: Checked<BackendKey>) {
        if !self.checkers.is_current(&checked) {
            return;
        }
        let Checked { backend: key, outcome, .. } = checked;
        if let Some(gauges) = self.gauges.get(&key) {
            gauges.health_check(outcome.is_ok());
        }
        let (pool, id) = key;
        let rules = &desk.config.health;
        let members = &mut desk.pools[pool].members;
        let was_starting = members.get(&id).is_some_and(|member| member.standing.state() == State::Starting);
        let change = members.update(&id, |member| member.standing.check(outcome, rules)).flatten();
        if let Some(is_up) = change {
            self.health_changed(desk, pool, &id, is_up);
            if was_starting {
                self.joined(desk, &id);
            }
        }
    }

    /// The health of a member changed: logs, counts and publishes it.
    pub(super) fn health_changed(&mut self, desk: &mut Publisher, pool: PoolKey, id: &Arc<str>, is_up: bool) {
        if let Some(gauges) = self.gauges.get(&(pool, id.clone())) {
            gauges.health_transition(is_up);
        }
        let Some(member) = desk.pools[pool].members.get(id) else { return };
        let (name, address) = (&desk.pools[pool].name, &member.entry.address);
        match member.standing.reason() {
            None => tracing::info!(pool = %name, backend = %id, %address, "backend is up"),
            Some(reason) => tracing::warn!(pool = %name, backend = %id, %address, reason, "backend is down"),
        }
        self.show(pool, member);
        desk.touch(pool);
    }

    /// A reload has changed the rules of health checks.
    pub(super) fn check_by_new_rules(&mut self, desk: &mut Publisher) {
        self.checkers.set_rules(desk.config.health.clone());
        for pool in desk.pools.keys() {
            for member in desk.pools[pool].members.snapshot() {
                // Without checks, nothing would bring up a backend that is down.
                if !desk.config.health.enabled && member.entry.origin != Origin::Launched {
                    let trusted = desk.pools[pool].members.update(member.id(), |member| member.standing.trust());
                    if let Some(Some(is_up)) = trusted {
                        self.health_changed(desk, pool, member.id(), is_up);
                    }
                }
                self.came(desk, pool, &member);
            }
        }
    }
}
