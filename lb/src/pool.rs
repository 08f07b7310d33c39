//! Backends as both wings see them: live flags and counters, and the host's own way to pick one.
//!
//! A leaf: knows nothing of workers, control or HTTP.

mod backend;
mod fallback;

pub use backend::{Backend, Eligibility};
pub use fallback::pick as fallback_pick;
