//! The world of a simulation: clients, balancers, backends and what happens to them. Plain data, the section `[world]`
//! of a plan.
//!
//! Invariant: [`World::check`] accepts only worlds that end. Times count from the end of the warm-up; a negative time
//! does not exist, so a fault during the warm-up begins with it.

mod arrivals;
mod backends;
mod check;
mod faults;
mod rules;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::law::Law;
use crate::time::Time;

pub use arrivals::{Arrivals, Keys};
pub use backends::{Backends, Wave};
pub use check::WorldError;
pub use faults::{Fault, FaultKind};
pub use rules::{
    HealthSection, Initial, LoadReportsSection, OutlierSection, PanicSection, ProbeSection, QueueSection, RetrySection,
    Rules, SlowStartSection,
};

/// See the file's head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct World {
    /// The measured time, after the warm-up.
    pub duration: Time,
    /// Requests that arrive in this time before the measurement load the backends and are not counted.
    pub warm_up: Time,
    /// The most requests, warm-up included; 0 is no limit.
    pub requests: u64,
    pub arrivals: Arrivals,
    /// The work that a request brings, at every backend and in every attempt the same.
    pub cost: Law,
    pub keys: Keys,
    /// Headers of every request, by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The client gives up after this time; 0: never.
    pub timeout: Time,
    /// Whether a request may be processed twice.
    pub idempotent: bool,
    /// Independent balancers, each with its own instance of the strategy. Each request goes to a random one.
    pub balancers: u32,
    /// The delay of each message between a balancer and a backend, in one direction.
    pub network: Law,
    pub backends: Vec<Backends>,
    pub faults: Vec<Fault>,
    /// The rules of lb around the strategy. Without them all are off.
    pub lb: Rules,
    /// The time between two samples of all loads; 0: none.
    pub sample: Time,
    /// A simulation with more unfinished requests ends: it is overloaded.
    pub unfinished_max: u32,
}

// === impl World ===

impl Default for World {
    fn default() -> Self {
        Self {
            duration: Time::seconds(10),
            warm_up: Time::ZERO,
            requests: 0,
            arrivals: Arrivals::default(),
            cost: Law::None,
            keys: Keys::default(),
            headers: BTreeMap::new(),
            timeout: Time::ZERO,
            idempotent: true,
            balancers: 1,
            network: Law::None,
            backends: Vec::new(),
            faults: Vec::new(),
            lb: Rules::default(),
            sample: Time::ZERO,
            unfinished_max: 1_000_000,
        }
    }
}

impl World {
    /// `n` equal backends with one worker each, whose service times follow `service`.
    pub fn of(n: u32, service: Law) -> Self {
        Self { backends: vec![Backends { n, service, ..Backends::default() }], ..Self::default() }
    }

    /// The number of backends at the start.
    pub fn size(&self) -> usize {
        self.backends.iter().map(|group| group.n as usize).sum()
    }

    /// The offered work as a part of the capacity of all backends, at the highest rate of arrivals. `None` in a closed
    /// loop, or if a backend has no limit of concurrency.
    pub fn load(&self) -> Option<f64> {
        let rate = self.arrivals.highest_rps()?;
        let mut capacity = 0.0;
        for group in &self.backends {
            let work_s = (group.service.mean_ns() + self.cost.mean_ns()) / 1e9;
            if group.concurrency == 0 || work_s == 0.0 {
                return None;
            }
            let slowed: f64 = group.waves.iter().map(Wave::mean_speed).product();
            capacity += f64::from(group.n) * f64::from(group.concurrency) * group.speed * slowed / work_s;
        }
        Some(rate / capacity)
    }
}
