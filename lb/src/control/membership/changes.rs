//! An operator's change of one backend: drain, ready, weight.

use std::sync::Arc;

use super::Membership;
use crate::config::{WEIGHT_MAX, check_weight};
use crate::control::api::{BackendStatus, Change, ControlError};
use crate::control::pools::{Origin, PoolKey};
use crate::control::publish::{Answer, FollowUp, Publisher};

// === impl Membership: changes ===

impl Membership {
    pub(in crate::control) fn change(
        &mut self,
        desk: &mut Publisher,
        pool: &str,
        id: &str,
        change: Change,
        answer: Answer<BackendStatus>,
    ) {
        match self.try_change(desk, pool, id, change) {
            Ok((pool, id)) => desk.wait(pool, FollowUp::Change { pool, id, answer }),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// The wait for the workers is over. Returns the backend's status.
    pub(in crate::control) fn changed(
        &self,
        desk: &Publisher,
        pool: PoolKey,
        id: &str,
    ) -> Result<BackendStatus, ControlError> {
        let member = desk.pools.get(pool).and_then(|pool| pool.members.get(id));
        let gone = || ControlError::NotFound(format!("backend {id:?} was removed before the change was in force"));
        member.map(|member| self.backend_status(desk, pool, member)).ok_or_else(gone)
    }

    fn try_change(
        &mut self,
        desk: &mut Publisher,
        name: &str,
        id: &str,
        change: Change,
    ) -> Result<(PoolKey, Arc<str>), ControlError> {
        let no_pool = || ControlError::NotFound(format!("there is no pool {name:?}"));
        let pool = desk.pools.key_of(name).ok_or_else(no_pool)?;
        let no_backend = || ControlError::NotFound(format!("there is no backend {id:?} in pool {name:?}"));
        let before = desk.pools[pool].members.get(id).cloned().ok_or_else(no_backend)?;
        if let Change::Weight(weight) = change {
            check_weight(i64::from(weight)).map_err(ControlError::Refused)?;
            debug_assert!(weight <= WEIGHT_MAX);
        }
        // A replica without a process stays down, also after an operator's `ready`.
        let is_absent = before.entry.origin == Origin::Launched && !self.is_up(id);
        let health = desk.pools[pool].members.update(id, |member| match change {
            Change::Drain | Change::DrainWithin(_) => {
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
        match change {
            Change::Drain => self.drains.begin((pool, id.clone()), None),
            Change::DrainWithin(time) => self.drains.begin((pool, id.clone()), Some(time)),
            Change::Ready => self.drains.end(&(pool, id.clone())),
            Change::Weight(_) => {}
        }
        if matches!(change, Change::Ready) && desk.pools[pool].members.pardon(&id) {
            tracing::info!(pool = %name, backend = %id, "an operator ended the ejection");
            self.show_all(desk, pool);
            desk.touch(pool);
        }
        if let Some(Some(is_up)) = health {
            self.health_changed(desk, pool, &id, is_up);
            self.joined(desk, &id);
        }
        if let Some(after) = desk.pools[pool].members.get(&id).filter(|after| after.entry != before.entry) {
            match change {
                Change::Drain | Change::DrainWithin(_) => tracing::info!(pool = %name, backend = %id, "backend drains"),
                Change::Ready => tracing::info!(pool = %name, backend = %id, "backend takes requests again"),
                Change::Weight(weight) => {
                    tracing::info!(pool = %name, backend = %id, weight, "backend has a new weight");
                }
            }
            self.show(pool, after);
            desk.touch(pool);
        }
        Ok((pool, id))
    }
}
