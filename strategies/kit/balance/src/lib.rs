//! What decides where a request goes, beside the strategy: live flags and counters, keys, the fallback, and what becomes of a pick.
//!
//! Why a crate: `lb` and a simulation use the same code, so that what is simulated is what happens. Invariants: there is no I/O, no clock
//! and no thread here; time and random bits are arguments; what is shared between threads is atomic.

mod backend;
mod choice;
mod fallback;
pub mod key;

pub use backend::{Backend, Eligibility};
pub use choice::{Choice, Chooser, FallbackReason, NoChoice};
pub use fallback::{Fallback, pick as fallback_pick};
pub use key::{HashFunction, Key, KeySource, KeyedRequest};
