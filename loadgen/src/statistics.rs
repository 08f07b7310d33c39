//! What may be concluded from numbers: pure functions, no clock, no file.
//!
//! The unit of analysis is the block, not the request: requests follow each other through the same queues and tell the same story a
//! thousand times over, so a test on them finds differences where there are none. Arms run side by side in every block, in an order that
//! is drawn ([`Orders`]); a block gives one number for each arm (its p99, its rate), and [`compare`] looks at the ratios within blocks,
//! where most of what the machine did meanwhile cancels. It stops when intervals are narrow or time is up ([`Looks`]), and judges
//! once, at the end.
//!
//! Answers are the types of `model`. Invariant: nothing here is random but for seeds it is given, and no number is rounded.

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
pub use failures::{LIMIT as FAILURES_LIMIT, judge_failures};
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
