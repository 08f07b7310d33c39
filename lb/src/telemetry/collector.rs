//! The collector: called by the registry at a scrape. It takes a snapshot of the hub and converts it, family by family.
//!
//! Invariant: label sets that are known beforehand (all reasons, GET with the usual codes) exist from the first scrape
//! with the value 0. Otherwise `rate` and `increase` would lose the first event.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::access_log::AccessLogCounts;
use super::code::{class_label, code_label};
use super::exposition::{Exposition, descriptions};
use super::gauges::BackendInfo;
use super::hook_panics::INSTANCE_HOOKS;
use super::hub::Shared;
use super::names;
use super::reason::{
    EjectionReason, ErrorReason, FallbackReason, HedgeResult, LogDropReason, ProbeKind, ProbeOutcome, ProbeSkip,
    QueueRefusal, ReloadKind, ReloadOutcome, ReportResult, RetryReason, SessionResult, SwapKind,
};
use super::reloads::Reloads;
use super::shard::METHODS;
use super::snapshot::{BackendSum, Health, PoolSum, Requests, Runtime, Snapshot};

/// All data of the hub, as one collector.
pub(super) struct HubCollector {
    shared: Arc<Shared>,
    descriptions: Vec<Desc>,
}

// === impl HubCollector ===

impl HubCollector {
    pub(super) fn new(shared: Arc<Shared>) -> HubCollector {
        HubCollector { shared, descriptions: descriptions(names::HUB) }
    }
}

impl Collector for HubCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let snapshot = self.shared.snapshot();
        let mut exposition = Exposition::default();
        let e = &mut exposition;
        let build = [env!("CARGO_PKG_VERSION"), env!("BUILD_REVISION"), env!("BUILD_RUSTC")];
        e.number(&names::BUILD_INFO, &build, 1.0);
        e.number(&names::GENERATION, &[], snapshot.generation as f64);
        e.histogram(&names::GENERATION_TAKE_UP, &[], &snapshot.take_up);
        ReloadKind::ALL.iter().zip(&snapshot.reloads).for_each(|(kind, reloads)| tell_reloads(e, *kind, reloads));
        tell_access_log(e, &self.shared.access_log);
        runtimes(e, &snapshot);
        connections(e, &snapshot);
        snapshot.requests.iter().for_each(|requests| tell_requests(e, requests));
        snapshot.pools.iter().for_each(|(name, pool)| tell_pool(e, name, pool));
        snapshot.backends.iter().for_each(|backend| tell_backend(e, backend));
        self.shared.plugins.tell(e);
        self.shared.shadows.tell(e, self.shared.now());
        let mut families = exposition.into_families();
        families.extend(self.shared.plugins.families());
        families
    }
}

fn tell_reloads(e: &mut Exposition, kind: ReloadKind, reloads: &Reloads) {
    let kind = kind.as_str();
    for (result, count) in ReloadOutcome::ALL.iter().zip(reloads.outcomes) {
        e.number(&names::RELOADS, &[kind, result.as_str()], count as f64);
    }
    e.histogram(&names::RELOAD_DURATION, &[kind], &reloads.durations);
    e.number(&names::RELOAD_LAST_SUCCESSFUL, &[kind], f64::from(u8::from(reloads.was_good)));
    e.number(&names::RELOAD_LAST_SUCCESS, &[kind], reloads.last_success_seconds);
}

fn tell_access_log(e: &mut Exposition, counts: &AccessLogCounts) {
    e.number(&names::ACCESS_LOG_LINES, &[], counts.written() as f64);
    for (reason, count) in LogDropReason::ALL.iter().zip(counts.dropped_by_reason()) {
        e.number(&names::ACCESS_LOG_DROPPED, &[reason.as_str()], count as f64);
    }
}

fn runtimes(e: &mut Exposition, snapshot: &Snapshot) {
    let sum = |of: fn(&Runtime) -> usize| snapshot.runtimes.iter().map(of).sum::<usize>() as f64;
    e.number(&names::RUNTIME_WORKERS, &[], snapshot.runtimes.len() as f64);
    e.number(&names::RUNTIME_QUEUE, &[], sum(|runtime| runtime.queued));
    e.number(&names::RUNTIME_TASKS, &[], sum(|runtime| runtime.tasks));
    for runtime in &snapshot.runtimes {
        e.number(&names::RUNTIME_BUSY, &[&runtime.worker.to_string()], runtime.busy_seconds);
    }
}

fn connections(e: &mut Exposition, snapshot: &Snapshot) {
    for listener in &snapshot.listeners {
        let name = &*listener.listener;
        e.number(&names::CLIENT_CONNECTIONS, &[name], listener.open as f64);
        e.number(&names::CLIENT_CONNECTIONS_ACCEPTED, &[name], listener.accepted as f64);
        e.number(&names::CLIENT_CONNECTIONS_REJECTED, &[name, "limit"], listener.rejected as f64);
    }
}

fn tell_requests(e: &mut Exposition, requests: &Requests) {
    let both = [&*requests.listener, &*requests.pool];
    let [listener, pool] = both;
    for ((code, method), count) in &requests.by_code {
        e.number(&names::REQUESTS, &[listener, pool, METHODS[*method], &code_label(*code)], *count as f64);
    }
    for (class, durations) in &requests.durations {
        e.histogram(&names::REQUEST_DURATION, &[listener, pool, class_label(*class)], durations);
    }
    e.number(&names::REQUESTS_IN_FLIGHT, &both, requests.in_flight as f64);
    e.number(&names::REQUEST_BYTES, &both, requests.request_bytes as f64);
    e.number(&names::RESPONSE_BYTES, &both, requests.response_bytes as f64);
}

fn tell_pool(e: &mut Exposition, name: &str, pool: &PoolSum) {
    for (reason, count) in ErrorReason::ALL.iter().zip(pool.errors) {
        e.number(&names::PROXY_ERRORS, &[name, reason.as_str()], count as f64);
    }
    for (reason, count) in RetryReason::ALL.iter().zip(pool.retries) {
        e.number(&names::RETRIES, &[name, reason.as_str()], count as f64);
    }
    e.number(&names::RETRIES_DENIED, &[name], pool.retries_denied as f64);
    // Most pools have no hedges, no sticky sessions and no probes.
    if pool.hedges.iter().any(|count| *count > 0) {
        for (result, count) in HedgeResult::ALL.iter().zip(pool.hedges) {
            e.number(&names::HEDGES, &[name, result.as_str()], count as f64);
        }
    }
    if pool.sessions.iter().any(|count| *count > 0) {
        for (result, count) in SessionResult::ALL.iter().zip(pool.sessions) {
            e.number(&names::SESSIONS, &[name, result.as_str()], count as f64);
        }
    }
    if pool.probes.is_any() {
        for (kind, counts) in ProbeKind::ALL.iter().zip(pool.probes.outcomes) {
            for (outcome, count) in ProbeOutcome::ALL.iter().zip(counts) {
                e.number(&names::PROBES, &[name, kind.as_str(), outcome.as_str()], count as f64);
            }
        }
        for (reason, count) in ProbeSkip::ALL.iter().zip(pool.probes.skips) {
            e.number(&names::PROBES_SKIPPED, &[name, reason.as_str()], count as f64);
        }
    }
    e.number(&names::QUEUE_REQUESTS, &[name], pool.queued as f64);
    e.number(&names::QUEUE_ENTRIES, &[name], pool.queue_entries as f64);
    e.number(&names::QUEUE_WAIT, &[name], pool.queue_wait_ns as f64 / 1e9);
    for (reason, count) in QueueRefusal::ALL.iter().zip(pool.queue_refusals) {
        e.number(&names::QUEUE_REFUSALS, &[name, reason.as_str()], count as f64);
    }
    if let Some(limit) = pool.adaptive_limit {
        e.number(&names::QUEUE_ADAPTIVE_LIMIT, &[name], limit as f64);
    }
    e.histogram(&names::BACKEND_CONNECT, &[name], &pool.connect);
    if let Some((strategy, version)) = &pool.strategy {
        if pool.has_strategy {
            e.number(&names::STRATEGY_INFO, &[name, strategy, version], 1.0);
            e.number(&names::POOL_PANIC, &[name], f64::from(u8::from(pool.is_in_panic)));
        }
        e.number(&names::STRATEGY_RETIRED, &[name], pool.retired_instances as f64);
        for (kind, count) in SwapKind::ALL.iter().zip(pool.swaps) {
            e.number(&names::STRATEGY_SWAPS, &[name, kind.as_str()], count as f64);
        }
    }
    for (strategy, answers) in &pool.answers {
        e.number(&names::STRATEGY_PICKS, &[name, strategy], answers.picks as f64);
        e.histogram(&names::STRATEGY_PICK, &[name, strategy], &answers.pick_time);
        for (reason, count) in FallbackReason::ALL.iter().zip(&answers.fallbacks) {
            e.number(&names::STRATEGY_FALLBACKS, &[name, strategy, reason.as_str()], *count as f64);
        }
    }
    // Most strategies never panic.
    for (strategy, panics) in &pool.hook_panics {
        for (hook, count) in INSTANCE_HOOKS.iter().zip(panics).filter(|(_, count)| **count > 0) {
            e.number(&names::STRATEGY_HOOK_PANICS, &[name, strategy, hook.as_str()], *count as f64);
        }
    }
}

fn tell_backend(e: &mut Exposition, backend: &BackendSum) {
    let both = [&*backend.pool, &*backend.backend];
    let [pool, name] = both;
    for (code, count) in &backend.by_code {
        e.number(&names::BACKEND_REQUESTS, &[pool, name, &code_label(*code)], *count as f64);
    }
    let errors = ErrorReason::ALL.iter().zip(backend.errors);
    for (reason, count) in errors.filter(|(reason, count)| reason.can_befall_an_attempt() || *count > 0) {
        e.number(&names::BACKEND_ERRORS, &[pool, name, reason.as_str()], count as f64);
    }
    // Most pools read no load reports.
    if backend.load_reports.iter().any(|count| *count > 0) {
        for (result, count) in ReportResult::ALL.iter().zip(backend.load_reports) {
            e.number(&names::LOAD_REPORTS, &[pool, name, result.as_str()], count as f64);
        }
    }
    e.histogram(&names::BACKEND_RESPONSE, &both, &backend.to_head);
    e.number(&names::BACKEND_REQUESTS_IN_FLIGHT, &both, backend.in_flight as f64);
    e.number(&names::BACKEND_CONNECTIONS, &[pool, name, "active"], backend.active as f64);
    e.number(&names::BACKEND_CONNECTIONS, &[pool, name, "idle"], backend.idle as f64);
    e.number(&names::BACKEND_CONNECTIONS_OPENED, &both, backend.opened as f64);
    if let Some(health) = &backend.health {
        tell_health(e, both, health);
    }
}

fn tell_health(e: &mut Exposition, [pool, name]: [&str; 2], health: &Health) {
    if let Some(BackendInfo { address, origin, labels }) = &health.info {
        e.number(&names::BACKEND_INFO, &[pool, name, address, origin, labels], 1.0);
    }
    if let Some((up, weight, share)) = health.standing {
        e.number(&names::BACKEND_UP, &[pool, name], up as f64);
        e.number(&names::BACKEND_WEIGHT, &[pool, name], weight as f64);
        e.number(&names::BACKEND_SHARE, &[pool, name], share as f64 / 1e3);
    }
    if let Some(ejected) = health.ejected {
        e.number(&names::BACKEND_EJECTED, &[pool, name], ejected as f64);
    }
    for (reason, count) in EjectionReason::ALL.iter().zip(health.ejections) {
        e.number(&names::BACKEND_EJECTIONS, &[pool, name, reason.as_str()], count as f64);
    }
    e.number(&names::BACKEND_HEALTH_CHECKS, &[pool, name, "ok"], health.checks_ok as f64);
    e.number(&names::BACKEND_HEALTH_CHECKS, &[pool, name, "failed"], health.checks_failed as f64);
    e.number(&names::BACKEND_HEALTH_TRANSITIONS, &[pool, name, "up"], health.transitions_up as f64);
    e.number(&names::BACKEND_HEALTH_TRANSITIONS, &[pool, name, "down"], health.transitions_down as f64);
}
