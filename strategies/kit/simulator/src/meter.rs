//! What a server knows of its own load, for load reports: rates of requests and errors.
//!
//! The figures are those of `mock-server`. A rate is that of the last whole window of a second. A server without a
//! limit of concurrency is full at 100 requests.

use lb_balance::Load;

use crate::time::SECOND_NS;

/// The number of requests that count as full without a limit.
const UNBOUNDED_FULL: u32 = 100;

#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    window: u64,
    requests: u64,
    errors: u64,
    last: (u64, u64),
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

    /// A report of this moment.
    pub(crate) fn report(&mut self, now_ns: u64, (in_service, queued): (u32, u32), concurrency: u32) -> Load {
        self.turn(now_ns);
        let full = if concurrency == 0 { UNBOUNDED_FULL } else { concurrency };
        let (requests, errors) = self.last;
        Load {
            utilization: f64::from(in_service + queued) / f64::from(full),
            qps: requests as f64,
            eps: errors as f64,
            named: [0.0; 4],
        }
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
        let later = meter.report(4 * SECOND_NS, (4, 2), 0);
        assert_eq!((later.utilization, later.qps, later.eps), (0.06, 0.0, 0.0));
    }
}
