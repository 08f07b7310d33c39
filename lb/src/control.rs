//! The control wing: everything that changes what the data wing does, and nothing that a request waits for.
//!
//! One actor ([`Handle`] is its door) owns the membership of every pool; health, launcher and admin send it news, it publishes
//! generations. It runs on a current-thread runtime that never blocks; plugin hooks run on the builder thread alone.

mod actor;
pub mod builder;
mod check;
pub mod command;
mod explain;
mod health;
mod launcher;
mod members;
mod options;
mod overlay;
mod plugins;
mod pool_state;
mod pools;
mod preflight;
mod probation;
mod reload;
mod ring;
mod scratch;
mod settings;
mod standing;
mod start;
mod state_dir;
pub mod vet;
mod watch;

pub use builder::Builder;
pub use check::{CheckReport, check, list_strategies};
pub use command::{
    Add, AttachedBackend, BackendStatus, Change, ControlError, Handle, OverlayStatus, PoolStatus, Remove, Replicas,
    Status,
};
pub use explain::{Candidate, ExplainRequest, Explanation};
pub use options::Options;
pub use plugins::{FoundStrategy, LoadedStrategy, OfferedStrategy};
pub use preflight::{Preflight, preflight};
pub use reload::{
    LastReload, Overriding, OverridingStrategy, PoolReload, ReloadError, ReloadReport, ReloadRequest, ReloadResult,
    ReloadStatus, RolledBack, StateHandOver, StrategyChange, Trigger,
};
pub use ring::{Ring, RingArc};
pub use start::{Control, StartError, StartReport, start};
pub use watch::WatchStatus;
