//! The host side of the strategy contract: verifies, stages, opens and drives plugins. The only place that opens a library.
//!
//! Data flows one way: [`Loader::load`] walks a candidate file through named [stages](Stage) and yields a [`Plugin`]; a plugin and
//! options make a [`Strategy`]; a strategy and a [`BackendList`] make a [`Picker`]; a picker answers a [`PickRequest`] with a
//! [`Decision`] whose index was checked. Invariants: an image once opened is never closed (a Rust library's thread-local destructors
//! would crash at thread exit); what a plugin answers is never trusted; `unsafe` lives in `library` and `handle` alone.

mod accounts;
mod backends;
mod elf;
mod handle;
mod library;
mod load;
mod store;
mod talk;
mod verify;

pub use backends::{BackendList, BackendSpec, Slot, Stats, backend_id};
pub use handle::{Decision, Finish, Headers, HookError, PickRequest, Picker, Refusal, Strategy};
pub use lb_strategy::Outcome;
pub use library::{Plugin, plugin_from_table};
pub use load::{LoadError, Loader, Stage, Staged, Wanted, file_name, find, sha256_of};
pub use store::{Copies, PrivateCopy};
