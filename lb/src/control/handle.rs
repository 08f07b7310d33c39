//! The commands of control, and the handle that sends them.
//!
//! Invariants: every command gets one reply; after an error reply nothing has changed.

use tokio::sync::{mpsc, oneshot};

use crate::control::api::{
    Add, BackendStatus, Change, ControlError, OfferedStrategy, ReloadError, ReloadReport, ReloadRequest, Remove,
    Replicas, Status, Trigger,
};
use crate::control::inspect::{ExplainRequest, Explanation, Ring};

/// Sends commands to the control actor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
}

/// What the actor receives.
#[derive(Debug)]
pub(super) enum Command {
    Replicas(oneshot::Sender<Replicas>),
    Add(Add, oneshot::Sender<Result<Replicas, ControlError>>),
    Remove(Remove, oneshot::Sender<Result<Replicas, ControlError>>),
    Status(oneshot::Sender<Status>),
    Backends(oneshot::Sender<Vec<BackendStatus>>),
    Explain(Box<ExplainRequest>, oneshot::Sender<Result<Explanation, ControlError>>),
    Strategies(oneshot::Sender<Vec<OfferedStrategy>>),
    Ring {
        pool: String,
        answer: oneshot::Sender<Result<Ring, ControlError>>,
    },
    Change {
        pool: String,
        id: String,
        change: Change,
        answer: oneshot::Sender<Result<BackendStatus, ControlError>>,
    },
    /// With `waits`, it starts after the running reload; otherwise it is refused as busy.
    Reload {
        request: ReloadRequest,
        by: Trigger,
        waits: bool,
        answer: oneshot::Sender<Result<ReloadReport, ReloadError>>,
    },
    /// Puts the last proven strategy back in charge: of one pool, or of all pools that have one. With `dry_run` it only
    /// says which.
    RollBack {
        pool: Option<String>,
        dry_run: bool,
        answer: oneshot::Sender<Result<ReloadReport, ReloadError>>,
    },
    /// Returns when all replicas that are being launched have joined, or when one is known to fail.
    AllJoined(oneshot::Sender<Result<(), ControlError>>),
    /// Ends launched processes and the actor.
    Stop(oneshot::Sender<()>),
}

// === impl Handle ===

impl Handle {
    pub async fn replicas(&self) -> Result<Replicas, ControlError> {
        self.ask(Command::Replicas).await
    }

    /// Returns when the new backends may get requests. Launched ones have then passed a health check.
    pub async fn add(&self, add: Add) -> Result<Replicas, ControlError> {
        self.ask(|answer| Command::Add(add, answer)).await?
    }

    /// Returns when no worker sends new requests to the removed backends. They go on draining.
    pub async fn remove(&self, remove: Remove) -> Result<Replicas, ControlError> {
        self.ask(|answer| Command::Remove(remove, answer)).await?
    }

    pub async fn status(&self) -> Result<Status, ControlError> {
        self.ask(Command::Status).await
    }

    pub async fn backends(&self) -> Result<Vec<BackendStatus>, ControlError> {
        self.ask(Command::Backends).await
    }

    /// Where a request would go now, and why. Waits for the builder, which calls the plugin's `explain` hook.
    pub async fn explain(&self, request: ExplainRequest) -> Result<Explanation, ControlError> {
        self.ask(|answer| Command::Explain(Box::new(request), answer)).await?
    }

    /// The strategies that `/reload` can put in charge by name.
    pub async fn strategies(&self) -> Result<Vec<OfferedStrategy>, ControlError> {
        self.ask(Command::Strategies).await
    }

    /// The ring of a pool's strategy, if the strategy exports one. Waits for the builder.
    pub async fn ring(&self, pool: &str) -> Result<Ring, ControlError> {
        let pool = pool.to_owned();
        self.ask(|answer| Command::Ring { pool, answer }).await?
    }

    pub async fn change(&self, pool: &str, id: &str, change: Change) -> Result<BackendStatus, ControlError> {
        let (pool, id) = (pool.to_owned(), id.to_owned());
        self.ask(|answer| Command::Change { pool, id, change, answer }).await?
    }

    /// Reads the configuration again and applies the changes. Returns when every worker has them. A stuck worker delays
    /// that by at most 2 s, and the report warns of it. Refused while another reload runs.
    pub async fn reload(&self, request: ReloadRequest) -> Result<ReloadReport, ReloadError> {
        let by = Trigger::Admin;
        self.ask(|answer| Command::Reload { request, by, waits: false, answer })
            .await
            .map_err(|_| ReloadError::Stopping)?
    }

    /// A plain reload after the running one. Requests that arrive meanwhile share one reload.
    pub async fn reload_when_free(&self, by: Trigger) -> Result<ReloadReport, ReloadError> {
        let request = ReloadRequest::default();
        self.ask(|answer| Command::Reload { request, by, waits: true, answer })
            .await
            .map_err(|_| ReloadError::Stopping)?
    }

    /// Puts the last proven strategy of a pool back in charge, or of all pools that have one. Returns when every worker
    /// has it. With `dry_run` it changes nothing and reports which strategies these are.
    pub async fn roll_back(&self, pool: Option<String>, dry_run: bool) -> Result<ReloadReport, ReloadError> {
        self.ask(|answer| Command::RollBack { pool, dry_run, answer }).await.map_err(|_| ReloadError::Stopping)?
    }

    /// Waits until every replica that is being launched may get requests. Fails as soon as one is known to fail: its
    /// command is missing, it keeps dying, or it passes no check in time. The launcher still tries it again.
    pub async fn all_joined(&self) -> Result<(), ControlError> {
        self.ask(Command::AllJoined).await?
    }

    /// Ends launched processes, then the actor.
    pub async fn stop(&self) {
        let _ = self.ask(Command::Stop).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, ControlError> {
        let (sender, receiver) = oneshot::channel();
        self.commands.send(command(sender)).await.map_err(|_| ControlError::Stopping)?;
        receiver.await.map_err(|_| ControlError::Stopping)
    }
}
