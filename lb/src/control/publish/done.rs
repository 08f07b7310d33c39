//! The actions that wait for a change until every worker has it.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::control::api::{BackendStatus, ControlError, ReloadError, ReloadReport, Replicas};
use crate::control::pools::{Member, PoolKey};
use crate::pool::Backend;

/// Where the result of a command goes.
pub(in crate::control) type Answer<T> = oneshot::Sender<Result<T, ControlError>>;

/// What to do when every worker has a change.
pub(in crate::control) enum Done {
    /// Return the list of replicas.
    Replicas(Answer<Replicas>),
    /// A command failed and its first effects were undone: return the error.
    Undone { answer: Answer<Replicas>, error: ControlError },
    /// Return the status of a backend that was changed.
    Change { pool: PoolKey, id: Arc<str>, answer: Answer<BackendStatus> },
    /// All launched replicas have joined.
    Settled(Answer<()>),
    /// A reload is in force.
    Reload { answers: Vec<oneshot::Sender<Result<ReloadReport, ReloadError>>>, report: Box<ReloadReport> },
    /// No worker has these backends in its view any more: close them.
    Replaced(Vec<Arc<Backend>>),
    /// Every worker uses this instance: its probation starts.
    InCharge { pool: PoolKey, instance: u64 },
    /// No worker has this pool in its view any more.
    PoolLeft { pool: PoolKey },
    /// No worker has this member in its view any more. `supervisor` runs its process.
    Removed { pool: PoolKey, member: Box<Member>, supervisor: Option<u64> },
}
