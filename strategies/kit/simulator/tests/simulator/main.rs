//! Simulations of real strategy libraries against theory, published figures and themselves.

mod balancers;
mod common;
mod determinism;
mod faults;
mod linkerd;
mod own_rules;
mod queues;
