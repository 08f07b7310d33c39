//! Experiments: what is to be done ([`plan`]), and doing it ([`run`]).
//!
//! A run takes three steps: a `Stage` is set (lb with its backends, or one that runs already), a course is run on it (`cells`: arms
//! and sizes one after the other; `timeline`: faults by the clock; `blocks`: arms side by side), and what was measured is kept as
//! `model` has it and reported.
//!
//! Invariants: whatever ends a run early, what it has is written and marked; the same plan and seed ask for the same requests; nothing
//! here judges, `statistics` does.

mod arms;
mod blocks;
mod calibration;
mod cells;
mod conductor;
mod described;
mod doubts;
mod faults;
mod host;
mod judge;
mod late;
mod membership;
pub mod plan;
mod preflight;
mod probe;
mod record;
mod run;
mod seeds;
mod stage;
mod thresholds;
mod timeline;

pub use arms::check;
pub(crate) use described::keys_in_words;
pub(crate) use doubts::marks as marks_of_load;
pub(crate) use host::HostWatch;
pub use host::host;
pub(crate) use record::single;
pub use run::{Experiment, ExperimentError, Finished, PLAN_FILE, Place, folder_for, run};
pub use thresholds::{BadThreshold, Judgement, Outcome, Threshold};
