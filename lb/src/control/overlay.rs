//! The overlay: what was changed at run time, as a difference to the configuration file.
//!
//! Pool = file + added − removed, with changes on top, at start and at every reload. An entry names what it was made against (its
//! `file` fingerprint) and lapses when the file says something else by now: the operator's newer word wins. Pure rules: an overlay is
//! computed from the state ([`Overlay::of`]) and never edited, so it cannot drift from it. Invariant: applying what `of` gave, on
//! the same configuration, gives the same members.

use std::collections::HashSet;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::command::OverlayStatus;
use super::members::{Entry, Origin};
use crate::config::{Backend, Config, DEFAULT_POOL, Launcher, Reach, WEIGHT_MAX, check_id};

/// Of the file's format. Another one is not guessed at.
const SCHEMA: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Overlay {
    schema: u32,
    /// Attached to the pool `default`, in order.
    #[serde(default)]
    added: Vec<Added>,
    /// Tombstones of backends that the file configures.
    #[serde(default)]
    removed: Vec<Removed>,
    /// Weight or drain other than configured.
    #[serde(default)]
    changed: Vec<Changed>,
    /// The launched replicas, where they are not those that the file asks for.
    #[serde(default)]
    replicas: Option<Wanted>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Added {
    id: String,
    address: String,
    /// What the address meant when it was attached, for when it cannot be resolved.
    socket: SocketAddr,
    weight: u16,
    #[serde(default)]
    draining: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Removed {
    pool: String,
    id: String,
    file: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Changed {
    pool: String,
    id: String,
    file: String,
    weight: u16,
    draining: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    names: Vec<String>,
    launcher: String,
}

/// A configuration with an overlay applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Members by pool, in the order of the configuration's pools; without launched ones.
    pub(super) pools: Vec<Vec<Entry>>,
    /// The replicas to launch, in order.
    pub(super) replicas: Vec<Replica>,
    /// What no longer applies, in words.
    pub(super) lapsed: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replica {
    pub(super) name: String,
    pub(super) weight: u16,
    pub(super) draining: bool,
}

// === fingerprints: readable, because people look into the file ===

fn backend_fingerprint(backend: &Backend) -> String {
    format!("{} weight {}", backend.address, backend.weight)
}

fn launcher_fingerprint(launcher: &Launcher) -> String {
    let Launcher { replicas, names, first_port, command, max_replicas, host } = launcher;
    format!("{replicas} of at most {max_replicas} called {names:?} on {host} from port {first_port} by {command:?}")
}

/// The first `count` names of the launcher's template that nobody has.
pub(super) fn fresh_names(template: &str, count: usize, is_taken: impl Fn(&str) -> bool) -> Vec<String> {
    (1_u64..).map(|n| template.replace("{n}", &n.to_string())).filter(|name| !is_taken(name)).take(count).collect()
}

// === impl Overlay ===

impl Default for Overlay {
    /// Nothing was changed.
    fn default() -> Self {
        Self { schema: SCHEMA, added: Vec::new(), removed: Vec::new(), changed: Vec::new(), replicas: None }
    }
}

impl Overlay {
    /// The difference between `config` and what the pools have now (`members[i]` belongs to `config.pools[i]`).
    pub(super) fn of(config: &Config, members: &[Vec<Entry>]) -> Self {
        let mut overlay = Self::default();
        for (pool, members) in config.pools.iter().zip(members) {
            let of_file = |id: &str| members.iter().find(|entry| entry.origin == Origin::File && entry.id == id);
            for backend in &pool.backends {
                let (name, id, file) = (pool.name.clone(), backend.id.clone(), backend_fingerprint(backend));
                match of_file(&backend.id) {
                    None => overlay.removed.push(Removed { pool: name, id, file }),
                    Some(entry) if entry.weight != backend.weight || entry.draining => overlay.changed.push(Changed {
                        pool: name,
                        id,
                        file,
                        weight: entry.weight,
                        draining: entry.draining,
                    }),
                    Some(_) => {}
                }
            }
            let attached = members.iter().filter(|entry| entry.origin == Origin::Attached);
            overlay.added.extend(attached.map(|entry| Added {
                id: entry.id.clone(),
                address: entry.address.clone(),
                socket: entry.socket,
                weight: entry.weight,
                draining: entry.draining,
            }));
        }
        let Some(launcher) = &config.launcher else { return overlay };
        let launched: Vec<&Entry> = members.iter().flatten().filter(|entry| entry.origin == Origin::Launched).collect();
        let names: Vec<String> = launched.iter().map(|entry| entry.id.clone()).collect();
        // What a start without overlay would launch beside the backends that are there now.
        let taken: HashSet<&str> = members
            .first()
            .map(|first| {
                first.iter().filter(|entry| entry.origin != Origin::Launched).map(|entry| &*entry.id).collect()
            })
            .unwrap_or_default();
        if names != fresh_names(&launcher.names, launcher.replicas, |name| taken.contains(name)) {
            overlay.replicas = Some(Wanted { names, launcher: launcher_fingerprint(launcher) });
        }
        let changed = launched.iter().filter(|entry| entry.weight != 1 || entry.draining);
        overlay.changed.extend(changed.map(|entry| Changed {
            pool: DEFAULT_POOL.to_owned(),
            id: entry.id.clone(),
            file: launcher_fingerprint(launcher),
            weight: entry.weight,
            draining: entry.draining,
        }));
        overlay
    }

    /// The members that `config` and this overlay make together, and what of the overlay has lapsed.
    pub(super) fn apply(&self, config: &Config) -> Plan {
        let mut plan = Plan::default();
        let buried = |pool: &str, backend: &Backend| {
            self.removed.iter().any(|removed| {
                removed.pool == pool && removed.id == backend.id && removed.file == backend_fingerprint(backend)
            })
        };
        for pool in &config.pools {
            let members = pool.backends.iter().enumerate().filter(|(_, backend)| !buried(&pool.name, backend));
            plan.pools.push(members.map(|(order, backend)| self.file_entry(&pool.name, backend, order)).collect());
        }
        self.note_lapsed(config, &mut plan);
        let default = &mut plan.pools[0];
        for added in &self.added {
            if default.iter().any(|entry| entry.id == added.id) {
                plan.lapsed.push(format!("backend {:?} was attached and is in the file now", added.id));
                continue;
            }
            default.push(Entry {
                id: added.id.clone(),
                address: added.address.clone(),
                socket: added.socket,
                weight: added.weight,
                origin: Origin::Attached,
                order: default.iter().filter(|entry| entry.origin == Origin::Attached).count(),
                draining: added.draining,
            });
        }
        if let Some(launcher) = &config.launcher {
            plan.replicas = self.replicas(launcher, &plan.pools[0]);
        }
        plan
    }

    /// How many entries there are, for people.
    pub(super) fn status(&self) -> OverlayStatus {
        OverlayStatus {
            added: self.added.len(),
            removed: self.removed.len(),
            changed: self.changed.len(),
            replicas: self.replicas.as_ref().map(|wanted| wanted.names.len()),
            error: None,
        }
    }

    /// What each added backend's address was typed as, so that names can be resolved again.
    pub(super) fn resolve(&mut self, resolve: impl Fn(&str) -> Result<SocketAddr, String>) {
        for added in &mut self.added {
            match resolve(&added.address) {
                Ok(socket) => added.socket = socket,
                Err(error) => tracing::warn!("backend {:?}: {error}; {} is used as before", added.id, added.socket),
            }
        }
    }

    /// Takes out what was added at an address where no backend may be (by now, or by somebody's hand); says which, in words.
    pub(super) fn drop_out_of_reach(&mut self, reach: &Reach) -> Vec<String> {
        let mut dropped = Vec::new();
        self.added.retain(|added| match reach.check(added.socket) {
            Ok(()) => true,
            Err(what) => {
                dropped.push(format!("backend {:?} was attached and is refused: {what}", added.id));
                false
            }
        });
        dropped
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings and numbers") + "\n"
    }

    /// Reads and checks; the error is a clause for people.
    pub(super) fn from_json(text: &str) -> Result<Self, String> {
        let overlay: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if overlay.schema != SCHEMA {
            return Err(format!("it has schema {}, this lb writes {SCHEMA}", overlay.schema));
        }
        let names = overlay.replicas.iter().flat_map(|wanted| &wanted.names);
        names.chain(overlay.added.iter().map(|added| &added.id)).try_for_each(|id| check_id(id))?;
        let weights = overlay.added.iter().map(|added| added.weight);
        match weights.chain(overlay.changed.iter().map(|changed| changed.weight)).find(|weight| *weight > WEIGHT_MAX) {
            Some(weight) => Err(format!("it has a weight of {weight}")),
            None => Ok(overlay),
        }
    }

    fn file_entry(&self, pool: &str, backend: &Backend, order: usize) -> Entry {
        let changed = self.changed(pool, &backend.id, &backend_fingerprint(backend));
        Entry {
            id: backend.id.clone(),
            address: backend.address.clone(),
            socket: backend.socket,
            weight: changed.map_or(backend.weight, |changed| changed.weight),
            origin: Origin::File,
            order,
            draining: changed.is_some_and(|changed| changed.draining),
        }
    }

    /// The wanted names if they still apply, else the file's number of fresh ones; a name that somebody has is replaced.
    fn replicas(&self, launcher: &Launcher, others: &[Entry]) -> Vec<Replica> {
        let fingerprint = launcher_fingerprint(launcher);
        let wanted = self.replicas.as_ref().filter(|wanted| wanted.launcher == fingerprint);
        let count = wanted.map_or(launcher.replicas, |wanted| wanted.names.len().min(launcher.max_replicas));
        let mut names: Vec<String> = Vec::with_capacity(count);
        let others: HashSet<&str> = others.iter().map(|entry| &*entry.id).collect();
        for name in wanted.iter().flat_map(|wanted| &wanted.names).take(count) {
            if !others.contains(&**name) && !names.contains(name) {
                names.push(name.clone());
            }
        }
        let missing = count - names.len();
        let fresh =
            fresh_names(&launcher.names, missing, |name| others.contains(name) || names.iter().any(|n| n == name));
        names.extend(fresh);
        let replica = |name: String| {
            let changed = self.changed(DEFAULT_POOL, &name, &fingerprint);
            let (weight, draining) = changed.map_or((1, false), |changed| (changed.weight, changed.draining));
            Replica { name, weight, draining }
        };
        names.into_iter().map(replica).collect()
    }

    fn changed(&self, pool: &str, id: &str, file: &str) -> Option<&Changed> {
        self.changed.iter().find(|changed| changed.pool == pool && changed.id == id && changed.file == file)
    }

    fn note_lapsed(&self, config: &Config, plan: &mut Plan) {
        let launcher = config.launcher.as_ref().map(launcher_fingerprint);
        let says = |pool: &str, id: &str, file: &str| {
            let pools = config.pools.iter().filter(|candidate| candidate.name == pool);
            pools
                .flat_map(|pool| &pool.backends)
                .any(|backend| backend.id == id && backend_fingerprint(backend) == file)
        };
        for Removed { pool, id, file } in &self.removed {
            if !says(pool, id, file) {
                plan.lapsed.push(format!("backend {id:?} of pool {pool:?} was removed and has changed in the file"));
            }
        }
        for Changed { pool, id, file, .. } in &self.changed {
            if !says(pool, id, file) && launcher.as_ref() != Some(file) {
                plan.lapsed.push(format!("backend {id:?} of pool {pool:?} was changed and has changed in the file"));
            }
        }
        if let Some(wanted) = &self.replicas
            && launcher.as_ref() != Some(&wanted.launcher)
        {
            plan.lapsed
                .push(format!("{} replicas were wanted and [launcher] has changed in the file", wanted.names.len()));
        }
    }

    #[cfg(test)]
    pub(super) fn example(n: usize) -> Self {
        Self { replicas: Some(Wanted { names: vec![format!("S{n}")], launcher: "x".into() }), ..Self::default() }
    }
}

#[cfg(test)]
mod tests;
