//! Reloads: the configuration file and the plugins, taken up in one transaction.
//!
//! The way of a reload: `prepare` runs beside everything else (`read` compares configurations, `trial` stages plugins and tries them in a
//! child, `swap` opens them and makes instances, `listen` opens addresses); `assemble` has the pickers made; `commit` publishes. `state`
//! is where the one reload is, `outcome` how it is reported, `rollback` the way back. Invariants: whatever fails, what runs is as it was,
//! and the error names stage and reason; what a reload cannot apply is named in its report.

mod assemble;
mod commit;
mod listen;
mod outcome;
mod prepare;
mod read;
mod reloads;
mod rollback;
mod state;
mod swap;
mod trial;

use read::Target;
use swap::{Candidate, Prepared};

pub(super) use reloads::{Preparing, Reloads, Tools};
