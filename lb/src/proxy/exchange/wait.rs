//! The wait of a request for a backend with room.
//!
//! A request waits if every backend that it may use is full, or if others wait already and would be overtaken. It waits
//! at most `queue.wait_ms`, and not beyond its total time. Invariants: it holds no place on a backend while it waits,
//! so two waits never block each other. A wake that it does not use goes to another request.

use std::future::poll_fn;
use std::sync::Arc;

use lb_balance::Caps;
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
        let picked = self.take_turn(plan, turn, deadline, is_behind).await;
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
            match self.pick(plan, Instant::now()) {
                Ok(picked) => return Ok(picked),
                Err(Unpicked::NoBackend) => return Err(Fault::NoBackend),
                Err(Unpicked::Overload | Unpicked::Raced) => {}
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
        deadline: Instant,
        mut is_behind: bool,
    ) -> Result<Picked, Fault> {
        if is_behind {
            self.pool.call_next();
            self.pool.ask_others_to_close();
        }
        loop {
            if !std::mem::replace(&mut is_behind, false) {
                match self.look(plan, &turn) {
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
                self.count_refusal(QueueRefusal::Expired);
                return Err(Fault::BackendsBusy);
            }
        }
    }

    /// Looks for a backend with room. `None`: the request waits on.
    fn look(&mut self, plan: &Plan, turn: &Turn) -> Result<Option<Picked>, Unpicked> {
        let pool = self.pool.clone();
        if pool.is_at_limit() {
            turn.leave_to_others(pool.caps() != Caps::default());
            return Ok(None);
        }
        turn.look(
            || pool.room().is_worth_a_look(),
            || match self.pick(plan, Instant::now()) {
                Ok(picked) => Ok(Some(picked)),
                Err(Unpicked::Overload) => Ok(None),
                Err(unpicked) => Err(unpicked),
            },
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
        Self { shard, since: Instant::now() }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(shard) = &self.shard {
            shard.queue_left(self.since.elapsed());
        }
    }
}
