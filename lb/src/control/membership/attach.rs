//! Attaching servers that run already: `/add {"backends": […]}`.
//!
//! Names are resolved on another thread, so the command has two halves. The second half checks again, because other
//! backends may have been added meanwhile. Invariant: all backends are attached or none.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::{Membership, refused};
use crate::config::{check_id, check_weight, resolve_address};
use crate::control::api::{AttachedBackend, ControlError, Replicas};
use crate::control::pools::{Entry, Origin, PoolKey};
use crate::control::publish::{Answer, FollowUp, Publisher};

/// Per pool.
const BACKENDS_MAX: usize = 4_096;
const RESOLVE_MAX: Duration = Duration::from_secs(5);

/// Backends to attach, with their resolved addresses.
pub(in crate::control) struct Resolved {
    backends: Result<Vec<(AttachedBackend, SocketAddr)>, String>,
    answer: Answer<Replicas>,
}

// === impl Membership: attaching ===

impl Membership {
    pub(super) fn attach(&self, desk: &Publisher, backends: Vec<AttachedBackend>, answer: Answer<Replicas>) {
        if let Err(error) = check_attached(desk, &backends) {
            drop(answer.send(Err(error)));
            return;
        }
        let reports = self.resolved.clone();
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
            let _ = reports.send(Resolved { backends, answer }).await;
        });
    }

    /// The second half: the addresses are resolved.
    pub(in crate::control) fn resolved(&mut self, desk: &mut Publisher, resolved: Resolved) {
        let Resolved { backends, answer } = resolved;
        match backends.map_err(refused).and_then(|backends| self.try_attach(desk, backends)) {
            Ok(()) => desk.wait(PoolKey::DEFAULT, FollowUp::Replicas(answer)),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    fn try_attach(
        &mut self,
        desk: &mut Publisher,
        backends: Vec<(AttachedBackend, SocketAddr)>,
    ) -> Result<(), ControlError> {
        let plain: Vec<AttachedBackend> = backends.iter().map(|(backend, _)| backend.clone()).collect();
        check_attached(desk, &plain)?;
        let (reach, health) = (desk.reach(&desk.config, desk.listeners.open()), desk.health(PoolKey::DEFAULT));
        for (backend, socket) in &backends {
            reach.check(*socket, &health).map_err(|what| refused(format!("Backend '{}': {what}", backend.id)))?;
        }
        for (backend, socket) in backends {
            let entry = entry(desk, backend, socket);
            let id = entry.id.clone();
            let pool = &mut desk.pools[PoolKey::DEFAULT];
            tracing::info!(pool = %pool.name, backend = %id, address = %entry.address, "backend is attached");
            pool.members.insert(entry);
            if let Some(member) = pool.members.get(&id).cloned() {
                self.came(desk, PoolKey::DEFAULT, &member);
            }
        }
        desk.touch(PoolKey::DEFAULT);
        Ok(())
    }
}

/// A backend with the address, the weight, the role and the labels that the file gives it has the origin "file". Any
/// other is attached.
fn entry(desk: &Publisher, backend: AttachedBackend, socket: SocketAddr) -> Entry {
    let AttachedBackend { id, address, weight, backup, labels } = backend;
    let of_file = desk.config.pools[0].backends.iter().position(|configured| {
        let is_same = configured.weight == weight && configured.backup == backup && configured.labels == labels;
        configured.id == id && configured.address == address && is_same
    });
    let (origin, order) = match of_file {
        Some(order) => (Origin::File, order),
        None => (Origin::Attached, desk.pools[PoolKey::DEFAULT].members.next_order(Origin::Attached)),
    };
    Entry { id, address, socket, weight, origin, order, draining: false, backup, labels }
}

fn check_attached(desk: &Publisher, backends: &[AttachedBackend]) -> Result<(), ControlError> {
    if backends.is_empty() {
        return Err(refused("The list of backends is empty"));
    }
    let members = &desk.pools[PoolKey::DEFAULT].members;
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
