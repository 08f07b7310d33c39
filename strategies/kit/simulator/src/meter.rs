//! What a server knows of its own load, for load reports and probes: its rates and its latency.
//!
//! The figures are those of `mock-server`. A rate is that of the last whole window of a second. A server without a
//! limit of concurrency is full at 100 requests.

use lb_balance::Load;
use serde::Serialize;

use crate::time::SECOND_NS;

/// The number of requests that count as full without a limit.
const UNBOUNDED_FULL: u32 = 100;

#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    window: u64,
    requests: u64,
    errors: u64,
    last: (u64, u64),
    /// The average time from a request's arrival to its response; a new one counts for an eighth.
    latency_ns: Option<f64>,
}

/// The figures of one moment, as probes tell them.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    utilization: f64,
    in_flight: u32,
    queued: u32,
    rps: f64,
    eps: f64,
    latency_ms: f64,
}

// === impl Meter ===

impl Meter {
    #[inline]
    pub(crate) fn request(&mut self, now_ns: u64) {
        self.turn(now_ns);
        self.requests += 1;
    }

    pub(crate) fn failure(&mut self, now_ns: u64) {
        self.turn(now_ns);
        self.errors += 1;
    }

    pub(crate) fn latency(&mut self, took_ns: u64) {
        let new = took_ns as f64;
        self.latency_ns = Some(self.latency_ns.map_or(new, |old| old + (new - old) / 8.0));
    }

    /// The figures of this moment.
    pub(crate) fn figures(&mut self, now_ns: u64, (in_service, queued): (u32, u32), concurrency: u32) -> Figures {
        self.turn(now_ns);
        let full = if concurrency == 0 { UNBOUNDED_FULL } else { concurrency };
        let (requests, errors) = self.last;
        Figures {
            utilization: f64::from(in_service + queued) / f64::from(full),
            in_flight: in_service,
            queued,
            rps: requests as f64,
            eps: errors as f64,
            latency_ms: (self.latency_ns.unwrap_or_default() / 1e2).round() / 1e4,
        }
    }

    /// A load report of this moment.
    pub(crate) fn report(&mut self, now_ns: u64, load: (u32, u32), concurrency: u32) -> Load {
        let figures = self.figures(now_ns, load, concurrency);
        Load { utilization: figures.utilization, qps: figures.rps, eps: figures.eps, named: [0.0; 4] }
    }

    #[inline]
    fn turn(&mut self, now_ns: u64) {
        let window = now_ns / SECOND_NS;
        if window != self.window {
            let is_next = window == self.window + 1;
            self.last = if is_next { (self.requests, self.errors) } else { (0, 0) };
            (self.window, self.requests, self.errors) = (window, 0, 0);
        }
    }
}

// === impl Figures ===

impl Figures {
    /// The values of `x-in-flight` and `x-latency-ms`.
    pub(crate) fn headers(&self) -> (String, String) {
        ((self.in_flight + self.queued).to_string(), self.latency_ms.to_string())
    }

    pub(crate) fn to_json(self) -> String {
        // It has no map, so it can be written.
        serde_json::to_string(&self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_second_and_utilisation_is_that_of_now() {
        let mut meter = Meter::default();
        (0..30).for_each(|n| meter.request(SECOND_NS + n));
        meter.failure(SECOND_NS + 40);
        let load = meter.report(2 * SECOND_NS, (4, 2), 4);
        assert_eq!((load.utilization, load.qps, load.eps), (1.5, 30.0, 1.0));
        meter.latency(8_000_000);
        meter.latency(16_000_000);
        let figures = meter.figures(2 * SECOND_NS, (4, 2), 4);
        assert_eq!(figures.headers(), ("6".to_owned(), "9".to_owned()));
        assert!(figures.to_json().contains("\"in_flight\":4,\"queued\":2,"));
        let later = meter.report(4 * SECOND_NS, (4, 2), 0);
        assert_eq!((later.utilization, later.qps, later.eps), (0.06, 0.0, 0.0));
    }
}
