//! Totals: the few sums that `/status` and tests need as numbers and not as text.

use std::collections::BTreeMap;

use super::hub::Metrics;
use super::reason::ErrorReason;

/// The outcomes of the requests of one pool, over all workers and listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolTotals {
    pub requests: u64,
    /// By final status; `0` stands for numbers that are no status code.
    pub requests_by_code: BTreeMap<u16, u64>,
    /// Without reasons that did not occur.
    pub errors_by_reason: BTreeMap<ErrorReason, u64>,
    pub in_flight: i64,
}

/// The outcomes of the attempts on one backend, over all workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTotals {
    pub id: String,
    pub responses: u64,
    pub errors: u64,
    pub in_flight: i64,
}

/// The results of a pool's strategies, over all workers and listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PickTotals {
    pub picks: u64,
    pub timed: u64,
    /// Timed picks over [`SLOW_PICK`](super::SLOW_PICK).
    pub slow: u64,
    pub panics: u64,
    /// An index outside the list or already tried, no backend although one was left, or an error.
    pub senseless: u64,
    /// Requests that it let wait until their time was over, although a backend was idle.
    pub held: u64,
}

/// The queue of a pool, over all workers and listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueTotals {
    /// Requests that wait now.
    pub waiting: u64,
    /// Those of them that the strategy lets wait.
    pub held: u64,
    /// Of attempts in flight; `None`: there is none.
    pub adaptive_limit: Option<u64>,
}

// === impl PickTotals ===

impl PickTotals {
    /// The counts since `earlier`. Counts of a removed pool's shards are gone, so a count may be smaller than before.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            picks: self.picks.saturating_sub(earlier.picks),
            timed: self.timed.saturating_sub(earlier.timed),
            slow: self.slow.saturating_sub(earlier.slow),
            panics: self.panics.saturating_sub(earlier.panics),
            senseless: self.senseless.saturating_sub(earlier.senseless),
            held: self.held.saturating_sub(earlier.held),
        }
    }
}

// === impl Metrics ===

impl Metrics {
    /// The totals of a pool; zeros for an unknown one.
    pub fn pool_totals(&self, pool: &str) -> PoolTotals {
        let snapshot = self.shared().snapshot();
        let mut totals = PoolTotals::default();
        // a removed pool may be added again and starts from zero
        let Some(of) = snapshot.pools.get(pool) else { return totals };
        let all = snapshot.requests.iter().chain(&snapshot.unshown);
        for requests in all.filter(|requests| *requests.pool == *pool) {
            totals.in_flight += requests.in_flight;
            for ((code, _), count) in requests.by_code.iter().filter(|(_, count)| **count > 0) {
                totals.requests += count;
                *totals.requests_by_code.entry(*code).or_default() += count;
            }
        }
        let counted = ErrorReason::ALL.iter().copied().zip(of.errors);
        totals.errors_by_reason = counted.filter(|(_, count)| *count > 0).collect();
        totals
    }

    /// The results of a pool's strategies; zeros for an unknown pool.
    pub fn pick_totals(&self, pool: &str) -> PickTotals {
        self.shared().pick_totals(pool)
    }

    /// The queue of a pool; none waits in that of an unknown pool.
    pub fn queue_totals(&self, pool: &str) -> QueueTotals {
        self.shared().queue_totals(pool)
    }

    /// The totals of a pool's backends by id, including retired ones whose series are still shown.
    pub fn backend_totals(&self, pool: &str) -> Vec<BackendTotals> {
        let backends = self.shared().snapshot().backends;
        let of_pool = backends.iter().filter(|backend| *backend.pool == *pool);
        let totals = of_pool.map(|backend| BackendTotals {
            id: backend.backend.to_string(),
            responses: backend.by_code.values().sum(),
            errors: backend.errors.iter().sum(),
            in_flight: backend.in_flight,
        });
        totals.collect()
    }
}
