//! The zero of a report's times: the first measured request, as for the faults of a plan. Stored times count from the
//! start of the run.
//!
//! Invariant: an event at `at` in the plan has the time `at` in the report, for every arm. Times before the zero are
//! negative.

use crate::model::{Cell, Run};

/// The zero of the run: the beginning of its first cell.
pub(crate) fn zero_ms(run: &Run) -> u64 {
    let first_window =
        || run.series.iter().filter_map(|series| series.windows.first()).map(|window| window.at_ms).min();
    run.results.cells.iter().map(|cell| cell.at_ms).min().or_else(first_window).unwrap_or(0)
}

/// Seconds from one time to another; negative if the second is earlier.
pub(crate) fn seconds(from_ms: u64, at_ms: u64) -> f64 {
    (at_ms as f64 - from_ms as f64) / 1e3
}

/// The cell that ran at this time. Its beginning is the zero of its own faults.
pub(crate) fn cell_at(run: &Run, at_ms: u64) -> Option<&Cell> {
    let begun = run.results.cells.iter().filter(|cell| cell.at_ms <= at_ms).max_by_key(|cell| cell.at_ms);
    begun.or_else(|| run.results.cells.iter().min_by_key(|cell| cell.at_ms))
}
