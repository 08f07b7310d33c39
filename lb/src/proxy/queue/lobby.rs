//! The queues of one pool in all workers, as each of them sees the others.
//!
//! A worker alone cannot keep the order: a request that waits here may wait for a backend whose last request ends in
//! another worker. So each worker shows at its desk the place of its first waiting request in the order of all. Room
//! that appears goes to the lowest one, in whichever worker that is. A worker wakes another one by a count at its desk
//! and its bell.
//!
//! A wake that no request of its worker can use becomes a *last* wake for each other worker. A last wake goes no
//! further, so wakes end. It is no claim on room, because it may end without a request that uses it.
//!
//! Invariants: only its worker writes a desk's `first` and `woken`. All accesses are `SeqCst`. A request that begins to
//! wait shows that first, and then looks for room. An end gives its room back first, and then looks at the desks. So no
//! wake is lost. Nothing here locks on the path of a request.

use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// All lobbies of a proxy.
pub(in crate::proxy) struct Lobbies {
    /// By worker.
    bells: Arc<[Notify]>,
    /// By pool. A lobby ends with its last queue.
    pools: Mutex<HashMap<Arc<str>, Weak<Lobby>>>,
}

pub(super) struct Lobby {
    /// The workers with a request in their queue, woken ones included.
    occupied: AtomicUsize,
    /// Whether the pool's strategy has let a request wait. It stays, so it is no proof that one does.
    has_strategy_waits: AtomicBool,
    /// By worker.
    desks: Box<[Desk]>,
    bells: Arc<[Notify]>,
}

/// What one worker shows to the others, and they to it.
#[repr(align(128))]
struct Desk {
    /// Of the first request that waits and is not woken; [`NO_REQUEST`] without one.
    first: AtomicU64,
    /// Requests that are woken and not yet served, without those of last wakes.
    woken: AtomicUsize,
    /// Wakes on their way to this worker.
    wakes: AtomicUsize,
    last_wakes: AtomicUsize,
    /// Whether others ask this worker to close idle connections.
    closes: AtomicUsize,
}

const NO_REQUEST: u64 = u64::MAX;
const TIME_BITS: u32 = 56;

/// The order of a request of this priority that begins to wait now. 56 bits of nanoseconds are two years.
pub(super) fn order(priority: u8, now_ns: u64) -> u64 {
    (u64::from(u8::MAX - priority) << TIME_BITS) | (now_ns & ((1 << TIME_BITS) - 1))
}

// === impl Lobbies ===

impl Lobbies {
    pub(in crate::proxy) fn new(workers: usize) -> Arc<Self> {
        let bells = (0..workers).map(|_| Notify::new()).collect();
        Arc::new(Self { bells, pools: Mutex::default() })
    }

    /// Waits until another worker has a wake for this one.
    pub(in crate::proxy) async fn rung(&self, worker: usize) {
        self.bells[worker].notified().await;
    }

    pub(super) fn of(&self, pool: &Arc<str>) -> Arc<Lobby> {
        let mut pools = self.pools.lock();
        if let Some(lobby) = pools.get(pool).and_then(Weak::upgrade) {
            return lobby;
        }
        pools.retain(|_, lobby| lobby.strong_count() > 0);
        let lobby = Arc::new(Lobby::new(self.bells.clone()));
        pools.insert(pool.clone(), Arc::downgrade(&lobby));
        lobby
    }
}

// === impl Lobby ===

impl Lobby {
    fn new(bells: Arc<[Notify]>) -> Self {
        let desk = |_: &Notify| Desk {
            first: AtomicU64::new(NO_REQUEST),
            woken: AtomicUsize::new(0),
            wakes: AtomicUsize::new(0),
            last_wakes: AtomicUsize::new(0),
            closes: AtomicUsize::new(0),
        };
        let desks = bells.iter().map(desk).collect();
        Self { occupied: AtomicUsize::new(0), has_strategy_waits: AtomicBool::new(false), desks, bells }
    }

    /// Whether any worker's queue has a request.
    #[inline]
    pub(super) fn is_occupied(&self) -> bool {
        self.occupied.load(SeqCst) > 0
    }

    /// A worker's queue has got its first request, or lost its last one.
    pub(super) fn set_occupied(&self, is_occupied: bool) {
        match is_occupied {
            true => self.occupied.fetch_add(1, SeqCst),
            false => self.occupied.fetch_sub(1, SeqCst),
        };
    }

    pub(super) fn has_strategy_waits(&self) -> bool {
        self.has_strategy_waits.load(SeqCst)
    }

    pub(super) fn set_strategy_waits(&self) {
        self.has_strategy_waits.store(true, SeqCst);
    }

    /// Shows the state of a worker's queue.
    pub(super) fn show(&self, worker: usize, first: Option<u64>, woken: usize) {
        let desk = &self.desks[worker];
        desk.woken.store(woken, SeqCst);
        desk.first.store(first.unwrap_or(NO_REQUEST), SeqCst);
    }

    /// The worker whose first waiting request is the first of all.
    pub(super) fn next(&self) -> Option<usize> {
        let firsts = self.desks.iter().enumerate().map(|(worker, desk)| (desk.first.load(SeqCst), worker));
        firsts.filter(|(first, _)| *first != NO_REQUEST).min().map(|(_, worker)| worker)
    }

    /// Lets a worker wake its first waiting request.
    pub(super) fn send_wake(&self, worker: usize) {
        self.desks[worker].wakes.fetch_add(1, SeqCst);
        self.bells[worker].notify_one();
    }

    /// Lets all workers except one wake their first waiting request, and none after those.
    pub(super) fn send_last_wakes(&self, from: usize) {
        for (worker, desk) in self.desks.iter().enumerate() {
            if worker != from && desk.first.load(SeqCst) != NO_REQUEST {
                desk.last_wakes.fetch_add(1, SeqCst);
                self.bells[worker].notify_one();
            }
        }
    }

    pub(super) fn take_wakes(&self, worker: usize) -> usize {
        take(&self.desks[worker].wakes)
    }

    pub(super) fn take_last_wakes(&self, worker: usize) -> usize {
        take(&self.desks[worker].last_wakes)
    }

    /// The requests that are woken, or will be by wakes on their way: they have a claim on room that is free now.
    pub(super) fn claims(&self) -> usize {
        self.desks.iter().map(|desk| desk.woken.load(SeqCst) + desk.wakes.load(SeqCst)).sum()
    }

    /// Asks all other workers to close idle connections to full backends.
    pub(super) fn ask_to_close(&self, worker: usize) {
        for (other, desk) in self.desks.iter().enumerate().filter(|(other, _)| *other != worker) {
            if desk.closes.swap(1, SeqCst) == 0 {
                self.bells[other].notify_one();
            }
        }
    }

    /// Whether another worker asked this one to close idle connections.
    pub(super) fn take_close(&self, worker: usize) -> bool {
        take(&self.desks[worker].closes) > 0
    }
}

/// Mostly there is nothing to take, and a read is cheaper.
fn take(count: &AtomicUsize) -> usize {
    if count.load(SeqCst) == 0 { 0 } else { count.swap(0, SeqCst) }
}
