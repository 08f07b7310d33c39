//! Backends as both wings see them: live flags and counters, and the host's own way to pick one.
//!
//! And what a request is hashed by. A leaf: knows nothing of workers or control.

mod backend;
mod fallback;
pub mod key;

pub use backend::{Backend, Eligibility};
pub use fallback::pick as fallback_pick;
pub use key::Key;
