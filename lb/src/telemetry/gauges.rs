//! Control's numbers of one backend: health, weight, ejections, load reports and probes of its own.
//!
//! Invariant: one thread writes them. The text about a backend is locked by control and by scrapes only.

use std::sync::Arc;

use parking_lot::Mutex;

use super::cell::{Counter, Gauge};
use super::probes::ProbeCounts;
use super::reason::{EjectionReason, ProbeOutcome, ReportResult};

/// Control's gauges of one backend; one thread writes.
#[derive(Debug, Default)]
pub struct BackendGauges {
    pub(super) up: Gauge,
    pub(super) weight: Gauge,
    /// In thousandths.
    pub(super) share: Gauge,
    pub(super) checks_ok: Counter,
    pub(super) checks_failed: Counter,
    pub(super) transitions_up: Counter,
    pub(super) transitions_down: Counter,
    pub(super) ejected: Gauge,
    pub(super) ejections: [Counter; EjectionReason::COUNT],
    /// From polls.
    pub(super) load_reports: [Counter; ReportResult::COUNT],
    /// Periodic ones.
    pub(super) probes: ProbeCounts,
    /// Locked by control and by scrapes only.
    pub(super) info: Mutex<Option<BackendInfo>>,
}

/// What there is to know about a backend beside numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BackendInfo {
    pub(super) address: Arc<str>,
    pub(super) origin: &'static str,
    /// A JSON object, or "".
    pub(super) labels: Arc<str>,
}

// === impl BackendGauges ===

impl BackendGauges {
    /// Whether the backend may get requests.
    pub fn set_up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    /// The weight in force.
    pub fn set_weight(&self, weight: u32) {
        self.weight.set(i64::from(weight));
    }

    /// The part of its weight that it gets, in thousandths.
    pub fn set_share(&self, share: u32) {
        self.share.set(i64::from(share));
    }

    /// A load report came with the response to a poll.
    pub fn load_report(&self, result: ReportResult) {
        self.load_reports[result as usize].inc();
    }

    /// A periodic probe ended.
    pub fn probe(&self, outcome: ProbeOutcome) {
        self.probes.outcomes[outcome as usize].inc();
    }

    /// The address, the name of the source, and the labels: a JSON object, or "".
    pub fn set_info(&self, address: &Arc<str>, origin: &'static str, labels: &Arc<str>) {
        let mut info = self.info.lock();
        let is_same = |now: &BackendInfo| (&now.address, now.origin, &now.labels) == (address, origin, labels);
        if !info.as_ref().is_some_and(is_same) {
            *info = Some(BackendInfo { address: address.clone(), origin, labels: labels.clone() });
        }
    }

    /// An active health check ended.
    pub fn health_check(&self, ok: bool) {
        if ok { self.checks_ok.inc() } else { self.checks_failed.inc() }
    }

    /// Whether outlier detection has ejected the backend.
    pub fn set_ejected(&self, ejected: bool) {
        self.ejected.set(i64::from(ejected));
    }

    /// Outlier detection ejected the backend.
    pub fn ejected(&self, reason: EjectionReason) {
        self.ejections[reason as usize].inc();
    }

    /// The backend's health changed to up or down.
    pub fn health_transition(&self, up: bool) {
        if up { self.transitions_up.inc() } else { self.transitions_down.inc() }
    }
}
