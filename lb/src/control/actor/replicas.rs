//! `/rep`, `/add` and `/rm` on launched replicas, and what supervisors report of them.
//!
//! What the course's sheet leaves open is decided so: all or nothing, so that an error changed nothing; a name that is in use, unknown
//! or repeated is an error and never silently another name; more than there are is an error, in words of its own; new names not given are the lowest free
//! numbers of the launcher's template (the sheet says "at random"; a repeatable experiment says which), victims not named are drawn
//! at random (`course.seed` makes it repeatable).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Actor;
use super::publisher::Done;
use crate::config::check_id;
use crate::control::command::{Add, ControlError, Remove, Replicas};
use crate::control::launcher::{Death, News};
use crate::control::members::{Entry, Member, Origin};
use crate::control::overlay::fresh_names;
use crate::control::pools::PoolKey;

/// How long a new replica may take until its first heartbeat.
const ADD_MAX: Duration = Duration::from_secs(10);
/// The same for those that are launched at start, when the machine may be busy.
const START_MAX: Duration = Duration::from_secs(30);
/// A replica that never joined and died so often is not waited for.
const DEATHS_MAX: u32 = 3;

/// Somebody waits for replicas to join.
pub(super) struct Join {
    missing: HashSet<Arc<str>>,
    pub(super) deadline: Instant,
    whom: Whom,
}

enum Whom {
    /// `/add`: the new ones, which go again when one fails.
    Add {
        names: Vec<Arc<str>>,
        answer: oneshot::Sender<Result<Replicas, ControlError>>,
    },
    Settled(oneshot::Sender<Result<(), ControlError>>),
}

pub(super) fn refused(text: impl std::fmt::Display) -> ControlError {
    ControlError::Refused(format!("<Error> {text}"))
}

// === impl Actor: replicas ===

impl Actor {
    pub(super) fn replicas(&self) -> Replicas {
        Replicas(self.pools[PoolKey::DEFAULT].members.iter().map(|member| member.entry.id.clone()).collect())
    }

    pub(super) fn add(&mut self, add: Add, answer: oneshot::Sender<Result<Replicas, ControlError>>) {
        let (n, hostnames) = match add {
            Add::Attach(backends) => return self.attach(backends, answer),
            Add::Launch { n, hostnames } => (n, hostnames),
        };
        match self.launch(n, &hostnames) {
            Ok(names) => {
                let missing = names.iter().cloned().collect();
                let deadline = Instant::now() + ADD_MAX;
                self.joins.push(Join { missing, deadline, whom: Whom::Add { names, answer } });
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// Makes `n` new members with processes of their own.
    fn launch(&mut self, n: usize, hostnames: &[String]) -> Result<Vec<Arc<str>>, ControlError> {
        if n == 0 {
            return Err(refused("n must be a positive integer"));
        }
        if hostnames.len() > n {
            return Err(refused("Length of hostname list is more than newly added instances"));
        }
        let Some(launcher) = &self.launcher else {
            return Err(refused(
                "No launcher is configured: attach running servers with {\"backends\":[{\"id\",\"address\"}]}, or set [launcher]",
            ));
        };
        let members = &self.pools[PoolKey::DEFAULT].members;
        let running = members.iter().filter(|member| member.entry.origin == Origin::Launched).count();
        let plan = launcher.plan();
        if n > plan.max_replicas.saturating_sub(running) {
            let max = plan.max_replicas;
            return Err(refused(format!("At most {max} replicas may run (launcher.max_replicas) and {running} do")));
        }
        for (index, name) in hostnames.iter().enumerate() {
            check_id(name).map_err(|what| refused(format!("Hostname '{name}' is no name for a server: {what}")))?;
            if members.contains(name) || hostnames[..index].contains(name) {
                return Err(refused(format!("Hostname '{name}' is already in use")));
            }
        }
        let is_taken = |name: &str| members.contains(name) || hostnames.iter().any(|hostname| hostname == name);
        let fresh = fresh_names(&plan.names, n - hostnames.len(), is_taken);
        launcher.avoid(&self.config, &self.listeners, self.pools.iter());
        let mut sockets = Vec::with_capacity(n);
        for _ in 0..n {
            match launcher.reserve() {
                Ok(socket) => sockets.push(socket),
                Err(reason) => {
                    sockets.into_iter().for_each(|socket| launcher.release(socket));
                    return Err(ControlError::Failed(format!("<Error> {reason}")));
                }
            }
        }
        let names = hostnames.iter().cloned().chain(fresh).zip(sockets).map(|(id, socket)| {
            let order = self.pools[PoolKey::DEFAULT].members.next_order(Origin::Launched);
            let (address, origin) = (socket.to_string(), Origin::Launched);
            self.pools[PoolKey::DEFAULT].members.insert(Entry {
                id: id.clone(),
                address,
                socket,
                weight: 1,
                origin,
                order,
                draining: false,
            });
            self.pools[PoolKey::DEFAULT].members.get(&id).cloned()
        });
        let new: Vec<Member> = names.flatten().collect();
        for member in &new {
            self.member_came(PoolKey::DEFAULT, member);
            if let Some(launcher) = &mut self.launcher {
                launcher.launch(member.id(), member.entry.socket);
            }
        }
        self.touch(PoolKey::DEFAULT);
        Ok(new.iter().map(|member| member.id().clone()).collect())
    }

    pub(super) fn remove(&mut self, remove: &Remove, answer: oneshot::Sender<Result<Replicas, ControlError>>) {
        match self.victims(remove) {
            Ok(ids) => {
                self.take_out(&ids);
                self.publisher.wait(PoolKey::DEFAULT, Done::Replicas(answer));
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// Who goes: the named ones, then as many as are missing at random.
    fn victims(&mut self, remove: &Remove) -> Result<Vec<String>, ControlError> {
        let Remove { n, hostnames } = remove;
        let members = &self.pools[PoolKey::DEFAULT].members;
        if *n == 0 {
            return Err(refused("n must be a positive integer"));
        }
        if hostnames.len() > (*n).min(members.len()) {
            return Err(refused("Length of hostname list is more than removable instances"));
        }
        if *n > members.len() {
            return Err(refused(format!("At most {} replicas can be removed, not {n}", members.len())));
        }
        for (index, name) in hostnames.iter().enumerate() {
            if !members.contains(name) {
                return Err(refused(format!("Hostname '{name}' is not a replica")));
            }
            if hostnames[..index].contains(name) {
                return Err(refused(format!("Hostname '{name}' is listed twice")));
            }
        }
        let mut others: Vec<String> =
            members.iter().map(|member| member.entry.id.clone()).filter(|id| !hostnames.contains(id)).collect();
        self.random.shuffle(&mut others);
        others.truncate(n - hostnames.len());
        Ok(hostnames.iter().cloned().chain(others).collect())
    }

    /// Takes members of the pool `default` out: nothing new from now on; what runs finishes.
    fn take_out(&mut self, ids: &[String]) {
        for id in ids {
            let Some(member) = self.pools[PoolKey::DEFAULT].members.remove(id) else { continue };
            tracing::info!("pool {}: backend {id} is removed and drains", self.pools[PoolKey::DEFAULT].name);
            self.member_goes(PoolKey::DEFAULT, &member);
            let supervisor = self.launcher.as_ref().and_then(|launcher| launcher.current(id));
            if let (Some(launcher), Some(supervisor)) = (&mut self.launcher, supervisor) {
                launcher.give_up(supervisor);
            }
            self.touch(PoolKey::DEFAULT);
            self.publisher.wait(
                PoolKey::DEFAULT,
                Done::Removed { pool: PoolKey::DEFAULT, member: Box::new(member.clone()), supervisor },
            );
            self.no_longer_awaited(member.id());
        }
    }

    /// A supervisor told something.
    pub(super) fn replica(&mut self, supervisor: u64, name: &Arc<str>, news: News) {
        let is_in_charge = self.launcher.as_mut().is_some_and(|launcher| launcher.note(supervisor, &news));
        if !is_in_charge {
            return;
        }
        match news {
            News::Started { socket, pid } => {
                tracing::info!("replica {name} runs on {socket} (pid {pid})");
                if self.pools[PoolKey::DEFAULT].members.set_address(name, &socket.to_string(), socket) {
                    self.touch(PoolKey::DEFAULT);
                }
                self.pools[PoolKey::DEFAULT].members.update(name, |member| member.standing.restarts());
                if let Some(member) = self.pools[PoolKey::DEFAULT].members.get(name).cloned() {
                    self.member_came(PoolKey::DEFAULT, &member);
                }
            }
            News::Died(death) => {
                let Death { reason, in_a_row, is_hopeless, next_try } = &death;
                let when = if next_try.is_zero() { "at once".to_owned() } else { format!("in {next_try:?}") };
                tracing::warn!("replica {name}: {reason}; starting it again {when}");
                self.checkers.forget(PoolKey::DEFAULT, name);
                let fell =
                    self.pools[PoolKey::DEFAULT].members.update(name, |member| member.standing.fell(reason.clone()));
                if fell.flatten().is_some() {
                    self.health_changed(PoolKey::DEFAULT, name, false);
                }
                if *is_hopeless || *in_a_row >= DEATHS_MAX {
                    self.fail_joins(name, reason);
                }
                self.deaths.insert(name.clone(), death);
            }
            News::Ended => {}
        }
    }

    /// A launched replica gave its first good answer.
    pub(super) fn joined(&mut self, name: &Arc<str>) {
        self.deaths.remove(name);
        self.no_longer_missing(name);
    }

    /// Command `Settled`.
    pub(super) fn join_all(&mut self, answer: oneshot::Sender<Result<(), ControlError>>) {
        let launched =
            self.pools[PoolKey::DEFAULT].members.iter().filter(|member| member.entry.origin == Origin::Launched);
        let missing: HashSet<Arc<str>> =
            launched.filter(|member| !member.standing.is_healthy()).map(|member| member.id().clone()).collect();
        let hopeless = missing.iter().find_map(|name| {
            let death = self.deaths.get(name).filter(|death| death.is_hopeless || death.in_a_row >= DEATHS_MAX);
            death.map(|death| (name.clone(), death.reason.clone()))
        });
        self.joins.push(Join { missing, deadline: Instant::now() + START_MAX, whom: Whom::Settled(answer) });
        match hopeless {
            Some((name, reason)) => self.fail_joins(&name, &reason),
            None => self.finish_joins(),
        }
    }

    pub(super) fn fail_late_joins(&mut self) {
        let now = Instant::now();
        let (late, joins) = std::mem::take(&mut self.joins).into_iter().partition(|join| join.deadline <= now);
        self.joins = joins;
        for join in late {
            let name = join.missing.iter().min().cloned().unwrap_or_default();
            let said = self.deaths.get(&name).map(|death| format!(" (last: {})", death.reason)).unwrap_or_default();
            let path = &self.config.health.path;
            let wait = if matches!(join.whom, Whom::Add { .. }) { ADD_MAX } else { START_MAX };
            let reason = format!("it did not answer {path} within {wait:?}{said}");
            self.fail_join(join, &name, &reason);
        }
    }

    /// The strategy refused a list with these new ones in it.
    pub(super) fn fail_joins_of(&mut self, gone: &[Member], reason: &str) {
        for member in gone {
            let is_of = |join: &Join| join.missing.contains(member.id());
            let (failed, joins) = std::mem::take(&mut self.joins).into_iter().partition(is_of);
            self.joins = joins;
            for join in failed {
                self.fail_join(join, member.id(), reason);
            }
        }
    }

    fn fail_joins(&mut self, name: &Arc<str>, reason: &str) {
        let (failed, joins) =
            std::mem::take(&mut self.joins).into_iter().partition(|join: &Join| join.missing.contains(name));
        self.joins = joins;
        for join in failed {
            self.fail_join(join, name, reason);
        }
    }

    fn fail_join(&mut self, join: Join, name: &str, reason: &str) {
        let text = format!("Replica '{name}' did not start: {reason}");
        match join.whom {
            Whom::Settled(answer) => drop(answer.send(Err(ControlError::Failed(text)))),
            Whom::Add { names, answer } => {
                let ids: Vec<String> = names.iter().map(|name| name.to_string()).collect();
                self.take_out(&ids);
                let error = ControlError::Failed(format!("<Error> {text}"));
                self.publisher.wait(PoolKey::DEFAULT, Done::Undone { answer, error });
            }
        }
    }

    /// Whoever waited for a removed one waits for the others only, and would undo only those: its name may be somebody else's by then.
    fn no_longer_awaited(&mut self, name: &Arc<str>) {
        for join in &mut self.joins {
            if let Whom::Add { names, .. } = &mut join.whom {
                names.retain(|new| new != name);
            }
        }
        self.no_longer_missing(name);
    }

    fn no_longer_missing(&mut self, name: &Arc<str>) {
        for join in &mut self.joins {
            join.missing.remove(name);
        }
        self.finish_joins();
    }

    fn finish_joins(&mut self) {
        let (done, joins) =
            std::mem::take(&mut self.joins).into_iter().partition(|join: &Join| join.missing.is_empty());
        self.joins = joins;
        for join in done {
            self.publisher.wait(
                PoolKey::DEFAULT,
                match join.whom {
                    Whom::Add { answer, .. } => Done::Replicas(answer),
                    Whom::Settled(answer) => Done::Settled(answer),
                },
            );
        }
    }
}
