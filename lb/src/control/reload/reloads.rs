//! Reloads: one at a time, prepared beside everything else, published in one step.
//!
//! The state machine is [`State`]: `begin` → Preparing, `prepared` → Ready, `assemble` → Assembling, `assembled` →
//! publish and Idle. A rollback begins as Ready. Invariants: until the publish, no change is visible to a worker. Every
//! instance that is replaced is dropped on the builder.

use std::sync::Arc;

use lb_strategy_host::Loader;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::listen::Doors;
use super::pinned::pinned_at_start;
use super::prepare::{Preparation, in_charge};
use super::state::{Queue, State, Transaction};
use super::{Prepared, outcome};
use crate::access_log::AccessLog;
use crate::config::Source;
use crate::control::api::{
    LastReload, Overriding, ReloadError, ReloadReport, ReloadRequest, ReloadResult, ReloadStatus, Reloading,
    RolledBack, StrategyChange, Trigger, WatchStatus,
};
use crate::control::membership::{Launched, Membership};
use crate::control::pools::PoolKey;
use crate::control::publish::{FollowUp, Publisher};
use crate::control::trust::Ledger;
use crate::control::trust::vet::Vetter;
use crate::control::watch::{Reporter, Watch};

/// The result of a preparation that has ended.
pub(in crate::control) type PreparationResult = Box<Result<Prepared, ReloadError>>;

/// The means of all reloads.
pub(in crate::control) struct Tools {
    /// The source of the configuration; without it every reload is refused.
    pub(in crate::control) source: Option<Source>,
    pub(in crate::control) loader: Arc<Loader>,
    pub(in crate::control) vetter: Option<Arc<Vetter>>,
    pub(in crate::control) watch: Option<Watch>,
    pub(in crate::control) prepared: mpsc::Sender<PreparationResult>,
}

pub(in crate::control) struct Reloads {
    pub(super) tools: Tools,
    pub(super) state: State,
    pub(super) queue: Queue,
    /// The overrides in force.
    pub(super) overrides: Vec<Overriding>,
    pub(super) rolled_back: Vec<RolledBack>,
    /// Crashes of earlier runs, and proven strategies.
    pub(super) ledger: Ledger,
    last: Option<LastReload>,
    /// The last reload that read the files to put them in force.
    read: Option<LastReload>,
    /// A strategy of the file that a flag or a variable hides.
    pinned: Option<String>,
    /// The next look at strategies on probation.
    pub(super) next_look: Instant,
    pub(super) begun: u64,
    progress: watch::Sender<Reloading>,
}

// === impl Reloads ===

impl Reloads {
    /// `rolled_back`: strategies of the files that the start did not load, because they crashed.
    pub(in crate::control) fn new(tools: Tools, ledger: Ledger, rolled_back: Vec<RolledBack>) -> Self {
        Self {
            pinned: tools.source.as_ref().and_then(pinned_at_start),
            tools,
            state: State::Idle,
            queue: Queue::default(),
            overrides: Vec::new(),
            rolled_back,
            ledger,
            last: None,
            read: None,
            next_look: Instant::now(),
            begun: 0,
            progress: watch::Sender::default(),
        }
    }

    pub(in crate::control) fn progress(&self) -> watch::Receiver<Reloading> {
        self.progress.subscribe()
    }

    /// Shows the progress to its receivers. The actor calls it after each turn.
    pub(in crate::control) fn show_progress(&self) {
        let is_running = self.state.transaction().is_some_and(|transaction| !transaction.request.dry_run);
        let now = Reloading { begun: self.begun, is_running };
        self.progress.send_if_modified(|shown| std::mem::replace(shown, now) != now);
    }

    /// A reload was requested. With `waits` it begins after the running one; otherwise it is refused as busy.
    pub(in crate::control) fn reload(
        &mut self,
        desk: &mut Publisher,
        request: ReloadRequest,
        by: Trigger,
        waits: bool,
        answer: oneshot::Sender<Result<ReloadReport, ReloadError>>,
    ) {
        let mut transaction = Transaction::new(request, by, answer);
        if self.state.is_idle() {
            return self.begin(desk, transaction);
        }
        match &mut self.queue.plain {
            _ if !waits => transaction.answer(&Err(ReloadError::Busy)),
            Some(next) => {
                next.answers.append(&mut transaction.answers);
                if next.by.is_automatic() {
                    next.by = by;
                }
            }
            next => *next = Some(transaction),
        }
    }

    /// Starts the preparation, which ends with [`Reloads::prepared`].
    pub(super) fn begin(&mut self, desk: &mut Publisher, mut transaction: Transaction) {
        self.begun += u64::from(!transaction.request.dry_run);
        transaction.overrides = self.overrides_with(&transaction.request);
        let given_up = Arc::new(Notify::new());
        let current = desk.listeners.open().to_vec();
        let preparation = Preparation {
            source: self.tools.source.clone(),
            overrides: transaction.overrides.clone(),
            running: desk.config.clone(),
            reporter: self.reporter_of(&transaction),
            loader: self.tools.loader.clone(),
            vetter: self.tools.vetter.clone(),
            builder: desk.builder.clone(),
            in_charge: in_charge(
                &desk.pools,
                !transaction.by.is_automatic() && transaction.request.overriding.is_none(),
            ),
            overlay: Membership::overlay_now(desk),
            launched: Launched::of(&desk.pools[PoolKey::DEFAULT].members),
            doors: Doors {
                current,
                closing: desk.listeners.closing().to_vec(),
                access_log: access_log_of(desk),
                counts: desk.metrics.access_log(),
                is_dry: transaction.request.dry_run,
            },
            given_up: given_up.clone(),
        };
        self.state = State::Preparing { transaction, given_up };
        tokio::spawn(preparation.run(self.tools.prepared.clone()));
    }

    /// Configuration and plugins are ready, or refused.
    pub(in crate::control) fn prepared(&mut self, desk: &mut Publisher, prepared: PreparationResult) {
        let State::Preparing { mut transaction, .. } = self.state.take() else { return };
        let mut prepared = match *prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.end(desk, transaction, Err(error)),
        };
        transaction.files = prepared.files.take();
        if let Some(old) = self.rolled_back_candidate(&prepared) {
            let RolledBack { pool, strategy, reason, .. } = &old;
            let sentence = format!("pool {pool}: strategy {strategy} was rolled back before: {reason}");
            if transaction.by.is_automatic() {
                discard(desk, prepared);
                let advice = "it is tried again when its bytes or options change, or when it is asked for: lb reload";
                let error = ReloadError::refused("probation", format!("{sentence}; {advice}"));
                return self.end(desk, transaction, Err(error));
            }
            prepared.target.warnings.push(sentence);
        }
        let pinned = prepared.target.pinned.clone();
        // Once for each edit, not at each reload.
        prepared.target.warnings.extend(pinned.clone().filter(|_| pinned != self.pinned));
        if !transaction.request.dry_run {
            self.pinned = pinned;
        }
        let is_same = prepared.candidates.iter().all(|candidate| candidate.change == StrategyChange::Unchanged);
        if is_same && prepared.target.applied.is_empty() {
            return self.end_unchanged(desk, transaction, prepared);
        }
        self.state = State::Ready { transaction, prepared: Box::new(prepared) };
    }

    /// Whether commands that change members must wait: the list of the build must be the one that is published.
    pub(in crate::control) fn is_assembling(&self) -> bool {
        matches!(self.state, State::Assembling { .. })
    }

    /// Logs the result, remembers it and replies; then the next reload begins.
    pub(super) fn end(
        &mut self,
        desk: &mut Publisher,
        transaction: Transaction,
        result: Result<ReloadReport, ReloadError>,
    ) {
        let dry_run = transaction.request.dry_run;
        let milliseconds = transaction.began.elapsed().as_millis() as u64;
        let result = result.map(|report| ReloadReport { milliseconds, dry_run, ..report });
        outcome::log(transaction.by, &result);
        if let (Some(reason), Err(error)) = (&transaction.taking_back, &result) {
            self.rollback_failed(desk, reason, error);
        }
        if !dry_run {
            desk.metrics.reload_ended(outcome::about(&transaction, &result));
        }
        self.remember(desk, &transaction, &result);
        let has_published = !dry_run && result.as_ref().is_ok_and(|report| report.result != ReloadResult::NoChange);
        match result {
            Ok(report) if !dry_run => {
                self.overrides.clone_from(&transaction.overrides);
                self.tell_watcher(&transaction);
                let (answers, report) = (transaction.answers, Box::new(report));
                desk.wait_for_newest(FollowUp::Reload { answers, report });
            }
            result => transaction.answer(&result),
        }
        self.begin_rollback_that_waits(desk, has_published);
        self.begin_next(desk);
    }

    /// Begins the plain reload that waits, unless a rollback goes first.
    pub(super) fn begin_next(&mut self, desk: &mut Publisher) {
        if self.state.is_idle()
            && self.queue.rollback.is_none()
            && let Some(next) = self.queue.plain.take()
        {
            self.begin(desk, next);
        }
    }

    pub(in crate::control) fn status(&self) -> ReloadStatus {
        ReloadStatus {
            running: !self.state.is_idle(),
            overrides: self.overrides.clone(),
            differs: self.differs(),
            rolled_back: self.rolled_back.clone(),
            last: self.last.clone(),
        }
    }

    pub(in crate::control) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Ends the reload that runs, and returns what remains to be written.
    pub(in crate::control) fn stop(self, desk: &Publisher) -> Ledger {
        let Self { tools, state, queue, ledger, .. } = self;
        // They may own instances of strategies.
        desk.builder.retire((tools, state, queue));
        ledger
    }

    pub(in crate::control) fn watch_status(&self) -> Option<WatchStatus> {
        self.tools.watch.as_ref().and_then(Watch::status)
    }

    /// The number of plugin images in memory.
    pub(in crate::control) fn images(&self) -> usize {
        self.tools.loader.images()
    }

    fn end_unchanged(&mut self, desk: &mut Publisher, transaction: Transaction, prepared: Prepared) {
        let generation = desk.hall.current().number;
        let report = outcome::report(&prepared, ReloadResult::NoChange, &[], generation);
        if !transaction.request.dry_run {
            // The same bytes may have got another name or path.
            desk.config = prepared.target.config.clone();
            self.rolled_back.clear();
            self.forgive(desk, &transaction);
            reopen_access_log(desk, prepared.access_log.as_ref());
        }
        discard(desk, prepared);
        self.end(desk, transaction, Ok(report));
    }

    fn remember(&mut self, desk: &Publisher, transaction: &Transaction, result: &Result<ReloadReport, ReloadError>) {
        let ok = result.as_ref().ok();
        let automatic = transaction.taking_back.clone().filter(|_| transaction.by.is_automatic());
        self.last = Some(LastReload {
            by: transaction.by,
            result: ok.map(|report| report.result),
            generation: desk.hall.current().number,
            stage: result.as_ref().err().map(|error| error.stage().to_owned()),
            reason: result.as_ref().err().map(ToString::to_string).or(automatic),
            needs_restart: ok.map(|report| report.needs_restart.clone()).unwrap_or_default(),
        });
        // A refused override is no statement about the files.
        let is_about_files = transaction.request.overriding.is_none() || result.is_ok();
        if !transaction.request.dry_run && transaction.taking_back.is_none() && is_about_files {
            self.read.clone_from(&self.last);
        }
    }

    /// Differences between the files and the state in force, one sentence each.
    fn differs(&self) -> Vec<String> {
        let overridden = self.overrides.iter().map(|one| format!("pool {}: the strategy is overridden", one.pool));
        let taken_back = self.rolled_back.iter().map(RolledBack::sentence);
        let refused = self.read.iter().filter_map(|last| {
            let stage = last.stage.as_deref()?;
            Some(format!("the files were refused at stage {stage}: {}", last.reason.as_deref().unwrap_or_default()))
        });
        let waiting = self.read.iter().flat_map(|last| &last.needs_restart).map(|key| format!("{key} needs a restart"));
        let pinned = self.pinned.iter().cloned();
        overridden.chain(pinned).chain(taken_back).chain(refused).chain(waiting).collect()
    }

    /// The overrides after `request`: none after a plain reload; after an override, its own and those of other pools.
    fn overrides_with(&self, request: &ReloadRequest) -> Vec<Overriding> {
        let Some(new) = &request.overriding else { return Vec::new() };
        let others = self.overrides.iter().filter(|old| old.pool != new.pool).cloned();
        others.chain([new.clone()]).collect()
    }

    /// An override is in force, and with it the rest of the files. An edit from before must not undo the override. So
    /// the watcher gets the content that was read, and a request of the watcher that waits is taken back. If the files
    /// have changed since, the watcher asks again.
    fn tell_watcher(&mut self, transaction: &Transaction) {
        let (Some(files), Some(watch)) = (&transaction.files, &self.tools.watch) else { return };
        watch.reporter().attempted(files.clone());
        if let Some(next) = self.queue.plain.take_if(|next| next.by == Trigger::Watcher) {
            next.answer(&Err(ReloadError::Busy));
        }
    }

    /// Where the transaction reports to the watcher the files that it read. Only an attempt to put the files in force
    /// is reported, not a dry run. For an override see `tell_watcher`.
    fn reporter_of(&self, transaction: &Transaction) -> Option<Reporter> {
        let request = &transaction.request;
        let counts = !request.dry_run && request.overriding.is_none();
        self.tools.watch.as_ref().filter(|_| counts).map(Watch::reporter)
    }
}

/// The log to which requests are written.
pub(super) fn access_log_of(desk: &Publisher) -> Option<AccessLog> {
    desk.hall.current().settings.access_log.clone()
}

/// Opens the log's path again if `next` is the running log. An operator may have moved the file away before the reload.
pub(super) fn reopen_access_log(desk: &Publisher, next: Option<&AccessLog>) {
    if let Some(running) = access_log_of(desk).filter(|running| Some(running) == next) {
        running.reopen();
    }
}

/// The reload failed or was a dry run: listeners that it opened close at once, even if the builder is busy.
pub(super) fn discard(desk: &Publisher, mut prepared: Prepared) {
    prepared.listeners.clear();
    desk.builder.retire(prepared);
}
