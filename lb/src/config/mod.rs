//! Configuration: what the operator wrote, turned into plain data with nothing left to check.
//!
//! Four layers, the first that speaks wins: command line, environment, file, defaults. The way in is
//! [`load`]; the way out is [`Config`]. Every mistake is one [`ConfigError`], which prints as one
//! line that says what is wrong, where, and what to do.
//!
//! Invariant: a leaf. Nothing here imports from the rest of `lb`, starts anything or keeps state, and
//! no input of any kind makes it panic.

pub mod validated;
mod values;

pub use validated::*;
