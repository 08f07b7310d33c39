//! The contract between the load balancer and its routing strategies.
//!
//! A strategy author implements [`Strategy`] and writes `lb_strategy::export!(MyStrategy);` in a crate of type `cdylib`. Nothing else
//! is needed: no `unsafe`, no clock, no random generator, no thread. The binary contract is `include/lb_strategy.h`; [`abi`] mirrors it
//! byte for byte, [`ffi`] turns it into the safe types, [`export!`] emits the one symbol that the host looks for.
//!
//! Invariants: a panic never leaves the plugin; whoever allocates frees; what is lent to a call is never kept past it.

pub mod abi;
pub mod export;
pub mod ffi;
pub mod strategy;

pub use ffi::lent::{Backend, Backends, Finish, Host, LogLevel, Outcome, Request, Slot};
pub use strategy::{Error, NoOptions, Pick, RING_ARCS_MAX, StateSchema, Strategy, Tick};
