//! Callers that wait until every worker has their change.
//!
//! A waiter passes two stages. First its change is not published yet; then not every worker has the generation with the
//! change. Invariant: the second stage ends after [`SETTLE_MAX`], because a stuck worker must not hold up callers.

use std::time::Duration;

use tokio::time::Instant;

use super::Done;
use crate::control::pools::PoolKey;

/// The longest wait for the slowest worker.
pub(super) const SETTLE_MAX: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Waiting {
    unpublished: Vec<Waiter>,
    settling: Vec<Settling>,
}

struct Waiter {
    pool: PoolKey,
    /// The count of changes that the generation must cover.
    change: u64,
    done: Done,
}

struct Settling {
    number: u64,
    deadline: Instant,
    done: Done,
}

/// A waiter whose second stage has ended.
pub(super) struct Settled {
    pub(super) number: u64,
    /// Every worker has the generation; `false` after [`SETTLE_MAX`].
    pub(super) is_with_all: bool,
    pub(super) done: Done,
}

// === impl Waiting ===

impl Waiting {
    /// Does `done` when changes up to `change` are published and every worker has them.
    pub(super) fn add(&mut self, pool: PoolKey, change: u64, done: Done) {
        self.unpublished.push(Waiter { pool, change, done });
    }

    /// Does `done` when every worker has generation `number`.
    pub(super) fn settle(&mut self, number: u64, done: Done) {
        self.settling.push(Settling { number, deadline: Instant::now() + SETTLE_MAX, done });
    }

    /// Generation `number` is published and contains the changes up to `covers`.
    pub(super) fn published(&mut self, covers: u64, number: u64) {
        let (published, unpublished) =
            std::mem::take(&mut self.unpublished).into_iter().partition(|waiter| waiter.change <= covers);
        self.unpublished = unpublished;
        let published: Vec<Waiter> = published;
        published.into_iter().for_each(|waiter| self.settle(number, waiter.done));
    }

    /// Returns the callers that waited for the pool's list, which was refused.
    pub(super) fn take_refused(&mut self, pool: PoolKey) -> Vec<Done> {
        let (refused, unpublished): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.unpublished).into_iter().partition(|waiter| waiter.pool == pool);
        self.unpublished = unpublished;
        refused.into_iter().map(|waiter| waiter.done).collect()
    }

    /// Returns the waiters whose generation every worker has, and those whose time is up.
    pub(super) fn take_settled(&mut self, is_with_all: impl Fn(u64) -> bool) -> Vec<Settled> {
        let now = Instant::now();
        let (ended, settling): (Vec<_>, Vec<_>) = std::mem::take(&mut self.settling)
            .into_iter()
            .partition(|one| is_with_all(one.number) || one.deadline <= now);
        self.settling = settling;
        let settled = |Settling { number, done, .. }| Settled { number, is_with_all: is_with_all(number), done };
        ended.into_iter().map(settled).collect()
    }

    /// The time at which the first waiter has waited too long.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.settling.iter().map(|settling| settling.deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled() -> Done {
        Done::Settled(tokio::sync::oneshot::channel().0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_ends_when_its_change_is_with_every_worker_and_not_before() {
        let mut waiting = Waiting::default();
        waiting.add(PoolKey::DEFAULT, 1, settled());
        waiting.add(PoolKey::DEFAULT, 2, settled());
        waiting.published(1, 7);
        assert!(waiting.take_settled(|_| false).is_empty());
        let ended = waiting.take_settled(|number| number <= 7);
        assert_eq!(ended.iter().map(|one| (one.number, one.is_with_all)).collect::<Vec<_>>(), [(7, true)]);
        assert_eq!(waiting.take_refused(PoolKey::DEFAULT).len(), 1, "the second change is not published");
        assert!(waiting.next_deadline().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_worker_holds_up_a_waiter_for_two_seconds() {
        let mut waiting = Waiting::default();
        waiting.settle(3, settled());
        assert!(waiting.take_settled(|_| false).is_empty());
        tokio::time::advance(SETTLE_MAX).await;
        assert!(waiting.next_deadline().is_some_and(|deadline| deadline <= Instant::now()));
        let ended = waiting.take_settled(|_| false);
        assert_eq!(ended.iter().map(|one| (one.number, one.is_with_all)).collect::<Vec<_>>(), [(3, false)]);
    }
}
