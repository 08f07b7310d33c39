//! The steps before a plugin may decide, and while it is new: finding it, a trial in a child process, probation.

mod error;
pub(super) mod plugins;
mod probation;
pub mod vet;

pub use error::PluginError;

pub(super) use probation::{Opinion, PICKS_MIN, Tenure};
