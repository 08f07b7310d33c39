//! Actions that wait until every worker has a change.
//!
//! A waiter passes two stages. First its change is not published yet; then not every worker has the generation with the
//! change. Invariant: the second stage ends after [`TAKE_UP_MAX`], because a stuck worker must not hold up callers.

use std::time::Duration;

use tokio::time::Instant;

use super::FollowUp;
use crate::control::pools::PoolKey;

/// The longest wait for the slowest worker.
pub(super) const TAKE_UP_MAX: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Waiting {
    unpublished: Vec<Waiter>,
    published: Vec<Published>,
}

struct Waiter {
    pool: PoolKey,
    /// The count of changes that the generation must cover.
    change: u64,
    follow_up: FollowUp,
}

/// A waiter whose change is published.
struct Published {
    number: u64,
    deadline: Instant,
    follow_up: FollowUp,
}

/// A waiter whose second stage has ended.
pub(super) struct Waited {
    pub(super) number: u64,
    /// Every worker has the generation; `false` after [`TAKE_UP_MAX`].
    pub(super) is_with_all: bool,
    pub(super) follow_up: FollowUp,
}

// === impl Waiting ===

impl Waiting {
    /// `follow_up` is due when changes up to `change` are published and every worker has them.
    pub(super) fn add(&mut self, pool: PoolKey, change: u64, follow_up: FollowUp) {
        self.unpublished.push(Waiter { pool, change, follow_up });
    }

    /// `follow_up` is due when every worker has generation `number`.
    pub(super) fn add_published(&mut self, number: u64, follow_up: FollowUp) {
        self.published.push(Published { number, deadline: Instant::now() + TAKE_UP_MAX, follow_up });
    }

    /// Generation `number` is published and contains the changes up to `covers`.
    pub(super) fn published(&mut self, covers: u64, number: u64) {
        let (published, unpublished) =
            std::mem::take(&mut self.unpublished).into_iter().partition(|waiter| waiter.change <= covers);
        self.unpublished = unpublished;
        let published: Vec<Waiter> = published;
        published.into_iter().for_each(|waiter| self.add_published(number, waiter.follow_up));
    }

    /// Returns the callers that waited for the pool's list, which was refused.
    pub(super) fn take_refused(&mut self, pool: PoolKey) -> Vec<FollowUp> {
        let (refused, unpublished): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.unpublished).into_iter().partition(|waiter| waiter.pool == pool);
        self.unpublished = unpublished;
        refused.into_iter().map(|waiter| waiter.follow_up).collect()
    }

    /// Returns the waiters whose generation every worker has, and those whose time is up.
    pub(super) fn take_due(&mut self, is_with_all: impl Fn(u64) -> bool) -> Vec<Waited> {
        let now = Instant::now();
        let (ended, published): (Vec<_>, Vec<_>) = std::mem::take(&mut self.published)
            .into_iter()
            .partition(|one| is_with_all(one.number) || one.deadline <= now);
        self.published = published;
        let waited =
            |Published { number, follow_up, .. }| Waited { number, is_with_all: is_with_all(number), follow_up };
        ended.into_iter().map(waited).collect()
    }

    /// The time at which the first waiter has waited too long.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.published.iter().map(|waiter| waiter.deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow_up() -> FollowUp {
        FollowUp::AllJoined(tokio::sync::oneshot::channel().0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_ends_when_its_change_is_with_every_worker_and_not_before() {
        let mut waiting = Waiting::default();
        waiting.add(PoolKey::DEFAULT, 1, follow_up());
        waiting.add(PoolKey::DEFAULT, 2, follow_up());
        waiting.published(1, 7);
        assert!(waiting.take_due(|_| false).is_empty());
        let ended = waiting.take_due(|number| number <= 7);
        assert_eq!(ended.iter().map(|one| (one.number, one.is_with_all)).collect::<Vec<_>>(), [(7, true)]);
        assert_eq!(waiting.take_refused(PoolKey::DEFAULT).len(), 1, "the second change is not published");
        assert!(waiting.next_deadline().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_worker_holds_up_a_waiter_for_two_seconds() {
        let mut waiting = Waiting::default();
        waiting.add_published(3, follow_up());
        assert!(waiting.take_due(|_| false).is_empty());
        tokio::time::advance(TAKE_UP_MAX).await;
        assert!(waiting.next_deadline().is_some_and(|deadline| deadline <= Instant::now()));
        let ended = waiting.take_due(|_| false);
        assert_eq!(ended.iter().map(|one| (one.number, one.is_with_all)).collect::<Vec<_>>(), [(3, false)]);
    }
}
