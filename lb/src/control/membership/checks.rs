//! The consequences of a health check's outcome.

use std::sync::Arc;

use super::{BackendKey, Membership};
use crate::config::Health;
use crate::control::health::Checked;
use crate::control::pools::{Member, Origin, PoolKey};
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
        let rules = desk.health(pool);
        let members = &mut desk.pools[pool].members;
        let change = members.update(&id, |member| member.standing.check(outcome, rules.check_rules())).flatten();
        if let Some(is_up) = change {
            self.health_changed(desk, pool, &id, is_up);
            // A caller may wait for a launched replica that was down.
            if is_up {
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
        // The health of one may change the eligibility of others.
        self.show_all(desk, pool);
        desk.touch(pool);
    }

    /// Checks are off from now on, so nothing would bring up a backend that is down. A launched replica comes up with
    /// one more good check.
    fn trust_without_checks(&mut self, desk: &mut Publisher, pool: PoolKey, member: &Member) {
        let members = &mut desk.pools[pool].members;
        if member.entry.origin == Origin::Launched {
            if !member.standing.is_healthy() {
                members.update(member.id(), |member| member.standing.restarts());
            }
        } else if let Some(Some(is_up)) = members.update(member.id(), |member| member.standing.trust()) {
            self.health_changed(desk, pool, member.id(), is_up);
        }
    }

    /// A reload has changed the rules of the pool's checks.
    pub(super) fn check_by_new_rules(&mut self, desk: &mut Publisher, pool: PoolKey, rules: &Health) {
        for member in desk.pools[pool].members.snapshot() {
            if !rules.enabled {
                self.trust_without_checks(desk, pool, &member);
            }
            if let Some(member) = desk.pools[pool].members.get(member.id()).cloned() {
                self.came(desk, pool, &member);
            }
        }
    }
}
