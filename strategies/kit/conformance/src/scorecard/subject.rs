//! The plugin on the bench: what every check needs of it.
//!
//! Invariant: each check makes instances of its own, so no check depends on what another did before (but for statics, which is what
//! the row `instances` finds).

use std::sync::Arc;

use lb_strategy_host::{Headers, PickRequest, Plugin};
use serde_json::Value;

use super::expectation::Expectation;
use crate::{Decision, Picker, Requests, Strategy, World, strategy};

/// Threads that pick at the same time, at most; what the plugin is told.
pub(super) const WORKERS: u32 = 4;

pub(super) struct Subject {
    plugin: Arc<Plugin>,
    pub(super) options: Value,
    pub(super) seed: u64,
    /// What it declares; nothing at all where that cannot be read (the row `expectation` tells).
    pub(super) expectation: Expectation,
}

struct NoHeaders;

/// A pick at the least cost on our side: for rows that need very many.
pub(super) fn lean_pick(picker: &Picker, worker: u32, number: u64, random: u64) -> Decision {
    picker.pick(&PickRequest {
        worker: Some(worker),
        attempt: 0,
        tried: &[],
        key: Some((&random.to_le_bytes(), random)),
        random: random.rotate_left(32).wrapping_mul(0x9E37_79B9_7F4A_7C15),
        now_ns: number * 1000,
        dry: false,
        headers: &NoHeaders,
    })
}

// === impl Subject ===

impl Subject {
    pub(super) fn new(plugin: Arc<Plugin>, options: Value, seed: u64) -> Self {
        let expectation = Expectation::parse(plugin.expectation()).unwrap_or_default();
        Self { plugin, options, seed, expectation }
    }

    pub(super) fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// A fresh instance.
    pub(super) fn instance(&self) -> Result<Arc<Strategy>, String> {
        strategy(&self.plugin, &self.options)
    }

    /// A picker of a fresh instance.
    pub(super) fn picker(&self, world: &World) -> Result<Picker, String> {
        world.picker(&self.instance()?)
    }

    /// The requests of the check number `salt`.
    pub(super) fn requests(&self, salt: u64) -> Requests {
        Requests::seeded(self.seed.wrapping_add(salt << 32))
    }

    /// `n` picks in a row, answers that do not count left out: the row `answers` is about those.
    pub(super) fn picks(&self, world: &World, salt: u64, n: usize) -> Result<Vec<usize>, String> {
        let picker = self.picker(world)?;
        let mut requests = self.requests(salt);
        let picks: Vec<usize> = (0..n)
            .filter_map(|_| match requests.ask().pick(&picker) {
                Decision::Backend { index, .. } => Some(index),
                _ => None,
            })
            .collect();
        if picks.len() < n / 2 {
            return Err(format!("{} of {n} picks named a backend that may serve: too few to judge", picks.len()));
        }
        Ok(picks)
    }
}

// === impl NoHeaders ===

impl Headers for NoHeaders {
    fn get(&self, _: &[u8], _: usize) -> Option<&[u8]> {
        None
    }
}
