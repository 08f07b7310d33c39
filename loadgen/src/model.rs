//! The plain data of an experiment: the content of a run's folder, from which reports are made.
//!
//! A run is a folder. `run.json` is the [`Manifest`]: the plan, the machine, the checks. `results.json` has the counts
//! ([`Results`]), `series.json` the counts over time ([`Series`]), and `hdr/*.hdr` the [`Latencies`]. The folder
//! `scrapes/` has the metrics of balancer and backends before and after each stretch, and a recording of the balancer
//! ([`Taken`]). `SHA256SUMS` has the digests of all files that are read back. `experiment` writes the folder and
//! `report` reads it. They share nothing else, so each report can be made again.
//!
//! Invariants: no type here depends on how it was measured or how it is drawn. Times are integers with their unit in
//! the name; `at_ms` counts from the start of the run. A number that was not measured is `None`, never 0. No `Result`
//! is ignored.

#![deny(unused_must_use, clippy::let_underscore_must_use)]

mod comparison;
mod folder;
mod histogram;
mod manifest;
mod recording;
mod results;
mod ring;
mod safeguards;
mod series;
mod sound;
mod stored_histogram;
mod sums;

pub use comparison::{
    Comparison, Drift, DroppedBlock, Failures, GOOD_SHARE, PercentilePoint, Ratio, Ribbon, TypicalShare, Verdict,
};
pub use folder::{Folder, FolderError, PLAN_FILE, Run, write_atomically};
pub use histogram::{CellKey, HistogramError, Latencies, Times, percentile_ns, samples_needed};
pub use manifest::{
    Arm, Arrivals, BackendsDescription, Completeness, Conclusion, Host, Load, Manifest, Mark, Program, SCHEMA,
    Scenario, Severity,
};
pub use recording::{RecordingError, RecordingWriter, Taken, read_recording, recording_path};
pub use results::{Accounting, BackendAccount, BackendCount, Band, Cell, Disruption, Results};
pub use ring::{Ring, RingArc};
pub use safeguards::{Off, SAFEGUARDS, Safeguard, Safeguards};
pub use series::{Ended, Event, EventKind, Series, Window};
pub(crate) use sums::sha256;
