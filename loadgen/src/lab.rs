//! The system under test: a balancer with its backends, and the means to read and disturb them.
//!
//! [`Balancer`] is the balancer, started by loadgen or already running. [`Admin`] is its admin port: swap, add, remove.
//! [`Scrape`] is the metrics of the balancer or a backend, and [`Ledger`] compares the counts of client, balancer and
//! backends. [`Recorder`] stores the balancer's metrics each second, and [`OpenMetrics`] converts them for Prometheus.
//!
//! Invariants: a process that loadgen starts ends with loadgen, also after SIGKILL. Ports are never fixed: lb listens
//! on port 0 and its ready file has the address.

mod accounting;
mod admin;
mod balancer;
mod interrupt;
mod mock;
mod openmetrics;
mod process;
mod programs;
mod recorder;
mod ring;
mod scrape;
mod web;

pub(crate) use accounting::natural;
pub use accounting::{ClientCount, Ledger, LedgerError, Snapshot};
pub use admin::{Admin, AdminError, BackendStatus, Ejection, PoolStatus, Status, StrategyFile, Swapped};
pub use balancer::{Balancer, BalancerError, Setup, check, strategies, write_config};
pub(crate) use balancer::{digest, merge, off};
pub use interrupt::Interrupt;
pub use mock::{Mock, MockError, MockStats};
pub use openmetrics::{OpenMetrics, Span};
pub use process::Process;
pub use programs::{Missing, Programs};
pub use recorder::Recorder;
pub use scrape::{BadScrape, Sample, Scrape};
pub use web::{Web, WebError};
