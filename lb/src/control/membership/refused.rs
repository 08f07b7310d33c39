//! A strategy refused a pool's list: members that were never published are removed again, and callers get the reason.

use super::Membership;
use crate::control::api::ControlError;
use crate::control::pools::{Origin, PoolKey};
use crate::control::publish::{FollowUp, Publisher, Refused};

// === impl Membership: refused ===

impl Membership {
    pub(in crate::control) fn refused(&mut self, desk: &mut Publisher, refused: Refused) {
        let Refused { pool, reason, gone, waiters } = refused;
        for member in &gone {
            self.goes(pool, member);
            let supervisor = self.launcher.as_ref().and_then(|launcher| launcher.current(member.id()));
            desk.wait_for_newest(FollowUp::Removed {
                pool,
                member: Box::new(member.clone()),
                supervisor,
                deadline: None,
            });
            if let (Some(launcher), Some(supervisor)) = (&mut self.launcher, supervisor) {
                launcher.give_up(supervisor);
            }
        }
        waiters.into_iter().for_each(|follow_up| self.tell_refused(follow_up, &reason));
        if pool == PoolKey::DEFAULT {
            self.fail_joins_of(desk, &gone, &reason);
        }
        for member in desk.pools[pool].members.snapshot() {
            let is_watched = self.checkers.is_watched(&(pool, member.id().clone()));
            if !is_watched && (member.entry.origin != Origin::Launched || self.is_up(member.id())) {
                self.came(desk, pool, &member);
            }
            self.show(pool, &member);
        }
    }

    fn tell_refused(&mut self, follow_up: FollowUp, reason: &str) {
        let refused = || ControlError::Failed(format!("<Error> The strategy refused the change: {reason}"));
        match follow_up {
            FollowUp::Replicas(answer) => drop(answer.send(Err(refused()))),
            FollowUp::Undone { answer, error } => drop(answer.send(Err(error))),
            FollowUp::Change { answer, .. } => drop(answer.send(Err(refused()))),
            FollowUp::AllJoined(answer) => drop(answer.send(Err(refused()))),
            // No build of members completes these.
            FollowUp::Reload { .. } | FollowUp::InCharge { .. } | FollowUp::PoolLeft { .. } | FollowUp::Replaced(_) => {
            }
            // The removed replica is a member again. Its process still runs.
            FollowUp::Removed { supervisor, .. } => {
                if let (Some(launcher), Some(supervisor)) = (&mut self.launcher, supervisor) {
                    launcher.keep(supervisor);
                }
            }
        }
    }
}
