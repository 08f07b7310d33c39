//! What `/status` and the live page show.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

use super::members::BackendStatus;
use super::reload::ReloadStatus;

#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub version: &'static str,
    pub generation: u64,
    pub uptime_s: f64,
    /// Where clients connect, ports resolved.
    pub listeners: Vec<SocketAddr>,
    /// "file", or how many runtime changes are in force.
    pub overlay: OverlayStatus,
    pub pools: Vec<PoolStatus>,
    pub workers: usize,
    pub images: usize,
    pub builder_stuck: bool,
    /// Workers that give no sign of life; their requests hang.
    pub stuck_workers: usize,
    /// Old generations that somebody still holds.
    pub retired_generations: usize,
    pub reload: ReloadStatus,
    /// `None` when no files are watched.
    pub watch: Option<WatchStatus>,
    /// `None` when there is none.
    pub access_log: Option<AccessLogStatus>,
}

/// Since lb began, over all files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccessLogStatus {
    /// `-` is stdout.
    pub path: String,
    /// Lines.
    pub written: u64,
    /// Lines that nobody will ever read.
    pub dropped: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OverlayStatus {
    pub added: usize,
    pub removed: usize,
    pub changed: usize,
    /// The wanted number of launched replicas where it differs from the file's.
    pub replicas: Option<usize>,
    /// Why the last change could not be written down: it would not outlive a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PoolStatus {
    pub name: String,
    pub strategy: String,
    pub strategy_version: String,
    pub strategy_sha256: Option<String>,
    /// Tells the instance from every other one of this process.
    pub strategy_instance: u64,
    /// Of the newest list that the strategy was given: another one after every change of ids, addresses, weights or their order.
    pub members_epoch: u64,
    /// "on_probation", "proven" or "failed" (and there was none to put back).
    pub strategy_standing: &'static str,
    /// How long it is still watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probation_left_ms: Option<u64>,
    /// What a rollback would put in charge: name and version.
    pub rollback_to: Option<String>,
    pub backends: Vec<BackendStatus>,
}

/// What `/status` tells of the watcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WatchStatus {
    /// The configuration file, and the plugins that were last found.
    pub files: Vec<PathBuf>,
    /// Whether the system tells of changes; else they are found by polling alone.
    pub has_events: bool,
    /// How often changed files have settled and were compared with those that are in force or were refused.
    pub settled: u64,
}
