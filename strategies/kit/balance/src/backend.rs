//! One backend of a pool, shared by all workers and control.
//!
//! Invariants: identity and address never change (another address is another `Backend` with the same statistics). Only
//! control writes the flags. A worker reads them after every pick, so health acts at once and not at the next
//! generation. `in_flight` counts attempts accepted and not yet ended, over every swap of strategy or list.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use lb_strategy::abi::{LB_BACKEND_DRAINING, LB_BACKEND_ELIGIBLE, LB_BACKEND_HEALTHY};
use lb_strategy_host::{Stats, backend_id};

/// Time constant of the latency average.
const EWMA_TAU_NS: f64 = 10e9;

#[derive(Debug)]
pub struct Backend {
    /// The configured id.
    pub id: Arc<str>,
    /// The hash of the id, which is the backend's id in the strategy contract.
    pub number: u64,
    /// As configured, "host:port".
    pub address: Arc<str>,
    pub socket: SocketAddr,
    /// Belongs to the id, and survives every change of the list.
    pub stats: Arc<Stats>,
    flags: AtomicU32,
    is_lost: AtomicBool,
}

/// The conditions for new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eligibility {
    pub healthy: bool,
    pub draining: bool,
    /// With 0 it gets no new request.
    pub weight: u16,
}

// === impl Eligibility ===

impl Eligibility {
    /// The contract's flags.
    #[inline]
    pub fn flags(self) -> u32 {
        let eligible = self.healthy && !self.draining && self.weight > 0;
        (if eligible { LB_BACKEND_ELIGIBLE } else { 0 })
            | (if self.healthy { LB_BACKEND_HEALTHY } else { 0 })
            | (if self.draining { LB_BACKEND_DRAINING } else { 0 })
    }
}

// === impl Backend ===

impl Backend {
    pub fn new(id: &str, address: &str, socket: SocketAddr, stats: Arc<Stats>, eligibility: Eligibility) -> Arc<Self> {
        Arc::new(Self {
            id: id.into(),
            number: backend_id(id),
            address: address.into(),
            socket,
            stats,
            flags: AtomicU32::new(eligibility.flags()),
            is_lost: AtomicBool::new(false),
        })
    }

    /// Whether it may get new requests now.
    #[inline]
    pub fn is_eligible(&self) -> bool {
        self.flags.load(Relaxed) & LB_BACKEND_ELIGIBLE != 0
    }

    /// Set by control; acts on the next pick of every worker.
    pub fn set_eligibility(&self, eligibility: Eligibility) {
        self.flags.store(eligibility.flags(), Relaxed);
    }

    /// Whether it is down because it responds to nothing, so that waiting for it is useless. A backend whose checks get
    /// a bad response is down, but not lost: it may be finishing its requests.
    #[inline]
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Relaxed)
    }

    /// Set by control.
    pub fn set_lost(&self, is_lost: bool) {
        self.is_lost.store(is_lost, Relaxed);
    }

    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.stats.in_flight.load(Relaxed)
    }

    /// An attempt was accepted.
    #[inline]
    pub fn attempt_begins(&self) {
        self.stats.in_flight.fetch_add(1, Relaxed);
    }

    /// An attempt ended, with any result.
    #[inline]
    pub fn attempt_ends(&self) {
        self.stats.in_flight.fetch_sub(1, Relaxed);
    }

    /// A response head arrived after `latency_ns`. Resets the errors in a row and updates the average. If two workers
    /// update it at the same time, one sample may be lost.
    #[inline]
    pub fn answered(&self, latency_ns: u64, now_ns: u64) {
        let stats = &*self.stats;
        if stats.consecutive_errors.load(Relaxed) != 0 {
            stats.consecutive_errors.store(0, Relaxed);
        }
        let old = stats.ewma_latency_ns.load(Relaxed);
        let new = if old == 0 {
            latency_ns
        } else {
            let elapsed = now_ns.saturating_sub(stats.ewma_at_ns.load(Relaxed)) as f64;
            let keep = (-elapsed / EWMA_TAU_NS).exp();
            (old as f64 * keep + latency_ns as f64 * (1.0 - keep)) as u64
        };
        stats.ewma_latency_ns.store(new.max(1), Relaxed);
        stats.ewma_at_ns.store(now_ns, Relaxed);
    }

    /// An attempt failed because of the backend, before or after the response head.
    #[inline]
    pub fn failed(&self) {
        self.stats.consecutive_errors.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(healthy: bool, draining: bool, weight: u16) -> Arc<Backend> {
        let socket = "127.0.0.1:1".parse().unwrap();
        Backend::new("b1", "127.0.0.1:1", socket, Arc::default(), Eligibility { healthy, draining, weight })
    }

    #[test]
    fn only_healthy_undrained_backends_with_weight_are_eligible() {
        assert!(backend(true, false, 1).is_eligible());
        assert!(!backend(false, false, 1).is_eligible());
        assert!(!backend(true, true, 1).is_eligible());
        assert!(!backend(true, false, 0).is_eligible());
    }

    #[test]
    fn the_average_starts_at_the_first_sample_and_follows_with_its_time_constant() {
        let backend = backend(true, false, 1);
        backend.answered(1_000_000, 0);
        assert_eq!(backend.stats.ewma_latency_ns.load(Relaxed), 1_000_000);
        backend.answered(2_000_000, 10_000_000_000);
        let average = backend.stats.ewma_latency_ns.load(Relaxed);
        assert!((1_630_000..1_635_000).contains(&average), "1 - 1/e of the way: {average}");
    }
}
