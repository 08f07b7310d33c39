//! From changed members and strategies to a generation that every worker has taken up.
//!
//! [`Publisher`] holds the state in force and drives the rest. [`Builder`] is the thread on which plugin hooks run.
//! `builds` decides when pickers are made. `waiting` replies to callers when every worker has their change. Arrow:
//! publish names the pools and the plain types of `api`, never membership or reload, which use it.

mod assemble;
mod builder;
mod builds;
mod done;
mod listeners;
mod publisher;
mod settings;
mod waiting;

pub use builder::Builder;

pub(super) use assemble::{Handed, PoolJob};
pub(super) use builds::{Built, Ended};
pub(super) use done::{Answer, Done};
pub(super) use publisher::{InForce, Progress, Publisher, Refused, reach};
pub(super) use settings::{access_log, settings};

use assemble::assemble;
