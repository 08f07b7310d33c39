//! What is counted about reloads, by what they were about: how they ended, how long they took, and how the last one did.
//!
//! Invariants: a start counts as the first good reload of both kinds, because what runs was read and loaded then; so the gauges are there
//! from the first scrape. Whether the last one was good is about the files: a mistake in them may be mended by a reload of the other kind,
//! or by one that finds everything as it runs, and what is asked for beside them mends nothing.

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

/// A reload that came to its end.
#[derive(Clone, Copy, Debug)]
pub struct ReloadEnd {
    pub kind: ReloadKind,
    pub outcome: ReloadOutcome,
    pub verdict: FilesVerdict,
    /// Something else runs since.
    pub is_change: bool,
    pub took: Duration,
}

/// What a reload says of the files, which a restart would use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilesVerdict {
    /// What they say is in force.
    InForce,
    /// The same, but for a strategy that was asked for in place of theirs.
    Overridden,
    /// What they say of this kind is not.
    NotInForce,
    /// Nothing: something else was asked for.
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
