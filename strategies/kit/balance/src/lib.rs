//! The routing decision around the strategy: live flags and counters, keys, the fallback and the check of a pick. Also
//! the rules that decide which backends may serve: health by checks, outlier detection, panic and slow start.
//!
//! Around a failed or refused decision: retries with their budget, hedges, caps, a queue, shedding and an adaptive
//! limit. These parts belong to one worker, so they need no atomics.
//!
//! Why a crate: `lb` and simulations use the same code, so a simulation shows the real behavior. Invariants: this crate
//! has no I/O, no clock and no thread. Time and random bits are arguments. Data shared between threads is atomic.

mod backend;
mod budget;
mod caps;
mod choice;
mod fallback;
mod gradient;
mod hedge;
pub mod key;
mod load;
mod outlier;
mod pool_health;
mod queue;
mod retry;
mod shed;
mod signals;
mod slow_start;
mod standing;

pub use backend::{Backend, Eligibility, Loss, PoolRule};
pub use budget::{BudgetRules, RetryBudget};
pub use caps::{ASKS_AGAIN_MAX, Caps, Unchosen};
pub use choice::{Choice, Chooser, FallbackReason};
pub use fallback::{Fallback, pick as fallback_pick};
pub use gradient::{Gradient, GradientRules};
pub use hedge::{Hedge, Quantile};
pub use key::{HashFunction, Key, KeySource, KeyedRequest};
pub use load::Load;
pub use outlier::{
    Cause, Ejection, Look, OutlierEvent, OutlierRules, OutlierState, Outliers, ReturnReason, SparedBy, SuccessRateRule,
};
pub use pool_health::{Condition, Finding, PanicMode, PanicRules, PoolHealth};
pub use queue::{Full, Queue, QueueRules, Ticket, to_wake};
pub use retry::{
    After, BackOff, Begin, BodyState, FailureCause, Idempotency, Left, RequestProgress, RetryOn, RetryPlan, RetryRules,
    StatusSet,
};
pub use shed::{ShedRules, Shedder};
pub use signals::{InRow, Thresholds, is_server_error};
pub use slow_start::{Ramp, SlowStart, Warmth};
pub use standing::{CheckFailure, CheckRules, Sign, Standing};
