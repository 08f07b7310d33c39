//! `lb reload` and `lb rollback`: make the running lb read its files again, or restore the last proven strategy. Both
//! print the outcome.
//!
//! Invariants: exit code 0 means in force, nothing to change, or that a dry run would work. 1 means that lb refused and
//! its state stays, or that its response cannot be read. 2 means that no request was accepted: wrong usage, no lb at
//! the address, or a wrong token. Keys that only a restart applies are always printed.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::inspect::print;
use super::{CliError, client};
use crate::config::Admin;
use crate::control::{PoolReload, ReloadReport, ReloadResult, StrategyChange};

pub(super) fn reload(admin: &Admin, strategy: Option<&str>, dry_run: bool, as_json: bool) -> Result<(), CliError> {
    let path = if dry_run { "/reload?dry_run=1" } else { "/reload" };
    let body = strategy.map(|name| json!({ "strategy": { "name": name } }).to_string()).unwrap_or_default();
    tell(&client::post(admin, path, &body)?, as_json, "not reloaded")
}

/// Restores the last proven strategy of a pool, or of all pools that have one. Prints first which one that is.
pub(super) fn roll_back(admin: &Admin, pool: Option<&str>, dry_run: bool, as_json: bool) -> Result<(), CliError> {
    let failed = "not rolled back";
    if dry_run && as_json {
        return tell(&client::post(admin, &rollback_path(pool, true), "")?, true, failed);
    }
    if !as_json {
        let answer = client::post(admin, &rollback_path(pool, true), "")?;
        print(&going_back(&report_in(&answer, failed)?, dry_run))?;
    }
    if dry_run {
        return Ok(());
    }
    tell(&client::post(admin, &rollback_path(pool, false), "")?, as_json, failed)
}

fn rollback_path(pool: Option<&str>, dry_run: bool) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(dry_run.then_some(("dry_run", "1")));
    query.extend_pairs(pool.map(|name| ("pool", name)));
    let query = query.finish();
    if query.is_empty() { "/rollback".to_owned() } else { format!("/rollback?{query}") }
}

/// The strategies that come back, by the report of a dry run.
fn going_back(report: &ReloadReport, dry_run: bool) -> String {
    let (mut page, verb) = (String::new(), if dry_run { "would restore" } else { "restores" });
    for pool in report.pools.iter().filter(|pool| pool.change != StrategyChange::Unchanged) {
        let PoolReload { pool, strategy, version, sha256, .. } = pool;
        let sha256 = sha256.as_deref().and_then(|digits| digits.get(..12)).unwrap_or("-");
        let _ = writeln!(page, "pool {pool}: the rollback {verb} {strategy} {version} (sha256 {sha256})");
    }
    warn(&mut page, report);
    page
}

fn report_in(answer: &client::Answer, failed: &str) -> Result<ReloadReport, CliError> {
    match (answer.status, serde_json::from_str(&answer.body)) {
        (200, Ok(report)) => Ok(report),
        (status, _) => Err(CliError::Refused(refusal(failed, status, &answer.body))),
    }
}

fn tell(answer: &client::Answer, as_json: bool, failed: &str) -> Result<(), CliError> {
    if as_json {
        print(&answer.body)?;
    }
    let report = report_in(answer, failed)?;
    if as_json { Ok(()) } else { print(&page(&report)) }
}

fn page(report: &ReloadReport) -> String {
    let ReloadReport { generation, milliseconds, .. } = report;
    let mut page = match report.result {
        ReloadResult::Done => format!("reloaded: generation {generation} after {milliseconds} ms\n"),
        ReloadResult::NoChange => format!("nothing has changed: generation {generation} stays\n"),
        ReloadResult::RolledBack => format!("rolled back: generation {generation} after {milliseconds} ms\n"),
        ReloadResult::WouldWork => format!("ok: a reload would work; generation {generation} stays\n"),
    };
    for pool in report.pools.iter().filter(|pool| pool.change != StrategyChange::Unchanged) {
        let change = match pool.change {
            StrategyChange::New => "a new pool".to_owned(),
            change => format!("{} changed", change.as_str()),
        };
        let _ = writeln!(page, "pool {}: strategy {} {} ({change})", pool.pool, pool.strategy, pool.version);
    }
    for key in &report.applied {
        let _ = writeln!(page, "applied: {key}");
    }
    for key in &report.needs_restart {
        let _ = writeln!(page, "needs a restart: {key}");
    }
    // A rollback has printed its warnings before it began.
    if report.result != ReloadResult::RolledBack {
        warn(&mut page, report);
    }
    page
}

fn warn(page: &mut String, report: &ReloadReport) {
    for warning in &report.warnings {
        let _ = writeln!(page, "warning: {warning}");
    }
}

fn refusal(failed: &str, status: u16, body: &str) -> String {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    let said = client::message(body).unwrap_or_else(|| format!("the admin port returned {status}"));
    match value["stage"].as_str() {
        Some(stage) => format!("{failed}, the running state stays [{stage}]: {said}"),
        None => format!("{failed}: {said}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_asks_for_a_pool_and_for_a_dry_run() {
        let paths = [(None, false), (None, true), (Some("a b"), true), (Some("a b"), false)];
        let paths = paths.map(|(pool, dry_run)| rollback_path(pool, dry_run));
        let wanted = ["/rollback", "/rollback?dry_run=1", "/rollback?dry_run=1&pool=a+b", "/rollback?pool=a+b"];
        assert_eq!(paths, wanted);
    }

    #[test]
    fn a_refusal_shows_its_stage_and_a_foreign_response_its_status() {
        let body = r#"{"message":"<Error> is text","status":"failure","stage":"elf","reason":"is text"}"#;
        assert_eq!(refusal("not reloaded", 422, body), "not reloaded, the running state stays [elf]: is text");
        assert_eq!(refusal("not reloaded", 400, r#"{"message":"<Error> no pool"}"#), "not reloaded: no pool");
        assert_eq!(refusal("not reloaded", 404, "hm"), "not reloaded: the admin port returned 404");
    }
}
