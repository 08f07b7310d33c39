//! The overlay: what was changed at run time, as a difference from the configuration file.
//!
//! At start-up and at every reload, [`Plan`](super::Plan) computes: pool = file + added − removed, with changes on top.
//! Each entry keeps a fingerprint of the part of the file that it changes (`file`). If the file has another
//! fingerprint, the entry lapses: the file is newer. The overlay is computed from the members ([`Overlay::of`]) and
//! never edited, so it cannot drift from them. Invariant: a plan made from the result of `of` and the same
//! configuration gives the same members.

use std::collections::HashSet;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::plan::fresh_names;
use crate::config::{BackendConfig, Config, DEFAULT_POOL, Health, Labels, Launcher, Reach, WEIGHT_MAX, check_id};
use crate::control::api::OverlayStatus;
use crate::control::pools::{Entry, Origin};

/// The version of the file's format. A file of any other version is refused.
const SCHEMA: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::control) struct Overlay {
    schema: u32,
    /// Attached to the pool `default`, in order.
    #[serde(default)]
    pub(super) added: Vec<Added>,
    /// Tombstones of backends that the file configures.
    #[serde(default)]
    pub(super) removed: Vec<Removed>,
    /// A weight or a drain that the file does not have.
    #[serde(default)]
    pub(super) changed: Vec<Changed>,
    /// The launched replicas, if they differ from those that the file asks for.
    #[serde(default)]
    pub(super) replicas: Option<Wanted>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Added {
    pub(super) id: String,
    pub(super) address: String,
    /// The address resolved at the time it was attached. Used if it cannot be resolved now.
    pub(super) socket: SocketAddr,
    pub(super) weight: u16,
    #[serde(default)]
    pub(super) draining: bool,
    /// Not written if it is `false`, so that an older lb can read the file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) backup: bool,
    /// Like `backup`.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub(super) labels: Labels,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Removed {
    pub(super) pool: String,
    pub(super) id: String,
    pub(super) file: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Changed {
    pub(super) pool: String,
    pub(super) id: String,
    pub(super) file: String,
    pub(super) weight: u16,
    pub(super) draining: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    pub(super) names: Vec<String>,
    pub(super) launcher: String,
}

// === fingerprints: readable, because people look into the file. Labels are not in them: the overlay changes no labels
// of the file, so a drain stays in force when labels change. ===

pub(super) fn backend_fingerprint(backend: &BackendConfig) -> String {
    let backup = if backend.backup { " backup" } else { "" };
    format!("{} weight {}{backup}", backend.address, backend.weight)
}

pub(super) fn launcher_fingerprint(launcher: &Launcher) -> String {
    let Launcher { replicas, names, first_port, command, max_replicas, host, labels: _ } = launcher;
    format!("{replicas} of at most {max_replicas} called {names:?} on {host} from port {first_port} by {command:?}")
}

// === impl Overlay ===

impl Default for Overlay {
    /// No change.
    fn default() -> Self {
        Self { schema: SCHEMA, added: Vec::new(), removed: Vec::new(), changed: Vec::new(), replicas: None }
    }
}

impl Overlay {
    /// The difference between `config` and the members of the pools (`members[i]` belongs to `config.pools[i]`).
    pub(in crate::control) fn of(config: &Config, members: &[Vec<Entry>]) -> Self {
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
                backup: entry.backup,
                labels: entry.labels.clone(),
            }));
        }
        let Some(launcher) = &config.launcher else { return overlay };
        let launched: Vec<&Entry> = members.iter().flatten().filter(|entry| entry.origin == Origin::Launched).collect();
        let names: Vec<String> = launched.iter().map(|entry| entry.id.clone()).collect();
        // The replicas that a start without an overlay would launch beside the present backends.
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

    /// The numbers of entries, for `/status`.
    pub(in crate::control) fn status(&self) -> OverlayStatus {
        OverlayStatus {
            added: self.added.len(),
            removed: self.removed.len(),
            changed: self.changed.len(),
            replicas: self.replicas.as_ref().map(|wanted| wanted.names.len()),
            error: None,
        }
    }

    /// Resolves the address of each added backend again, as it was typed.
    pub(in crate::control) fn resolve(&mut self, resolve: impl Fn(&str) -> Result<SocketAddr, String>) {
        for added in &mut self.added {
            match resolve(&added.address) {
                Ok(socket) => added.socket = socket,
                Err(error) => {
                    let Added { id, socket, .. } = added;
                    tracing::warn!(backend = id, error, %socket, "the address cannot be resolved: lb uses the last one");
                }
            }
        }
    }

    /// Removes added backends whose address is outside of `reach`; returns one clause per backend. The configuration
    /// may have changed since, or the overlay file was edited by hand. `health`: the rules of the pool `default`.
    pub(in crate::control) fn drop_out_of_reach(&mut self, reach: &Reach, health: &Health) -> Vec<String> {
        let mut dropped = Vec::new();
        self.added.retain(|added| match reach.check(added.socket, health) {
            Ok(()) => true,
            Err(what) => {
                dropped.push(format!("backend {:?} was attached and is refused: {what}", added.id));
                false
            }
        });
        dropped
    }

    pub(in crate::control) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("strings and numbers") + "\n"
    }

    /// Reads and checks the file. An error is a clause for a message.
    pub(in crate::control) fn from_json(text: &str) -> Result<Self, String> {
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

    /// The change of this backend, if it was made against the fingerprint `file`.
    pub(super) fn changed(&self, pool: &str, id: &str, file: &str) -> Option<&Changed> {
        self.changed.iter().find(|changed| changed.pool == pool && changed.id == id && changed.file == file)
    }
}

#[cfg(test)]
mod tests;
