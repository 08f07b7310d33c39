//! The plugin that is tested, with the functions that every check needs.
//!
//! Invariant: each check makes its own instances, so no check depends on an earlier one. Only statics of the plugin
//! could connect two checks; the row `instances` finds them.

use std::sync::Arc;

use lb_strategy_host::{PickRequest, Plugin};
use serde_json::Value;

use super::expectation::Expectation;
use crate::{Decision, Picker, Requests, Strategy, World, strategy};

/// The largest number of threads that pick at the same time. The plugin gets it as the number of workers.
pub(super) const WORKERS: u32 = 4;

pub(super) struct Subject {
    plugin: Arc<Plugin>,
    pub(super) options: Value,
    pub(super) seed: u64,
    /// The declared expectation. If it cannot be parsed, nothing is declared, and the row `expectation` fails.
    pub(super) expectation: Expectation,
}

/// A pick with the least overhead in the test, for checks with very many picks.
pub(super) fn lean_pick(picker: &Picker, worker: u32, number: u64, random: u64) -> Decision {
    picker.pick(&PickRequest {
        worker: Some(worker),
        attempt: 0,
        tried: &[],
        key: Some((&random.to_le_bytes(), random)),
        random: random.rotate_left(32).wrapping_mul(0x9E37_79B9_7F4A_7C15),
        now_ns: number * 1000,
        dry: false,
        lookup: &(),
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

    /// A new instance.
    pub(super) fn instance(&self) -> Result<Arc<Strategy>, String> {
        strategy(&self.plugin, &self.options)
    }

    /// A picker of a new instance.
    pub(super) fn picker(&self, world: &World) -> Result<Picker, String> {
        world.picker(&self.instance()?)
    }

    /// The requests of a check. Each check has another `salt`.
    pub(super) fn requests(&self, salt: u64) -> Requests {
        Requests::seeded(self.seed.wrapping_add(salt << 32))
    }

    /// The backends of `n` picks. Unusable decisions are left out, because the row `answers` reports them.
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
