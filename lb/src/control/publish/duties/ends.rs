//! The ends of periodic probes, on their way to the strategies.
//!
//! Why in turns with the duties: `on_probe` of a slow strategy must not keep changes of backends waiting.
//!
//! Invariants: only the instance that asked for a probe is told of its end, and only while it is in charge. After a
//! call the builder is free for at least as long as the call took. The ends of one instance keep their order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use lb_strategy_host::Probe;
use tokio::sync::oneshot;

use super::Post;
use crate::control::health::ProbeEnd;
use crate::generation::PoolGeneration;

/// The end of a probe, and where it goes.
pub(in crate::control::publish) struct Probed {
    /// In force when the probe ended.
    pub(in crate::control::publish) pool: Arc<PoolGeneration>,
    pub(in crate::control::publish) backend_id: u64,
    pub(in crate::control::publish) end: ProbeEnd,
    /// The clock of strategies when it ended.
    pub(in crate::control::publish) now_ns: u64,
    /// Gets a message after the call. Dropped without one if the strategy is no longer in charge.
    pub(in crate::control::publish) told: oneshot::Sender<()>,
}

/// The ends that no strategy was told of yet, with the times when they came.
#[derive(Default)]
pub(super) struct Ends {
    waiting: VecDeque<(Instant, Probed)>,
    free_from: Option<Instant>,
}

// === impl Ends ===

impl Ends {
    pub(super) fn push(&mut self, probed: Probed, now: Instant) {
        self.waiting.push_back((now, probed));
    }

    /// Forgets the ends for instances that have no post.
    pub(super) fn keep(&mut self, posts: &[Post]) {
        let instance = |probed: &Probed| probed.pool.picker.strategy().instance();
        let is_kept = |probed: &Probed| posts.iter().any(|post| post.strategy.instance() == instance(probed));
        self.waiting.retain(|(_, probed)| is_kept(probed));
    }

    /// When the next call is due; `None` without ends.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let (came, _) = self.waiting.front()?;
        Some(self.free_from.map_or(*came, |free_from| free_from.max(*came)))
    }

    /// Tells the strategy of the first end.
    pub(super) fn tell_one(&mut self, now: Instant) {
        let Some((_, Probed { pool, backend_id, end, now_ns, told })) = self.waiting.pop_front() else { return };
        let began = Instant::now();
        let headers: Vec<_> = end.headers.iter().map(Option::as_deref).collect();
        pool.picker.probe(&Probe {
            worker: None,
            backend_id,
            outcome: end.outcome,
            http_status: end.status,
            latency_ns: end.latency.as_nanos() as u64,
            now_ns,
            headers: &headers,
            body: &end.body,
        });
        let took = began.elapsed();
        self.free_from = Some(now + took + took);
        // The task of the probe may have ended.
        let _ = told.send(());
    }
}

#[cfg(test)]
mod tests;
