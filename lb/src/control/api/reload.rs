//! Reloads: requests and results.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::DEFAULT_POOL;

/// What to reload, and whether to publish it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReloadRequest {
    /// Do everything but the publish.
    pub dry_run: bool,
    /// A strategy other than the file's, until the next plain reload.
    pub overriding: Option<Overriding>,
}

/// Another strategy, or other options, for one pool. It is not written anywhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Overriding {
    #[serde(default = "default_pool")]
    pub pool: String,
    pub strategy: OverridingStrategy,
}

/// The part of the strategy that an override sets; the file sets the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverridingStrategy {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// All of its options, in place of the file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<serde_json::Map<String, serde_json::Value>>,
}

/// What triggered a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    Admin,
    Signal,
    /// A strategy failed its probation.
    Probation,
    /// A watched file changed.
    Watcher,
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReloadReport {
    pub result: ReloadResult,
    /// The generation in force afterwards.
    pub generation: u64,
    pub milliseconds: u64,
    pub dry_run: bool,
    pub pools: Vec<PoolReload>,
    /// Other parts of the configuration that were applied, by key.
    pub applied: Vec<String>,
    /// Changed keys that only a restart applies.
    pub needs_restart: Vec<String>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReloadResult {
    /// A new generation is in force.
    Done,
    /// Configuration and plugins are unchanged: nothing was published.
    NoChange,
    /// It would work (a dry run).
    WouldWork,
    /// The last proven strategy is in charge again; everything else is unchanged.
    RolledBack,
}

/// What a reload did to one pool's strategy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoolReload {
    pub pool: String,
    pub strategy: String,
    pub version: String,
    pub sha256: Option<String>,
    pub file: Option<PathBuf>,
    pub change: StrategyChange,
    pub state: StateHandOver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StrategyChange {
    Unchanged,
    /// The pool is new, and so is its strategy.
    New,
    /// The same plugin with other options.
    Options,
    /// The same strategy from a changed file.
    Plugin,
    /// Another strategy.
    Strategy,
}

/// The state of the old strategy: whether the new one got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StateHandOver {
    Kept,
    Imported,
    Fresh,
}

/// Why nothing was reloaded. The running state stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    #[error("a reload is running: ask again when it has ended")]
    Busy,
    #[error("{reason}")]
    Refused { stage: String, reason: String },
    #[error("the load balancer is stopping")]
    Stopping,
}

/// The part of `/status` about reloads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct ReloadStatus {
    pub running: bool,
    /// In force until the next plain reload.
    pub overrides: Vec<Overriding>,
    /// Differences between the files and the state in force, one sentence each.
    pub differs: Vec<String>,
    /// Strategies that failed or were rolled back; the watcher does not try them again.
    pub rolled_back: Vec<RolledBack>,
    pub last: Option<LastReload>,
}

/// The progress of reloads and rollbacks, without dry runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reloading {
    /// How many have begun.
    pub begun: u64,
    pub is_running: bool,
}

/// A strategy that was taken out of charge.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RolledBack {
    pub pool: String,
    pub strategy: String,
    pub sha256: Option<String>,
    pub options: serde_json::Value,
    pub reason: String,
    /// The generation that put its predecessor back; 1: the start did not load it, because it had crashed.
    pub generation: u64,
    /// When it failed: RFC 3339.
    pub at: String,
}

/// How the last one ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LastReload {
    pub by: Trigger,
    /// `None` when it was refused.
    pub result: Option<ReloadResult>,
    pub generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Why it was refused, or why lb rolled a strategy back by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub needs_restart: Vec<String>,
}

fn default_pool() -> String {
    DEFAULT_POOL.to_owned()
}

// === impl RolledBack ===

impl RolledBack {
    /// What happened, when and why, as a difference from the files.
    pub(in crate::control) fn sentence(&self) -> String {
        let Self { pool, strategy, generation, at, reason, .. } = self;
        match generation {
            1 => format!("pool {pool}: strategy {strategy} is not loaded, because it crashed at {at}: {reason}"),
            _ => {
                format!("pool {pool}: strategy {strategy} was rolled back by generation {generation} at {at}: {reason}")
            }
        }
    }
}

// === impl Trigger ===

impl Trigger {
    /// No person triggered it at this moment.
    pub(in crate::control) fn is_automatic(self) -> bool {
        matches!(self, Self::Probation | Self::Watcher)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Signal => "signal",
            Self::Probation => "probation",
            Self::Watcher => "watcher",
        }
    }
}

// === impl StrategyChange ===

impl StrategyChange {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::New => "new",
            Self::Options => "options",
            Self::Plugin => "plugin",
            Self::Strategy => "strategy",
        }
    }
}

// === impl ReloadError ===

impl ReloadError {
    pub(in crate::control) fn refused(stage: impl ToString, reason: impl ToString) -> Self {
        Self::Refused { stage: stage.to_string(), reason: reason.to_string() }
    }

    /// The stage of the transaction that failed.
    pub fn stage(&self) -> &str {
        match self {
            Self::Busy => "busy",
            Self::Refused { stage, .. } => stage,
            Self::Stopping => "stopping",
        }
    }
}

// === impl ReloadResult ===

impl ReloadResult {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NoChange => "no change",
            Self::WouldWork => "would work",
            Self::RolledBack => "rolled back",
        }
    }
}
