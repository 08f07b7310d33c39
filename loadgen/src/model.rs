//! The plain data of an experiment: what is stored, and what reports are made from.
//!
//! A run is a folder: `run.json` ([`Manifest`]: what was asked, where and with what), `results.json` ([`Results`]: what was counted),
//! `series.json` ([`Series`]: the same over time) and `hdr/*.hdr` ([`Latencies`]: how long it took); beside them, under `scrapes/`, lie
//! what the three sides said of themselves before and after each stretch, and a recording of the balancer ([`Taken`]). `SHA256SUMS` has
//! the digests of all of them that are read back. `experiment` fills it, `report` reads it, and nothing else passes between them, so every
//! report can be made again from its folder.
//!
//! Invariants: no type here knows how it was measured or how it will be drawn; times are integers with their unit in the name, those
//! called `at_ms` count from the start of the run; a number that was not measured is `None`, never 0; no result is thrown away unread.

#![deny(unused_must_use, clippy::let_underscore_must_use)]

mod comparison;
mod folder;
mod histogram;
mod manifest;
mod recording;
mod results;
mod ring;
mod series;
mod sound;
mod stored_histogram;
mod sums;

pub use comparison::{Comparison, Drift, DroppedBlock, Failures, PercentilePoint, Ratio, Ribbon, Verdict};
pub use folder::{Folder, FolderError, PLAN_FILE, Run, write_atomically};
pub use histogram::{CellKey, HistogramError, Latencies, Times, percentile_ns, samples_needed};
pub use manifest::{
    Arm, Arrivals, Backends, Completeness, Conclusion, Host, Load, Manifest, Mark, Program, SCHEMA, Scenario, Severity,
};
pub use recording::{RecordingError, RecordingWriter, Taken, read_recording, recording_path};
pub use results::{Accounting, BackendAccount, BackendCount, Band, Cell, Disruption, Results};
pub use ring::{Ring, RingArc};
pub use series::{Ended, Event, EventKind, Series, Window};
