//! What the actor remembers of reloads: the one that runs, the one that waits, what is in force beside the file, how the last ended.
//!
//! Apart from [`super::reloading`], which acts on it, so that each can be read at once. Invariant: `ready` and `assembling` are there
//! only while `running` is.

use std::sync::Arc;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::Wake;
use crate::config::Source;
use crate::control::members::Member;
use crate::control::pool_state::PoolState;
use crate::control::pools::PoolKey;
use crate::control::reload::{
    LastReload, Overriding, Prepared, ReloadError, ReloadReport, ReloadRequest, ReloadResult, ReloadStatus, RolledBack,
    StrategyChange, Trigger,
};
use crate::telemetry::{FilesVerdict, ReloadEnd, ReloadKind, ReloadOutcome};

type Answer = oneshot::Sender<Result<ReloadReport, ReloadError>>;

pub(super) struct Reloads {
    pub(super) source: Option<Source>,
    pub(super) overrides: Vec<Overriding>,
    pub(super) running: Option<Transaction>,
    /// Prepared, waits for the builder's last build to be published.
    pub(super) ready: Option<Prepared>,
    pub(super) assembling: Option<Assembling>,
    /// Who waits for the one plain reload after the one that runs.
    pub(super) next: Option<Transaction>,
    /// What came in while pickers were made.
    pub(super) deferred: Vec<Wake>,
    pub(super) last: Option<LastReload>,
    /// The last that read the files to put them in force.
    pub(super) read: Option<LastReload>,
    pub(super) rolled_back: Vec<RolledBack>,
    /// Ends the trial of the one that runs.
    trial: Arc<Notify>,
    /// A rollback that was asked for meanwhile: it goes before `next`.
    pub(super) rollback: Option<(Option<String>, Transaction)>,
    /// A strategy failed its probation meanwhile: the same.
    pub(super) is_rollback_due: bool,
    /// When strategies on probation are looked at next.
    pub(super) next_look: Instant,
}

/// One reload, from trigger to answer.
pub(super) struct Transaction {
    pub(super) request: ReloadRequest,
    pub(super) by: Trigger,
    pub(super) began: Instant,
    pub(super) answers: Vec<Answer>,
    /// Those that are in force after it.
    pub(super) overrides: Vec<Overriding>,
    /// It puts strategies back and reads nothing: why.
    pub(super) taking_back: Option<String>,
}

/// Pickers are being made for this.
pub(super) struct Assembling {
    pub(super) prepared: Prepared,
    /// By pool of the target, those that are built anew.
    pub(super) members: Vec<Option<Vec<Member>>>,
    /// Pools whose changes are in it, and would be in none if it failed.
    pub(super) dirty: Vec<PoolKey>,
    /// Pools that come with it.
    pub(super) new: Vec<PoolState>,
}

// === impl Transaction ===

impl Transaction {
    pub(super) fn new(request: ReloadRequest, by: Trigger, answer: Answer) -> Self {
        Self { request, by, began: Instant::now(), answers: vec![answer], overrides: Vec::new(), taking_back: None }
    }

    /// One that puts strategies back, and why.
    pub(super) fn taking_back(by: Trigger, reason: String) -> Self {
        Self {
            request: ReloadRequest::default(),
            by,
            began: Instant::now(),
            answers: Vec::new(),
            overrides: Vec::new(),
            taking_back: Some(reason),
        }
    }

    pub(super) fn answer(self, result: &Result<ReloadReport, ReloadError>) {
        self.answers.into_iter().for_each(|answer| drop(answer.send(result.clone())));
    }
}

// === impl Reloads ===

impl Reloads {
    pub(super) fn new(source: Option<Source>) -> Self {
        Self {
            source,
            overrides: Vec::new(),
            running: None,
            ready: None,
            assembling: None,
            next: None,
            deferred: Vec::new(),
            last: None,
            read: None,
            rolled_back: Vec::new(),
            trial: Arc::default(),
            rollback: None,
            is_rollback_due: false,
            next_look: Instant::now(),
        }
    }

    pub(super) fn status(&self) -> ReloadStatus {
        ReloadStatus {
            running: self.running.is_some(),
            overrides: self.overrides.clone(),
            differs: self.differs(),
            rolled_back: self.rolled_back.clone(),
            last: self.last.clone(),
        }
    }

    fn differs(&self) -> Vec<String> {
        let overridden = self.overrides.iter().map(|one| format!("pool {}: the strategy is overridden", one.pool));
        let taken_back = self.rolled_back.iter().map(|one| {
            let RolledBack { pool, strategy, generation, .. } = one;
            format!("pool {pool}: strategy {strategy} was rolled back by generation {generation}")
        });
        let refused = self.read.iter().filter_map(|last| {
            let stage = last.stage.as_deref()?;
            Some(format!("the files were refused at stage {stage}: {}", last.reason.as_deref().unwrap_or_default()))
        });
        let waiting = self.read.iter().flat_map(|last| &last.needs_restart).map(|key| format!("{key} needs a restart"));
        overridden.chain(taken_back).chain(refused).chain(waiting).collect()
    }

    /// For a reload that begins: what tells it to give up trying plugins.
    pub(super) fn new_trial(&mut self) -> Arc<Notify> {
        self.trial = Arc::default();
        self.trial.clone()
    }

    pub(super) fn give_up_trial(&self) {
        self.trial.notify_one();
    }

    pub(super) fn is_assembling(&self) -> bool {
        self.assembling.is_some()
    }

    pub(super) fn defer(&mut self, wake: Wake) {
        self.deferred.push(wake);
    }

    pub(super) fn take_ready(&mut self) -> Option<Prepared> {
        self.ready.take()
    }

    /// The overrides that `request` leaves in force: a plain reload none, another one those of other pools and its own.
    pub(super) fn overrides_with(&self, request: &ReloadRequest) -> Vec<Overriding> {
        let Some(new) = &request.overriding else { return Vec::new() };
        let others = self.overrides.iter().filter(|old| old.pool != new.pool).cloned();
        others.chain([new.clone()]).collect()
    }
}

/// One line for each outcome.
pub(super) fn tell(by: Trigger, result: &Result<ReloadReport, ReloadError>) {
    let by = by.as_str();
    match result {
        Ok(report) => {
            let ReloadReport { result, generation, milliseconds, .. } = report;
            let swaps = report.pools.iter().filter(|pool| pool.change != StrategyChange::Unchanged);
            let swaps: Vec<String> = swaps
                .map(|swap| format!("{}: {} {} ({})", swap.pool, swap.strategy, swap.version, swap.change.as_str()))
                .collect();
            let (swaps, applied) = (swaps.join(", "), report.applied.join(", "));
            let needs_restart = report.needs_restart.join(", ");
            tracing::info!(by, generation, milliseconds, swaps, applied, needs_restart, "reload: {}", result.as_str());
            report.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        }
        Err(error) => tracing::error!(by, stage = error.stage(), "reload refused, what runs goes on: {error}"),
    }
}

/// For the metrics: what a reload was about, how it ended and what that says of the files.
pub(super) fn about(transaction: &Transaction, result: &Result<ReloadReport, ReloadError>) -> ReloadEnd {
    let Transaction { request, by, taking_back, began, .. } = transaction;
    let (is_rollback, is_override) = (taking_back.is_some(), request.overriding.is_some());
    let is_about_a_strategy = match result {
        Ok(report) => {
            let is_swap = |change| !matches!(change, StrategyChange::Unchanged | StrategyChange::New);
            report.pools.iter().any(|pool| is_swap(pool.change))
        }
        Err(error) => is_override || !["config", "listen", "access_log"].contains(&error.stage()),
    };
    let kind = if is_rollback || is_about_a_strategy { ReloadKind::Strategy } else { ReloadKind::Config };
    let verdict = match result {
        // What the files name is out of charge, or cannot be taken out.
        _ if is_rollback && *by == Trigger::Probation => FilesVerdict::NotInForce,
        _ if is_rollback => FilesVerdict::None,
        Ok(_) if is_override => FilesVerdict::Overridden,
        Err(_) if is_override => FilesVerdict::None,
        Ok(_) => FilesVerdict::InForce,
        Err(_) => FilesVerdict::NotInForce,
    };
    let outcome = match result {
        Err(_) => ReloadOutcome::Failure,
        Ok(_) if is_rollback && *by == Trigger::Probation => ReloadOutcome::RolledBack,
        // By hand: the strategy before it is as good as any.
        Ok(_) => ReloadOutcome::Success,
    };
    let is_change = result.as_ref().is_ok_and(|report| report.result != ReloadResult::NoChange);
    ReloadEnd { kind, outcome, verdict, is_change, took: began.elapsed() }
}
