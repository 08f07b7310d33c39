//! The plugin that is tested, with the functions that every check needs.
//!
//! Invariant: each check makes its own instances, so no check depends on an earlier one. Only statics of the plugin
//! could connect two checks; the row `instances` finds them.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use lb_strategy_host::{Lookup, Part, PickRequest, Plugin, Remains};
use serde_json::Value;

use super::expectation::Expectation;
use crate::{ClosedLoop, Decision, Picker, Requests, Strategy, World, strategy};

/// The largest number of threads that pick at the same time. The plugin gets it as the number of workers.
pub(super) const WORKERS: u32 = 4;

/// The checks with very many picks end after this time, and judge the picks until then.
const LONG_CHECK: Duration = Duration::from_secs(5);

pub(super) struct Subject {
    plugin: Arc<Plugin>,
    pub(super) options: Value,
    pub(super) seed: u64,
    /// The declared expectation. If it cannot be parsed, nothing is declared, and the row `expectation` fails.
    pub(super) expectation: Expectation,
    /// The threads and files of this process before code of the plugin ran.
    pub(super) before: Remains,
    /// The time of a pick, from the check that measures it.
    pub(super) pick_time: OnceLock<Duration>,
}

/// The end of a check with very many picks.
#[derive(Clone, Copy)]
pub(super) struct Deadline(Instant);

/// A request of which only the body can be looked up: the bytes of its key.
struct Body([u8; 8]);

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
        body_length: Some(8),
        lookup: &Body(random.to_le_bytes()),
    })
}

// === impl Body ===

impl Lookup for Body {
    fn header(&self, _: &[u8], _: usize) -> Option<&[u8]> {
        None
    }

    fn part(&self, part: Part) -> Option<&[u8]> {
        (part == Part::Body).then_some(&self.0)
    }
}

// === impl Subject ===

impl Subject {
    pub(super) fn new(plugin: Arc<Plugin>, options: Value, seed: u64, before: Remains) -> Self {
        let expectation = Expectation::parse(plugin.expectation()).unwrap_or_default();
        Self { plugin, options, seed, expectation, before, pick_time: OnceLock::new() }
    }

    pub(super) fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// A check of `picks` picks must do only each `stride`th part of its work, so that it ends in time. Odd, so that
    /// the parts differ.
    pub(super) fn stride(&self, picks: u64) -> usize {
        let time = self.pick_time.get().copied().unwrap_or_default().as_secs_f64() * picks as f64;
        (time / LONG_CHECK.as_secs_f64()) as usize | 1
    }

    /// A new instance.
    pub(super) fn instance(&self) -> Result<Arc<Strategy>, String> {
        strategy(&self.plugin, &self.options)
    }

    /// A picker of a new instance.
    pub(super) fn picker(&self, world: &World) -> Result<Picker, String> {
        world.picker(&self.instance()?)
    }

    /// A pool in virtual time with a new instance.
    pub(super) fn pool(&self, world: World, salt: u64) -> Result<ClosedLoop, String> {
        ClosedLoop::new(&self.instance()?, world, self.seed.wrapping_add(salt << 32))
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

// === impl Deadline ===

impl Deadline {
    pub(super) fn of_a_long_check() -> Self {
        Self(Instant::now() + LONG_CHECK)
    }

    pub(super) fn has_passed(self) -> bool {
        Instant::now() >= self.0
    }
}
