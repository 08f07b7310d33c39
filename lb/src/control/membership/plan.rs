//! The plan: which members each pool should have, by the configuration, the overlay and the launcher.
//!
//! A start and a reload make a plan and then bring the pools to it. Planning is pure, so that every rule of lapsing has
//! a test (in `overlay/tests`).

use std::collections::HashSet;

use super::overlay::{Changed, Overlay, Removed, backend_fingerprint, launcher_fingerprint};
use super::sources::{Attached, File, Source, merge};
use crate::config::{Config, DEFAULT_POOL, Labels, Launcher};
use crate::control::pools::{Entry, Origin};
use crate::control::trust::vet::VetBackend;

/// Which members each pool should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::control) struct Plan {
    /// Members by pool, in the order of the configuration's pools.
    pub(in crate::control) pools: Vec<Vec<Entry>>,
    /// The replicas to launch, in order.
    pub(in crate::control) replicas: Vec<Replica>,
    /// Entries of the live sources whose id the file or the overlay has.
    pub(in crate::control) clashes: Vec<Entry>,
    /// One clause for each entry of the overlay that no longer applies.
    pub(in crate::control) lapsed: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Replica {
    pub(in crate::control) name: String,
    pub(in crate::control) weight: u16,
    pub(in crate::control) draining: bool,
    pub(in crate::control) labels: Labels,
}

// === impl Plan ===

impl Plan {
    /// The ids of its launched replicas.
    pub(in crate::control) fn launched(&self) -> Vec<String> {
        let launched = self.pools.iter().flatten().filter(|entry| entry.origin == Origin::Launched);
        launched.map(|entry| entry.id.clone()).collect()
    }

    /// `live` are the sources beside the file and the overlay: the launcher.
    pub(in crate::control) fn of(config: &Config, overlay: &Overlay, live: &[&dyn Source]) -> Self {
        let mut plan = Self { lapsed: lapsed(overlay, config), ..Self::default() };
        let (file, attached) = (File { config, overlay }, Attached { overlay });
        let sources: Vec<&dyn Source> =
            [&file as &dyn Source, &attached].into_iter().chain(live.iter().copied()).collect();
        for pool in &config.pools {
            let merged = merge(&sources, &pool.name);
            plan.pools.push(merged.entries);
            for clash in merged.clashes {
                match clash.origin {
                    Origin::Attached => {
                        plan.lapsed.push(format!("backend {:?} was attached and is in the file now", clash.id));
                    }
                    Origin::File | Origin::Launched => plan.clashes.push(clash),
                }
            }
        }
        if let Some(launcher) = &config.launcher {
            plan.replicas = replicas(overlay, launcher, &plan.pools[0]);
        }
        plan
    }
}

fn lapsed(overlay: &Overlay, config: &Config) -> Vec<String> {
    let mut lapsed = Vec::new();
    let launcher = config.launcher.as_ref().map(launcher_fingerprint);
    let says = |pool: &str, id: &str, file: &str| {
        let pools = config.pools.iter().filter(|candidate| candidate.name == pool);
        pools.flat_map(|pool| &pool.backends).any(|backend| backend.id == id && backend_fingerprint(backend) == file)
    };
    for Removed { pool, id, file } in &overlay.removed {
        if !says(pool, id, file) {
            lapsed.push(format!("backend {id:?} of pool {pool:?} was removed and has changed in the file"));
        }
    }
    for Changed { pool, id, file, .. } in &overlay.changed {
        if !says(pool, id, file) && launcher.as_ref() != Some(file) {
            lapsed.push(format!("backend {id:?} of pool {pool:?} was changed and has changed in the file"));
        }
    }
    if let Some(wanted) = &overlay.replicas
        && launcher.as_ref() != Some(&wanted.launcher)
    {
        lapsed.push(format!("{} replicas were wanted and [launcher] has changed in the file", wanted.names.len()));
    }
    lapsed
}

/// The wanted names if they still apply, else as many fresh names as the file asks for. A name that another member has
/// is replaced.
fn replicas(overlay: &Overlay, launcher: &Launcher, others: &[Entry]) -> Vec<Replica> {
    let fingerprint = launcher_fingerprint(launcher);
    let wanted = overlay.replicas.as_ref().filter(|wanted| wanted.launcher == fingerprint);
    let count = wanted.map_or(launcher.replicas, |wanted| wanted.names.len().min(launcher.max_replicas));
    let mut names: Vec<String> = Vec::with_capacity(count);
    let others: HashSet<&str> =
        others.iter().filter(|entry| entry.origin != Origin::Launched).map(|entry| &*entry.id).collect();
    for name in wanted.iter().flat_map(|wanted| &wanted.names).take(count) {
        if !others.contains(&**name) && !names.contains(name) {
            names.push(name.clone());
        }
    }
    let missing = count - names.len();
    let fresh = fresh_names(&launcher.names, missing, |name| others.contains(name) || names.iter().any(|n| n == name));
    names.extend(fresh);
    let replica = |name: String| {
        let changed = overlay.changed(DEFAULT_POOL, &name, &fingerprint);
        let (weight, draining) = changed.map_or((1, false), |changed| (changed.weight, changed.draining));
        Replica { name, weight, draining, labels: launcher.labels.clone() }
    };
    names.into_iter().map(replica).collect()
}

/// The first `count` names of the launcher's template that are free.
pub(in crate::control) fn fresh_names(template: &str, count: usize, is_taken: impl Fn(&str) -> bool) -> Vec<String> {
    (1_u64..).map(|n| template.replace("{n}", &n.to_string())).filter(|name| !is_taken(name)).take(count).collect()
}

/// The members as a plugin in the trial sees them.
pub(in crate::control) fn vet_backends(entries: &[Entry]) -> Vec<VetBackend> {
    let backend = |entry: &Entry| VetBackend {
        id: entry.id.clone(),
        address: entry.address.clone(),
        weight: entry.weight,
        labels: entry.labels.json().to_string(),
    };
    entries.iter().map(backend).collect()
}
