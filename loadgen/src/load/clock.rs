//! Time as nanoseconds from the start of a run: one number to compare, store and subtract.

use std::time::{Duration, Instant};

/// The clock that all threads of a run share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
}

// === impl Clock ===

impl Clock {
    pub(super) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub(super) fn now(&self) -> u64 {
        nanos(self.origin.elapsed())
    }

    /// 0 for what was before the start.
    pub(super) fn at(&self, instant: Instant) -> u64 {
        nanos(instant.saturating_duration_since(self.origin))
    }
}

/// 2^64 ns are 584 years.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
