//! The world of a plan: real programs, or virtual time. `[simulated]` has the keys that only virtual time has.
//!
//! Invariant: a live run refuses a plan with `[simulated]`, because it would leave these keys out.

use lb_strategy_simulator::Law;
use lb_strategy_simulator::world::{Backends, Wave};
use serde::{Deserialize, Serialize};

/// Where a plan runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum World {
    /// lb, mock servers and the load are processes of this machine.
    #[default]
    Live,
    /// Discrete events in virtual time, around the same libraries.
    Simulated,
}

/// The section `[simulated]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SimulatedPlan {
    /// Independent balancers, each with an instance of the strategy.
    pub balancers: u32,
    /// The delay of each message between a balancer and a backend, in one direction.
    pub network: Law,
    /// Other work on the machines of all backends.
    pub waves: Vec<Wave>,
    /// The backends, instead of those of `[backends]`.
    pub groups: Vec<Backends>,
}

// === impl SimulatedPlan ===

impl SimulatedPlan {
    /// The number of backends in groups; `None` without groups.
    pub(super) fn size(&self) -> Option<u32> {
        let sum = self.groups.iter().fold(0_u32, |sum, group| sum.saturating_add(group.n));
        (!self.groups.is_empty()).then_some(sum)
    }
}

impl Default for SimulatedPlan {
    fn default() -> Self {
        Self { balancers: 1, network: Law::None, waves: Vec::new(), groups: Vec::new() }
    }
}
