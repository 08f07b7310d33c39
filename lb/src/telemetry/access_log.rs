//! Counters of the access log: lines written, and lines dropped.
//!
//! Shared by all workers and the writer, and not sharded: only the writer counts written lines, and a worker counts
//! only lines that it drops. Invariant: every line is counted in one of the two.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::reason::LogDropReason;

/// The counters of one balancer's access log; they outlive the files.
#[derive(Debug, Default)]
pub struct AccessLogCounts {
    written: AtomicU64,
    dropped: [AtomicU64; LogDropReason::COUNT],
}

// === impl AccessLogCounts ===

impl AccessLogCounts {
    /// Counts lines that were written to the file.
    pub fn wrote(&self, lines: u64) {
        self.written.fetch_add(lines, Relaxed);
    }

    /// Counts lines that are lost.
    pub fn dropped(&self, reason: LogDropReason, lines: u64) {
        self.dropped[reason as usize].fetch_add(lines, Relaxed);
    }

    /// Lines written.
    pub fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Lines dropped, by reason.
    pub fn dropped_by_reason(&self) -> [u64; LogDropReason::COUNT] {
        std::array::from_fn(|reason| self.dropped[reason].load(Relaxed))
    }
}
