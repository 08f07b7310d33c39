//! The wait of a request for a backend with room.
//!
//! A request waits if every backend that it may use is full, or if others wait already and would be overtaken. It waits
//! at most `queue.wait_ms`, and not beyond its total time. Invariants: it holds no place on a backend while it waits,
//! so two waits never block each other. A wake that it does not use goes to another request.

use std::cell::Cell;
use std::future::poll_fn;
use std::sync::Arc;

use tokio::time::Instant;

use super::Exchange;
use super::choose::{Picked, Unpicked};
use super::retry::Plan;
use crate::proxy::fault::Fault;
use crate::proxy::queue::{Refused, Turn};
use crate::telemetry::{PoolShard, QueueRefusal};

/// Counts a request as waiting until it is dropped.
struct Waiting {
    shard: Option<Arc<PoolShard>>,
    since: Instant,
    asked: Cell<Asked>,
}

/// The last answer of the strategy about a request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// The request has not been first yet.
    Never,
    /// The strategy let it wait; `has_idle`: although a backend was idle.
    Held { has_idle: bool },
    /// Another cause kept it waiting.
    NotHeld,
}

// === impl Exchange: the queue ===

impl Exchange {
    /// Whether a new request waits although a backend may have room: others wait. Not with affinity: its backend may
    /// have room where others do not.
    #[inline]
    pub(super) fn must_wait(&self) -> bool {
        self.pool.is_behind() && !self.has_affinity()
    }

    fn has_affinity(&self) -> bool {
        self.key.is_some()
    }

    /// Waits for a backend with room and picks it. `is_behind`: it has not looked for room, because others wait.
    pub(super) async fn wait(&mut self, plan: &Plan, is_behind: bool) -> Result<Picked, Fault> {
        let turn = match self.pool.line.enter(self.policy.priority) {
            Ok(turn) => turn,
            Err(refused) => return self.go_without_a_wait(plan, refused, is_behind),
        };
        // Others with its key may use other backends if it has tried one, or if sessions have their own.
        if let Some(key) = self.key.as_ref().filter(|_| plan.tried.is_empty() && !self.pool.has_sessions()) {
            turn.set_key(key.hash);
        }
        let waiting = Waiting::begin(self.guard.shard());
        let deadline = waiting.since + self.pool.line.wait();
        let total = self.policy.timeouts.total.map(|total| self.guard.started + total);
        let deadline = total.map_or(deadline, |total| total.min(deadline));
        let picked = self.take_turn(plan, turn, &waiting, deadline, is_behind).await;
        let waited_ns = waiting.since.elapsed().as_nanos() as u64;
        if let Some(record) = &mut self.guard.record {
            record.queue_ns = Some(record.queue_ns.unwrap_or(0) + waited_ns);
        }
        picked
    }

    /// The request may not wait. If it has not looked for room, it does so now, but leaves room to those with a claim.
    fn go_without_a_wait(&mut self, plan: &Plan, refused: Refused, is_behind: bool) -> Result<Picked, Fault> {
        // A reload may have switched the queue off while earlier requests wait.
        if is_behind && (refused == Refused::Off || self.pool.has_unclaimed_room()) {
            match self.pick_now(plan, Instant::now()) {
                Ok(picked) => return Ok(picked),
                Err(Unpicked::NoBackend) => return Err(Fault::NoBackend),
                Err(Unpicked::Overload | Unpicked::Held | Unpicked::Raced) => {}
            }
        }
        match refused {
            Refused::Off => {}
            Refused::Full => self.count_refusal(QueueRefusal::Full),
            Refused::Shed => self.count_refusal(QueueRefusal::Shed),
        }
        Err(Fault::BackendsBusy)
    }

    async fn take_turn(
        &mut self,
        plan: &Plan,
        turn: Turn,
        waiting: &Waiting,
        deadline: Instant,
        mut is_behind: bool,
    ) -> Result<Picked, Fault> {
        if is_behind {
            self.pool.call_next();
            self.pool.ask_others_to_close();
        }
        loop {
            if !std::mem::replace(&mut is_behind, false) {
                match self.look(plan, &turn, waiting) {
                    Ok(None) => {}
                    Ok(Some(picked)) => {
                        self.pool.serve(turn);
                        return Ok(picked);
                    }
                    // The others made progress; they go first.
                    Err(Unpicked::Raced) if Instant::now() < deadline => {
                        tokio::task::yield_now().await;
                        continue;
                    }
                    Err(unpicked) => {
                        if unpicked == Unpicked::Raced {
                            self.count_refusal(QueueRefusal::Expired);
                        }
                        return Err(unpicked.into());
                    }
                }
                self.pool.ask_others_to_close();
            }
            let timer = self.context.timer.clone();
            let is_late = poll_fn(|cx| match turn.poll_woken(cx).is_ready() {
                true => std::task::Poll::Ready(false),
                false => timer.poll(cx, deadline).map(|()| true),
            });
            if is_late.await {
                let is_held = self.is_held(plan, waiting.asked.get());
                self.count_refusal(if is_held { QueueRefusal::Held } else { QueueRefusal::Expired });
                return Err(Fault::BackendsBusy);
            }
        }
    }

    /// Whether the strategy is to blame for a wait that was too long: a backend was idle when it was asked last. A
    /// request that was not asked about waits behind others. If the strategy lets these wait, the backends count now. A
    /// backend that a woken request is about to get is not idle.
    fn is_held(&self, plan: &Plan, asked: Asked) -> bool {
        match asked {
            Asked::Held { has_idle } => has_idle,
            Asked::NotHeld => false,
            Asked::Never => {
                let (pool, line) = (&self.pool, &self.pool.line);
                let is_theirs = line.has_strategy_waits() && !line.has_claims() && !pool.is_at_limit();
                is_theirs && !self.has_affinity() && pool.has_idle(&plan.tried, false)
            }
        }
    }

    /// Looks for a backend with room. `None`: the request waits on.
    fn look(&mut self, plan: &Plan, turn: &Turn, waiting: &Waiting) -> Result<Option<Picked>, Unpicked> {
        let pool = self.pool.clone();
        if pool.is_at_limit() {
            waiting.set_asked(Asked::NotHeld);
            turn.leave_to_others(pool.is_room_shared());
            return Ok(None);
        }
        turn.look(
            || pool.room().is_worth_a_look(),
            || {
                let picked = self.pick_now(plan, Instant::now());
                waiting.set_asked(match picked {
                    Err(Unpicked::Held) => Asked::Held { has_idle: pool.has_idle(&plan.tried, self.has_affinity()) },
                    _ => Asked::NotHeld,
                });
                match picked {
                    Ok(picked) => Ok(Some(picked)),
                    Err(Unpicked::Overload | Unpicked::Held) => Ok(None),
                    Err(unpicked) => Err(unpicked),
                }
            },
            // To the strategy, all requests without a key and a failed attempt are alike.
            || waiting.is_held() && plan.tried.is_empty() && !pool.wants_hash(),
        )
    }

    fn count_refusal(&self, reason: QueueRefusal) {
        self.guard.count(|shard| shard.refused_in_queue(reason));
    }
}

// === impl Waiting ===

impl Waiting {
    fn begin(shard: Option<Arc<PoolShard>>) -> Self {
        if let Some(shard) = &shard {
            shard.queue_entered();
        }
        Self { shard, since: Instant::now(), asked: Cell::new(Asked::Never) }
    }

    fn is_held(&self) -> bool {
        matches!(self.asked.get(), Asked::Held { .. })
    }

    fn set_asked(&self, asked: Asked) {
        let was_held = self.is_held();
        self.asked.set(asked);
        match (&self.shard, was_held, self.is_held()) {
            (Some(shard), false, true) => shard.held.inc(),
            (Some(shard), true, false) => shard.held.dec(),
            _ => {}
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.set_asked(Asked::NotHeld);
        if let Some(shard) = &self.shard {
            shard.queue_left(self.since.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::rc::Rc;

    use lb_balance::{Caps, Eligibility};

    use super::*;
    use crate::config::QueuePolicy;
    use crate::net::Stream;
    use crate::proxy::owner::Owner;
    use crate::proxy::queue::{Line, Lines};
    use crate::proxy::stand::{Stand, round_robin};
    use crate::proxy::upstream::Upstream;
    use crate::proxy::view::{MemberView, PoolView};

    /// A pool with caps, its only backend, and the pool's queue in another worker.
    fn pool(connections: u32) -> (Stand, Rc<PoolView>, Rc<MemberView>, Rc<Line>) {
        let stand = Stand::new(&round_robin(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let pool = stand.local.view.borrow().pools[0].clone();
        pool.set_caps(Caps { requests: None, connections: Some(connections) });
        let member = pool.current().as_ref().unwrap().members[0].clone();
        let owner = Owner { number: 1, ..stand.local.owner() };
        let other = Lines::new(owner, stand.lobbies.clone()).of(&pool.name);
        other.set_rules(&QueuePolicy::default(), [100]);
        (stand, pool, member, other)
    }

    fn put_idle(stand: &Stand, member: &MemberView) {
        let stream = Stream::Memory(tokio::io::duplex(64).0);
        member.backend.connection_opens();
        member.idle.put(Upstream::new(stream, &member.shard, &stand.local.buffers), Instant::now(), 10);
    }

    #[test]
    fn an_idle_connection_that_its_request_did_not_need_is_closed_for_another_worker() {
        let (stand, pool, member, other) = pool(1);
        put_idle(&stand, &member);
        let own = pool.line.enter(100).unwrap();
        pool.line.wake_own(1);
        let _others = other.enter(100).unwrap();
        other.ask_to_close();
        pool.answer();
        assert_eq!(member.idle.len(), 1, "it is for the woken request");
        pool.serve(own);
        assert_eq!(member.idle.len(), 0);
    }
    #[test]
    fn a_request_of_another_worker_looks_when_a_claim_ends_because_only_that_worker_sees_its_idle_connections() {
        let (_stand, pool, member, other) = pool(1);
        member.backend.connection_opens();
        let own = pool.line.enter(100).unwrap();
        pool.line.wake_own(1);
        let _others = other.enter(100).unwrap();
        pool.serve(own);
        other.take_wakes();
        assert_eq!(other.woken(), 1);
    }

    #[test]
    fn idle_connections_of_others_are_wanted_for_backends_that_may_serve_and_lack_only_a_connection() {
        let (_stand, pool, member, other) = pool(1);
        let is_asked = || {
            pool.ask_others_to_close();
            other.take_close()
        };
        assert!(!is_asked(), "there is room");
        member.backend.connection_opens();
        assert!(is_asked());
        (0..2).for_each(|_| member.backend.attempt_begins());
        assert!(is_asked(), "the requests may be on connections to its old address");
        pool.set_caps(Caps { requests: Some(2), connections: Some(1) });
        assert!(!is_asked(), "it lacks more");
        pool.set_caps(Caps { requests: None, connections: Some(1) });
        member.backend.set_eligibility(Eligibility::of(false, false, 1));
        assert!(!is_asked(), "it may not serve");
    }
}
