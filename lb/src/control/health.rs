//! Health of backends: active checks, the rules for their outcomes, and polls of load reports.
//!
//! [`Checkers`] sends checks and reports outcomes, and `check` is one of them. [`Standing`] holds the rules; simulations
//! use it too. [`Polls`] asks backends how busy they are.

mod check;
mod checkers;
mod polls;
#[cfg(test)]
pub(super) mod samples;

pub(super) use checkers::{Checked, Checkers};
pub(super) use lb_balance::{CheckFailure, Sign, Standing};
pub(super) use polls::{Polled, Polls};
