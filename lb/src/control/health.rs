//! Health of backends: active checks, and the rules for their outcomes.
//!
//! [`Checkers`] sends checks and reports outcomes, `check` is one of them, and [`Standing`] holds the rules.

mod check;
mod checkers;
#[cfg(test)]
pub(super) mod samples;
mod standing;

pub(super) use checkers::{Checked, Checkers};
pub(super) use standing::{CheckFailure, Sign, Standing};
