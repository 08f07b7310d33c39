//! The requests of one pool that wait in one worker until a backend has room.
//!
//! [`lb_balance::Queue`] keeps their order, and the [`Lobby`] connects the queues of all workers. A request that waits
//! has a [`Turn`]. Room appears at the end of an attempt or of a connection, and when backends or caps change. Then one
//! waiting request is woken for each place. A woken request that leaves passes the wake on; one that finds no room
//! waits again.
//!
//! Invariants: the desk in the lobby always shows the state of the queue. Room on which no request has a claim wakes
//! the first request that may use it. A claim ends when its request is served, leaves or waits again; then the next one
//! is called. A look each second finds room that no end reports. While no request waits, room costs one read.

mod lobby;
#[cfg(test)]
mod tests;
mod turn;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{self, Rc};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use lb_balance::{Queue, QueueRules, Shedder, Ticket};
use tokio::time::Instant;

pub(super) use self::lobby::Lobbies;
use self::lobby::{Lobby, order};
pub(super) use self::turn::Turn;
use super::owner::Owner;
use crate::config::QueuePolicy;

/// The queues of one worker.
pub(super) struct Lines {
    owner: Owner,
    lobbies: Arc<Lobbies>,
    /// By pool. Kept here so that a pool that was removed and is added again has the same one.
    lines: RefCell<HashMap<Arc<str>, rc::Weak<Line>>>,
}

/// The queue of one pool in one worker.
pub(super) struct Line {
    owner: Owner,
    lobby: Arc<Lobby>,
    queue: RefCell<Queue<Waiter>>,
    rules: RefCell<Rules>,
    is_occupied: Cell<bool>,
    entries: Cell<u64>,
    /// Requests that last wakes woke and that are not yet served.
    woken_last: Cell<usize>,
}

struct Rules {
    /// This worker's part; 0 switches the queue off.
    length: usize,
    wait: Duration,
    shedder: Shedder,
}

struct Waiter {
    /// Of the task that waits; `None` before its first poll.
    waker: Option<Waker>,
    order: u64,
    /// The number of earlier entries.
    entry: u64,
    /// Requests with the same key may use the same backends.
    key: Option<u64>,
    wake: Wake,
}

#[derive(Clone, Copy, Default)]
struct Wake {
    is_last: bool,
    /// The number of entries before its first request was woken. Others passed it on since.
    entries: u64,
}

/// Why a request may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is no queue.
    Off,
    Full,
    /// The queue has only room for higher priorities.
    Shed,
}

// === impl Lines ===

impl Lines {
    pub(super) fn new(owner: Owner, lobbies: Arc<Lobbies>) -> Self {
        Self { owner, lobbies, lines: RefCell::default() }
    }

    pub(super) fn owner(&self) -> Owner {
        self.owner
    }

    pub(super) fn of(&self, pool: &Arc<str>) -> Rc<Line> {
        let mut lines = self.lines.borrow_mut();
        if let Some(line) = lines.get(pool).and_then(rc::Weak::upgrade) {
            return line;
        }
        lines.retain(|_, line| line.strong_count() > 0);
        let line = Line::new(self.owner, self.lobbies.of(pool));
        lines.insert(pool.clone(), Rc::downgrade(&line));
        line
    }
}

// === impl Line ===

impl Line {
    fn new(owner: Owner, lobby: Arc<Lobby>) -> Rc<Self> {
        let rules = Rules { length: 0, wait: Duration::ZERO, shedder: Shedder::new(Default::default(), 0, []) };
        let queue = Queue::new(QueueRules { length_max: 0, wait_max_ns: 0 });
        Rc::new(Self {
            owner,
            lobby,
            queue: RefCell::new(queue),
            rules: RefCell::new(rules),
            is_occupied: Cell::new(false),
            entries: Cell::new(0),
            woken_last: Cell::new(0),
        })
    }

    pub(super) fn owner(&self) -> Owner {
        self.owner
    }

    /// Changes the rules. Requests that wait keep their places and their time limits. `priorities` are those of the
    /// routes to the pool.
    pub(super) fn set_rules(&self, policy: &QueuePolicy, priorities: impl IntoIterator<Item = u8>) {
        let QueuePolicy { length, wait, shed, adaptive: _ } = *policy;
        // At least one each, so that a short queue is not off in some workers.
        let length = if length == 0 { 0 } else { (length / self.owner.workers.max(1)).max(1) };
        let wait_max_ns = wait.as_nanos() as u64;
        self.queue.borrow_mut().set_rules(QueueRules { length_max: length, wait_max_ns });
        *self.rules.borrow_mut() = Rules { length, wait, shedder: Shedder::new(shed, length, priorities) };
    }

    /// Whether a request waits in any worker. A new one then waits behind it.
    #[inline]
    pub(super) fn is_occupied(&self) -> bool {
        self.lobby.is_occupied()
    }

    /// Whether requests may wait at all.
    pub(super) fn has_queue(&self) -> bool {
        self.rules.borrow().length > 0
    }

    /// The strategy lets a request wait. From now on only the strategy knows whether there is room.
    pub(super) fn note_strategy_wait(&self) {
        self.lobby.set_strategy_waits();
    }

    pub(super) fn has_strategy_waits(&self) -> bool {
        self.lobby.has_strategy_waits()
    }

    /// Room has appeared for one request: an attempt or a connection ended.
    #[inline]
    pub(super) fn freed(&self) {
        if self.lobby.is_occupied() {
            self.wake_first();
        }
    }

    /// The end of the queue, for a request of this priority. The request is visible to the ends of attempts when this
    /// returns. So the caller then looks for room once more.
    pub(super) fn enter(self: &Rc<Self>, priority: u8) -> Result<Turn, Refused> {
        let (rules, mut queue) = (self.rules.borrow(), self.queue.borrow_mut());
        if rules.length == 0 {
            return Err(Refused::Off);
        }
        if queue.len() >= rules.length {
            return Err(Refused::Full);
        }
        if !rules.shedder.may_wait(priority, queue.len()) {
            return Err(Refused::Shed);
        }
        let now_ns = self.now_ns();
        let (order, entry) = (order(priority, now_ns), self.entries.replace(self.entries.get() + 1));
        let waiter = Waiter { waker: None, order, entry, key: None, wake: Wake::default() };
        let ticket = queue.push(now_ns, priority, waiter).map_err(|_| Refused::Full)?;
        self.show(&queue);
        Ok(Turn::new(self.clone(), ticket))
    }

    /// How long a request may wait.
    pub(super) fn wait(&self) -> Duration {
        self.rules.borrow().wait
    }

    /// Whether no request of this worker waits or is woken.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        !self.is_occupied.get()
    }

    /// Requests of this worker that wait and are not woken.
    pub(super) fn waiting(&self) -> usize {
        self.queue.borrow().waiting()
    }

    /// Requests of this worker that are woken and not yet served.
    pub(super) fn woken(&self) -> usize {
        let queue = self.queue.borrow();
        queue.len() - queue.waiting()
    }

    /// Whether the next request to wake is in another worker.
    pub(super) fn is_other_first(&self) -> bool {
        self.lobby.is_occupied() && self.lobby.next().is_some_and(|worker| worker != self.owner.number)
    }

    /// A request has entered without a look, because others wait, or a claim has ended. If there is more free room than
    /// woken requests with a claim on it, wakes the first one.
    pub(super) fn call_next(&self, free: Option<usize>) {
        if self.has_unclaimed(free) {
            self.wake_first();
        }
    }

    /// Whether there is more free room than woken requests with a claim on it. If only the strategy knows the room, it
    /// is asked for one request after the other.
    pub(super) fn has_unclaimed(&self, free: Option<usize>) -> bool {
        match free {
            Some(free) => free > self.lobby.claims(),
            None => !self.has_strategy_waits() || self.lobby.claims() == 0,
        }
    }

    /// Whether a woken request, in any worker, has a claim on room that is free now.
    pub(super) fn has_claims(&self) -> bool {
        self.lobby.claims() > 0
    }

    /// Wakes the first `count` requests that wait in this worker.
    pub(super) fn wake_own(&self, count: usize) {
        (0..count).take_while(|_| self.wake_next(false)).for_each(drop);
    }

    /// Passes the wakes that came from other workers to the requests that wait here.
    pub(super) fn take_wakes(&self) {
        let own = self.owner.number;
        for _ in 0..self.lobby.take_wakes(own) {
            if !self.wake_next(false) {
                self.lobby.send_last_wakes(own);
            }
        }
        (0..self.lobby.take_last_wakes(own)).take_while(|_| self.wake_next(true)).for_each(drop);
    }

    /// Whether another worker asked this one to close idle connections.
    pub(super) fn take_close(&self) -> bool {
        self.lobby.take_close(self.owner.number)
    }

    /// Asks the other workers to close idle connections to backends without room for a further one.
    pub(super) fn ask_to_close(&self) {
        self.lobby.ask_to_close(self.owner.number);
    }

    /// Wakes the first request that waits in any worker.
    #[cold]
    pub(super) fn wake_first(&self) {
        match self.lobby.next() {
            None => {}
            Some(worker) if worker != self.owner.number => self.lobby.send_wake(worker),
            Some(_) if self.wake_next(false) => {}
            // The time of those that wait here is over, and they are about to leave.
            Some(own) => self.lobby.send_last_wakes(own),
        }
    }

    /// Wakes the first request that waits in this worker; false if there is none.
    fn wake_next(&self, is_last: bool) -> bool {
        let mut queue = self.queue.borrow_mut();
        let Some((_, waiter)) = queue.wake(self.now_ns()) else { return false };
        let waker = self.note_wake(waiter, Wake { is_last, entries: self.entries.get() });
        self.show(&queue);
        drop(queue);
        waker.into_iter().for_each(Waker::wake);
        true
    }

    fn note_wake(&self, waiter: &mut Waiter, wake: Wake) -> Option<Waker> {
        waiter.wake = wake;
        self.woken_last.set(self.woken_last.get() + usize::from(wake.is_last));
        waiter.waker.take()
    }

    /// A woken request leaves, or waits again. Returns whether it was woken.
    fn note_end_of_wake(&self, queue: &mut Queue<Waiter>, ticket: Ticket) -> bool {
        let is_woken = queue.is_woken(ticket);
        if is_woken && queue.get_mut(ticket).is_some_and(|waiter| waiter.wake.is_last) {
            self.woken_last.set(self.woken_last.get() - 1);
        }
        is_woken
    }

    /// Shows the state of the queue in the lobby; to be called after every change.
    fn show(&self, queue: &Queue<Waiter>) {
        let first = queue.first().map(|waiter| waiter.order);
        let is_occupied = !queue.is_empty();
        let was_occupied = self.is_occupied.replace(is_occupied);
        let woken = queue.len() - queue.waiting() - self.woken_last.get();
        self.lobby.show(self.owner.number, first, woken);
        if is_occupied != was_occupied {
            self.lobby.set_occupied(is_occupied);
        }
    }

    fn now_ns(&self) -> u64 {
        self.owner.clock_ns(Instant::now())
    }
}
