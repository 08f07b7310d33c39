//! Reloads: the configuration file and the plugins, applied in one transaction.
//!
//! The order of a reload: `prepare` runs beside everything else. In it, `read` compares configurations, `trial` stages
//! plugins and tries them in a child, `swap` opens them and makes instances, and `listen` opens addresses. Then
//! `assemble` has the pickers made, and `commit` publishes. `state` is the state machine, `outcome` reports results,
//! `rollback` puts an old strategy back. `shadows`
//! switches off shadows that fail. `pinned` notes that a flag hides the file's strategy. Invariants: if any step
//! fails, the running state is unchanged and the error names stage and reason. The report names everything that a
//! reload cannot apply.

mod assemble;
mod commit;
mod listen;
mod outcome;
mod pinned;
mod prepare;
mod read;
mod reloads;
mod rollback;
mod shadows;
mod state;
mod swap;
mod trial;

use read::Target;
use swap::{Candidate, Prepared};

pub(super) use reloads::{PreparationResult, Reloads, Tools};
