//! The account of descriptors: how many connections the limit of open files allows, and how many are open.
//!
//! Why: a process without a free descriptor cannot accept, connect, check a backend or read a file, and each failure
//! looks like a different fault. An idle client needs one descriptor, a client with a request two. A fixed half for
//! each side would waste half of the limit on idle clients. The rules: some descriptors are reserved. Clients and
//! backends share all others, but clients leave a part to backends. Invariants: a connection holds a [`Descriptor`]
//! while it is open, and gives it back on drop. The account changes only when a connection is opened or closed, never
//! for a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Reserved for everything but the proxy's connections: listeners, health checks, the admin port, plugins, logs. At
/// most a quarter of the limit.
const RESERVED: u64 = 128;
/// Used by each worker: epoll twice, an eventfd, a socket for signals (counted in `/proc/PID/fd`).
const RESERVED_PER_WORKER: u64 = 4;
/// The part of the limit that clients leave to connections to backends: enough for some hundred requests at once.
const BACKENDS_PART: u64 = 32;
/// The least part under a small limit; under a very small one, half of the limit.
const BACKENDS_MIN: u64 = 128;

#[derive(Debug)]
pub(crate) struct Descriptors {
    /// Open files of the process, as the system limits them.
    limit: u64,
    /// Connections to clients and backends.
    most: usize,
    /// Connections to clients.
    most_clients: usize,
    used: AtomicUsize,
}

/// The descriptor of one connection.
#[derive(Debug)]
pub(crate) struct Descriptor(Arc<Descriptors>);

// === impl Descriptors ===

impl Descriptors {
    /// The account of this process, for this number of workers.
    pub(crate) fn of_process(workers: usize) -> Arc<Self> {
        let limit = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(u64::MAX, |(soft, _)| soft);
        Arc::new(Self::new(limit, workers as u64))
    }

    fn new(limit: u64, workers: u64) -> Self {
        let reserved = (RESERVED + RESERVED_PER_WORKER * workers).min(limit / 4);
        let most = limit - reserved;
        let backends = (limit / BACKENDS_PART).max(BACKENDS_MIN).min(most / 2);
        let count = |descriptors| usize::try_from(descriptors).unwrap_or(usize::MAX);
        Self { limit, most: count(most), most_clients: count(most - backends), used: AtomicUsize::new(0) }
    }

    /// Open files of the process, by the system's limit at start-up.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// The most connections of clients. Clients get that many only while backends leave room for them.
    pub(crate) fn most_clients(&self) -> usize {
        self.most_clients
    }

    /// A descriptor for a connection that is about to be opened; `None` if all are in use.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Descriptor> {
        let more = |used| (used < self.most).then_some(used + 1);
        self.used.fetch_update(Relaxed, Relaxed, more).is_ok().then(|| Descriptor(self.clone()))
    }

    /// Whether less than half of the backends' share is free: time to close connections that are not in use.
    pub(crate) fn is_scarce(&self) -> bool {
        let free = self.most - self.used.load(Relaxed);
        free < (self.most - self.most_clients) / 2
    }
}

// === impl Descriptor ===

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn shares(limit: u64, workers: u64) -> (usize, usize) {
        let all = Descriptors::new(limit, workers);
        (all.most_clients, all.most - all.most_clients)
    }

    #[test]
    fn clients_leave_a_share_to_backends_and_a_small_limit_serves_both() {
        assert_eq!(shares(20_000, 1), (19_243, 625));
        assert_eq!(shares(65_536, 16), (63_296, 2_048));
        assert_eq!(shares(4_096, 2), (3_832, 128));
        assert_eq!(shares(1_024, 2), (760, 128));
        assert_eq!(shares(256, 2), (96, 96));
        assert_eq!(shares(16, 2), (6, 6));
        assert_eq!(shares(4, 64), (2, 1));
        for limit in [0, 1, u64::MAX] {
            let (clients, backends) = shares(limit, 1);
            assert!(clients >= backends, "{limit}");
        }
    }

    #[test]
    fn descriptors_never_exceed_the_limit_and_all_are_returned() {
        let all = Arc::new(Descriptors::new(16, 1));
        let mut taken: Vec<_> = std::iter::from_fn(|| all.take()).take(20).collect();
        assert_eq!((taken.len(), all.used.load(Relaxed)), (12, 12));
        taken.pop();
        let again = all.take();
        assert!(again.is_some() && all.take().is_none());
        drop((again, taken));
        assert_eq!(all.used.load(Relaxed), 0);
    }

    #[test]
    fn the_last_half_of_the_backends_share_is_scarce() {
        let all = Arc::new(Descriptors::new(1_024, 2));
        let plenty: Vec<_> = (0..760 + 64).map(|_| all.take().unwrap()).collect();
        assert!(!all.is_scarce());
        let last = all.take();
        assert!(all.is_scarce());
        drop(last);
        assert!(!all.is_scarce());
        drop(plenty);
    }

    #[test]
    fn threads_together_never_take_more_descriptors_than_the_limit() {
        let (all, barrier) = (Arc::new(Descriptors::new(64, 1)), Barrier::new(4));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        barrier.wait();
                        let taken: Vec<_> = (0..20).filter_map(|_| all.take()).collect();
                        barrier.wait();
                        assert_eq!(all.used.load(Relaxed), all.most);
                        barrier.wait();
                        drop(taken);
                    }
                });
            }
        });
        assert_eq!(all.used.load(Relaxed), 0);
    }
}
