//! The control wing: everything that changes the behaviour of the data wing. No request waits for it.
//!
//! One actor owns the wing's state and publishes generations; [`Handle`] sends it commands. The actor runs on a
//! current-thread runtime that never blocks. Plugin hooks run only on the builder thread. Arrows between the folders go
//! one way; a table in the tidy test holds that.

mod actor;
mod api;
mod handle;
mod health;
mod inspect;
mod launcher;
mod membership;
mod pools;
mod publish;
mod reload;
mod start;
mod state;
mod trust;
mod watch;

pub use api::{
    AccessLogStatus, Add, AttachedBackend, BackendStatus, Change, ControlError, CrashStatus, DrainStatus,
    EjectionStatus, FoundStrategy, LastReload, LoadReportStatus, LoadStatus, LoadedStrategy, OfferedStrategy,
    OverlayStatus, Overriding, OverridingStrategy, PoolReload, PoolStatus, QueueStatus, ReloadError, ReloadReport,
    ReloadRequest, ReloadResult, ReloadStatus, Reloading, Remove, Replicas, RolledBack, ShadowStatus, SlowStartStatus,
    StateHandOver, Status, StrategyChange, Trigger, WatchStatus,
};
pub use handle::Handle;
pub use inspect::{Candidate, ExplainRequest, Explanation, Ring, RingArc, Wait};
pub use publish::{Builder, BuilderWatch};
pub use start::{
    CheckReport, Control, Options, Preflight, StartError, StartReport, check, list_strategies, preflight,
    refuse_second, start,
};
pub use state::{Holder, StateError};
pub use trust::{PluginError, vet};
