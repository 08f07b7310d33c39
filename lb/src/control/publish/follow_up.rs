//! The actions that follow a change.
//!
//! They are due when every worker has the change. If a worker is stuck, they are due [`TAKE_UP_MAX`] after the publish,
//! because it must not hold up callers.
//!
//! Invariant: a stuck worker that goes on with an older generation sends nothing to removed backends. Their live flags
//! say that they are not eligible.
//!
//! [`TAKE_UP_MAX`]: super::waiting::TAKE_UP_MAX

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::control::api::{BackendStatus, ControlError, ReloadError, ReloadReport, Replicas};
use crate::control::pools::{Member, PoolKey};
use crate::pool::Backend;

/// Where the result of a command goes.
pub(in crate::control) type Answer<T> = oneshot::Sender<Result<T, ControlError>>;

/// What to do when every worker has a change, or when the wait for the slowest worker is over.
pub(in crate::control) enum FollowUp {
    /// Return the list of replicas.
    Replicas(Answer<Replicas>),
    /// A command failed and its first effects were undone: return the error.
    Undone { answer: Answer<Replicas>, error: ControlError },
    /// Return the status of a backend that was changed.
    Change { pool: PoolKey, id: Arc<str>, answer: Answer<BackendStatus> },
    /// All launched replicas have joined.
    AllJoined(Answer<()>),
    /// A reload is in force.
    Reload { answers: Vec<oneshot::Sender<Result<ReloadReport, ReloadError>>>, report: Box<ReloadReport> },
    /// A reload replaced these backends: close them.
    Replaced(Vec<Arc<Backend>>),
    /// This instance is in charge: its probation starts.
    InCharge { pool: PoolKey, instance: u64 },
    /// A reload removed this pool.
    PoolLeft { pool: PoolKey },
    /// This member was removed. `supervisor` runs its process. Its requests end at the deadline.
    Removed { pool: PoolKey, member: Box<Member>, supervisor: Option<u64>, deadline: Option<Instant> },
}
