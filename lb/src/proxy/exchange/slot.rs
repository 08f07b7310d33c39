//! The place of a request on a backend, and the connection that it will use.
//!
//! A place is taken when a backend is picked. It is a value, so every path gives it back. With a cap, it is taken by a
//! compare and swap on a count that all workers share. So no cap is ever passed, in all workers together.
//!
//! Invariants: each place is counted once. Giving one back wakes a request that waits.

use std::rc::Rc;

use tokio::time::Instant;

use crate::proxy::upstream::{Link, Upstream};
use crate::proxy::view::{MemberView, PoolView};

/// A request in flight on a backend.
pub(super) struct Slot {
    pub(super) pool: Rc<PoolView>,
    pub(super) member: Rc<MemberView>,
    is_held: bool,
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
    pub(super) fn keep(&self, upstream: Box<Upstream>, now: Instant, most: usize) {
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
