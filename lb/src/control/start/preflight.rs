//! Tests what a start needs of the machine, without starting: for `lb check`, beside the plugins.
//!
//! Invariants: nothing is launched, locked or left behind. An error is one that would fail a start, or would keep every
//! replica from starting.

use serde::Serialize;

use crate::access_log::AccessLog;
use crate::config::Config;
use crate::control::launcher;
use crate::control::start::StartError;
use crate::control::state::{StateDir, StateError};

/// Findings that stop no start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Preflight {
    /// Probably a mistake.
    pub warnings: Vec<String>,
    /// True only at this moment.
    pub notes: Vec<String>,
    /// An lb with this state directory is running.
    pub is_running: bool,
}

/// Refuses a start while a running lb uses the state directory. The start finds it, too, but only after it has opened
/// its ports. If that lb has them as well, the error would name a port.
pub fn refuse_second(config: &Config) -> Result<(), StartError> {
    let dir = &config.state.dir;
    match StateDir::probe(dir)? {
        Some(pid) => Err(StateError::InUse { dir: dir.clone(), pid }.into()),
        None => Ok(()),
    }
}

/// Tests the launcher's command and host, the state directory, the access log's place and the folders of plugins.
/// Blocks.
pub fn preflight(config: &Config) -> Result<Preflight, StartError> {
    let mut found = Preflight::default();
    if let Some(holder) = StateDir::probe(&config.state.dir)? {
        found.is_running = true;
        found.notes.push(format!("state directory {} is in use by a running lb{holder}", config.state.dir.display()));
    }
    config.access_log.as_ref().map(AccessLog::check).transpose()?;
    if let Some(plan) = &config.launcher {
        match launcher::check(plan) {
            Ok(()) => {}
            Err(reason) if plan.replicas > 0 => return Err(StartError::Launcher(reason)),
            Err(reason) => found.warnings.push(format!("launcher: {reason}")),
        }
    }
    let missing = config.plugin_dirs.iter().filter(|folder| !folder.is_dir());
    found.warnings.extend(missing.map(|folder| format!("plugin_dirs: {} is no folder", folder.display())));
    Ok(found)
}
