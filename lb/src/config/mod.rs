//! Configuration: the operator's text, converted into plain data that needs no more checks.
//!
//! Four layers: command line over environment over file over defaults. [`load`](load()) is the entry; [`Config`] is the
//! result. Every mistake is a [`ConfigError`], which prints as one line: what is wrong, where, and what to do.
//! All mistakes are found in one run.
//!
//! ```text
//! text ─ document (strict, with lines) ─ layers (config crate) ─ file form ─ validate, pools, policy ─ Config
//! ```
//!
//! Invariant: a leaf. Nothing here starts anything or keeps state, and no input causes a panic. Of the rest of `lb` it
//! uses only the names of metrics in `load_report`.

mod document;
mod error;
mod explain;
mod failing;
mod file;
mod health;
mod key_path;
mod labels;
mod layers;
mod load;
mod load_reports;
mod mistakes;
mod numbers;
mod overrides;
mod path;
mod places;
mod plugin;
mod policy;
mod pools;
mod ports;
mod probe;
mod queue;
mod reach;
mod regular;
mod schema;
mod section;
mod shadows;
mod slow_start;
mod state;
mod sticky;
mod strategy;
mod token;
mod validate;
pub mod validated;
mod values;

pub use error::{ConfigError, Place};
pub use explain::{Setting, explain, explain_json};
pub use key_path::{KeyPath, Step};
pub use labels::{LABEL_KEY_BYTES_MAX, LABELS_BYTES_MAX, LABELS_MAX, Labels, WrongLabels};
pub use layers::Origin;
pub use load::{Loaded, Source, load, load_admin, load_bytes, load_text, process_environment, read};
pub use load_reports::{LoadPoll, LoadReportPolicy};
pub use path::normal_path;
pub use plugin::Plugin;
pub use probe::ProbePolicy;
pub use reach::{OwnAddress, Reach};
pub use regular::open_regular;
pub use schema::schema;
pub use shadows::{SHADOWS_MAX, Shadow};
pub use token::random_digits;
pub use validated::*;

#[cfg(test)]
mod tests;
