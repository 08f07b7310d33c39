//! The steps before a plugin may decide, and while it is new: finding it, a trial in a child process, probation. The
//! ledger knows which plugins crashed.

mod built_in;
mod crash;
mod error;
mod ledger;
pub(super) mod plugins;
mod probation;
mod role;
pub mod vet;

pub use error::PluginError;

pub(super) use built_in::built_in;
pub(super) use crash::Crash;
pub(super) use ledger::{Found, Ledger, Records};
pub(super) use probation::{Opinion, PICKS_MIN, Tenure, fault};
pub(super) use role::Role;
