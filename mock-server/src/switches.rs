//! The run-time switches: they make a running server slow, silent or failing.
//!
//! To study an outlier policy, a healthy server must turn bad in the middle of a run, and recover. The switches are
//! atomics because tests set them from other threads ([`crate::Running::change`]). The server reads them with plain
//! loads.
//!
//! Invariants: all of a [`Change`] is checked before any of it is applied; an unknown key is an error, never ignored.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Notify;

use crate::service_time::clamped;

/// A change of the switches; a field that is `None` stays. As JSON, it is the body of `POST /control`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Service times are multiplied by this, 0 to 1,000,000. 1 is normal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<f64>,
    /// Milliseconds added to every service time, 0 to 3,600,000; also to a service time of 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_ms: Option<f64>,
    /// True: requests and heartbeats are read but get no response, and bodies stop, until it is false again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall: Option<bool>,
    /// The share of requests that fail with a 500, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_rate: Option<f64>,
    /// True: requests that fail do so at once, without queue and service time. False, the default: like other requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_at_once: Option<bool>,
    /// True: counters start again at 0. Requests in progress are then not counted, neither before nor after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset_counters: Option<bool>,
}

/// The state of the switches. As JSON, it is the response of `/control`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct State {
    pub slow: f64,
    pub extra_ms: f64,
    pub stall: bool,
    pub failure_rate: f64,
    pub fail_at_once: bool,
}

/// Why a change was refused. Nothing of it was applied.
#[derive(Debug, Error, PartialEq)]
pub enum BadChange {
    #[error("slow {0} is not between 0 and 1000000")]
    Slow(f64),
    #[error("extra_ms {0} is not between 0 and 3600000")]
    ExtraMs(f64),
    #[error("failure_rate {0} is not between 0 and 1")]
    FailureRate(f64),
}

/// The switches themselves.
#[derive(Debug)]
pub(crate) struct Switches {
    slow: AtomicF64,
    extra_ms: AtomicF64,
    failure_rate: AtomicF64,
    fail_at_once: AtomicBool,
    stall: AtomicBool,
    unstalled: Notify,
}

#[derive(Debug)]
struct AtomicF64(AtomicU64);

// === impl Change ===

impl Change {
    pub(crate) fn check(&self) -> Result<(), BadChange> {
        if let Some(slow) = self.slow.filter(|slow| !(0.0..=1e6).contains(slow)) {
            return Err(BadChange::Slow(slow));
        }
        if let Some(extra_ms) = self.extra_ms.filter(|extra_ms| !(0.0..=3.6e6).contains(extra_ms)) {
            return Err(BadChange::ExtraMs(extra_ms));
        }
        if let Some(rate) = self.failure_rate.filter(|rate| !(0.0..=1.0).contains(rate)) {
            return Err(BadChange::FailureRate(rate));
        }
        Ok(())
    }
}

// === impl Switches ===

impl Switches {
    pub(crate) fn new(failure_rate: f64) -> Self {
        Self {
            slow: AtomicF64::new(1.0),
            extra_ms: AtomicF64::new(0.0),
            failure_rate: AtomicF64::new(failure_rate),
            fail_at_once: AtomicBool::new(false),
            stall: AtomicBool::new(false),
            unstalled: Notify::new(),
        }
    }

    /// Applies a checked change, except `reset_counters`; see [`Shared::apply`](crate::shared::Shared::apply).
    pub(crate) fn apply(&self, change: &Change) {
        if let Some(slow) = change.slow {
            self.slow.store(slow);
        }
        if let Some(extra_ms) = change.extra_ms {
            self.extra_ms.store(extra_ms);
        }
        if let Some(failure_rate) = change.failure_rate {
            self.failure_rate.store(failure_rate);
        }
        if let Some(fail_at_once) = change.fail_at_once {
            self.fail_at_once.store(fail_at_once, Relaxed);
        }
        if let Some(stall) = change.stall {
            self.stall.store(stall, SeqCst);
            if !stall {
                self.unstalled.notify_waiters();
            }
        }
    }

    pub(crate) fn state(&self) -> State {
        State {
            slow: self.slow.load(),
            extra_ms: self.extra_ms.load(),
            stall: self.is_stalled(),
            failure_rate: self.failure_rate.load(),
            fail_at_once: self.fail_at_once.load(Relaxed),
        }
    }

    /// Whether a request with this failure draw, 0 to 1, fails.
    pub(crate) fn fails(&self, draw: f64) -> bool {
        draw < self.failure_rate.load()
    }

    /// Whether it fails at once, without queue and service time.
    pub(crate) fn fails_at_once(&self, draw: f64) -> bool {
        self.fail_at_once.load(Relaxed) && self.fails(draw)
    }

    /// The service time now of a request whose lot or header has `base`.
    pub(crate) fn effective(&self, base: Duration) -> Duration {
        let (slow, extra_ms) = (self.slow.load(), self.extra_ms.load());
        if slow == 1.0 && extra_ms == 0.0 {
            return base;
        }
        clamped(base.as_secs_f64() * slow + extra_ms / 1e3)
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.stall.load(SeqCst)
    }

    /// Waits while the server is stalled.
    pub(crate) async fn until_not_stalled(&self) {
        while self.is_stalled() {
            let unstalled = self.unstalled.notified();
            tokio::pin!(unstalled);
            // Registered before the second look, so that a change in between is not missed.
            unstalled.as_mut().enable();
            if self.is_stalled() {
                unstalled.await;
            }
        }
    }
}

// === impl AtomicF64 ===

impl AtomicF64 {
    fn new(value: f64) -> Self {
        Self(AtomicU64::new(value.to_bits()))
    }

    fn load(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }

    fn store(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_touches_only_what_it_names() {
        let switches = Switches::new(0.25);
        switches.apply(&Change { slow: Some(3.0), ..Change::default() });
        let expected = State { slow: 3.0, extra_ms: 0.0, stall: false, failure_rate: 0.25, fail_at_once: false };
        assert_eq!(switches.state(), expected);
        switches.apply(&Change { stall: Some(true), failure_rate: Some(0.0), ..Change::default() });
        assert_eq!(switches.state(), State { stall: true, failure_rate: 0.0, ..expected });
    }

    #[test]
    fn slow_multiplies_and_extra_adds_also_to_a_service_time_of_0() {
        let switches = Switches::new(0.0);
        let (zero, two_ms) = (Duration::ZERO, Duration::from_millis(2));
        assert_eq!((switches.effective(zero), switches.effective(two_ms)), (zero, two_ms));
        switches.apply(&Change { slow: Some(3.0), extra_ms: Some(50.0), ..Change::default() });
        assert_eq!(switches.effective(zero), Duration::from_millis(50));
        assert_eq!(switches.effective(two_ms), Duration::from_millis(56));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let refused = |change: Change| change.check().is_err();
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(refused(Change { slow: Some(bad), ..Change::default() }));
            assert!(refused(Change { extra_ms: Some(bad), ..Change::default() }));
            assert!(refused(Change { failure_rate: Some(bad), ..Change::default() }));
        }
        assert!(refused(Change { failure_rate: Some(1.5), ..Change::default() }));
        assert!(!refused(Change {
            slow: Some(0.0),
            extra_ms: Some(0.0),
            failure_rate: Some(1.0),
            ..Change::default()
        }));
    }
}
