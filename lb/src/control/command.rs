//! What may be asked of control, and the door through which it is asked.
//!
//! Invariants: every command is answered once; an error changed nothing.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::explain::{ExplainRequest, Explanation};
use super::plugins::OfferedStrategy;
use super::reload::{ReloadError, ReloadReport, ReloadRequest, ReloadStatus, Trigger};
use super::ring::Ring;
use super::watch::WatchStatus;

/// The way to the control actor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
}

/// `GET /rep`: the ids of the pool `default`, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas(pub Vec<String>);

/// `POST /add`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Add {
    /// Launch `n` more, named by preference.
    Launch { n: usize, hostnames: Vec<String> },
    /// Attach running servers.
    Attach(Vec<AttachedBackend>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachedBackend {
    pub id: String,
    pub address: String,
    #[serde(default = "weight_one")]
    pub weight: u16,
}

/// `DELETE /rm`: `n` of the pool `default`, named ones first, the rest at random.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remove {
    pub n: usize,
    pub hostnames: Vec<String>,
}

/// What may be changed of one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// No new requests.
    Drain,
    /// Takes requests again.
    Ready,
    Weight(u16),
}

/// Why control refused. The text is one sentence for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The request is wrong: 400.
    #[error("{0}")]
    Refused(String),
    /// No such backend or pool: 404.
    #[error("{0}")]
    NotFound(String),
    /// It was right, but did not work out (a replica did not start in time, a plugin refused the list): 500.
    #[error("{0}")]
    Failed(String),
    /// lb is stopping: 503.
    #[error("the load balancer is stopping")]
    Stopping,
}

#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub version: &'static str,
    pub generation: u64,
    pub uptime_s: f64,
    /// Where clients connect, ports resolved.
    pub listeners: Vec<SocketAddr>,
    /// "file", or how many runtime changes are in force.
    pub overlay: OverlayStatus,
    pub pools: Vec<PoolStatus>,
    pub workers: usize,
    pub images: usize,
    pub builder_stuck: bool,
    /// Workers that give no sign of life; their requests hang.
    pub stuck_workers: usize,
    /// Old generations that somebody still holds.
    pub retired_generations: usize,
    pub reload: ReloadStatus,
    /// `None` when no files are watched.
    pub watch: Option<WatchStatus>,
    /// `None` when there is none.
    pub access_log: Option<AccessLogStatus>,
}

/// Since lb began, over all files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccessLogStatus {
    /// `-` is stdout.
    pub path: String,
    /// Lines.
    pub written: u64,
    /// Lines that nobody will ever read.
    pub dropped: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OverlayStatus {
    pub added: usize,
    pub removed: usize,
    pub changed: usize,
    /// The wanted number of launched replicas where it differs from the file's.
    pub replicas: Option<usize>,
    /// Why the last change could not be written down: it would not outlive a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PoolStatus {
    pub name: String,
    pub strategy: String,
    pub strategy_version: String,
    pub strategy_sha256: Option<String>,
    /// Tells the instance from every other one of this process.
    pub strategy_instance: u64,
    /// Of the newest list that the strategy was given: another one after every change of ids, addresses, weights or their order.
    pub members_epoch: u64,
    /// "on_probation", "proven" or "failed" (and there was none to put back).
    pub strategy_standing: &'static str,
    /// How long it is still watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probation_left_ms: Option<u64>,
    /// What a rollback would put in charge: name and version.
    pub rollback_to: Option<String>,
    pub backends: Vec<BackendStatus>,
}

#[derive(Clone, Debug, Serialize)]
pub struct BackendStatus {
    pub pool: String,
    pub id: String,
    pub address: String,
    pub weight: u16,
    /// "file", "attached" or "launched".
    pub origin: &'static str,
    pub eligible: bool,
    pub healthy: bool,
    pub draining: bool,
    pub in_flight: u32,
    pub consecutive_errors: u32,
    /// The last failed check in words, while it is down.
    pub reason: Option<String>,
    /// Its process, while it is one that lb launched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
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
    /// With `waits` it is done after the one that runs, else it is refused as busy then.
    Reload {
        request: ReloadRequest,
        by: Trigger,
        waits: bool,
        answer: oneshot::Sender<Result<ReloadReport, ReloadError>>,
    },
    /// Puts the last proven strategy back: of a pool, or of all that have one.
    RollBack {
        pool: Option<String>,
        answer: oneshot::Sender<Result<ReloadReport, ReloadError>>,
    },
    /// Answered when all replicas that are being launched have joined, or one is known to fail.
    Settled(oneshot::Sender<Result<(), ControlError>>),
    /// Ends launched processes and the actor.
    Stop(oneshot::Sender<()>),
}

fn weight_one() -> u16 {
    1
}

// === impl Handle ===

impl Handle {
    pub async fn replicas(&self) -> Result<Replicas, ControlError> {
        self.ask(Command::Replicas).await
    }

    /// Answers when the new ones may get requests (launched ones have answered a heartbeat).
    pub async fn add(&self, add: Add) -> Result<Replicas, ControlError> {
        self.ask(|answer| Command::Add(add, answer)).await?
    }

    /// Answers when no new request goes to the removed ones; they drain on.
    pub async fn remove(&self, remove: Remove) -> Result<Replicas, ControlError> {
        self.ask(|answer| Command::Remove(remove, answer)).await?
    }

    pub async fn status(&self) -> Result<Status, ControlError> {
        self.ask(Command::Status).await
    }

    pub async fn backends(&self) -> Result<Vec<BackendStatus>, ControlError> {
        self.ask(Command::Backends).await
    }

    /// Where a request would go now, and why. It waits for the builder, where plugins explain themselves.
    pub async fn explain(&self, request: ExplainRequest) -> Result<Explanation, ControlError> {
        self.ask(|answer| Command::Explain(Box::new(request), answer)).await?
    }

    /// What can be put in charge by its name.
    pub async fn strategies(&self) -> Result<Vec<OfferedStrategy>, ControlError> {
        self.ask(Command::Strategies).await
    }

    /// The ring that a pool's strategy tells of itself, if it tells of one. Answers when the builder has time for it.
    pub async fn ring(&self, pool: &str) -> Result<Ring, ControlError> {
        let pool = pool.to_owned();
        self.ask(|answer| Command::Ring { pool, answer }).await?
    }

    pub async fn change(&self, pool: &str, id: &str, change: Change) -> Result<BackendStatus, ControlError> {
        let (pool, id) = (pool.to_owned(), id.to_owned());
        self.ask(|answer| Command::Change { pool, id, change, answer }).await?
    }

    /// Reads the configuration again and puts what changed in force; answers when every worker has it. Refused while one runs.
    pub async fn reload(&self, request: ReloadRequest) -> Result<ReloadReport, ReloadError> {
        let by = Trigger::Admin;
        self.ask(|answer| Command::Reload { request, by, waits: false, answer })
            .await
            .map_err(|_| ReloadError::Stopping)?
    }

    /// A plain reload, after the one that runs; all that ask meanwhile are answered by one.
    pub async fn reload_when_free(&self, by: Trigger) -> Result<ReloadReport, ReloadError> {
        let request = ReloadRequest::default();
        self.ask(|answer| Command::Reload { request, by, waits: true, answer })
            .await
            .map_err(|_| ReloadError::Stopping)?
    }

    /// Puts the last proven strategy of a pool back in charge, or of all pools that have one; answers when every worker has it.
    pub async fn roll_back(&self, pool: Option<String>) -> Result<ReloadReport, ReloadError> {
        self.ask(|answer| Command::RollBack { pool, answer }).await.map_err(|_| ReloadError::Stopping)?
    }

    /// Waits until every replica that is being launched may get requests. Fails as soon as one is known not to come up (its command
    /// is missing, it keeps dying, it does not answer in time); it is tried again all the same.
    pub async fn settled(&self) -> Result<(), ControlError> {
        self.ask(Command::Settled).await?
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
