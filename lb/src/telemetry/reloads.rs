//! Counts of reloads by kind: how they ended, how long they took, and whether the last one was good.
//!
//! Invariants: a start counts as the first good reload of both kinds, because it read and loaded the running state. So
//! the gauges exist from the first scrape. "The last one was good" is a statement about the files. A reload of the
//! other kind can correct a mistake in them, and so can one that finds no difference. A request beside the files
//! corrects nothing.

use std::time::Duration;

use super::cell::{HistogramSum, REQUEST_BOUNDS_NS};
use super::reason::{ReloadKind, ReloadOutcome};

/// All reloads of one kind.
#[derive(Clone, Debug)]
pub(super) struct Reloads {
    pub(super) outcomes: [u64; ReloadOutcome::COUNT],
    pub(super) durations: HistogramSum,
    pub(super) was_good: bool,
    /// Seconds since the epoch at which something new was put in force.
    pub(super) last_success_seconds: f64,
}

/// A reload that ended.
#[derive(Clone, Copy, Debug)]
pub struct ReloadEnd {
    pub kind: ReloadKind,
    pub outcome: ReloadOutcome,
    pub verdict: FilesVerdict,
    /// The running state has changed.
    pub is_change: bool,
    pub took: Duration,
}

/// A reload's result for the files, which a restart would use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilesVerdict {
    /// The files are in force.
    InForce,
    /// The same, but a requested strategy replaces that of the files.
    Overridden,
    /// The part of the files of this kind is not in force.
    NotInForce,
    /// None: the reload was not about the files.
    None,
}

pub(super) type ReloadsByKind = [Reloads; ReloadKind::COUNT];

// === impl Reloads ===

impl Reloads {
    pub(super) fn new(now_seconds: f64) -> Reloads {
        Reloads {
            outcomes: [0; ReloadOutcome::COUNT],
            durations: HistogramSum::new(REQUEST_BOUNDS_NS),
            was_good: true,
            last_success_seconds: now_seconds,
        }
    }

    /// Counts one of them in.
    pub(super) fn ended(all: &mut ReloadsByKind, end: ReloadEnd, now_seconds: f64) {
        let of_kind = &mut all[end.kind as usize];
        of_kind.outcomes[end.outcome as usize] += 1;
        of_kind.durations.observe(end.took.as_nanos() as u64);
        if end.is_change {
            of_kind.last_success_seconds = now_seconds;
        }
        match end.verdict {
            FilesVerdict::InForce => all.iter_mut().for_each(|of_kind| of_kind.was_good = true),
            FilesVerdict::Overridden => all[ReloadKind::Config as usize].was_good = true,
            FilesVerdict::NotInForce => of_kind.was_good = false,
            FilesVerdict::None => {}
        }
    }
}
