//! The data of `/status` and the live page.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use super::members::BackendStatus;
use super::reload::ReloadStatus;
use super::safeguards::Safeguards;
use super::shadows::ShadowStatus;

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Status {
    pub version: &'static str,
    pub generation: u64,
    pub uptime_s: f64,
    /// Addresses where clients connect, ports resolved.
    pub listeners: Vec<SocketAddr>,
    /// How many runtime changes are in force.
    pub overlay: OverlayStatus,
    pub pools: Vec<PoolStatus>,
    pub workers: usize,
    pub images: usize,
    pub builder_stuck: bool,
    /// Workers that do not respond; their requests hang.
    pub stuck_workers: usize,
    /// Old generations that a worker still holds.
    pub retired_generations: usize,
    pub reload: ReloadStatus,
    /// `None` when no files are watched.
    pub watch: Option<WatchStatus>,
    /// `None` when there is none.
    pub access_log: Option<AccessLogStatus>,
}

/// Totals since lb started, over all files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AccessLogStatus {
    /// `-` is stdout.
    pub path: String,
    /// Lines.
    pub written: u64,
    /// Lines that were not written and are lost.
    pub dropped: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OverlayStatus {
    pub added: usize,
    pub removed: usize,
    pub changed: usize,
    /// The wanted number of launched replicas where it differs from the file's.
    pub replicas: Option<usize>,
    /// Why the last change could not be written to disk. It would be lost by a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PoolStatus {
    pub name: String,
    pub strategy: String,
    pub strategy_version: String,
    pub strategy_sha256: Option<String>,
    /// Unique to the instance within this process.
    pub strategy_instance: u64,
    /// Of the newest list that the strategy got. It changes with ids, addresses, weights, labels and their order.
    pub members_epoch: u64,
    /// "on_probation", "proven", or "failed" (and no predecessor could be put back).
    pub strategy_standing: &'static str,
    /// The rest of the time of its probation. At 0 it is proven as soon as it has made enough picks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probation_left_ms: Option<u64>,
    /// Its picks in the probation so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probation_picks: Option<u64>,
    /// The picks that it needs to be proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probation_picks_min: Option<u64>,
    /// The strategy that a rollback would put in charge: name and version.
    pub rollback_to: Option<String>,
    /// The crash of the pool's strategy that ended an earlier run. `None` if the last start found none, or after
    /// `lb reload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash: Option<CrashStatus>,
    /// The rules for failing backends that are in force.
    pub safeguards: Safeguards,
    /// `None` if no request may wait and the requests in flight have no adaptive limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
    /// In the order of the configuration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shadows: Vec<ShadowStatus>,
    pub backends: Vec<BackendStatus>,
}

/// A strategy whose crash ended an earlier run of lb.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CrashStatus {
    pub strategy: String,
    pub version: String,
    pub sha256: Option<String>,
    /// Such as `SIGSEGV`.
    pub signal: String,
    /// The hook that the thread was in, by its name in the header.
    pub hook: String,
    /// RFC 3339.
    pub at: String,
    /// It was proven, so the start loaded it again. Otherwise another strategy decides.
    pub is_loaded: bool,
    /// All of it in one sentence, with the remedy.
    pub message: String,
}

/// The queue of a pool now, over all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct QueueStatus {
    /// Requests that wait for a backend with room, or for the strategy.
    pub waiting: u64,
    /// Those of them that the strategy lets wait, if there are any. Others may wait behind them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held: u64,
    /// Limit of the requests in flight on the whole pool, if it follows the latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive_limit: Option<u64>,
}

/// The part of `/status` about the watcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WatchStatus {
    /// The configuration file, and the plugins that the last look found.
    pub files: Vec<PathBuf>,
    /// Files of the last attempt that are gone, empty or unreadable now.
    pub missing: Vec<PathBuf>,
    /// Whether the system reports changes; otherwise only polling finds them.
    pub has_events: bool,
    /// How often changed files settled and were compared with the files of the last attempt.
    pub settled: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
