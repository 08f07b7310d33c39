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
        pool.attempt_begins();
        Some(Self { pool: pool.clone(), member: member.clone(), is_held: true })
    }

    /// The attempt is over. The caller then wakes the request that [waits](Self::wake_next) for the place.
    #[inline]
    pub(super) fn give_back(&mut self) {
        if !std::mem::replace(&mut self.is_held, false) {
            return;
        }
        self.member.backend.attempt_ends();
        self.member.shard.in_flight.dec();
        self.pool.attempt_ends();
    }

    /// Wakes a request that waits, if there is one. The strategy knows of the end by now: it may decide by that.
    #[inline]
    pub(super) fn wake_next(&self) {
        self.pool.freed();
    }

    /// Keeps a connection whose response is complete for another request, if fewer than `most` wait. If connections
    /// have a cap, closes it in two cases. The backend has more, because the cap was lowered. Or a request of another
    /// worker is next: that worker cannot use it.
    #[inline]
    pub(super) fn keep(&self, upstream: Box<Upstream>, now: Instant, most: usize) {
        let (pool, idle) = (&self.pool, &self.member.idle);
        let is_kept = pool.caps().connections.is_none_or(|cap| {
            let is_for_another = pool.line.woken() <= idle.len() && pool.line.is_other_first();
            self.member.backend.connections() <= cap && !is_for_another
        });
        if is_kept {
            idle.put(upstream, now, most);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.is_held {
            self.give_back();
            self.wake_next();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::task::{Context, Waker};

    use lb_balance::Caps;

    use super::*;
    use crate::config::QueuePolicy;
    use crate::net::Stream;
    use crate::proxy::owner::Owner;
    use crate::proxy::queue::{Line, Lines, Turn};
    use crate::proxy::stand::{Stand, round_robin};

    const CAPS: Caps = Caps { requests: Some(1), connections: Some(2) };

    /// A pool with caps, and its only backend.
    fn pool(stand: &Stand) -> (Rc<PoolView>, Rc<MemberView>) {
        let pool = stand.local.view.borrow().pools[0].clone();
        pool.set_caps(CAPS);
        let member = pool.current().as_ref().unwrap().members[0].clone();
        (pool, member)
    }

    fn stand() -> Stand {
        Stand::new(&round_robin(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// The queue of the same pool in another worker.
    fn other_line(stand: &Stand, pool: &PoolView) -> Rc<Line> {
        let owner = Owner { number: 1, ..stand.local.owner() };
        let other = Lines::new(owner, stand.lobbies.clone()).of(&pool.name);
        other.set_rules(&QueuePolicy::default(), [100]);
        other
    }

    fn is_woken(turn: &Turn) -> bool {
        turn.poll_woken(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_place_is_taken_up_to_the_cap_and_its_end_wakes_a_request() {
        let stand = stand();
        let (pool, member) = pool(&stand);
        let take = || Slot::take(&pool, &member, CAPS.requests);
        let slot = take().unwrap();
        assert!(take().is_none() && Slot::take(&pool, &member, None).is_some());
        let turn = pool.line.enter(100).unwrap();
        assert!(!is_woken(&turn));
        drop(slot);
        assert!(is_woken(&turn) && take().is_some());
    }

    #[test]
    fn a_connection_is_taken_up_to_the_cap_and_its_end_wakes_a_request() {
        let stand = stand();
        let (pool, member) = pool(&stand);
        let open = || Link::within(&member.backend, &pool.line, 2);
        let links = (open(), open());
        assert!(links.0.is_some() && links.1.is_some() && open().is_none());
        let turn = pool.line.enter(100).unwrap();
        assert!(!is_woken(&turn));
        drop(links.0);
        assert!(is_woken(&turn) && member.backend.connections() == 1);
    }

    #[test]
    fn under_the_adaptive_limit_an_end_wakes_a_request_of_its_own_worker() {
        let stand = stand();
        let (pool, member) = pool(&stand);
        pool.set_caps(Caps::default());
        pool.set_adaptive(stand.local.owner());
        let other = other_line(&stand, &pool);
        let slots: Vec<_> = (0..20).map(|_| Slot::take(&pool, &member, None).unwrap()).collect();
        assert!(pool.is_at_limit());
        let others = other.enter(100).unwrap();
        let own = pool.line.enter(100).unwrap();
        drop(slots);
        assert!(is_woken(&own) && !pool.is_at_limit(), "although the other one is first");
        // A wake that the limit of this worker makes useless helps another worker, but goes no further.
        own.leave_to_others(true);
        assert!(!is_woken(&own) && !is_woken(&others));
        other.take_wakes();
        assert!(is_woken(&others));
        others.leave_to_others(true);
        pool.answer();
        assert!(!is_woken(&own));
    }

    #[test]
    fn under_the_adaptive_limit_an_end_wakes_any_worker_if_the_strategy_lets_requests_wait() {
        for has_strategy_waits in [false, true] {
            let stand = stand();
            let (pool, member) = pool(&stand);
            pool.set_caps(Caps::default());
            pool.set_adaptive(stand.local.owner());
            let other = other_line(&stand, &pool);
            let slot = Slot::take(&pool, &member, None).unwrap();
            if has_strategy_waits {
                pool.line.note_strategy_wait();
            }
            let others = other.enter(100).unwrap();
            drop(slot);
            other.take_wakes();
            assert_eq!(is_woken(&others), has_strategy_waits, "else it waits for the limit of its own worker");
        }
    }

    #[test]
    fn a_finished_connection_is_kept_unless_it_is_above_the_cap_or_a_request_of_another_worker_is_next() {
        let stand = stand();
        let (pool, member) = pool(&stand);
        let other = other_line(&stand, &pool);
        let slot = Slot::take(&pool, &member, None).unwrap();
        let keep = || {
            let stream = Stream::Memory(tokio::io::duplex(64).0);
            let before = member.idle.len();
            slot.keep(Upstream::new(stream, &member.shard, &stand.local.buffers), Instant::now(), 10);
            member.idle.len() > before
        };
        assert!(keep(), "none waits");
        (0..3).for_each(|_| member.backend.connection_opens());
        assert!(!keep(), "the cap was lowered to 2");
        member.backend.connection_ends();
        let own = pool.line.enter(100).unwrap();
        let _others = other.enter(100).unwrap();
        assert!(keep(), "one of this worker is next");
        drop(own);
        assert!(!keep(), "one of the other worker is next");
        pool.set_caps(Caps::default());
        assert!(keep(), "without a cap it can open its own");
    }
}
