//! Health of backends: active checks, the rules for their outcomes, polls of load reports, and probes.
//!
//! [`Checkers`] sends checks and reports outcomes, and `check` is one of them. [`Standing`] holds the rules, which
//! simulations use too. [`Polls`] asks backends how busy they are. [`probe`] is one periodic probe for a strategy;
//! `publish` decides when. `client` sends the requests of all three.

mod check;
mod checkers;
mod client;
mod polls;
mod probe;
#[cfg(test)]
pub(super) mod samples;

use lb_balance::CheckRules;

use crate::config::{Health, InitialState};

pub(super) use checkers::{Checked, Checkers};
pub(super) use lb_balance::{CheckFailure, Sign, Standing};
pub(super) use polls::{Polled, Polls};
pub(super) use probe::{ProbeEnd, probe};

// === impl Health: checks ===

impl Health {
    pub(in crate::control) fn check_rules(&self) -> CheckRules {
        CheckRules { down_after: self.down_after, up_after: self.up_after }
    }
}

// === impl InitialState: checks ===

impl InitialState {
    /// The standing of a backend that lb did not start, before its first check.
    pub(in crate::control) fn standing(self) -> Standing {
        match self {
            Self::Up => Standing::unknown(),
            Self::Down => Standing::starting(),
            Self::Wait => Standing::waiting(),
        }
    }
}
