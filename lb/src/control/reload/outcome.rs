//! The report of a reload: the log line, the metrics, and the result for the caller.

use super::state::Transaction;
use super::{Prepared, Target};
use crate::control::api::{
    PoolReload, ReloadError, ReloadReport, ReloadResult, StateHandOver, StrategyChange, Trigger,
};
use crate::control::publish::BuiltPool;
use crate::telemetry::{FilesVerdict, ReloadEnd, ReloadKind, ReloadOutcome};

/// A report without time and generation, which are added at the end.
pub(super) fn report(prepared: &Prepared, result: ReloadResult, built: &[BuiltPool], generation: u64) -> ReloadReport {
    let state = |index: usize| match built.iter().find(|pool| pool.index == index) {
        _ if prepared.candidates[index].change == StrategyChange::New => StateHandOver::Fresh,
        Some(pool) => pool.state,
        None => StateHandOver::Kept,
    };
    let candidates = prepared.target.config.pools.iter().zip(&prepared.candidates).enumerate();
    let pools: Vec<PoolReload> =
        candidates.map(|(index, (pool, candidate))| candidate.report(&pool.name, state(index))).collect();
    let Target { applied, needs_restart, warnings, .. } = prepared.target.clone();
    let warnings = warnings.into_iter().chain(built.iter().filter_map(|pool| pool.warning.clone())).collect();
    ReloadReport { result, generation, milliseconds: 0, dry_run: false, pools, applied, needs_restart, warnings }
}

/// One log line for each outcome.
pub(super) fn log(by: Trigger, result: &Result<ReloadReport, ReloadError>) {
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
        Err(error) => tracing::error!(by, stage = error.stage(), %error, "reload refused: the running state stays"),
    }
}

/// For the metrics: the subject of a reload, its outcome, and whether the files are in force.
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
        // The strategy that the files name is not in charge any more, or it failed and could not be replaced.
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
        // Rolled back by an operator: the files are as good as before.
        Ok(_) => ReloadOutcome::Success,
    };
    let is_change = result.as_ref().is_ok_and(|report| report.result != ReloadResult::NoChange);
    ReloadEnd { kind, outcome, verdict, is_change, took: began.elapsed() }
}
