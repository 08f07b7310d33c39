//! The hall between the wings: one immutable snapshot of all data that a request needs, numbered and published whole.
//!
//! Control makes a [`Generation`] and [publishes](Hall::publish) it. Every worker is woken, rebuilds its own view,
//! drops the old one and acknowledges. Invariants: the index that a picker returns belongs to the backends beside it,
//! because one [`PoolGeneration`] holds both. A request keeps no generation over an await, so an old one is free when
//! every worker has acknowledged a newer one. The last reference is dropped by control (on the builder), never by a
//! worker.

mod choice;
mod clock;
mod own_routes;
#[cfg(any(test, feature = "bench"))]
pub(crate) mod samples;
mod shadow;

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lb_balance::Thresholds;
use lb_strategy_host::{Picker, Wants};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::access_log::AccessLog;
use crate::config::{
    Fallback, HashFunction, HostMatch, IpNetwork, KeySource, Limits, LoadReportPolicy, Policy, ProbePolicy, Route,
    Timeouts,
};
use crate::listener::Listener;
use crate::pool::Backend;

pub use choice::{RequestParts, client_bytes};
pub use lb_balance::{Choice, Unchosen};
pub use own_routes::{Call, CallAnswer, OwnRoutes};
pub use shadow::{Shadow, told};

/// All data that a request needs, immutable.
pub struct Generation {
    /// Grows by one with each publish, from 1.
    pub number: u64,
    /// Index 0 is the pool `default`.
    pub pools: Vec<Arc<PoolGeneration>>,
    /// In matching order; without a match the pool is `default`.
    pub routes: Vec<Route>,
    /// By pool, then those of routes that have their own.
    pub policies: Arc<[Policy]>,
    /// Backends whose first check lb waits for before it is ready.
    pub awaited: usize,
    /// The addresses where clients connect, in the configuration's order.
    pub listeners: Vec<Arc<Listener>>,
    pub settings: Arc<Settings>,
    /// Routes on the proxy's port that lb answers itself.
    pub own_routes: Option<OwnRoutes>,
}

/// One pool: its backends, and the strategy's picker made from just this list.
pub struct PoolGeneration {
    pub name: Arc<str>,
    pub picker: Picker,
    /// In the order of the picker's list.
    pub backends: Vec<Arc<Backend>>,
    pub hash_on: Vec<KeySource>,
    pub hash: HashFunction,
    pub fallback: Fallback,
    /// The next turn of the fallback `round_robin`.
    pub fallback_cursor: AtomicUsize,
    /// What the strategy asks for.
    pub wants: Wants,
    /// In the order of the configuration.
    pub shadows: Vec<Shadow>,
    /// What the strategy or one of the shadows asks to be told about attempts.
    pub tells: Wants,
    /// When a worker reports a backend that fails.
    pub thresholds: Thresholds,
    /// `None`: the load reports of its backends are not read.
    pub load_reports: Option<Arc<LoadReportPolicy>>,
    /// `None`: the strategy wants no probes, or the pool sends none.
    pub probe: Option<Arc<ProbePolicy>>,
}

/// The place of a request by its route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// An index into [`Generation::pools`].
    pub pool: usize,
    /// An index into [`Generation::policies`].
    pub policy: usize,
}

/// The settings of connections, and those of requests that every pool shares. A request's own rules are in its
/// [`Policy`].
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// For connections, and for requests without a route.
    pub timeouts: Timeouts,
    /// The same.
    pub limits: Limits,
    pub trusted_proxies: Vec<IpNetwork>,
    /// A backend's 404 to a GET becomes 400 with this message, in which `{path}` stands for the path.
    pub missing_path: Option<&'static str>,
    /// Every request has an `x-request-id`.
    pub request_id: bool,
    /// A request with `x-lb-explain: 1` gets a response with the reason for its backend.
    pub explain_header: bool,
    /// Protocols that `Upgrade` may name, lower case, without version.
    pub upgrades: Vec<String>,
    /// Whether TRACE is forwarded.
    pub allow_trace: bool,
    pub access_log: Option<AccessLog>,
}

/// Every worker shows each second that it is alive. After this silence it counts as stuck.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Prefix of the names of cookies that stand for the admin token; the admin port is appended. A browser sends a cookie
/// to every port of its host, so the proxy gets these cookies too. It forwards them to no backend.
pub const ADMIN_COOKIE: &str = "lb_session_";

/// Publishes generations. One per process.
pub struct Hall {
    opened: Instant,
    current: watch::Sender<Arc<Generation>>,
    seats: Mutex<Vec<Arc<Signs>>>,
    retired: Mutex<Vec<Arc<Generation>>>,
    acknowledged: Arc<Notify>,
    alarm: Arc<Notify>,
    cuts: Arc<AtomicU64>,
}

/// The place of one worker, or of the acceptor, in the hall.
pub struct Seat {
    cuts: Arc<AtomicU64>,
    seen_cuts: u64,
    opened: Instant,
    current: watch::Receiver<Arc<Generation>>,
    signs: Arc<Signs>,
    acknowledged: Arc<Notify>,
    alarm: Arc<Notify>,
}

/// The signs of one worker.
struct Signs {
    /// The newest generation that it has acknowledged.
    seen: AtomicU64,
    /// When it last showed that it is alive, in milliseconds after `opened`; `u64::MAX` after a regular end.
    alive_ms: AtomicU64,
    /// The system's number of its thread; 0 if it is not known.
    thread: AtomicI32,
}

// === impl Generation ===

impl Generation {
    /// The place of a request: that of the first route that matches, else that of `default`. `host` is without port, in
    /// any case, and evaluated only if there are routes. `path` is in normal form
    /// ([`normal_path`](crate::config::normal_path)).
    pub fn route<'a>(&self, host: impl FnOnce() -> &'a str, path: &str) -> Place {
        if self.routes.is_empty() {
            return Place::default();
        }
        let host = host();
        // A name with a final dot is the same name (RFC 3986 §3.2.2).
        let host = host.strip_suffix('.').unwrap_or(host);
        self.routes
            .iter()
            .find(|route| {
                let host_fits = match &route.host {
                    HostMatch::Any => true,
                    HostMatch::Exact(exact) => exact.eq_ignore_ascii_case(host),
                    HostMatch::Wildcard(suffix) => {
                        host.len() > suffix.len()
                            && host.as_bytes()[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
                    }
                };
                host_fits && is_below(path, &route.path_prefix)
            })
            .map_or_else(Place::default, |route| Place { pool: route.pool, policy: route.policy })
    }
}

/// A host without its port.
pub fn without_port(host: &str) -> &str {
    match host.bytes().rposition(|byte| byte == b':') {
        Some(colon) if !host.ends_with(']') => &host[..colon],
        _ => host,
    }
}

/// Whether `path` is `prefix` or lies below it at a segment border.
fn is_below(path: &str, prefix: &str) -> bool {
    prefix == "/"
        || path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/'))
}

// === impl Hall ===

impl Hall {
    pub fn new(first: Generation) -> Arc<Self> {
        Arc::new(Self {
            opened: clock::zero(),
            current: watch::Sender::new(Arc::new(first)),
            seats: Mutex::default(),
            retired: Mutex::default(),
            acknowledged: Arc::default(),
            alarm: Arc::default(),
            cuts: Arc::default(),
        })
    }

    /// Adds a place for one more thread, which has acknowledged nothing yet.
    pub fn seat(&self) -> Seat {
        let alive_ms = AtomicU64::new(self.opened.elapsed().as_millis() as u64);
        let signs = Arc::new(Signs { seen: AtomicU64::new(0), alive_ms, thread: AtomicI32::new(0) });
        self.seats.lock().push(signs.clone());
        let (current, acknowledged) = (self.current.subscribe(), self.acknowledged.clone());
        let (alarm, cuts) = (self.alarm.clone(), self.cuts.clone());
        let seen_cuts = cuts.load(Ordering::Acquire);
        Seat { cuts, seen_cuts, opened: self.opened, current, signs, acknowledged, alarm }
    }

    /// Threads that were silent for longer than `silence`, for example in an endless loop of a strategy.
    pub fn stuck_workers(&self, silence: Duration) -> usize {
        self.stuck_threads(silence).len()
    }

    /// The numbers of these threads.
    pub fn stuck_threads(&self, silence: Duration) -> Vec<i32> {
        let now_ms = self.opened.elapsed().as_millis() as u64;
        let is_silent = |signs: &Arc<Signs>| {
            let silent_ms = now_ms.saturating_sub(signs.alive_ms.load(Ordering::Relaxed));
            u128::from(silent_ms) > silence.as_millis()
        };
        let seats = self.seats.lock();
        seats.iter().filter(|signs| is_silent(signs)).map(|signs| signs.thread.load(Ordering::Relaxed)).collect()
    }

    /// Zero of the clock that strategies get.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    pub fn current(&self) -> Arc<Generation> {
        self.current.borrow().clone()
    }

    /// Puts `next` in force: every worker is woken and takes it between two polls.
    pub fn publish(&self, next: Generation) {
        let old = self.current.send_replace(Arc::new(next));
        self.retired.lock().push(old);
    }

    /// Has every worker look at its connections, because the requests of a backend were [cut](Backend::cut).
    pub fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::Release);
        self.current.send_modify(|_| {});
    }

    /// Waits for the next acknowledgement of any worker.
    pub async fn acknowledgement(&self) {
        self.acknowledged.notified().await;
    }

    /// Waits until a worker finds that a backend failed as often as the [thresholds](PoolGeneration::thresholds) of its
    /// pool say.
    pub async fn alarm(&self) {
        self.alarm.notified().await;
    }

    /// Whether every worker has acknowledged generation `number` or a newer one.
    pub fn is_taken_up(&self, number: u64) -> bool {
        self.seats.lock().iter().all(|signs| signs.seen.load(Ordering::Acquire) >= number)
    }

    /// The number of old generations that are still referenced, or not yet freed.
    pub fn retired(&self) -> usize {
        self.retired.lock().len()
    }

    /// Removes and returns the old generations without another reference. The caller drops them where plugin code may
    /// run.
    #[must_use]
    pub fn take_free(&self) -> Vec<Arc<Generation>> {
        let seats = self.seats.lock();
        let oldest = seats.iter().map(|signs| signs.seen.load(Ordering::Acquire)).min().unwrap_or(u64::MAX);
        let mut retired = self.retired.lock();
        let is_free = |generation: &Arc<Generation>| generation.number < oldest && Arc::strong_count(generation) == 1;
        let (free, held) = retired.drain(..).partition(is_free);
        *retired = held;
        free
    }
}

// === impl Seat ===

impl Seat {
    /// The newest generation, marked as seen (not yet acknowledged).
    pub fn take(&mut self) -> Arc<Generation> {
        self.current.borrow_and_update().clone()
    }

    /// Whether requests of a backend were cut since the last call.
    pub fn take_cuts(&mut self) -> bool {
        let cuts = self.cuts.load(Ordering::Acquire);
        std::mem::replace(&mut self.seen_cuts, cuts) != cuts
    }

    /// Waits for a newer generation than the last one taken, or for a cut; `false` if the hall is gone.
    pub async fn changed(&mut self) -> bool {
        self.current.changed().await.is_ok()
    }

    /// Declares that the worker holds nothing older than `number`.
    pub fn acknowledge(&self, number: u64) {
        self.signs.seen.store(number, Ordering::Release);
        self.acknowledged.notify_one();
    }

    /// With it, a worker wakes [`Hall::alarm`].
    pub fn alarm(&self) -> Arc<Notify> {
        self.alarm.clone()
    }

    /// Records the number of the worker's thread.
    pub fn sits_in(&self, thread: i32) {
        self.signs.thread.store(thread, Ordering::Relaxed);
    }

    /// Records that the worker is alive; to be called about every second.
    pub fn show_alive(&self) {
        self.signs.alive_ms.store(self.opened.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    /// A worker that ended holds nothing.
    fn drop(&mut self) {
        self.signs.alive_ms.store(u64::MAX, Ordering::Relaxed);
        self.acknowledge(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_matches_only_at_a_segment_border() {
        assert!(is_below("/api", "/api") && is_below("/api/x", "/api") && is_below("/anything", "/"));
        assert!(!is_below("/apix", "/api") && !is_below("/ap", "/api"));
    }

    fn empty() -> Generation {
        Generation {
            number: 1,
            pools: Vec::new(),
            routes: Vec::new(),
            policies: Arc::default(),
            awaited: 0,
            listeners: Vec::new(),
            settings: Arc::new(samples::settings(Duration::from_secs(1))),
            own_routes: None,
        }
    }

    #[tokio::test]
    async fn a_cut_wakes_every_seat_once_and_is_no_generation() {
        let hall = Hall::new(empty());
        let (mut one, mut late) = (hall.seat(), hall.seat());
        one.take();
        hall.cut();
        assert!(one.changed().await && one.take_cuts() && !one.take_cuts());
        assert_eq!((one.take().number, hall.retired()), (1, 0));
        late.take();
        assert!(late.take_cuts(), "also a seat that took the generation after the cut");
        assert!(!hall.seat().take_cuts());
    }

    #[test]
    fn a_silent_worker_is_stuck_and_an_ended_one_is_not() {
        let hall = Hall::new(empty());
        let seat = hall.seat();
        let begun = Instant::now();
        while hall.stuck_workers(Duration::ZERO) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(30), "silence is never seen");
            std::thread::yield_now();
        }
        assert_eq!(hall.stuck_workers(Duration::from_secs(60)), 0);
        seat.show_alive();
        drop(seat);
        assert_eq!(hall.stuck_workers(Duration::ZERO), 0);
    }
}
