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
use crate::control::{ReloadReport, ReloadResult, StrategyChange};

pub(super) fn reload(admin: &Admin, strategy: Option<&str>, dry_run: bool, as_json: bool) -> Result<(), CliError> {
    let path = if dry_run { "/reload?dry_run=1" } else { "/reload" };
    let body = strategy.map(|name| json!({ "strategy": { "name": name } }).to_string()).unwrap_or_default();
    tell(&client::post(admin, path, &body)?, as_json, "not reloaded")
}

/// Restores the last proven strategy of a pool, or of all pools that have one.
pub(super) fn roll_back(admin: &Admin, pool: Option<&str>, as_json: bool) -> Result<(), CliError> {
    let query = pool.map(|name| form_urlencoded::Serializer::new(String::new()).append_pair("pool", name).finish());
    let path = query.map_or_else(|| "/rollback".to_owned(), |query| format!("/rollback?{query}"));
    tell(&client::post(admin, &path, "")?, as_json, "not rolled back")
}

fn tell(answer: &client::Answer, as_json: bool, failed: &str) -> Result<(), CliError> {
    if as_json {
        print(&answer.body)?;
    }
    match (answer.status, serde_json::from_str::<ReloadReport>(&answer.body)) {
        (200, Ok(_)) if as_json => Ok(()),
        (200, Ok(report)) => print(&page(&report)),
        (status, _) => Err(CliError::Refused(refusal(failed, status, &answer.body))),
    }
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
    for warning in &report.warnings {
        let _ = writeln!(page, "warning: {warning}");
    }
    page
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
    fn a_refusal_shows_its_stage_and_a_foreign_response_its_status() {
        let body = r#"{"message":"<Error> is text","status":"failure","stage":"elf","reason":"is text"}"#;
        assert_eq!(refusal("not reloaded", 422, body), "not reloaded, the running state stays [elf]: is text");
        assert_eq!(refusal("not reloaded", 400, r#"{"message":"<Error> no pool"}"#), "not reloaded: no pool");
        assert_eq!(refusal("not reloaded", 404, "hm"), "not reloaded: the admin port returned 404");
    }
}
