//! The newest load report of a backend, for strategies and for people.
//!
//! The numbers are words of the contract's statistics, so all strategies of a pool share them, over swaps too.
//! Invariant: a reader of [`Backend::report`] that sees the time of a report sees its numbers, or newer ones.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::Backend;

/// The time between two log lines about the load reports of one backend.
const COMPLAINT_EVERY_NS: u64 = 60_000_000_000;

/// The numbers of a load report: finite and not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    pub utilization: f64,
    pub qps: f64,
    pub eps: f64,
    /// The metrics that the pool lists.
    pub named: [f64; 4],
}

// === impl Backend: its load report ===

impl Backend {
    /// A load report arrived. Its time is stored last, so that a strategy that sees the time may use the numbers.
    pub fn reported(&self, load: &Load, now_ns: u64) {
        let stats = &*self.stats;
        let Load { utilization, qps, eps, named } = load;
        let words = [&stats.utilization, &stats.qps, &stats.eps].into_iter().chain(&stats.metric);
        for (word, value) in words.zip([utilization, qps, eps].into_iter().chain(named)) {
            word.store(value.to_bits(), Relaxed);
        }
        stats.report_at_ns.store(now_ns.max(1), Release);
    }

    /// Forgets the load report: its numbers have another meaning from now on.
    pub fn forget_report(&self) {
        self.stats.report_at_ns.store(0, Relaxed);
        let stats = &*self.stats;
        let words = [&stats.utilization, &stats.qps, &stats.eps].into_iter().chain(&stats.metric);
        words.for_each(|word| word.store(0, Relaxed));
    }

    /// Whether the caller should log that a load report is bad or missing: at most once a minute for a backend.
    /// `now_ns` is on the clock of [`reported`](Self::reported).
    pub fn may_complain(&self, now_ns: u64) -> bool {
        let before = self.complained_ns.load(Relaxed);
        let is_due = before == 0 || now_ns.saturating_sub(before) >= COMPLAINT_EVERY_NS;
        is_due && self.complained_ns.compare_exchange(before, now_ns.max(1), Relaxed, Relaxed).is_ok()
    }

    /// The newest load report, and when it arrived.
    pub fn report(&self) -> Option<(Load, u64)> {
        let stats = &*self.stats;
        let value = |word: &AtomicU64| f64::from_bits(word.load(Relaxed));
        let at_ns = stats.report_at_ns.load(Acquire);
        let [utilization, qps, eps] = [&stats.utilization, &stats.qps, &stats.eps].map(value);
        (at_ns != 0).then(|| (Load { utilization, qps, eps, named: stats.metric.each_ref().map(value) }, at_ns))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Eligibility;

    fn backend() -> Arc<Backend> {
        let (socket, up) = ("127.0.0.1:1".parse().unwrap(), Eligibility::of(true, false, 1));
        Backend::new("b1", "127.0.0.1:1", socket, Arc::default(), up)
    }

    #[test]
    fn a_backend_is_complained_of_once_a_minute() {
        let (backend, other) = (backend(), backend());
        let at = [0, 1, 59, 61, 62, 121, 122].map(|seconds| backend.may_complain(seconds * 1_000_000_000));
        assert_eq!(at, [true, false, false, true, false, true, false]);
        assert!(other.may_complain(1));
    }

    #[test]
    fn a_report_is_kept_until_the_next_one_or_until_it_is_forgotten() {
        let backend = backend();
        assert_eq!(backend.report(), None);
        let load = Load { utilization: 0.5, qps: 10.0, eps: 0.1, named: [1.0, 2.0, 3.0, 4.0] };
        backend.reported(&load, 7);
        assert_eq!(backend.report(), Some((load, 7)));
        backend.reported(&Load::default(), 0);
        assert_eq!(backend.report(), Some((Load::default(), 1)), "time 0 means that there is no report");
        backend.reported(&load, 9);
        backend.forget_report();
        assert_eq!(backend.report(), None);
        assert_eq!(backend.stats.utilization.load(Relaxed), 0);
    }
}
