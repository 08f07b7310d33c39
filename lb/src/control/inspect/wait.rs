//! Whether a request would wait in the queue of its pool, and why: by the sums over all workers, from outside.
//!
//! A worker knows more: its own part of the queue and of the adaptive limit, and its idle connections. So near a limit
//! a real request may wait where this module finds room, or the other way round.

use schemars::JsonSchema;
use serde::Serialize;

use crate::config::QueuePolicy;
use crate::generation::PoolGeneration;
use crate::telemetry::QueueTotals;

/// The wait of a request for a backend with room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Wait {
    /// "full": no backend that may serve has room. "limit": the pool is at its adaptive limit. "behind": other requests
    /// wait, and this one has no key. "strategy": the strategy lets it wait.
    pub cause: &'static str,
    /// Requests that wait now.
    pub waiting: u64,
    /// Then the response is a 503.
    pub at_most_ms: u64,
}

/// Why a request gets no backend at once although one may serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Full,
    Limit,
    Behind,
    Strategy,
}

// === impl Cause ===

impl Cause {
    /// The cause for a request for which a backend has room. A key lets it overtake those that wait.
    pub(super) fn despite_room(pool: &PoolGeneration, queue: QueueTotals, has_key: bool) -> Option<Self> {
        let in_flight: u64 = pool.backends.iter().map(|backend| u64::from(backend.in_flight())).sum();
        match queue {
            QueueTotals { adaptive_limit: Some(limit), .. } if in_flight >= limit => Some(Self::Limit),
            QueueTotals { waiting: 1.., .. } if !has_key => Some(Self::Behind),
            _ => None,
        }
    }
}

// === impl Wait ===

impl Wait {
    /// `None`: the queue is off or full, so the request gets its 503 at once.
    pub(super) fn of(cause: Cause, policy: &QueuePolicy, queue: QueueTotals) -> Option<Self> {
        let cause = match cause {
            Cause::Full => "full",
            Cause::Limit => "limit",
            Cause::Behind => "behind",
            Cause::Strategy => "strategy",
        };
        let wait = Self { cause, waiting: queue.waiting, at_most_ms: policy.wait.as_millis() as u64 };
        (queue.waiting < policy.length as u64).then_some(wait)
    }
}
