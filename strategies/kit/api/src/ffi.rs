//! The boundary between C and Rust. [`lent`] makes safe types of raw pointers. [`hooks`] makes a table of C functions
//! of a [`Strategy`](crate::Strategy).
//!
//! This module and `export` contain all `unsafe` code of the crate. It relies on a promise of the host, written in
//! `lb_strategy.h`: each argument is valid during its call.

pub mod hooks;
pub mod lent;
