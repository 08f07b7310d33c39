//! The number of calls that have returned from strategies in this process.
//!
//! Why: a watcher must tell a slow strategy from one that hangs. A slow one makes progress. Invariant: the count only
//! grows. Loops that measure time or stress threads add many calls at once, so that the count does not disturb them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static RETURNED: AtomicU64 = AtomicU64::new(0);

/// The calls that have returned so far: picks, pickers and explanations.
pub fn returned() -> u64 {
    RETURNED.load(Relaxed)
}

/// `calls` more calls have returned.
pub(crate) fn beat(calls: u64) {
    RETURNED.fetch_add(calls, Relaxed);
}
