//! The result of a start, or why control cannot start.

use serde::Serialize;

use crate::control::api::{LoadedStrategy, OverlayStatus};
use crate::control::state::StateError;
use crate::control::trust::PluginError;

/// The result of a start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StartReport {
    /// One for each pool.
    pub strategies: Vec<LoadedStrategy>,
    /// The runtime changes in force.
    pub overlay: OverlayStatus,
    /// One clause for each runtime change that no longer applies.
    pub lapsed: Vec<String>,
    /// The replicas being launched; [`Handle::all_joined`](crate::control::Handle::all_joined) waits for them.
    pub launching: Vec<String>,
    /// Problems that do not stop the start.
    pub warnings: Vec<String>,
}

/// Why control cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Plugin(#[from] PluginError),
    #[error(transparent)]
    AccessLog(#[from] crate::access_log::OpenError),
    #[error("launcher: {0}")]
    Launcher(String),
    #[error("the builder thread cannot be started: {0}")]
    Builder(std::io::Error),
    #[error("the watcher thread cannot be started: {0}")]
    Watcher(std::io::Error),
    #[error("the builder thread broke while {0}")]
    BuilderBroke(&'static str),
}

// === impl StartError ===

impl StartError {
    /// The key of the configuration that the error is about.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::State(_) => Some("state.dir"),
            Self::Plugin(
                PluginError::Load { key, .. } | PluginError::Vet { key, .. } | PluginError::Hook { key, .. },
            ) => Some(key),
            Self::AccessLog(_) => Some("access_log.path"),
            // its other reason is that no port is free
            Self::Launcher(reason) if reason.contains("launcher.command") => Some("launcher.command"),
            Self::Launcher(_) => Some("launcher"),
            Self::Builder(_) | Self::Watcher(_) | Self::BuilderBroke(_) => None,
        }
    }
}

// === impl StartReport ===

impl StartReport {
    pub(super) fn log(&self) {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
        for lapsed in &self.lapsed {
            tracing::warn!("a change made at run time has lapsed: {lapsed}");
        }
        for LoadedStrategy { pool, strategy, version, sha256, file } in &self.strategies {
            let sha256 = sha256.as_deref().map_or("-", |digits| &digits[..12]);
            let file = file.as_deref().map(|file| file.display().to_string()).unwrap_or_default();
            tracing::info!(pool, strategy, version, sha256, file, "strategy is loaded");
        }
        let OverlayStatus { added, removed, changed, replicas, error: _ } = &self.overlay;
        if added + removed + changed > 0 || replicas.is_some() {
            tracing::info!(
                added,
                removed,
                changed,
                replicas,
                "changes made at run time are in force (--fresh drops them)"
            );
        }
    }
}
