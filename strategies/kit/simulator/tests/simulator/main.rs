//! Simulations of real strategy libraries against theory, published figures and themselves.

mod balancers;
mod common;
mod determinism;
mod faults;
mod jobs;
mod linkerd;
mod lists;
mod own_rules;
mod probes;
mod queues;
