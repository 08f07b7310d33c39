//! The routing decision around the strategy: live flags and counters, keys, the fallback, and the check of a pick.
//!
//! Why a crate: `lb` and simulations use the same code, so a simulation shows the real behavior. Invariants: this crate
//! has no I/O, no clock and no thread. Time and random bits are arguments. Data shared between threads is atomic.

mod backend;
mod choice;
mod fallback;
pub mod key;

pub use backend::{Backend, Eligibility};
pub use choice::{Choice, Chooser, FallbackReason, NoChoice};
pub use fallback::{Fallback, pick as fallback_pick};
pub use key::{HashFunction, Key, KeySource, KeyedRequest};
