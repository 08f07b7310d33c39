//! Backends in requests and results, and the changes that a caller may request.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{Labels, LoadReportPolicy};
use crate::pool::{Backend, Load};

/// `GET /rep`: the ids of the pool `default`, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas(pub Vec<String>);

/// `POST /add`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Add {
    /// Launch `n` replicas. The first ones get the names in `hostnames`.
    Launch { n: usize, hostnames: Vec<String> },
    /// Attach running servers.
    Attach(Vec<AttachedBackend>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachedBackend {
    pub id: String,
    pub address: String,
    #[serde(default = "weight_one")]
    pub weight: u16,
    /// Gets requests only if no other backend can.
    #[serde(default)]
    pub backup: bool,
    #[serde(default)]
    pub labels: Labels,
}

/// `DELETE /rm`: `n` replicas of the pool `default`, named ones first, the rest at random.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remove {
    pub n: usize,
    pub hostnames: Vec<String>,
    /// Requests that are in flight after this time end.
    pub deadline: Option<Duration>,
}

/// A change of one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// No new requests.
    Drain,
    /// No new requests, and those that are in flight after this time end.
    DrainWithin(Duration),
    /// Takes requests again.
    Ready,
    Weight(u16),
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct BackendStatus {
    pub pool: String,
    pub id: String,
    pub address: String,
    pub weight: u16,
    /// Gets requests only if no other backend of its pool can.
    pub backup: bool,
    /// Facts about it for strategies, such as its zone.
    pub labels: Labels,
    /// The name of its source, such as "file".
    pub origin: &'static str,
    pub eligible: bool,
    pub healthy: bool,
    /// `false` until its first health check has ended; it may get requests before.
    pub checked: bool,
    pub draining: bool,
    /// The progress of its drain, beside the requests in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainStatus>,
    pub in_flight: u32,
    pub consecutive_errors: u32,
    /// Why and for how long outlier detection keeps requests away, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ejection: Option<EjectionStatus>,
    /// Its part of its share, and for how long, while it starts slowly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<SlowStartStatus>,
    /// Its newest load report, if its pool reads them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_report: Option<LoadReportStatus>,
    /// Why the last check failed, while the backend is down.
    pub reason: Option<String>,
    /// The pid, if lb launched the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

/// An ejection by outlier detection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EjectionStatus {
    /// Such as "5 server errors in a row".
    pub reason: String,
    /// The rest of it.
    pub left_ms: u64,
    /// Ejections that are not forgiven yet; each is longer than the one before.
    pub count: u32,
}

/// The progress of a drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DrainStatus {
    /// Since its begin, or since the start of lb.
    pub for_ms: u64,
    /// Until its deadline, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
    /// The requests that ended at the deadline, if it has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<u32>,
}

/// A slow start after a join or a return.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SlowStartStatus {
    /// Of the share that its weight gives it.
    pub percent: u8,
    /// The rest of it.
    pub left_ms: u64,
}

/// The newest load report of a backend.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LoadReportStatus {
    /// Since it arrived; null: none has arrived yet, so the numbers are missing.
    pub age_ms: Option<u64>,
    #[serde(flatten)]
    pub load: Option<LoadStatus>,
}

/// The numbers of a load report.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LoadStatus {
    /// The share of its capacity that is in use; 1 is full.
    pub utilization: f64,
    /// Requests a second.
    pub qps: f64,
    /// Errors a second.
    pub eps: f64,
    /// The metrics that the pool lists, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
}

fn weight_one() -> u16 {
    1
}

// === impl LoadReportStatus ===

impl LoadReportStatus {
    /// `now_ns` is on the clock of the strategies.
    pub(in crate::control) fn of(backend: &Backend, policy: &LoadReportPolicy, now_ns: u64) -> Self {
        let Some((Load { utilization, qps, eps, named }, at_ns)) = backend.report() else {
            return Self { age_ms: None, load: None };
        };
        let metrics = policy.metrics.names().map(str::to_owned).zip(named).collect();
        let age_ms = Some(now_ns.saturating_sub(at_ns) / 1_000_000);
        Self { age_ms, load: Some(LoadStatus { utilization, qps, eps, metrics }) }
    }
}
