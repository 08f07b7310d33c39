//! Slow start: a backend that joins or returns gets its share of requests in steps.
//!
//! The rule is [`lb_balance::SlowStart`], one per pool. Here it gets the time, and its results are shown and published.
//! A look is due after a change of members or of their eligibility, and at the next step.

use tokio::time::{Duration, Instant};

use super::Membership;
use crate::control::pools::PoolKey;
use crate::control::publish::Publisher;

// === impl Membership: shares ===

impl Membership {
    /// Looks at the pools where a look is due. To be called before a build begins.
    pub(in crate::control) fn look_at_shares(&self, desk: &mut Publisher) {
        let now_ns = self.clock_ns(Instant::now());
        for pool in desk.pools.keys() {
            if desk.pools[pool].members.shares_due_ns() <= now_ns {
                self.look_at_shares_of(desk, pool, now_ns);
            }
        }
    }

    /// The next time at which a look is due.
    pub(super) fn next_share_look(&self, desk: &Publisher) -> Option<Instant> {
        let next_ns = desk.pools.iter().map(|pool| pool.members.shares_due_ns()).min()?;
        (next_ns != u64::MAX).then(|| self.opened + Duration::from_nanos(next_ns))
    }

    fn look_at_shares_of(&self, desk: &mut Publisher, pool: PoolKey, now_ns: u64) {
        let changes = desk.pools[pool].members.look_at_shares(now_ns);
        let members = &desk.pools[pool].members;
        for change in &changes {
            let (pool, backend, percent) = (&desk.pools[pool].name, &change.id, change.after / 10);
            let Some(member) = members.get(backend).filter(|member| member.backend.is_eligible()) else { continue };
            match members.slow_start_left_ns(member, now_ns) {
                Some(left_ns) if change.after < change.before => {
                    let left_ms = left_ns / 1_000_000;
                    tracing::info!(%pool, %backend, percent, left_ms, "backend starts with a part of its share");
                }
                Some(_) => tracing::debug!(%pool, %backend, percent, "backend has a larger part of its share"),
                None => tracing::info!(%pool, %backend, "backend has its full share"),
            }
        }
        if !changes.is_empty() {
            self.show_all(desk, pool);
            desk.touch(pool);
        }
    }
}
