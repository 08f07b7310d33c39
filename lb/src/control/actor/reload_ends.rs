//! How a reload ends: its report, what is remembered of it, who is answered, and which one is next.

use super::Actor;
use super::publisher::Done;
use super::reloads::{about, tell};
use crate::control::reload::{
    Handed, LastReload, PoolReload, Prepared, ReloadError, ReloadReport, ReloadResult, StateHandOver, StrategyChange,
    Target,
};

// === impl Actor: the end of a reload ===

impl Actor {
    pub(super) fn report(&self, prepared: &Prepared, result: ReloadResult, handed: &[Handed]) -> ReloadReport {
        let state = |index: usize| match handed.iter().find(|handed| handed.index == index) {
            _ if prepared.candidates[index].change == StrategyChange::New => StateHandOver::Fresh,
            Some(handed) => handed.state,
            None => StateHandOver::Kept,
        };
        let candidates = prepared.target.config.pools.iter().zip(&prepared.candidates).enumerate();
        let pools: Vec<PoolReload> =
            candidates.map(|(index, (pool, candidate))| candidate.report(&pool.name, state(index))).collect();
        let Target { applied, needs_restart, warnings, .. } = prepared.target.clone();
        let warnings = warnings.into_iter().chain(handed.iter().filter_map(|handed| handed.warning.clone())).collect();
        ReloadReport {
            result,
            generation: self.hall.current().number,
            milliseconds: 0,
            dry_run: false,
            pools,
            applied,
            needs_restart,
            warnings,
        }
    }

    pub(super) fn end_unchanged(&mut self, prepared: Prepared) {
        let report = self.report(&prepared, ReloadResult::NoChange, &[]);
        if self.reloads.running.as_ref().is_some_and(|running| !running.request.dry_run) {
            // The same bytes may have come by another name or path.
            self.config = prepared.target.config.clone();
            self.reloads.rolled_back.clear();
            self.reopen_access_log(prepared.access_log.as_ref());
        }
        self.discard(prepared);
        self.end(Ok(report));
    }

    pub(super) fn end_refused(&mut self, error: ReloadError) {
        self.end(Err(error));
    }

    /// Told, remembered and answered; then the one that waits begins.
    pub(super) fn end(&mut self, result: Result<ReloadReport, ReloadError>) {
        let Some(transaction) = self.reloads.running.take() else { return };
        let by = transaction.by;
        let dry_run = transaction.request.dry_run;
        let milliseconds = transaction.began.elapsed().as_millis() as u64;
        let result = result.map(|report| ReloadReport { milliseconds, dry_run, ..report });
        tell(by, &result);
        if let (Some(reason), Err(error)) = (&transaction.taking_back, &result) {
            self.rollback_failed(reason, error);
        }
        if !dry_run {
            self.metrics.reload_ended(about(&transaction, &result));
        }
        let ok = result.as_ref().ok();
        let generation = self.hall.current().number;
        self.reloads.last = Some(LastReload {
            by,
            result: ok.map(|report| report.result),
            generation,
            stage: result.as_ref().err().map(|error| error.stage().to_owned()),
            reason: result.as_ref().err().map(ToString::to_string),
            needs_restart: ok.map(|report| report.needs_restart.clone()).unwrap_or_default(),
        });
        // A refused override says nothing about the files.
        let is_about_files = transaction.request.overriding.is_none() || result.is_ok();
        if !dry_run && transaction.taking_back.is_none() && is_about_files {
            self.reloads.read.clone_from(&self.reloads.last);
        }
        let is_in_force = result.is_ok() && !dry_run;
        match result {
            Ok(report) if !dry_run => {
                self.reloads.overrides.clone_from(&transaction.overrides);
                let (answers, report) = (transaction.answers, Box::new(report));
                self.publisher.settle_newest(Done::Reload { answers, report });
            }
            result => transaction.answer(&result),
        }
        match self.reloads.rollback.take() {
            // What it was to take back is not in charge any more.
            Some((_, rollback)) if is_in_force => rollback.answer(&Err(ReloadError::Busy)),
            Some((pool, rollback)) => self.roll_back_by_hand(pool.as_deref(), rollback),
            None => {}
        }
        self.begin_next();
    }

    /// The reload that waits, unless something goes before it.
    pub(super) fn begin_next(&mut self) {
        if self.reloads.running.is_none()
            && !self.reloads.is_rollback_due
            && let Some(next) = self.reloads.next.take()
        {
            self.begin_reload(next);
        }
    }
}
