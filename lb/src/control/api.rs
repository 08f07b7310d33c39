//! Requests to control and its results: plain data.
//!
//! Every other module of control may name these types, so this module names none of them. Metrics, logs and HTTP have
//! forms of their own.

mod error;
mod members;
mod reload;
mod safeguards;
mod shadows;
mod status;
mod strategies;

pub use error::ControlError;
pub use members::{
    Add, AttachedBackend, BackendStatus, Change, DrainStatus, EjectionStatus, LoadReportStatus, LoadStatus, Remove,
    Replicas, SlowStartStatus,
};
pub use reload::{
    LastReload, Overriding, OverridingStrategy, PoolReload, ReloadError, ReloadReport, ReloadRequest, ReloadResult,
    ReloadStatus, Reloading, RolledBack, StateHandOver, StrategyChange, Trigger,
};
pub(in crate::control) use safeguards::Safeguards;
pub use shadows::ShadowStatus;
pub use status::{AccessLogStatus, CrashStatus, OverlayStatus, PoolStatus, QueueStatus, Status, WatchStatus};
pub use strategies::{FoundStrategy, LoadedStrategy, OfferedStrategy};
