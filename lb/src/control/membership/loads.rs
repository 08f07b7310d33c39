//! Load reports of members: which are polled, and what people see.

use std::sync::Arc;

use super::Membership;
use crate::config::LoadReportPolicy;
use crate::control::api::LoadReportStatus;
use crate::control::health::Polled;
use crate::control::pools::{Member, PoolKey};
use crate::control::publish::Publisher;

// === impl Membership: load reports ===

impl Membership {
    /// Polls a member by the policy of its pool, or not at all.
    pub(super) fn poll(&mut self, desk: &Publisher, pool: PoolKey, member: &Member) {
        let key = (pool, member.id().clone());
        let policy = policy(desk, pool).filter(|policy| policy.poll.is_some());
        let polled = policy.zip(self.gauges.get(&key)).map(|(policy, gauges)| Polled {
            pool: desk.pools[pool].name.clone(),
            backend: member.backend.clone(),
            policy: policy.clone(),
            gauges: gauges.clone(),
            opened: desk.hall.opened(),
        });
        self.polls.follow(key, polled);
    }

    pub(super) fn load_report(&self, desk: &Publisher, pool: PoolKey, member: &Member) -> Option<LoadReportStatus> {
        let now_ns = desk.hall.opened().elapsed().as_nanos() as u64;
        policy(desk, pool).map(|policy| LoadReportStatus::of(&member.backend, policy, now_ns))
    }
}

fn policy(desk: &Publisher, pool: PoolKey) -> Option<&Arc<LoadReportPolicy>> {
    desk.pools[pool].settings().load_reports.as_ref()
}
