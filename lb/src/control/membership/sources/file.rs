//! The configuration file as a source.
//!
//! It omits backends that were removed at run time, and applies weights and drains that were changed at run time.

use super::Source;
use crate::config::{BackendConfig, Config};
use crate::control::membership::Overlay;
use crate::control::membership::overlay::{Removed, backend_fingerprint};
use crate::control::pools::{Entry, Origin};

pub(in crate::control::membership) struct File<'a> {
    pub(in crate::control::membership) config: &'a Config,
    pub(in crate::control::membership) overlay: &'a Overlay,
}

// === impl File ===

impl Source for File<'_> {
    fn set(&self, pool: &str) -> Vec<Entry> {
        let configured = self.config.pools.iter().find(|one| one.name == pool);
        let backends = configured.into_iter().flat_map(|pool| pool.backends.iter().enumerate());
        let there = backends.filter(|(_, backend)| !self.is_removed(pool, backend));
        there.map(|(order, backend)| self.entry(pool, backend, order)).collect()
    }
}

impl File<'_> {
    fn is_removed(&self, pool: &str, backend: &BackendConfig) -> bool {
        let file = backend_fingerprint(backend);
        let is_this = |one: &Removed| one.pool == pool && one.id == backend.id && one.file == file;
        self.overlay.removed.iter().any(is_this)
    }

    fn entry(&self, pool: &str, backend: &BackendConfig, order: usize) -> Entry {
        let changed = self.overlay.changed(pool, &backend.id, &backend_fingerprint(backend));
        Entry {
            id: backend.id.clone(),
            address: backend.address.clone(),
            socket: backend.socket,
            weight: changed.map_or(backend.weight, |changed| changed.weight),
            origin: Origin::File,
            order,
            draining: changed.is_some_and(|changed| changed.draining),
            backup: backend.backup,
            labels: backend.labels.clone(),
        }
    }
}
