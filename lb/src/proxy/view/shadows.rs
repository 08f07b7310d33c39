//! A worker's own data of the shadows of a pool: the counters of each.
//!
//! Invariant: `backends` is in the order of the pool's backends, so an index that a shadow picks finds its counters.

use std::sync::Arc;

use crate::generation::PoolGeneration;
use crate::telemetry::{Metrics, ShadowBackendShard, ShadowShard};

/// A shadow with this worker's counters.
pub(in crate::proxy) struct ShadowView {
    pub(in crate::proxy) shard: Arc<ShadowShard>,
    pub(in crate::proxy) backends: Vec<Arc<ShadowBackendShard>>,
}

// === impl ShadowView ===

impl ShadowView {
    /// The views of all shadows of a pool, in their order.
    pub(super) fn all(shared: &PoolGeneration, metrics: &Metrics, worker: usize) -> Vec<Self> {
        let of = |id: &str| {
            let backends = shared.backends.iter();
            let counters = backends.map(|backend| metrics.shadow_backend(worker, &shared.name, id, &backend.id));
            Self { shard: metrics.shadow(worker, &shared.name, id), backends: counters.collect() }
        };
        shared.shadows.iter().map(|shadow| of(&shadow.id)).collect()
    }
}
