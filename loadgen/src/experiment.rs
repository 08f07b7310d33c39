//! Experiments: the plan ([`plan`]) and its execution ([`run`]).
//!
//! A run has three steps. First a `Stage` is set up: lb with its backends, started here or already running. Then a
//! course runs on it: `cells` (arms and sizes one after the other), `timeline` (faults by the clock) or `blocks` (arms
//! in blocks). Last, the results are stored as in `model`.
//!
//! Invariants: a run that ends early is stored and marked as partial. The same plan and seed give the same requests.
//! Intervals and verdicts of comparisons come from `statistics`.

mod arms;
mod begun;
mod blocks;
mod calibration;
mod cells;
mod collected;
mod conductor;
mod described;
mod doubts;
mod faults;
mod host;
mod judge;
mod last_checks;
mod late;
mod membership;
pub mod plan;
mod preflight;
mod probe;
mod record;
mod run;
mod safeguards;
mod seeds;
mod simulated;
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
pub use simulated::{Job, LIMIT, Simulator, Virtual, check_simulated, simulate};
pub use thresholds::{BadThreshold, Judgement, Outcome, Threshold};
