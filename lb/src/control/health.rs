//! Health of backends: active checks, the rules for their outcomes, polls of load reports, and probes.
//!
//! [`Checkers`] sends checks and reports outcomes, `check` is one of them, and [`Standing`] holds the rules. [`Polls`]
//! asks backends how busy they are. [`probe`] is one periodic probe for a strategy; `publish` decides when. `client`
//! sends the requests of all three.

mod check;
mod checkers;
mod client;
mod polls;
mod probe;
#[cfg(test)]
pub(super) mod samples;
mod standing;

pub(super) use checkers::{Checked, Checkers};
pub(super) use polls::{Polled, Polls};
pub(super) use probe::{ProbeEnd, probe};
pub(super) use standing::{CheckFailure, Sign, Standing};
