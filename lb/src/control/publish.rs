//! From changed members and strategies to a generation that every worker has taken up.
//!
//! [`Publisher`] holds the state in force and drives the rest. [`Builder`] is the thread on which plugin hooks run.
//! `builds` decides when pickers are made. `duties` are the hooks that it calls at regular times. `waiting` holds the
//! actions that follow when every worker has a change.
//! Arrow: publish names the pools and the plain types of `api`, never membership or reload, which use it.

mod assemble;
mod builder;
mod builds;
mod complaints;
mod duties;
mod follow_up;
mod listeners;
mod publisher;
mod rounds;
mod settings;
mod shadows;
mod waiting;

pub use builder::{Builder, BuilderWatch};

pub(super) use assemble::{BuiltPool, PoolJob};
pub(super) use builds::{Built, Ended};
pub(super) use follow_up::{Answer, FollowUp};
pub(super) use publisher::{InForce, Progress, Publisher, Refused, awaited, reach};
pub(super) use settings::{access_log, settings};

use assemble::assemble;
