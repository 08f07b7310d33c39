//! Health of backends: active checks, the rules for their outcomes, and polls of load reports.
//!
//! [`Checkers`] sends checks and reports outcomes, `check` is one of them, and [`Standing`] holds the rules. [`Polls`]
//! asks backends how busy they are.

mod check;
mod checkers;
mod polls;
#[cfg(test)]
pub(super) mod samples;
mod standing;

pub(super) use checkers::{Checked, Checkers};
pub(super) use polls::{Polled, Polls};
pub(super) use standing::{CheckFailure, Sign, Standing};
