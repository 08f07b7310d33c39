//! Exact counts of requests, by outcome.
//!
//! A run of an experiment is void unless these numbers agree with the balancer's. So every request that arrived has
//! exactly one outcome or is in progress. [`Arrival`] ensures this: each request makes one, and its drop counts the
//! outcome once, also if the client went away.
//!
//! Invariants:
//! - `requests = served + failures + rejected + refused + abandoned + in_progress`.
//! - A reset starts a new epoch; an arrival of an earlier epoch is no longer counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::endpoint::{ENDPOINTS, Endpoint};
use crate::error_histogram::ErrorHistogram;

/// The counters of one server. Written by its thread, read by any.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) by_outcome: [AtomicU64; OUTCOMES],
    pub(crate) by_endpoint: [AtomicU64; ENDPOINTS.len()],
    pub(crate) in_progress: AtomicU64,
    /// Now, not since the reset.
    pub(crate) in_service: AtomicU64,
    /// Now, not since the reset.
    pub(crate) queued: AtomicU64,
    pub(crate) max_queued: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// Now, not since the reset.
    pub(crate) open_connections: AtomicU64,
    pub(crate) body_bytes_received: AtomicU64,
    pub(crate) body_bytes_sent: AtomicU64,
    pub(crate) service_time_error: ErrorHistogram,
    epoch: AtomicU64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    /// Got its response after its service time.
    Served,
    /// Got an injected 500, after its service time or (`fail_at_once`) at once.
    Failed,
    /// The queue was full: 503.
    Rejected,
    /// Refused at once: 400, 404, 405 or 426.
    Refused,
    /// The client went away before its response.
    Abandoned,
}

pub(crate) const OUTCOMES: usize = 5;

/// One request in progress.
pub(crate) struct Arrival {
    counters: Arc<Counters>,
    epoch: u64,
    outcome: Outcome,
}

/// Adds one to a gauge while it exists.
pub(crate) struct Gauge {
    counters: Arc<Counters>,
    of: fn(&Counters) -> &AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Relaxed);
}

// === impl Counters ===

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            requests: AtomicU64::new(0),
            by_outcome: Default::default(),
            by_endpoint: Default::default(),
            in_progress: AtomicU64::new(0),
            in_service: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            max_queued: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            open_connections: AtomicU64::new(0),
            body_bytes_received: AtomicU64::new(0),
            body_bytes_sent: AtomicU64::new(0),
            service_time_error: ErrorHistogram::new(),
            epoch: AtomicU64::new(0),
        }
    }

    /// Counts a request by its path; the only count of heartbeats, stats, metrics and control.
    pub(crate) fn saw(&self, endpoint: Endpoint) {
        add(&self.by_endpoint[endpoint as usize], 1);
    }

    pub(crate) fn arrival(self: &Arc<Self>) -> Arrival {
        add(&self.requests, 1);
        add(&self.in_progress, 1);
        Arrival { counters: self.clone(), epoch: self.epoch.load(Relaxed), outcome: Outcome::Abandoned }
    }

    pub(crate) fn gauge(self: &Arc<Self>, of: fn(&Counters) -> &AtomicU64) -> Gauge {
        add(of(self), 1);
        Gauge { counters: self.clone(), of }
    }

    pub(crate) fn reset(&self) {
        self.epoch.fetch_add(1, Relaxed);
        let Self {
            requests,
            by_outcome,
            by_endpoint,
            in_progress,
            in_service: _,
            queued,
            max_queued,
            connections,
            open_connections: _,
            body_bytes_received,
            body_bytes_sent,
            service_time_error,
            epoch: _,
        } = self;
        let plain = [requests, in_progress, connections, body_bytes_received, body_bytes_sent];
        for counter in plain.into_iter().chain(by_outcome).chain(by_endpoint) {
            counter.store(0, Relaxed);
        }
        max_queued.store(queued.load(Relaxed), Relaxed);
        service_time_error.reset();
    }
}

// === impl Arrival ===

impl Arrival {
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome; // The drop counts it.
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if self.epoch == self.counters.epoch.load(Relaxed) {
            self.counters.in_progress.fetch_sub(1, Relaxed);
            add(&self.counters.by_outcome[self.outcome as usize], 1);
        }
    }
}

// === impl Gauge ===

impl Drop for Gauge {
    fn drop(&mut self) {
        (self.of)(&self.counters).fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(counters: &Counters, outcome: Outcome) -> u64 {
        counters.by_outcome[outcome as usize].load(Relaxed)
    }

    #[test]
    fn a_dropped_arrival_is_abandoned_and_an_ended_one_is_not() {
        let counters = Arc::new(Counters::new());
        drop(counters.arrival());
        counters.arrival().end(Outcome::Served);
        let waiting = counters.arrival();
        assert_eq!(counters.requests.load(Relaxed), 3);
        assert_eq!((count(&counters, Outcome::Abandoned), count(&counters, Outcome::Served)), (1, 1));
        assert_eq!(counters.in_progress.load(Relaxed), 1);
        waiting.end(Outcome::Failed);
        assert_eq!(counters.in_progress.load(Relaxed), 0);
    }

    #[test]
    fn a_reset_forgets_requests_in_progress_but_not_the_gauges() {
        let counters = Arc::new(Counters::new());
        let before = counters.arrival();
        let in_service = counters.gauge(|counters| &counters.in_service);
        counters.reset();
        let after = counters.arrival();
        before.end(Outcome::Served);
        assert_eq!((count(&counters, Outcome::Served), counters.in_progress.load(Relaxed)), (0, 1));
        after.end(Outcome::Served);
        assert_eq!((count(&counters, Outcome::Served), counters.in_progress.load(Relaxed)), (1, 0));
        assert_eq!(counters.in_service.load(Relaxed), 1);
        drop(in_service);
        assert_eq!(counters.in_service.load(Relaxed), 0);
    }
}
