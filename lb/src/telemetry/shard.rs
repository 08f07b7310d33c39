//! The shards: one worker's counts about one listener, pool or backend. A worker gets them when it builds its view and
//! keeps them there, so that a request finds its counters without a look-up.
//!
//! Invariants: one thread writes a shard, though `Sync` would allow more. Nothing that a worker calls locks, formats or
//! builds a label. Memory is allocated at most once per shard and class of status codes. Shards are aligned so that two
//! workers' shards never share a cache line.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::cell::{Counter, Gauge, Histogram, PAUSE_BOUNDS_NS, PICK_BOUNDS_NS, REQUEST_BOUNDS_NS, SLOW_PICK_NS};
use super::code::{ByClass, CodeTable};
use super::probes::ProbeCounts;
use super::reason::{
    ErrorReason, FallbackReason, HedgeResult, ProbeOutcome, ProbeSkip, QueueRefusal, ReportResult, RetryReason,
    SessionResult,
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
    /// Those of them that the strategy lets wait.
    pub held: Gauge,
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
    pub(super) probes: ProbeCounts,
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

/// Whether the next pick is to be timed, after `before` others. Then `last_timed_ns` is now.
#[inline]
pub(super) fn is_pick_timed(before: u64, now_ns: u64, last_timed_ns: &Gauge) -> bool {
    let is_timed =
        before.is_multiple_of(PICKS_PER_TIMED) || now_ns.saturating_sub(last_timed_ns.get() as u64) >= UNTIMED_NS_MAX;
    if is_timed {
        last_timed_ns.set(now_ns as i64);
    }
    is_timed
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
            held: Gauge::new(),
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
        is_pick_timed(before, now_ns, &self.last_timed_ns)
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
            probes: ProbeCounts::new(),
        }
    }

    /// One that no scrape reads, for connections that are not those of requests.
    pub fn uncounted() -> Arc<BackendShard> {
        Arc::new(Self::new())
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

    /// A probe ended.
    pub fn probe(&self, outcome: ProbeOutcome) {
        self.probes.outcomes[outcome as usize].inc();
    }

    /// Probes that a strategy asked for were not sent.
    pub fn probes_skipped(&self, reason: ProbeSkip, count: u32) {
        self.probes.skips[reason as usize].add(u64::from(count));
    }

    /// The time to open a connection; `connections_opened` counts the connection.
    #[inline]
    pub fn connected(&self, ns: u64) {
        self.connect.observe(ns);
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
