//! The state of the one reload that may run, and the queue of the next ones.
//!
//! Invariants: a transaction is in exactly one place, the state or the queue. Only [`State::Assembling`] holds back
//! commands that change members.

use std::sync::Arc;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::Prepared;
use crate::control::api::{Overriding, ReloadError, ReloadReport, ReloadRequest, Trigger};
use crate::control::pools::{Member, PoolKey, PoolState};
use crate::control::watch::Attempt;

/// Where the result of a reload goes.
pub(super) type Answer = oneshot::Sender<Result<ReloadReport, ReloadError>>;

/// One reload, from trigger to response.
pub(super) struct Transaction {
    pub(super) request: ReloadRequest,
    pub(super) by: Trigger,
    pub(super) began: Instant,
    pub(super) answers: Vec<Answer>,
    /// The overrides in force after it.
    pub(super) overrides: Vec<Overriding>,
    /// The reason, if it is a rollback, which reads no file.
    pub(super) taking_back: Option<String>,
    /// For an override: the content of the files that it puts in force.
    pub(super) files: Option<Attempt>,
}

/// The state of the reload that runs.
pub(super) enum State {
    Idle,
    /// Files are read, plugins tried and loaded. No other task waits for that. `given_up` ends the trial of plugins.
    Preparing {
        transaction: Transaction,
        given_up: Arc<Notify>,
    },
    /// Everything is prepared. The builder may have to end another build first.
    Ready {
        transaction: Transaction,
        prepared: Box<Prepared>,
    },
    /// The builder makes the pickers.
    Assembling {
        transaction: Transaction,
        assembling: Box<Assembling>,
    },
}

/// The reload for which pickers are being made.
pub(super) struct Assembling {
    pub(super) prepared: Prepared,
    /// By pool of the target: the members of pools that are built anew.
    pub(super) members: Vec<Option<Vec<Member>>>,
    /// Pools whose changes are in this build. If it fails they must be built again.
    pub(super) dirty: Vec<PoolKey>,
    /// Pools that the reload adds.
    pub(super) new: Vec<PoolState>,
}

/// The reloads that begin after the running one. A rollback goes first.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) rollback: Option<Rollback>,
    /// One reload for all callers that wait for a plain reload.
    pub(super) plain: Option<Transaction>,
}

pub(super) enum Rollback {
    /// Of one pool, or of all.
    ByHand(Option<String>, Box<Transaction>),
    /// A strategy failed its probation.
    Failed,
}

// === impl Transaction ===

impl Transaction {
    pub(super) fn new(request: ReloadRequest, by: Trigger, answer: Answer) -> Self {
        Self {
            request,
            by,
            began: Instant::now(),
            answers: vec![answer],
            overrides: Vec::new(),
            taking_back: None,
            files: None,
        }
    }

    /// A rollback and its reason.
    pub(super) fn taking_back(by: Trigger, reason: String, answers: Vec<Answer>) -> Self {
        Self {
            request: ReloadRequest::default(),
            by,
            began: Instant::now(),
            answers,
            overrides: Vec::new(),
            taking_back: Some(reason),
            files: None,
        }
    }

    pub(super) fn answer(self, result: &Result<ReloadReport, ReloadError>) {
        self.answers.into_iter().for_each(|answer| drop(answer.send(result.clone())));
    }
}

// === impl State ===

impl State {
    /// The reload that runs.
    pub(super) fn transaction(&self) -> Option<&Transaction> {
        match self {
            Self::Idle => None,
            Self::Preparing { transaction, .. }
            | Self::Ready { transaction, .. }
            | Self::Assembling { transaction, .. } => Some(transaction),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }

    /// Ends the trial of plugins, if one runs.
    pub(super) fn give_up_trial(&self) {
        if let Self::Preparing { given_up, .. } = self {
            given_up.notify_one();
        }
    }

    /// Returns the state and leaves [`State::Idle`].
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Idle)
    }
}
