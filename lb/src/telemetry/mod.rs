//! Telemetry: the balancer's metrics (`Metrics`, scraped) and its log (`logs`). A leaf: it does not know the rest of
//! the crate, so that every part may count and log without an arrow back.
//!
//! Why counting is cheap: each worker has shards of its own (`shard`) made of cells that only it writes (`cell`,
//! `code`). At a scrape the hub (`hub`) sums them into a snapshot (`snapshot`). A collector converts it (`collector`)
//! under the names in `names`. Nothing on the request path locks, formats or looks up a label.

mod access_log;
mod cell;
mod code;
mod collector;
mod exposition;
mod gauges;
mod hook_panics;
mod hub;
pub mod logs;
pub mod names;
mod plugins;
mod probes;
mod process;
mod reason;
mod reloads;
mod retired;
mod shadows;
mod shard;
mod snapshot;
mod strategies;
mod totals;
mod traffic;

#[cfg(test)]
mod tests;

pub use access_log::AccessLogCounts;
pub use cell::{Counter, Gauge};
pub use gauges::BackendGauges;
pub use hook_panics::INSTANCE_HOOKS;
pub use hub::{CONTENT_TYPE, Metrics};
pub use reason::{
    DutyHook, ErrorReason, FallbackReason, HedgeResult, LogDropReason, ProbeKind, ProbeOutcome, ProbeSkip,
    QueueRefusal, ReloadKind, ReloadOutcome, ReportResult, RetryReason, SessionResult, ShadowResult, SwapKind,
};
pub use reloads::{FilesVerdict, ReloadEnd};
pub use retired::RETIRED_SERIES_STAY;
pub use shadows::{ShadowBackendShard, ShadowShard, ShadowTotals};
pub use shard::{BackendShard, ConnectionShard, PoolShard, QueueShard, SLOW_PICK, WorkerShard};
pub use totals::{BackendTotals, PickTotals, PoolTotals, QueueTotals};
pub use traffic::{BackendTraffic, PoolTraffic, Quantiles, Traffic};
