//! The contract between the load balancer and its routing strategies.
//!
//! An author implements [`Strategy`] and writes `lb_strategy::export!(MyStrategy);` in a crate of type `cdylib`. The
//! example at [`export!`] is a complete strategy. It needs no `unsafe`, no clock, no random generator and no thread.
//!
//! The binary contract is `include/lb_strategy.h`. [`abi`] mirrors it byte for byte, and [`ffi`] turns it into safe
//! types. [`export!`] defines the one symbol that the host looks up.
//!
//! Invariants: a panic never leaves the plugin. Memory is freed by the side that allocated it. The lifetime of an
//! argument ends with its call, so a strategy cannot keep it.

#![warn(missing_docs)]

#[allow(missing_docs, reason = "the header documents every field, and a test compares both")]
pub mod abi;
pub mod export;
pub mod ffi;
pub mod strategy;

pub use ffi::lent::{
    Backend, Backends, Finish, Host, LoadReport, LogLevel, Metrics, Outcome, Part, Probe, Probes, Request, Slot, Start,
};
pub use strategy::{Error, NoOptions, Pick, RING_ARCS_MAX, StateSchema, Strategy, Tick};
