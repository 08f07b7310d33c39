//! What a strategy is tested against: worlds of a few backends, seeded requests, and the properties that every strategy must have.
//!
//! Why through the host: a test drives the very path of the proxy (C table, lent list, checked answer), so it finds what breaks there.
//! Invariants: everything is a function of a seed that the message of a failure names; a property answers with a sentence and does
//! not panic, so that a score card can go on to the next one.

pub mod properties;
pub mod request;
pub mod scorecard;
pub mod statistics;
pub mod world;

pub use lb_strategy_host::{Decision, Picker, Refusal, Strategy};
pub use request::{Ask, Requests};
pub use world::{Subject, World, small_worlds, strategy};
