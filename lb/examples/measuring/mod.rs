//! What the measurements share: a balancer with servers as processes, load, windows of time, and the statistics of them.

#![allow(dead_code)] // each of them uses its part

pub(crate) mod load;
pub(crate) mod stage;
pub(crate) mod statistics;
pub(crate) mod windows;
