//! Simulations of real strategy libraries against theory, published figures and themselves.

mod common;
mod queues;
