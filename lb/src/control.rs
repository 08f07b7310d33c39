//! The control wing: everything that changes what the data wing does, and nothing that a request waits for.
//!
//! One actor ([`Handle`] is its door) owns the membership of every pool; health, launcher and admin send it news, it publishes
//! generations. It runs on a current-thread runtime that never blocks; plugin hooks run on the builder thread alone.

pub mod builder;
pub mod command;

pub use builder::Builder;
pub use command::{
    Add, AttachedBackend, BackendStatus, Change, ControlError, Handle, PoolStatus, Remove, Replicas, Status,
};
