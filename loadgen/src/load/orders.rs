//! Orders to the sending threads while they run.
//!
//! Invariant: without orders, a thread reads two atomics per round of its loop and takes no lock.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Acquire, Ordering::Release};

use parking_lot::Mutex;

use super::source::CutAt;

#[derive(Debug, Default)]
pub(super) struct Orders {
    stop: AtomicU8,
    cuts: Mutex<Vec<CutAt>>,
    cut_count: AtomicUsize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum StopOrder {
    /// Stop sending and wait for the requests in flight.
    Finish,
    /// End now.
    Abort,
}

const FINISH: u8 = 1;
const ABORT: u8 = 2;

// === impl Orders ===

impl Orders {
    pub(super) fn finish(&self) {
        self.stop.fetch_max(FINISH, Release);
    }

    pub(super) fn abort(&self) {
        self.stop.fetch_max(ABORT, Release);
    }

    pub(super) fn stop(&self) -> Option<StopOrder> {
        match self.stop.load(Acquire) {
            FINISH => Some(StopOrder::Finish),
            ABORT => Some(StopOrder::Abort),
            _ => None,
        }
    }

    /// Adds a cut and returns the number of cuts. If the last cut is not earlier than this one, returns its time as the
    /// error.
    pub(super) fn cut(&self, cut: CutAt) -> Result<usize, u64> {
        let mut cuts = self.cuts.lock();
        if let Some(last) = cuts.last().filter(|last| last.at_ns >= cut.at_ns) {
            return Err(last.at_ns);
        }
        cuts.push(cut);
        self.cut_count.store(cuts.len(), Release);
        Ok(cuts.len())
    }

    /// The cuts after the first `known`, if there are any.
    pub(super) fn cuts_from(&self, known: usize) -> Option<Vec<CutAt>> {
        (self.cut_count.load(Acquire) > known).then(|| self.cuts.lock()[known..].to_vec())
    }
}
