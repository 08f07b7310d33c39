//! The consequences of outlier detection: a backend that fails its clients' requests gets none for a while.
//!
//! The rules are in [`lb_balance::Outliers`], one per pool. Here they get the time and the counts, and their results
//! are logged, counted and published. A look is due when a worker reports failures in a row, and when an interval or an
//! ejection ends.

use std::sync::Arc;

use lb_balance::OutlierEvent;
use tokio::time::{Duration, Instant};

use super::Membership;
use crate::control::pools::PoolKey;
use crate::control::publish::Publisher;

/// The shortest time between two looks by alarms.
const BETWEEN_ALARMS: Duration = Duration::from_millis(20);

// === impl Membership: outliers ===

impl Membership {
    /// Whether the next alarm of a worker is taken now.
    pub(in crate::control) fn hears_alarms(&self) -> bool {
        self.deaf_until.is_none_or(|until| until <= Instant::now())
    }

    /// Looks at the pools where a look is due. `is_alarm`: at all of them, because a worker reported failures.
    pub(in crate::control) fn look_at_outliers(&mut self, desk: &mut Publisher, is_alarm: bool) {
        let now = Instant::now();
        let now_ns = self.clock_ns(now);
        if is_alarm {
            self.deaf_until = Some(now + BETWEEN_ALARMS);
        }
        let is_due = |desk: &Publisher, pool: PoolKey| is_alarm || desk.pools[pool].members.next_look_ns() <= now_ns;
        let due: Vec<PoolKey> = desk.pools.keys().into_iter().filter(|pool| is_due(desk, *pool)).collect();
        if due.is_empty() {
            return;
        }
        let traffic = desk.metrics.traffic();
        for pool in due {
            let name = desk.pools[pool].name.clone();
            let counts = |id: &str| traffic.backend(&name, id).attempts;
            let events = desk.pools[pool].members.look(now_ns, |member| counts(member.id()));
            for (id, event) in &events {
                self.tell(pool, &name, id, *event);
            }
            if events.iter().any(|(_, event)| !matches!(event, OutlierEvent::Spared { .. })) {
                self.show_all(desk, pool);
                desk.touch(pool);
            }
        }
    }

    /// The next time at which a look is due.
    pub(super) fn next_outlier_look(&self, desk: &Publisher) -> Option<Instant> {
        let next_ns = desk.pools.iter().map(|pool| pool.members.next_look_ns()).min()?;
        (next_ns != u64::MAX).then(|| self.opened + Duration::from_nanos(next_ns))
    }

    /// The time of outlier detection.
    pub(super) fn clock_ns(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.opened).as_nanos() as u64
    }

    fn tell(&self, pool: PoolKey, name: &str, id: &Arc<str>, event: OutlierEvent) {
        match event {
            OutlierEvent::Ejected { cause, for_ns, count, .. } => {
                if let Some(gauges) = self.gauges.get(&(pool, id.clone())) {
                    gauges.ejected(cause.into());
                }
                let (reason, for_ms) = (cause.to_string(), for_ns / 1_000_000);
                tracing::warn!(pool = name, backend = %id, reason, for_ms, count, "backend is ejected");
            }
            OutlierEvent::Returned { why, .. } => {
                tracing::info!(pool = name, backend = %id, why = why.as_str(), "the ejection of a backend is over");
            }
            OutlierEvent::Spared { cause, by, .. } => {
                let (reason, by) = (cause.to_string(), by.as_str());
                tracing::warn!(pool = name, backend = %id, reason, by, "backend fails, but is not ejected");
            }
        }
    }
}
