//! Arithmetic that several load-aware strategies share.
//!
//! Why a crate: each strategy is one file that reads as a lesson. What several of them need is here once:
//!
//! | part | what it is |
//! |---|---|
//! | [`Draws`] | random numbers from the random bits of one request |
//! | [`Lots`] | a weighted draw in constant time, and the best of a few draws |
//! | [`window`], [`least`] | the candidates to look at, at most a fixed number, and the least of them |
//! | [`Load`], [`Expected`] | requests in flight or a time, for a weight, compared without a division |
//! | [`Average`], [`Sample`] | a decaying average of times in the slot of a backend, and what a finish tells |
//! | [`Backoff`] | a pause for a backend that fails several times in a row |
//! | [`Turns`] | a sequence of turns by weight, earliest deadline first |
//! | [`gamma`], [`beta`] | draws from the posteriors of times and of successes |
//! | [`explained`] | the text of an explanation |
//!
//! Invariants: nothing here allocates, locks or calls the system, except to make a [`Lots`], [`Turns`] or an
//! explanation. All random numbers come from the request, and the results are the same on every machine: no function
//! of the C library is called.

mod average;
mod backoff;
mod draws;
mod explained;
mod lots;
mod posterior;
mod scan;
mod turns;

pub use average::{Average, Kind, Memory, Sample, Tau, UNKNOWN};
pub use backoff::Backoff;
pub use draws::Draws;
pub use explained::explained;
pub use lots::Lots;
pub use posterior::{beta, gamma};
pub use scan::{Expected, LOOK_AT, Load, least, window};
pub use turns::{Counter, Turns};

#[cfg(test)]
mod world;
