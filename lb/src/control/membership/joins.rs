//! Callers that wait until launched replicas have joined: `/add`, and the start of lb.
//!
//! A replica joins with its first good check. Invariant: a wait ends with success, with the first replica that fails,
//! or at its deadline.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Membership;
use crate::config::CheckKind;
use crate::control::api::{ControlError, Replicas};
use crate::control::launcher::Death;
use crate::control::pools::{Member, Origin, PoolKey};
use crate::control::publish::{Answer, FollowUp, Publisher};

/// Time for a new replica until its first good check.
const ADD_MAX: Duration = Duration::from_secs(10);
/// The same for the replicas at start-up, when the machine may be busy.
const START_MAX: Duration = Duration::from_secs(30);
/// Deaths before its first good check after which lb stops waiting for a replica.
const DEATHS_MAX: u32 = 3;

#[derive(Default)]
pub(super) struct Joins(Vec<Join>);

struct Join {
    missing: HashSet<Arc<str>>,
    deadline: Instant,
    caller: Caller,
}

enum Caller {
    /// `/add`: the new replicas. All are removed again if one fails.
    Add {
        names: Vec<Arc<str>>,
        answer: Answer<Replicas>,
    },
    Start(Answer<()>),
}

// === impl Joins ===

impl Joins {
    fn add(&mut self, missing: HashSet<Arc<str>>, lasts: Duration, caller: Caller) {
        self.0.push(Join { missing, deadline: Instant::now() + lasts, caller });
    }

    fn take(&mut self, is_taken: impl Fn(&Join) -> bool) -> Vec<Join> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(is_taken);
        self.0 = left;
        taken
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.0.iter().map(|join| join.deadline).min()
    }
}

// === impl Membership: joins ===

impl Membership {
    /// `/add` waits for its new replicas.
    pub(super) fn wait_for_new(&mut self, names: Vec<Arc<str>>, answer: Answer<Replicas>) {
        let missing = names.iter().cloned().collect();
        self.joins.add(missing, ADD_MAX, Caller::Add { names, answer });
    }

    /// Waits for all launched replicas that have not joined yet.
    pub(in crate::control) fn wait_for_all(&mut self, desk: &mut Publisher, answer: Answer<()>) {
        let members = desk.pools[PoolKey::DEFAULT].members.iter();
        let missing: HashSet<Arc<str>> = members
            .filter(|member| member.entry.origin == Origin::Launched && !member.standing.is_healthy())
            .map(|member| member.id().clone())
            .collect();
        let hopeless = missing.iter().find_map(|name| {
            let death = self.deaths.get(name).filter(|death| is_hopeless(death))?;
            Some((name.clone(), death.reason.clone()))
        });
        self.joins.add(missing, START_MAX, Caller::Start(answer));
        match hopeless {
            Some((name, reason)) => self.fail_joins(desk, &name, &reason),
            None => self.finish_joins(desk),
        }
    }

    /// A launched replica has passed its first check.
    pub(super) fn joined(&mut self, desk: &mut Publisher, name: &Arc<str>) {
        self.deaths.remove(name);
        self.no_longer_missing(desk, name);
    }

    /// A replica died. Ends the waits for it if another try will not help.
    pub(super) fn note_death(&mut self, desk: &mut Publisher, name: &Arc<str>, death: Death) {
        if is_hopeless(&death) {
            self.fail_joins(desk, name, &death.reason);
        }
        self.deaths.insert(name.clone(), death);
    }

    pub(in crate::control) fn fail_late_joins(&mut self, desk: &mut Publisher) {
        let now = Instant::now();
        for join in self.joins.take(|join| join.deadline <= now) {
            let name = join.missing.iter().min().cloned().unwrap_or_default();
            let last = self.deaths.get(&name).map(|death| format!(" (last: {})", death.reason)).unwrap_or_default();
            let rules = desk.health(PoolKey::DEFAULT);
            let missed = match rules.kind {
                CheckKind::Http => format!("respond to {}", rules.path),
                CheckKind::Tcp => "accept a connection".to_owned(),
            };
            let wait = if matches!(join.caller, Caller::Add { .. }) { ADD_MAX } else { START_MAX };
            let reason = format!("it did not {missed} within {wait:?}{last}");
            self.fail_join(desk, join, &name, &reason);
        }
    }

    /// The strategy refused a list with these new replicas.
    pub(super) fn fail_joins_of(&mut self, desk: &mut Publisher, gone: &[Member], reason: &str) {
        gone.iter().for_each(|member| self.fail_joins(desk, member.id(), reason));
    }

    pub(super) fn next_join_look(&self) -> Option<Instant> {
        self.joins.next_deadline()
    }

    /// A replica was removed. A caller that waited for it now waits only for its other replicas. If they fail, only
    /// they are removed: another caller may use the freed name by then.
    pub(super) fn no_longer_awaited(&mut self, desk: &mut Publisher, name: &Arc<str>) {
        for join in &mut self.joins.0 {
            if let Caller::Add { names, .. } = &mut join.caller {
                names.retain(|new| new != name);
            }
        }
        self.no_longer_missing(desk, name);
    }

    fn no_longer_missing(&mut self, desk: &mut Publisher, name: &Arc<str>) {
        for join in &mut self.joins.0 {
            join.missing.remove(name);
        }
        self.finish_joins(desk);
    }

    fn finish_joins(&mut self, desk: &mut Publisher) {
        for join in self.joins.take(|join| join.missing.is_empty()) {
            let follow_up = match join.caller {
                Caller::Add { answer, .. } => FollowUp::Replicas(answer),
                Caller::Start(answer) => FollowUp::AllJoined(answer),
            };
            desk.wait(PoolKey::DEFAULT, follow_up);
        }
    }

    fn fail_joins(&mut self, desk: &mut Publisher, name: &Arc<str>, reason: &str) {
        for join in self.joins.take(|join| join.missing.contains(name)) {
            self.fail_join(desk, join, name, reason);
        }
    }

    fn fail_join(&mut self, desk: &mut Publisher, join: Join, name: &str, reason: &str) {
        let text = format!("Replica '{name}' did not start: {reason}");
        match join.caller {
            Caller::Start(answer) => drop(answer.send(Err(ControlError::Failed(text)))),
            Caller::Add { names, answer } => {
                let ids: Vec<String> = names.iter().map(|name| name.to_string()).collect();
                self.take_out(desk, &ids, None);
                let error = ControlError::Failed(format!("<Error> {text}"));
                desk.wait(PoolKey::DEFAULT, FollowUp::Undone { answer, error });
            }
        }
    }
}

fn is_hopeless(death: &Death) -> bool {
    death.is_hopeless || death.in_a_row >= DEATHS_MAX
}
