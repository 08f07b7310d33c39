//! Statistics: pure functions without clock and without files.
//!
//! The unit of analysis is the block, not the request. Requests in the same queue are correlated. A test that takes
//! them as independent finds differences that do not exist. In every block each arm runs once, in random order
//! ([`Orders`]). A block gives one number for each arm (its p99, its rate). [`compare`] uses the ratios within blocks,
//! in which most effects of the machine cancel. A run stops when the intervals are narrow or the time is up
//! ([`Looks`]). Verdicts are computed once, at the end.
//!
//! Results are types of `model`. Invariants: randomness comes only from given seeds, and no number is rounded.

#![deny(unused_must_use, clippy::let_underscore_must_use)]

mod again;
mod balance;
mod batches;
mod between_runs;
mod compare;
mod disruption;
mod drift;
mod drops;
mod expectation;
mod failures;
mod interval;
mod order;
mod percentile;
mod recovery;
mod signed_rank;
mod stop;
mod two_samples;

pub use again::agree;
pub use balance::{chi_square_p, coefficient_of_variation, jain, max_over_mean, per_capacity};
pub use batches::{Batch, Bounds, Intervals, NoInterval, intervals};
pub use between_runs::{BEYOND, SharesOfRuns, TimesOfRuns};
pub use compare::{ArmBlocks, Measure, Question, Settings, compare, compare_family, describe};
pub use disruption::disruption;
pub use drift::{LIMIT as DRIFT_LIMIT, drift, is_invalid};
pub use drops::{Drops, LateSegment, dropped, judge_drops, late_of_arms};
pub use expectation::{Law, UnknownLaw};
pub use failures::{LIMIT as FAILURES_LIMIT, judge_failures, typical_share};
pub use interval::{Interval, Sample, typical};
pub use order::Orders;
pub use percentile::{RIBBON_BEYOND, RIBBON_BLOCKS, TooFewSamples, percentile, ribbon};
pub use recovery::{Calm, Recovery, recovery};
pub use stop::{Looks, Stop, StopRule, Width, fewest_blocks, half_widths, precision};
pub use two_samples::same_shares_p;

#[cfg(test)]
mod acceptance;
#[cfg(test)]
mod acceptance_ribbons;
#[cfg(test)]
pub(crate) mod queue;
#[cfg(test)]
mod synthetic;
