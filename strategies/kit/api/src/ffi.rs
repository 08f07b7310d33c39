//! The boundary between C and Rust. [`lent`] makes safe types of raw pointers. [`hooks`] makes the table of a
//! [`Strategy`](crate::Strategy), and `calls` has the C functions in it.
//!
//! This module and `export` contain all `unsafe` code of the crate. It relies on a promise of the host, written in
//! `lb_strategy.h`: each argument is valid during its call.

mod calls;
pub mod hooks;
pub mod lent;
