//! `/add` and `/rm`: launching new replicas and removing replicas.
//!
//! Rules for cases that the course's sheet leaves open:
//!
//! - A command takes effect as a whole or not at all.
//! - A name that is in use, unknown or repeated is an error. So is a request for more replicas than there are.
//! - New replicas without a given name get the lowest free numbers of the launcher's template. The sheet says "random",
//!   but a repeatable experiment needs a rule.
//! - Replicas to remove without a given name are drawn at random; `course.seed` makes that repeatable.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Membership, fresh_names, refused};
use crate::config::{Config, check_id};
use crate::control::api::{Add, ControlError, Remove, Replicas};
use crate::control::launcher::Launcher;
use crate::control::pools::{Entry, Member, Origin, PoolKey};
use crate::control::publish::{Answer, FollowUp, Publisher};
use crate::listener::Listener;

// === impl Membership: replicas ===

impl Membership {
    pub(in crate::control) fn add(&mut self, desk: &mut Publisher, add: Add, answer: Answer<Replicas>) {
        let (n, hostnames) = match add {
            Add::Attach(backends) => return self.attach(desk, backends, answer),
            Add::Launch { n, hostnames } => (n, hostnames),
        };
        match self.launch(desk, n, &hostnames) {
            Ok(names) => self.wait_for_new(names, answer),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    pub(in crate::control) fn remove(&mut self, desk: &mut Publisher, remove: &Remove, answer: Answer<Replicas>) {
        match self.victims(desk, remove) {
            Ok(ids) => {
                self.take_out(desk, &ids, remove.deadline);
                desk.wait(PoolKey::DEFAULT, FollowUp::Replicas(answer));
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// Removes members of the pool `default`: they get no new request, and their requests in flight finish, or end
    /// after the time `within`. Without one, the deadline of a drain stays.
    pub(super) fn take_out(&mut self, desk: &mut Publisher, ids: &[String], within: Option<Duration>) {
        let deadline = within.map(|within| Instant::now() + within);
        for id in ids {
            let pool = &mut desk.pools[PoolKey::DEFAULT];
            let Some(member) = pool.members.remove(id) else { continue };
            tracing::info!(pool = %pool.name, backend = id, "backend is removed and drains");
            self.goes(PoolKey::DEFAULT, &member);
            let deadline = deadline.or_else(|| self.drains.deadline(&(PoolKey::DEFAULT, member.id().clone())));
            let supervisor = self.launcher.as_ref().and_then(|launcher| launcher.current(id));
            if let (Some(launcher), Some(supervisor)) = (&mut self.launcher, supervisor) {
                launcher.give_up(supervisor);
            }
            desk.touch(PoolKey::DEFAULT);
            let (pool, removed) = (PoolKey::DEFAULT, Box::new(member.clone()));
            let removed = FollowUp::Removed { pool, member: removed, supervisor, deadline };
            desk.wait(PoolKey::DEFAULT, removed);
            self.no_longer_awaited(desk, member.id());
        }
    }

    /// Adds `n` members with processes of their own.
    fn launch(&mut self, desk: &mut Publisher, n: usize, hostnames: &[String]) -> Result<Vec<Arc<str>>, ControlError> {
        if n == 0 {
            return Err(refused("n must be a positive integer"));
        }
        if hostnames.len() > n {
            return Err(refused("Length of hostname list is more than newly added instances"));
        }
        let Some(launcher) = &mut self.launcher else {
            return Err(refused(
                "No launcher is configured: attach running servers with {\"backends\":[{\"id\",\"address\"}]}, or set [launcher]",
            ));
        };
        let (names, labels) = (new_names(launcher, desk, n, hostnames)?, launcher.plan().labels.clone());
        let entries = desk.pools.iter().flat_map(|pool| pool.members.iter()).map(|member| &member.entry);
        launcher.avoid(taken_ports(&desk.config, desk.listeners.open(), entries));
        let sockets = launcher.reserve_all(n).map_err(|reason| ControlError::Failed(format!("<Error> {reason}")))?;
        let members = &mut desk.pools[PoolKey::DEFAULT].members;
        let mut new = Vec::with_capacity(n);
        for (id, socket) in names.into_iter().zip(sockets) {
            let order = members.next_order(Origin::Launched);
            members.insert(Entry {
                id: id.clone(),
                address: socket.to_string(),
                socket,
                weight: 1,
                origin: Origin::Launched,
                order,
                draining: false,
                backup: false,
                labels: labels.clone(),
            });
            new.extend(members.get(&id).cloned());
        }
        for member in &new {
            self.came(desk, PoolKey::DEFAULT, member);
            if let Some(launcher) = &mut self.launcher {
                launcher.launch(member.id(), member.entry.socket);
            }
        }
        desk.touch(PoolKey::DEFAULT);
        Ok(new.iter().map(|member: &Member| member.id().clone()).collect())
    }

    /// The replicas to remove: the named ones, then random ones up to `n`.
    fn victims(&mut self, desk: &Publisher, remove: &Remove) -> Result<Vec<String>, ControlError> {
        let Remove { n, hostnames, deadline: _ } = remove;
        let members = &desk.pools[PoolKey::DEFAULT].members;
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
}

/// Ports that replicas must not get: those of lb, and those of backends that lb does not launch.
pub(in crate::control) fn taken_ports<'a>(
    config: &Config,
    listeners: &[Arc<Listener>],
    members: impl Iterator<Item = &'a Entry>,
) -> impl Iterator<Item = u16> {
    let configured = config.proxy.listen.iter().chain([&config.admin.listen]).copied();
    let own = configured.chain(listeners.iter().map(|listener| listener.address()));
    let others = members.filter(|entry| entry.origin != Origin::Launched).map(|entry| entry.socket);
    own.chain(others).map(|socket| socket.port())
}

/// `hostnames`, then fresh names up to `n`.
fn new_names(
    launcher: &Launcher,
    desk: &Publisher,
    n: usize,
    hostnames: &[String],
) -> Result<Vec<String>, ControlError> {
    let members = &desk.pools[PoolKey::DEFAULT].members;
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
    Ok(hostnames.iter().cloned().chain(fresh).collect())
}
