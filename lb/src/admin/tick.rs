//! A tick: the state that the live page gets every second, as compact JSON.
//!
//! Invariants: counts are totals since the start, so a page that misses a tick loses nothing. Times are milliseconds.
//! An unknown value (a quantile without requests) is `null`.

use std::time::{SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::Serialize;

use crate::control::{BackendStatus, LastReload, PoolStatus, QueueStatus, ReloadStatus, ShadowStatus, Status};
use crate::telemetry::{Quantiles, SwapKind, Traffic};

#[derive(Serialize, JsonSchema)]
pub(super) struct Tick<'a> {
    /// Milliseconds since the Unix epoch, by the machine's clock, which may be set back.
    at: u64,
    /// Identifies the process: another number means that lb was restarted.
    run: u64,
    version: &'a str,
    workers: usize,
    generation: u64,
    uptime_s: f64,
    stopping: bool,
    /// A token is required, so the page shows "Sign out".
    guarded: bool,
    requests: u64,
    errors: u64,
    in_flight: i64,
    #[serde(flatten)]
    times: Times,
    reload: Reload<'a>,
    pools: Vec<PoolTick<'a>>,
}

/// The part of a tick that is neither in the status nor in the traffic.
#[derive(Clone, Copy)]
pub(super) struct Standing {
    pub(super) run: u64,
    pub(super) stopping: bool,
    pub(super) guarded: bool,
}

/// Latencies over the last seconds.
#[derive(Serialize, JsonSchema)]
struct Times {
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

#[derive(Serialize, JsonSchema)]
struct Reload<'a> {
    running: bool,
    refused: u64,
    /// Pools whose strategy is an override of the file's.
    overridden: Vec<&'a str>,
    differs: &'a [String],
    last: Option<&'a LastReload>,
}

#[derive(Serialize, JsonSchema)]
struct PoolTick<'a> {
    name: &'a str,
    strategy: &'a str,
    version: &'a str,
    sha256: Option<&'a str>,
    /// The strategy's instance and the members' epoch. The ring changes only when one of them does.
    picker: [u64; 2],
    standing: &'a str,
    probation_left_ms: Option<u64>,
    probation_picks: Option<u64>,
    probation_picks_min: Option<u64>,
    rollback_to: Option<&'a str>,
    swaps: Swaps,
    /// `null` if no request may wait.
    queue: Option<QueueStatus>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shadows: Vec<ShadowTick<'a>>,
    backends: Vec<BackendTick<'a>>,
}

/// A shadow, since it began.
#[derive(Serialize, JsonSchema)]
struct ShadowTick<'a> {
    id: &'a str,
    strategy: &'a str,
    version: &'a str,
    /// Why it was switched off, if it was.
    off: Option<&'a str>,
    picks: u64,
    /// The part of its picks that are those of the strategy in charge.
    agreement: Option<f64>,
    /// The most picks of a backend by its weight, as a multiple of the mean: of the shadow, and of the strategy in
    /// charge.
    imbalance: Option<f64>,
    imbalance_in_charge: Option<f64>,
    undecided: u64,
    faults: u64,
}

#[derive(Serialize, JsonSchema)]
struct Swaps {
    options: u64,
    plugin: u64,
    strategy: u64,
    rollback: u64,
}

#[derive(Serialize, JsonSchema)]
struct BackendTick<'a> {
    id: &'a str,
    address: &'a str,
    weight: u16,
    backup: bool,
    /// Shortened, such as `priority=1 zone=a`.
    #[serde(skip_serializing_if = "str::is_empty")]
    labels: &'a str,
    origin: &'a str,
    healthy: bool,
    eligible: bool,
    draining: bool,
    /// Until the deadline of its drain, if it has one.
    drain_left_ms: Option<u64>,
    in_flight: u32,
    reason: Option<&'a str>,
    /// Why outlier detection keeps requests away, if it does.
    ejected: Option<&'a str>,
    /// Its part of its share, while it starts slowly.
    slow_start_percent: Option<u8>,
    responses: u64,
    errors: u64,
    /// The number of times that it was found down.
    downs: u64,
    #[serde(flatten)]
    times: Times,
}

pub(super) fn milliseconds_since_the_epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

// === impl Tick ===

impl<'a> Tick<'a> {
    /// Quantiles are over the time from `earlier` to `now`, two readings some seconds apart.
    pub(super) fn new(status: &'a Status, now: &Traffic, earlier: &Traffic, standing: Standing) -> Self {
        Self {
            at: milliseconds_since_the_epoch(),
            run: standing.run,
            version: status.version,
            workers: status.workers,
            generation: status.generation,
            uptime_s: status.uptime_s,
            stopping: standing.stopping,
            guarded: standing.guarded,
            requests: now.requests,
            errors: now.errors,
            in_flight: now.in_flight,
            times: now.quantiles_since(earlier).into(),
            reload: Reload::new(&status.reload, now.reloads_refused),
            pools: status.pools.iter().map(|pool| PoolTick::new(pool, now, earlier)).collect(),
        }
    }
}

// === impl Reload ===

impl<'a> Reload<'a> {
    fn new(status: &'a ReloadStatus, refused: u64) -> Self {
        let ReloadStatus { running, overrides, differs, rolled_back: _, last } = status;
        let overridden = overrides.iter().map(|of| &*of.pool).collect();
        Self { running: *running, refused, overridden, differs, last: last.as_ref() }
    }
}

// === impl PoolTick ===

impl<'a> PoolTick<'a> {
    fn new(pool: &'a PoolStatus, now: &Traffic, earlier: &Traffic) -> Self {
        let swaps = now.pools.get(&*pool.name).map(|pool| pool.swaps).unwrap_or_default();
        Self {
            name: &pool.name,
            strategy: &pool.strategy,
            version: &pool.strategy_version,
            sha256: pool.strategy_sha256.as_deref(),
            picker: [pool.strategy_instance, pool.members_epoch],
            standing: pool.strategy_standing,
            probation_left_ms: pool.probation_left_ms,
            probation_picks: pool.probation_picks,
            probation_picks_min: pool.probation_picks_min,
            rollback_to: pool.rollback_to.as_deref(),
            swaps: Swaps {
                options: swaps[SwapKind::Options as usize],
                plugin: swaps[SwapKind::Plugin as usize],
                strategy: swaps[SwapKind::Strategy as usize],
                rollback: swaps[SwapKind::Rollback as usize],
            },
            queue: pool.queue,
            shadows: pool.shadows.iter().map(ShadowTick::new).collect(),
            backends: pool.backends.iter().map(|backend| BackendTick::new(backend, now, earlier)).collect(),
        }
    }
}

// === impl ShadowTick ===

impl<'a> ShadowTick<'a> {
    fn new(shadow: &'a ShadowStatus) -> Self {
        Self {
            id: &shadow.id,
            strategy: &shadow.strategy,
            version: &shadow.version,
            off: shadow.off.as_deref(),
            picks: shadow.picks,
            agreement: shadow.agreement,
            imbalance: shadow.imbalance,
            imbalance_in_charge: shadow.imbalance_in_charge,
            undecided: shadow.undecided,
            faults: shadow.faults,
        }
    }
}

// === impl BackendTick ===

impl<'a> BackendTick<'a> {
    fn new(status: &'a BackendStatus, now: &Traffic, earlier: &Traffic) -> Self {
        let [now, earlier] = [now, earlier].map(|traffic| traffic.backend(&status.pool, &status.id));
        Self {
            id: &status.id,
            address: &status.address,
            weight: status.weight,
            backup: status.backup,
            labels: status.labels.short(),
            origin: status.origin,
            healthy: status.healthy,
            eligible: status.eligible,
            draining: status.draining,
            drain_left_ms: status.drain.as_ref().and_then(|drain| drain.left_ms),
            in_flight: status.in_flight,
            reason: status.reason.as_deref(),
            ejected: status.ejection.as_ref().map(|ejection| ejection.reason.as_str()),
            slow_start_percent: status.slow_start.as_ref().map(|slow_start| slow_start.percent),
            responses: now.responses,
            errors: now.errors,
            downs: now.downs,
            times: now.quantiles_since(earlier).into(),
        }
    }
}

// === impl Times ===

impl From<Option<Quantiles>> for Times {
    fn from(quantiles: Option<Quantiles>) -> Self {
        // To the microsecond, which is finer than the histogram's buckets.
        let ms = |of: std::time::Duration| of.as_micros() as f64 / 1000.0;
        Self { p50_ms: quantiles.map(|of| ms(of.p50)), p99_ms: quantiles.map(|of| ms(of.p99)) }
    }
}
