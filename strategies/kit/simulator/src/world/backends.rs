//! Equal backends: their service, their queue, their speed over time, and when they join or leave.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::law::Law;
use crate::time::Time;

/// `n` equal backends, `b1`, `b2`, … over all groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backends {
    pub n: u32,
    /// The work of an attempt beside the cost of its request. Each attempt draws anew.
    pub service: Law,
    /// Workers: requests in service at the same time; the others wait, first come, first served. 0: no limit.
    pub concurrency: u32,
    /// Requests that may wait; one more gets a 503.
    pub queue: u32,
    /// Work done per unit of time by one worker.
    pub speed: f64,
    pub weight: u16,
    /// Serves only if no other backend can.
    pub backup: bool,
    pub labels: BTreeMap<String, String>,
    /// Other work on the same machine, which slows the workers down.
    pub waves: Vec<Wave>,
    /// When these backends join the pool, from the end of the warm-up. Default: they are there from the start.
    pub joins: Option<Time>,
    /// When they leave the pool. Requests in flight continue.
    pub leaves: Option<Time>,
}

/// Other work in a square wave: in each period the speed is multiplied by `speed` for this share of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wave {
    pub period: Time,
    pub share: f64,
    pub speed: f64,
    /// Whether the phase of each backend is random. Else all waves begin together.
    #[serde(default)]
    pub random_phase: bool,
}

// === impl Backends ===

impl Default for Backends {
    fn default() -> Self {
        Self {
            n: 1,
            service: Law::None,
            concurrency: 1,
            queue: 1_000_000,
            speed: 1.0,
            weight: 1,
            backup: false,
            labels: BTreeMap::new(),
            waves: Vec::new(),
            joins: None,
            leaves: None,
        }
    }
}

// === impl Wave ===

impl Wave {
    /// The factor of the capacity over a whole period.
    pub fn mean_speed(&self) -> f64 {
        1.0 - self.share * (1.0 - self.speed)
    }
}
