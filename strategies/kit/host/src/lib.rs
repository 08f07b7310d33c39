//! The host side of the strategy contract: verifies, stages, opens and calls plugins. Only this crate opens libraries.
//!
//! Data flows one way. [`Loader::load`] takes a file through named [stages](Stage) and returns a [`Plugin`]. A plugin
//! and options make a [`Strategy`]. A strategy and a [`BackendList`] make a [`Picker`]. A picker returns a checked
//! [`Decision`] for a [`PickRequest`].
//!
//! Invariants: an opened image is never closed, because a Rust library's thread-local destructors would crash when a
//! thread exits. Every result of a plugin is checked. Only `library`, `handle`,
//! `inside` and `crash` contain `unsafe` code.

mod accounts;
mod backends;
pub mod crash;
mod elf;
mod error;
mod handle;
mod inside;
mod library;
mod load;
mod page;
mod remains;
mod request;
mod resident;
mod store;
mod talk;
mod verify;

pub use backends::{BackendList, BackendSpec, Slot, Stats, backend_id};
pub use error::HookError;
pub use handle::{Picker, Strategy};
pub use inside::{Hook, HookPanics};
pub use lb_strategy::{Outcome, Part};
pub use library::{Plugin, Wants, plugin_from_table};
pub use load::{LoadError, Loader, Stage, Staged, Wanted, file_name, find, sha256_of};
pub use page::{BadLine, BadPage, FAMILIES_MAX, Family, PluginPage, SERIES_MAX};
pub use remains::Remains;
pub use request::{Answered, Decision, Finish, Lookup, PickRequest, Probe, Probes, Refusal, Start};
pub use store::{Copies, PrivateCopy};
