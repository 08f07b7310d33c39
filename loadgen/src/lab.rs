//! What an experiment is made on: a balancer with its backends, and the ways to ask and disturb them.
//!
//! [`Balancer`] is the balancer, started here with a configuration of ours or running already; [`Admin`] asks it to swap, add and
//! remove; [`Scrape`] is what it and its backends say of themselves, and [`Ledger`] holds the three sides against each other;
//! [`Recorder`] keeps what the balancer says each second, and [`OpenMetrics`] is that for Prometheus.
//!
//! Invariants: what is started here ends with loadgen, however it ends, by SIGKILL too; a port is never chosen here (0, and the ready
//! file says which).

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
pub use admin::{Admin, AdminError, BackendState, PoolState, Status, StrategyFile, Swapped};
pub use balancer::{Balancer, BalancerError, Setup, check, strategies, write_config};
pub use interrupt::Interrupt;
pub use mock::{Mock, MockError, MockStats};
pub use openmetrics::{OpenMetrics, Span};
pub use process::Process;
pub use programs::{Missing, Programs};
pub use recorder::Recorder;
pub use scrape::{BadScrape, Sample, Scrape};
pub use web::{Web, WebError};
