//! Attaching servers that run already: `/add {"backends": […]}`.
//!
//! Names are resolved off the actor's thread, which is why this has two halves; the second checks again, because others may have
//! come meanwhile. All or nothing.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::publisher::Done;
use super::replicas::refused;
use super::{Actor, Event};
use crate::config::{check_id, check_weight, resolve_address};
use crate::control::command::{AttachedBackend, ControlError, Replicas};
use crate::control::members::{Entry, Origin};
use crate::control::pools::PoolKey;
use crate::control::start::reach;

/// A pool takes no more.
const BACKENDS_MAX: usize = 4_096;
const RESOLVE_MAX: Duration = Duration::from_secs(5);

type Answer = oneshot::Sender<Result<Replicas, ControlError>>;

/// Backends to attach, with what their addresses mean.
#[derive(Debug)]
pub(in crate::control) struct Resolved {
    backends: Result<Vec<(AttachedBackend, SocketAddr)>, String>,
    answer: Answer,
}

impl Actor {
    pub(super) fn attach(&mut self, backends: Vec<AttachedBackend>, answer: Answer) {
        if let Err(error) = self.check_attached(&backends) {
            drop(answer.send(Err(error)));
            return;
        }
        let events = self.events.clone();
        tokio::spawn(async move {
            let resolve = |backend: AttachedBackend| {
                let socket =
                    resolve_address(&backend.address).map_err(|what| format!("backend '{}': {what}", backend.id))?;
                Ok((backend, socket))
            };
            let all = tokio::task::spawn_blocking(move || backends.into_iter().map(resolve).collect());
            let backends = match timeout(RESOLVE_MAX, all).await {
                Ok(Ok(backends)) => backends,
                Ok(Err(_)) => Err("the addresses could not be resolved".to_owned()),
                Err(_) => Err(format!("the addresses could not be resolved within {RESOLVE_MAX:?}")),
            };
            let _ = events.send(Event::Resolved(Resolved { backends, answer })).await;
        });
    }

    pub(super) fn attach_resolved(&mut self, resolved: Resolved) {
        let Resolved { backends, answer } = resolved;
        match backends.map_err(refused).and_then(|backends| self.try_attach(backends)) {
            Ok(()) => self.publisher.wait(PoolKey::DEFAULT, Done::Replicas(answer)),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    fn try_attach(&mut self, backends: Vec<(AttachedBackend, SocketAddr)>) -> Result<(), ControlError> {
        let plain: Vec<AttachedBackend> = backends.iter().map(|(backend, _)| backend.clone()).collect();
        self.check_attached(&plain)?;
        let reach = reach(&self.config, &self.listeners, self.admin);
        for (backend, socket) in &backends {
            reach.check(*socket).map_err(|what| refused(format!("Backend '{}': {what}", backend.id)))?;
        }
        for (backend, socket) in backends {
            let entry = self.entry(backend, socket);
            let id = entry.id.clone();
            tracing::info!("pool {}: backend {id} ({}) is attached", self.pools[PoolKey::DEFAULT].name, entry.address);
            self.pools[PoolKey::DEFAULT].members.insert(entry);
            if let Some(member) = self.pools[PoolKey::DEFAULT].members.get(&id).cloned() {
                self.member_came(PoolKey::DEFAULT, &member);
            }
        }
        self.touch(PoolKey::DEFAULT);
        Ok(())
    }

    /// What the file says of a removed backend, said again, lifts its removal; anything else is an attached one.
    fn entry(&self, backend: AttachedBackend, socket: SocketAddr) -> Entry {
        let AttachedBackend { id, address, weight } = backend;
        let of_file = self.config.pools[0]
            .backends
            .iter()
            .position(|configured| configured.id == id && configured.address == address && configured.weight == weight);
        let (origin, order) = match of_file {
            Some(order) => (Origin::File, order),
            None => (Origin::Attached, self.pools[PoolKey::DEFAULT].members.next_order(Origin::Attached)),
        };
        Entry { id, address, socket, weight, origin, order, draining: false }
    }

    fn check_attached(&self, backends: &[AttachedBackend]) -> Result<(), ControlError> {
        if backends.is_empty() {
            return Err(refused("The list of backends is empty"));
        }
        let members = &self.pools[PoolKey::DEFAULT].members;
        if backends.len() > BACKENDS_MAX.saturating_sub(members.len()) {
            return Err(refused(format!("A pool takes at most {BACKENDS_MAX} backends and has {}", members.len())));
        }
        for (index, AttachedBackend { id, weight, .. }) in backends.iter().enumerate() {
            check_id(id).map_err(|what| refused(format!("Backend '{id}': {what}")))?;
            check_weight(i64::from(*weight)).map_err(|what| refused(format!("Backend '{id}': {what}")))?;
            if members.contains(id) || backends[..index].iter().any(|other| other.id == *id) {
                return Err(refused(format!("Hostname '{id}' is already in use")));
            }
        }
        Ok(())
    }
}
