//! The consequences of a supervisor's report: a replica's process started or died.

use super::Membership;
use crate::control::launcher::{Death, News, Report};
use crate::control::pools::PoolKey;
use crate::control::publish::Publisher;

// === impl Membership: reports ===

impl Membership {
    pub(in crate::control) fn reported(&mut self, desk: &mut Publisher, report: Report) {
        let Report { supervisor, name, news } = report;
        let is_in_charge = self.launcher.as_mut().is_some_and(|launcher| launcher.note(supervisor, &news));
        if !is_in_charge {
            return;
        }
        match news {
            News::Started { socket, pid } => {
                tracing::info!(replica = %name, %socket, pid, "the replica's process runs");
                let members = &mut desk.pools[PoolKey::DEFAULT].members;
                let has_moved = members.set_address(&name, &socket.to_string(), socket);
                members.update(&name, |member| member.standing.restarts());
                let member = members.get(&name).cloned();
                if has_moved {
                    desk.touch(PoolKey::DEFAULT);
                }
                if let Some(member) = member {
                    self.came(desk, PoolKey::DEFAULT, &member);
                }
            }
            News::Died(death) => {
                let Death { reason, next_try, .. } = &death;
                let restart_ms = next_try.as_millis() as u64;
                tracing::warn!(replica = %name, reason, restart_ms, "the replica's process is down and starts again");
                self.checkers.forget(&(PoolKey::DEFAULT, name.clone()));
                let members = &mut desk.pools[PoolKey::DEFAULT].members;
                let fell = members.update(&name, |member| member.standing.fell(reason.clone()));
                if fell.flatten().is_some() {
                    self.health_changed(desk, PoolKey::DEFAULT, &name, false);
                }
                self.note_death(desk, &name, death);
            }
            News::Ended => {}
        }
    }
}
