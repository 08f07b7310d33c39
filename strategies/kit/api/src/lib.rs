//! The contract between the load balancer and its routing strategies.
//!
//! A strategy author implements [`Strategy`] and writes `lb_strategy::export!(MyStrategy);` in a crate of type `cdylib`. The example at
//! [`export!`] is a whole strategy. It needs no `unsafe`, no clock, no random generator and no thread. The binary contract is
//! `include/lb_strategy.h`. [`abi`] mirrors it byte for byte, [`ffi`] turns it into safe types, and [`export!`] emits the one symbol that
//! the host looks for.
//!
//! Invariants: a panic never leaves the plugin. Memory is freed by the side that allocated it. A value that is lent to a call is never
//! kept past that call.

#![warn(missing_docs)]

#[allow(missing_docs, reason = "the header documents every field, and a test compares both")]
pub mod abi;
pub mod export;
pub mod ffi;
pub mod strategy;

pub use ffi::lent::{Backend, Backends, Finish, Host, LogLevel, Outcome, Request, Slot};
pub use strategy::{Error, NoOptions, Pick, RING_ARCS_MAX, StateSchema, Strategy, Tick};
