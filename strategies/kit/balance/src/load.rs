//! The newest load report of a backend, for strategies and for people.
//!
//! The numbers are words of the contract's statistics, so all strategies of a pool share them, over swaps too.
//! Invariant: a reader of [`Backend::report`] that sees the time of a report sees its numbers, or newer ones.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::Backend;

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

    #[test]
    fn a_report_is_kept_until_the_next_one_or_until_it_is_forgotten() {
        let socket = "127.0.0.1:1".parse().unwrap();
        let up = Eligibility::of(true, false, 1);
        let backend = Backend::new("b1", "127.0.0.1:1", socket, Arc::default(), up);
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
