//! Health of backends: active checks, and the rules for their outcomes.
//!
//! [`Checkers`] sends checks and reports outcomes; [`Standing`] holds the rules.

mod checkers;
mod standing;

pub(super) use checkers::{Checked, Checkers};
pub(super) use standing::{CheckFailure, Sign, Standing};
