//! The load of a server: how busy it is now, and its rates. For load reports and probes.
//!
//! Real servers report such figures, so a balancer's use of them can be studied here. Invariants: only requests that
//! are work count. The figures are those of `/stats` at the same moment, rounded to four decimals.

use std::str::FromStr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde::Serialize;
use thiserror::Error;

use crate::counters::Counters;

/// The form of a load report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportForm {
    /// `TEXT name=number, …`
    Text,
    /// `JSON {…}`
    Json,
    /// `BIN` and base64 of the message `OrcaLoadReport`.
    Binary,
}

/// Why a text names no form.
#[derive(Debug, Error, PartialEq)]
#[error("{0:?} is no form of a load report: text, json or bin")]
pub struct BadReportForm(String);

/// The figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Load {
    /// Requests in service and waiting, as a share of the workers; above 1 if requests wait.
    pub(crate) utilization: f64,
    /// Requests in service.
    pub(crate) in_flight: u64,
    /// Requests that wait for a worker.
    pub(crate) queued: u64,
    /// Requests a second.
    pub(crate) rps: f64,
    /// Responses with a status of 500 or more, a second.
    pub(crate) eps: f64,
    /// The average time from a request's arrival to its response; a new one counts for an eighth.
    pub(crate) latency_ms: f64,
}

/// Measures rates and the latency.
pub(crate) struct Meter {
    requests: Rate,
    errors: Rate,
    latency: Option<Duration>,
}

/// Events a second, in the last whole window.
struct Rate {
    began: Instant,
    count: u64,
    last: Option<f64>,
}

/// The number of requests that count as full, if the workers have no bound.
const UNBOUNDED_FULL: usize = 100;
/// A rate is that of a window of at least this length.
const WINDOW: Duration = Duration::from_secs(1);

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

// === impl ReportForm ===

impl FromStr for ReportForm {
    type Err = BadReportForm;

    fn from_str(text: &str) -> Result<Self, BadReportForm> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "bin" => Ok(Self::Binary),
            _ => Err(BadReportForm(text.to_owned())),
        }
    }
}

// === impl Meter ===

impl Meter {
    pub(crate) fn new(now: Instant) -> Self {
        Self { requests: Rate::new(now), errors: Rate::new(now), latency: None }
    }

    pub(crate) fn arrives(&mut self, now: Instant) {
        self.requests.add(now);
    }

    pub(crate) fn ends(&mut self, began: Instant, now: Instant, is_error: bool) {
        if is_error {
            self.errors.add(now);
        }
        let latency = now.saturating_duration_since(began);
        self.latency = Some(self.latency.map_or(latency, |old| old - old / 8 + latency / 8));
    }

    /// The load now. `concurrency` is the number of workers; 0 means no bound.
    pub(crate) fn load(&mut self, counters: &Counters, concurrency: usize, now: Instant) -> Load {
        let (in_flight, queued) = (counters.in_service.load(Relaxed), counters.queued.load(Relaxed));
        let full = if concurrency == 0 { UNBOUNDED_FULL } else { concurrency };
        Load {
            utilization: rounded((in_flight + queued) as f64 / full as f64),
            in_flight,
            queued,
            rps: rounded(self.requests.at(now)),
            eps: rounded(self.errors.at(now)),
            latency_ms: rounded(self.latency.unwrap_or_default().as_secs_f64() * 1e3),
        }
    }
}

// === impl Rate ===

impl Rate {
    fn new(now: Instant) -> Self {
        Self { began: now, count: 0, last: None }
    }

    fn add(&mut self, now: Instant) {
        self.roll(now);
        self.count += 1;
    }

    /// In the first window, the count so far.
    fn at(&mut self, now: Instant) -> f64 {
        self.roll(now);
        self.last.unwrap_or(self.count as f64)
    }

    fn roll(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.began);
        if elapsed >= WINDOW {
            *self = Self { began: now, count: 0, last: Some(self.count as f64 / elapsed.as_secs_f64()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn rates_are_those_of_the_last_window_and_fall_to_0_when_no_request_comes() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut rate = Rate::new(start);
        (0..50).for_each(|step| rate.add(at(step)));
        assert_eq!(rate.at(at(999)), 50.0);
        assert_eq!(rate.at(at(1000)), 50.0);
        rate.add(at(1500));
        assert_eq!(rate.at(at(3000)), 0.5);
        assert_eq!(rate.at(at(4000)), 0.0);
    }

    #[test]
    fn requests_that_wait_count_as_load_above_the_workers() {
        let (start, counters) = (Instant::now(), Arc::new(Counters::new()));
        let mut meter = Meter::new(start);
        let _busy: Vec<_> = (0..4).map(|_| counters.gauge(|counters| &counters.in_service)).collect();
        let _waiting = counters.gauge(|counters| &counters.queued);
        meter.arrives(start);
        meter.ends(start, start + Duration::from_millis(8), false);
        meter.ends(start, start + Duration::from_millis(16), true);
        let load = meter.load(&counters, 4, start);
        let expected = Load { utilization: 1.25, in_flight: 4, queued: 1, rps: 1.0, eps: 1.0, latency_ms: 9.0 };
        assert_eq!(load, expected);
        assert_eq!(meter.load(&counters, 0, start).utilization, 0.05);
    }
}
