//! The commands that read and start nothing: `lb check`, `lb config`, `lb strategies`.
//!
//! Invariants: they keep no port and no lock, and launch no replica, so they can run beside a running `lb`. `lb check`
//! fails with the line with which a start would fail. A port in use is only a note.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::json;

use super::CliError;
use crate::config::{self, Loaded};
use crate::control::{self, FoundStrategy, Preflight};
use crate::run::{self, EXECUTABLE};

/// Tests whether lb can start with this configuration.
pub(super) fn check(loaded: &Loaded, json: bool) -> Result<(), CliError> {
    let control::CheckReport { strategies, warnings: of_strategies } =
        control::check(&loaded.config, Some(EXECUTABLE.into()))?;
    let config = &loaded.config;
    let Preflight { warnings: found, mut notes, is_running } = control::preflight(config)?;
    notes.extend(run::try_ports(config, is_running)?);
    let warnings: Vec<_> = loaded.warnings.iter().chain(&of_strategies).chain(&found).collect();
    if json {
        let report = json!({ "file": config.file, "strategies": strategies, "warnings": warnings, "notes": notes });
        return print(&report.to_string());
    }
    let mut page = String::new();
    for strategy in &strategies {
        let pool = config.pools.iter().find(|pool| pool.name == strategy.pool);
        let backends = pool.map_or(0, |pool| pool.backends.len());
        let file = strategy.file.as_ref().map(|file| format!(" from {}", file.display())).unwrap_or_default();
        let s = if backends == 1 { "" } else { "s" };
        let _ = writeln!(page, "pool {}: strategy {} {}{file}", strategy.pool, strategy.strategy, strategy.version);
        let _ = writeln!(page, "pool {}: {backends} backend{s} in the file", strategy.pool);
    }
    if let Some(launcher) = &config.launcher {
        let _ = writeln!(page, "launcher: {} replicas by {}", launcher.replicas, launcher.command.join(" "));
    }
    for warning in &warnings {
        let _ = writeln!(page, "warning: {warning}");
    }
    for note in &notes {
        let _ = writeln!(page, "note: {note}");
    }
    let file = config.file.as_ref().map_or_else(|| "the configuration".into(), |file| file.display().to_string());
    let _ = writeln!(page, "ok: lb can start with {file}");
    print(&page)
}

/// Every setting in force, and its origin.
pub(super) fn config(loaded: &Loaded, json: bool) -> Result<(), CliError> {
    match json {
        true => print(&config::explain_json(loaded).to_string()),
        false => print(&config::explain(loaded)),
    }
}

/// The strategies in the plugin folders, also those that are hidden or refused.
pub(super) fn strategies(loaded: &Loaded, json: bool) -> Result<(), CliError> {
    let found = control::list_strategies(&loaded.config, EXECUTABLE.into())?;
    if json {
        return print(&json!({ "plugin_dirs": loaded.config.plugin_dirs, "strategies": found }).to_string());
    }
    let mut page = String::new();
    for strategy in &found {
        let _ = writeln!(page, "{}", strategy_line(strategy));
    }
    if found.is_empty() {
        let folders: Vec<_> = loaded.config.plugin_dirs.iter().map(|folder| folder.display().to_string()).collect();
        let _ = writeln!(page, "no strategies in {}; name folders in plugin_dirs", folders.join(", "));
    }
    print(&page)
}

fn strategy_line(strategy: &FoundStrategy) -> String {
    let FoundStrategy { name, path, version, shadowed_by, error, .. } = strategy;
    let path = path.display();
    match (error, shadowed_by, version) {
        (Some(error), _, _) => format!("{name:20} {:10} {path}: {error}", "refused"),
        (None, Some(first), _) => format!("{name:20} {:10} {path}: {} is used instead", "hidden", first.display()),
        (None, None, version) => format!("{name:20} {:10} {path}", version.as_deref().unwrap_or("?")),
    }
}

/// Prints to stdout. A closed pipe is not an error.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(CliError::Output(error)),
        _ => Ok(()),
    }
}
