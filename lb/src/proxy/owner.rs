//! The worker that owns a part of the data.

use tokio::time::Instant;

/// A worker, as its data knows it.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    pub(super) number: usize,
    /// How many workers there are.
    pub(super) workers: usize,
    /// Clock zero, the same for all workers.
    pub(super) epoch: Instant,
}

// === impl Owner ===

impl Owner {
    /// Nanoseconds on the clock that strategies see.
    #[inline]
    pub(super) fn clock_ns(&self, now: Instant) -> u64 {
        (now - self.epoch).as_nanos() as u64
    }
}
