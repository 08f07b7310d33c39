//! The places on a backend that caps limit: requests in flight, and connections.
//!
//! A place is taken when a backend is picked and given back on every path, because it is a value. With a cap, a place
//! is taken by a compare and swap on a count that all workers share. So no cap is ever passed, in all workers together.
//!
//! Invariants: each place is counted once. Giving one back wakes a request that waits.

use std::rc::Rc;
use std::sync::Arc;

use super::queue::Line;
use super::upstream::Upstream;
use super::view::{MemberView, PoolView};
use crate::pool::Backend;

/// A request in flight on a backend.
pub(super) struct Slot {
    pub(super) pool: Rc<PoolView>,
    pub(super) member: Rc<MemberView>,
    is_held: bool,
}

/// An open connection to a backend, or one that is being opened.
pub(super) struct Link {
    backend: Arc<Backend>,
    line: Rc<Line>,
}

/// The connection that a picked request will use.
pub(super) enum Means {
    /// Connections have no cap: a waiting one, else a new one.
    Any,
    /// This one, which waited.
    Waiting(Box<Upstream>),
    /// A new one, with its place.
    New(Link),
}

// === impl Slot ===

impl Slot {
    /// A place of a backend; `None` if it has `most` requests already.
    #[inline]
    pub(super) fn take(pool: &Rc<PoolView>, member: &Rc<MemberView>, most: Option<u32>) -> Option<Self> {
        match most {
            None => member.backend.attempt_begins(),
            Some(most) if member.backend.try_attempt(most) => {}
            Some(_) => return None,
        }
        member.shard.in_flight.inc();
        Some(Self { pool: pool.clone(), member: member.clone(), is_held: true })
    }

    /// The attempt is over.
    #[inline]
    pub(super) fn give_back(&mut self) {
        if !std::mem::replace(&mut self.is_held, false) {
            return;
        }
        self.member.backend.attempt_ends();
        self.member.shard.in_flight.dec();
        if self.pool.has_caps() {
            self.pool.line.freed();
        }
    }

    /// Keeps a connection whose response is complete for another request, if fewer than `most` wait. If connections
    /// have a cap and a request of another worker is next, closes it: that worker cannot use it.
    #[inline]
    pub(super) fn keep(&self, upstream: Box<Upstream>, now: tokio::time::Instant, most: usize) {
        let (pool, idle) = (&self.pool, &self.member.idle);
        let has_cap = pool.caps().connections.is_some();
        if !has_cap || pool.line.woken() > idle.len() || !pool.line.is_other_first() {
            idle.put(upstream, now, most);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.give_back();
    }
}

// === impl Link ===

impl Link {
    pub(super) fn new(backend: &Arc<Backend>, line: &Rc<Line>) -> Self {
        backend.connection_opens();
        Self { backend: backend.clone(), line: line.clone() }
    }

    /// `None` if `most` connections to the backend are open.
    pub(super) fn within(backend: &Arc<Backend>, line: &Rc<Line>, most: u32) -> Option<Self> {
        backend.try_connection(most).then(|| Self { backend: backend.clone(), line: line.clone() })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.backend.connection_ends();
        self.line.freed();
    }
}
