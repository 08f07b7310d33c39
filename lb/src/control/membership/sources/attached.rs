//! Backends that were attached at run time (`/add` with addresses) as a source. They are all in the pool `default`.

use super::Source;
use crate::config::DEFAULT_POOL;
use crate::control::membership::Overlay;
use crate::control::pools::{Entry, Origin};

pub(in crate::control::membership) struct Attached<'a> {
    pub(in crate::control::membership) overlay: &'a Overlay,
}

// === impl Attached ===

impl Source for Attached<'_> {
    fn set(&self, pool: &str) -> Vec<Entry> {
        if pool != DEFAULT_POOL {
            return Vec::new();
        }
        let attached = self.overlay.added.iter().enumerate().map(|(order, added)| Entry {
            id: added.id.clone(),
            address: added.address.clone(),
            socket: added.socket,
            weight: added.weight,
            origin: Origin::Attached,
            order,
            draining: added.draining,
            backup: added.backup,
            labels: added.labels.clone(),
        });
        attached.collect()
    }
}
