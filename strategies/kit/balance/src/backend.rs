//! One backend of a pool, shared by all workers and control.
//!
//! Invariants: identity and address never change (another address is another `Backend` with the same statistics). Only
//! control writes the flags. A worker reads them after every pick, so health acts at once and not at the next
//! generation. `in_flight` counts attempts accepted and not yet ended, over every swap of strategy or list. A backend
//! that becomes eligible starts with no failures in a row.
//!
//! The counts that have caps (attempts, connections) use `SeqCst`. A request that begins to wait marks that first, and
//! then reads them. An end lowers them first, and then reads the mark. So one of the two sees the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use lb_strategy::abi::{LB_BACKEND_DRAINING, LB_BACKEND_ELIGIBLE, LB_BACKEND_HEALTHY};
use lb_strategy_host::{Stats, backend_id};

use crate::signals::{InRow, Signals, Thresholds};

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
    loss: AtomicU8,
    cuts: AtomicU32,
    /// Open connections of all workers, idle ones and tunnels included.
    connections: AtomicU32,
    signals: Signals,
    /// When a line about a bad load report was logged; 0: never.
    pub(crate) complained_ns: AtomicU64,
}

/// The conditions for new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eligibility {
    /// By its active checks. An ejected backend stays healthy.
    pub healthy: bool,
    pub draining: bool,
    /// With 0 it gets no new request.
    pub weight: u16,
    /// Outlier detection took it out for a while.
    pub ejected: bool,
    /// What the state of the whole pool changes for it.
    pub pool: PoolRule,
}

/// Whether a request that waits for a backend's response should wait longer. In order of certainty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// It should. A backend that is down, but responds to its checks or refuses them, may be finishing its requests.
    #[default]
    None,
    /// It is ejected, and its last attempts got no response. Only a request that may be sent again should not wait.
    Ejected,
    /// It is down, and its checks get no response.
    Down,
}

/// What the state of a pool changes for one of its backends. A backend that drains or has no weight gets no new request
/// in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolRule {
    /// Nothing: health and ejection decide.
    #[default]
    Follow,
    /// It gets requests in spite of its health or its ejection, because too few backends are left.
    Include,
    /// It gets none: a backup while primaries serve, or a primary of a pool that fails below its panic threshold.
    Exclude,
}

/// Adds one, if the count is below `most`.
fn raise(count: &AtomicU32, most: u32) -> bool {
    count.fetch_update(SeqCst, SeqCst, |now| (now < most).then(|| now + 1)).is_ok()
}

// === impl Eligibility ===

impl Eligibility {
    /// Of a backend by itself, neither ejected nor subject to a rule of its pool.
    pub const fn of(healthy: bool, draining: bool, weight: u16) -> Self {
        Self { healthy, draining, weight, ejected: false, pool: PoolRule::Follow }
    }

    /// Whether it may get new requests.
    #[inline]
    pub fn is_eligible(self) -> bool {
        let is_open = !self.draining && self.weight > 0;
        is_open
            && match self.pool {
                PoolRule::Follow => self.healthy && !self.ejected,
                PoolRule::Include => true,
                PoolRule::Exclude => false,
            }
    }

    /// The contract's flags. An ejected backend is not eligible and still healthy, because "healthy" is for information
    /// and tells the result of active checks.
    #[inline]
    pub fn flags(self) -> u32 {
        (if self.is_eligible() { LB_BACKEND_ELIGIBLE } else { 0 })
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
            loss: AtomicU8::new(Loss::None as u8),
            cuts: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            signals: Signals::default(),
            complained_ns: AtomicU64::new(0),
        })
    }

    /// Whether it may get new requests now.
    #[inline]
    pub fn is_eligible(&self) -> bool {
        self.flags.load(Relaxed) & LB_BACKEND_ELIGIBLE != 0
    }

    /// Set by control; acts on the next pick of every worker. Clears the failures in a row of a backend that becomes
    /// eligible, or that served in panic and becomes healthy.
    pub fn set_eligibility(&self, eligibility: Eligibility) {
        let was_healthy = self.flags.load(Relaxed) & LB_BACKEND_HEALTHY != 0;
        if eligibility.is_eligible() && !(self.is_eligible() && (was_healthy || !eligibility.healthy)) {
            self.signals.clear();
        }
        self.flags.store(eligibility.flags(), Relaxed);
    }

    /// Whether waiting for its responses is useless.
    #[inline]
    pub fn loss(&self) -> Loss {
        match self.loss.load(Relaxed) {
            0 => Loss::None,
            1 => Loss::Ejected,
            _ => Loss::Down,
        }
    }

    /// Set by control.
    pub fn set_loss(&self, loss: Loss) {
        self.loss.store(loss as u8, Relaxed);
    }

    /// How often its requests were cut. A request ends if this is more than when it began.
    #[inline]
    pub fn cuts(&self) -> u32 {
        self.cuts.load(Relaxed)
    }

    /// Ends all requests that have begun, whatever their state. Called by control; the workers must be woken.
    pub fn cut(&self) {
        self.cuts.fetch_add(1, Relaxed);
    }

    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.stats.in_flight.load(SeqCst)
    }

    /// An attempt was accepted.
    #[inline]
    pub fn attempt_begins(&self) {
        self.stats.in_flight.fetch_add(1, Relaxed);
    }

    /// An attempt was accepted, if fewer than `most` are in flight; else returns false.
    pub fn try_attempt(&self, most: u32) -> bool {
        raise(&self.stats.in_flight, most)
    }

    /// An attempt ended, with any result.
    #[inline]
    pub fn attempt_ends(&self) {
        self.stats.in_flight.fetch_sub(1, SeqCst);
    }

    #[inline]
    pub fn connections(&self) -> u32 {
        self.connections.load(SeqCst)
    }

    /// A connection is being opened.
    pub fn connection_opens(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// A connection is being opened, if fewer than `most` are open; else returns false.
    pub fn try_connection(&self, most: u32) -> bool {
        raise(&self.connections, most)
    }

    /// A connection was closed, or was not opened after all.
    pub fn connection_ends(&self) {
        self.connections.fetch_sub(1, SeqCst);
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
            // Of `libm`, so that a simulation gives the same average on every machine.
            let keep = libm::exp(-elapsed / EWMA_TAU_NS);
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

    /// For outlier detection: a final response head arrived. Returns whether a threshold is reached with it, so that
    /// the caller tells control to look at this pool.
    #[inline]
    pub fn head_arrived(&self, status: u16, thresholds: Thresholds) -> bool {
        self.signals.status(status, thresholds)
    }

    /// For outlier detection: the body of a response broke off because of the backend, behind a head that
    /// [`Backend::head_arrived`] counted. Returns the same as that.
    pub fn body_broke_off(&self, thresholds: Thresholds) -> bool {
        self.signals.broke_off(thresholds)
    }

    /// For outlier detection: the body of a response is complete.
    #[inline]
    pub fn body_is_complete(&self) {
        self.signals.complete();
    }

    /// For outlier detection: no valid response arrived, because of the backend. Returns the same as
    /// [`Backend::head_arrived`]. An attempt that was not sent, whose client went away, or that met a limit of lb is no
    /// failure.
    pub fn attempt_failed(&self, thresholds: Thresholds) -> bool {
        self.signals.failure(thresholds)
    }

    /// The failures in a row now.
    pub fn in_row(&self) -> InRow {
        self.signals.in_row()
    }

    /// Starts the failures in a row again. Only needed where the backend was eligible before, such as at a reset of
    /// outlier detection.
    pub fn clear_in_row(&self) {
        self.signals.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(healthy: bool, draining: bool, weight: u16) -> Arc<Backend> {
        let socket = "127.0.0.1:1".parse().unwrap();
        Backend::new("b1", "127.0.0.1:1", socket, Arc::default(), Eligibility::of(healthy, draining, weight))
    }

    #[test]
    fn only_healthy_undrained_backends_with_weight_are_eligible() {
        assert!(backend(true, false, 1).is_eligible());
        assert!(!backend(false, false, 1).is_eligible());
        assert!(!backend(true, true, 1).is_eligible());
        assert!(!backend(true, false, 0).is_eligible());
    }

    #[test]
    fn an_ejected_backend_is_healthy_and_not_eligible_and_a_rule_of_the_pool_wins() {
        let up = Eligibility::of(true, false, 1);
        let (healthy, eligible) = (LB_BACKEND_HEALTHY, LB_BACKEND_ELIGIBLE);
        assert_eq!(up.flags(), healthy | eligible);
        assert_eq!(Eligibility { ejected: true, ..up }.flags(), healthy);
        assert_eq!(Eligibility { ejected: true, pool: PoolRule::Include, ..up }.flags(), healthy | eligible);
        assert_eq!(Eligibility { healthy: false, pool: PoolRule::Include, ..up }.flags(), eligible);
        assert_eq!(Eligibility { pool: PoolRule::Exclude, ..up }.flags(), healthy);
        assert!(!Eligibility { weight: 0, pool: PoolRule::Include, ..up }.is_eligible());
        assert!(!Eligibility { draining: true, pool: PoolRule::Include, ..up }.is_eligible());
    }

    #[test]
    fn a_backend_that_becomes_eligible_starts_without_failures_in_a_row() {
        let (backend, up) = (backend(true, false, 1), Eligibility::of(true, false, 1));
        let fail = || (0..3).for_each(|_| assert!(!backend.attempt_failed(Thresholds::OFF)));
        fail();
        backend.set_eligibility(up);
        assert_eq!(backend.in_row().gateway, 3, "it was eligible before");
        backend.set_eligibility(Eligibility { ejected: true, ..up });
        fail();
        assert_eq!(backend.in_row(), InRow { gateway: 6, errors: 6 });
        backend.set_eligibility(up);
        assert_eq!(backend.in_row(), InRow::default());
        assert_eq!(backend.stats.consecutive_errors.load(Relaxed), 0, "these signals leave the contract's count alone");
    }

    #[test]
    fn a_cut_is_seen_by_the_requests_before_it_and_by_none_after_it() {
        let backend = backend(true, true, 1);
        let before = backend.cuts();
        backend.cut();
        assert!(backend.cuts() != before && backend.cuts() == backend.cuts());
    }

    #[test]
    fn a_cap_is_never_passed() {
        let backend = backend(true, false, 1);
        assert_eq!([2, 2, 2].map(|most| backend.try_attempt(most)), [true, true, false]);
        assert_eq!([2, 2, 2].map(|most| backend.try_connection(most)), [true, true, false]);
        backend.attempt_ends();
        backend.connection_ends();
        assert!(backend.try_attempt(2) && !backend.try_attempt(1) && !backend.try_attempt(0));
        assert!(backend.try_connection(2) && !backend.try_connection(1) && !backend.try_connection(0));
        assert_eq!((backend.in_flight(), backend.connections()), (2, 2));
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
