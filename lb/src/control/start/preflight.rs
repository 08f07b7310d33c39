//! What a start needs of the machine, looked at without starting: for `lb check`, beside the plugins.
//!
//! Invariants: nothing is launched, locked or left behind; an error is what a start would fail with, or what would keep every
//! replica from coming up.

use serde::Serialize;

use crate::access_log::AccessLog;
use crate::config::Config;
use crate::control::launcher;
use crate::control::start::StartError;
use crate::control::state::StateDir;

/// What was found that stops no start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Preflight {
    /// Probably not meant so.
    pub warnings: Vec<String>,
    /// So at this moment.
    pub notes: Vec<String>,
}

/// Looks at the launcher's command and host, the state directory, the access log's place and the folders of plugins. Blocks.
pub fn preflight(config: &Config) -> Result<Preflight, StartError> {
    let mut found = Preflight::default();
    if let Some(holder) = StateDir::probe(&config.state.dir)? {
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
