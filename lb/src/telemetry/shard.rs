//! The shards: one worker's counts about one listener, pool or backend. A worker gets them when it builds its view and
//! keeps them there, so that a request finds its counters without a look-up.
//!
//! Invariants: one thread writes a shard, though `Sync` would allow more. Nothing that a worker calls locks, formats or
//! builds a label. Memory is allocated at most once per shard and class of status codes. Shards are aligned so that two
//! workers' shards never share a cache line.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;

use super::cell::{Counter, Gauge, Histogram, PAUSE_BOUNDS_NS, PICK_BOUNDS_NS, REQUEST_BOUNDS_NS, SLOW_PICK_NS};
use super::code::{ByClass, CodeTable};
use super::reason::{
    EjectionReason, ErrorReason, FallbackReason, HedgeResult, QueueRefusal, ReportResult, RetryReason, SessionResult,
};

/// A worker's counts about itself.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerShard {
    pub(super) take_up: Histogram,
}

/// A worker's counts of client connections of one listener.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ConnectionShard {
    pub open: Gauge,
    pub accepted: Counter,
    /// Refused because the limit of connections was reached.
    pub rejected: Counter,
}

/// A worker's counts of requests for one pool by one listener.
#[derive(Debug)]
#[repr(align(128))]
pub struct PoolShard {
    pub in_flight: Gauge,
    pub request_bytes: Counter,
    pub response_bytes: Counter,
    pub(super) requests: CodeTable<{ METHODS.len() }>,
    pub(super) durations: ByClass<Box<Histogram>>,
    pub(super) errors: [Counter; ErrorReason::COUNT],
    pub(super) retries: [Counter; RetryReason::COUNT],
    pub(super) retries_denied: Counter,
    pub(super) hedges: [Counter; HedgeResult::COUNT],
    pub(super) sessions: [Counter; SessionResult::COUNT],
    /// Requests in the queue now.
    pub(super) queued: Gauge,
    pub(super) queue_entries: Counter,
    pub(super) queue_wait_ns: Counter,
    pub(super) queue_refusals: [Counter; QueueRefusal::COUNT],
    pub(super) fallbacks: [Counter; FallbackReason::COUNT],
    /// Picks requested of the strategy.
    pub(super) picks: Counter,
    /// Times of timed picks.
    pub(super) pick_time: Histogram,
    pub(super) last_timed_ns: Gauge,
}

/// A worker's state of the queue of one pool.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct QueueShard {
    /// Its part of the adaptive limit; 0: there is none.
    pub adaptive_limit: Gauge,
}

/// A worker's counts of its attempts on one backend.
#[derive(Debug)]
#[repr(align(128))]
pub struct BackendShard {
    pub in_flight: Gauge,
    pub connections_opened: Counter,
    pub connections_active: Gauge,
    pub connections_idle: Gauge,
    pub(super) responses: CodeTable<1>,
    pub(super) errors: [Counter; ErrorReason::COUNT],
    pub(super) to_head: Histogram,
    pub(super) connect: Histogram,
    pub(super) load_reports: [Counter; ReportResult::COUNT],
}

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

/// Reading the clock twice costs more than most picks, so one in this many is timed. With few requests, one in 10 ms is
/// timed.
const PICKS_PER_TIMED: u64 = 128;
const UNTIMED_NS_MAX: u64 = 10_000_000;
/// A longer pick counts as slow.
pub const SLOW_PICK: Duration = Duration::from_nanos(SLOW_PICK_NS);

/// The `method` label by column of `PoolShard::requests`; the last one stands for all other methods.
pub(super) const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "other"];

/// The column of most requests.
pub(super) const GET: usize = 0;

#[inline]
fn method_column(method: &Method) -> usize {
    match *method {
        Method::GET => GET,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::DELETE => 4,
        Method::CONNECT => 5,
        Method::OPTIONS => 6,
        Method::TRACE => 7,
        Method::PATCH => 8,
        _ => 9,
    }
}

// === impl WorkerShard ===

impl WorkerShard {
    pub(super) fn new() -> WorkerShard {
        WorkerShard { take_up: Histogram::new(PAUSE_BOUNDS_NS) }
    }

    /// The worker took up a new generation, and served no request for this long.
    pub fn taken_up(&self, took: Duration) {
        self.take_up.observe(took.as_nanos() as u64);
    }
}

// === impl PoolShard ===

impl PoolShard {
    pub(super) fn new() -> PoolShard {
        let shard = PoolShard {
            in_flight: Gauge::new(),
            request_bytes: Counter::new(),
            response_bytes: Counter::new(),
            requests: CodeTable::new(),
            durations: ByClass::new(),
            errors: [const { Counter::new() }; ErrorReason::COUNT],
            retries: [const { Counter::new() }; RetryReason::COUNT],
            retries_denied: Counter::new(),
            hedges: [const { Counter::new() }; HedgeResult::COUNT],
            sessions: [const { Counter::new() }; SessionResult::COUNT],
            queued: Gauge::new(),
            queue_entries: Counter::new(),
            queue_wait_ns: Counter::new(),
            queue_refusals: [const { Counter::new() }; QueueRefusal::COUNT],
            fallbacks: [const { Counter::new() }; FallbackReason::COUNT],
            picks: Counter::new(),
            pick_time: Histogram::new(PICK_BOUNDS_NS),
            last_timed_ns: Gauge::new(),
        };
        // exists from the start, so that the first request is seen as an increase
        shard.duration(200);
        shard
    }

    /// A request ended: its final status, and the time from its complete head to the last byte of the response.
    #[inline]
    pub fn request_finished(&self, method: &Method, code: u16, duration_ns: u64) {
        self.requests.count(code, method_column(method));
        self.duration(code).observe(duration_ns);
    }

    /// A request failed in the balancer.
    #[inline]
    pub fn error(&self, reason: ErrorReason) {
        self.errors[reason as usize].inc();
    }

    /// A further attempt of a request begins.
    #[inline]
    pub fn retry(&self, reason: RetryReason) {
        self.retries[reason as usize].inc();
    }

    /// A request is not retried, because the budget for retries is used up.
    pub fn retry_denied(&self) {
        self.retries_denied.inc();
    }

    /// An attempt beside a slow one ended, or did not begin for lack of budget.
    pub fn hedge(&self, result: HedgeResult) {
        self.hedges[result as usize].inc();
    }

    /// A backend was chosen for a request to a pool with sticky sessions.
    #[inline]
    pub fn session(&self, result: SessionResult) {
        self.sessions[result as usize].inc();
    }

    /// A request begins to wait for a backend with room.
    pub fn queue_entered(&self) {
        self.queued.inc();
        self.queue_entries.inc();
    }

    /// Its wait has ended, in any way.
    pub fn queue_left(&self, waited: Duration) {
        self.queued.dec();
        self.queue_wait_ns.add(waited.as_nanos() as u64);
    }

    /// A request got no backend from the queue.
    pub fn refused_in_queue(&self, reason: QueueRefusal) {
        self.queue_refusals[reason as usize].inc();
    }

    /// The built-in fallback picked instead of the strategy.
    #[inline]
    pub fn fallback(&self, reason: FallbackReason) {
        self.fallbacks[reason as usize].inc();
    }

    /// Counts a pick before it is made; returns whether it is to be timed.
    #[inline]
    pub fn pick_begins(&self, now_ns: u64) -> bool {
        let before = self.picks.get();
        self.picks.inc();
        let is_timed = before.is_multiple_of(PICKS_PER_TIMED)
            || now_ns.saturating_sub(self.last_timed_ns.get() as u64) >= UNTIMED_NS_MAX;
        if is_timed {
            self.last_timed_ns.set(now_ns as i64);
        }
        is_timed
    }

    /// The duration of a timed pick.
    #[inline]
    pub fn pick_timed(&self, took: Duration) {
        self.pick_time.observe(took.as_nanos() as u64);
    }

    #[inline]
    fn duration(&self, code: u16) -> &Histogram {
        self.durations.get_or_make(code, || Box::new(Histogram::new(REQUEST_BOUNDS_NS)))
    }
}

// === impl BackendShard ===

impl BackendShard {
    pub(super) fn new() -> BackendShard {
        BackendShard {
            in_flight: Gauge::new(),
            connections_opened: Counter::new(),
            connections_active: Gauge::new(),
            connections_idle: Gauge::new(),
            responses: CodeTable::new(),
            errors: [const { Counter::new() }; ErrorReason::COUNT],
            to_head: Histogram::new(REQUEST_BOUNDS_NS),
            connect: Histogram::new(REQUEST_BOUNDS_NS),
            load_reports: [const { Counter::new() }; ReportResult::COUNT],
        }
    }

    /// The backend responded to an attempt: its status, and the time from the attempt's start to the head of the
    /// response.
    #[inline]
    pub fn response(&self, code: u16, to_head_ns: u64) {
        self.responses.count(code, 0);
        self.to_head.observe(to_head_ns);
    }

    /// An attempt ended without a response.
    #[inline]
    pub fn error(&self, reason: ErrorReason) {
        self.errors[reason as usize].inc();
    }

    /// A load report came with a response.
    pub fn load_report(&self, result: ReportResult) {
        self.load_reports[result as usize].inc();
    }

    /// The time to open a connection; `connections_opened` counts the connection.
    #[inline]
    pub fn connected(&self, ns: u64) {
        self.connect.observe(ns);
    }
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

    /// A poll for a load report ended.
    pub fn load_report(&self, result: ReportResult) {
        self.load_reports[result as usize].inc();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_method_has_the_column_of_its_name() {
        for (column, name) in METHODS[..9].iter().enumerate() {
            assert_eq!(method_column(&Method::from_bytes(name.as_bytes()).unwrap()), column);
        }
        assert_eq!(METHODS[method_column(&Method::from_bytes(b"PURGE").unwrap())], "other");
    }

    #[test]
    fn shards_of_two_workers_share_no_cache_line() {
        assert_eq!(align_of::<PoolShard>(), 128);
        assert_eq!(align_of::<BackendShard>(), 128);
        assert_eq!(align_of::<ConnectionShard>(), 128);
        assert_eq!(align_of::<QueueShard>(), 128);
        assert_eq!(align_of::<WorkerShard>(), 128);
    }
}
