//! The load balancer as a library.
//!
//! `proxy` is the data wing, `control` the control wing; neither names the other. `generation` is the hall between
//! them: the immutable snapshot that control publishes and workers use. `admin` is the admin port: it calls control and
//! reads the hall. `course` is the assignment. `listener`, `load_report`, `pool`, `access_log`, `telemetry`, `config`,
//! `http1` and `net` are leaves. docs/architecture.md has a drawing.

pub mod access_log;
pub mod admin;
pub mod cli;
pub mod config;
pub mod control;
pub mod course;
pub mod generation;
pub mod http1;
pub mod listener;
pub mod load_report;
mod net;
pub mod pool;
pub mod proxy;
pub mod run;
pub mod telemetry;

#[cfg(feature = "bench")]
#[doc(hidden)]
pub use proxy::bench;
