//! The routing decision around the strategy: live flags and counters, keys, the fallback and the check of a pick. Also
//! the rules that decide which backends may serve: outlier detection, panic and slow start.
//!
//! Why a crate: `lb` and simulations use the same code, so a simulation shows the real behavior. Invariants: this crate
//! has no I/O, no clock and no thread. Time and random bits are arguments. Data shared between threads is atomic.

mod backend;
mod choice;
mod fallback;
pub mod key;
mod outlier;
mod pool_health;
mod signals;
mod slow_start;

pub use backend::{Backend, Eligibility, PoolRule};
pub use choice::{Choice, Chooser, FallbackReason, NoChoice};
pub use fallback::{Fallback, pick as fallback_pick};
pub use key::{HashFunction, Key, KeySource, KeyedRequest};
pub use outlier::{
    Cause, Ejection, Look, OutlierEvent, OutlierRules, OutlierState, Outliers, ReturnReason, SparedBy, SuccessRateRule,
};
pub use pool_health::{Condition, Finding, PanicMode, PanicRules, PoolHealth};
pub use signals::{InRow, Thresholds, is_server_error};
pub use slow_start::{Ramp, SlowStart};
