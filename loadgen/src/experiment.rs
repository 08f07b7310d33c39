//! Experiments: what is to be done, and doing it.

pub mod plan;
