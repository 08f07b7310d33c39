//! Tests for strategies: worlds of a few backends, seeded requests, and the properties that every strategy must have.
//!
//! Why through the host: a test takes the same path as the proxy, with the C table, the lent list and the checked
//! result. So it also finds faults of that path.
//!
//! Invariants: picks depend on seeds, so a failure can be repeated. A property returns a sentence and does not panic,
//! so that a score card can continue with the next one.

mod closed_loop;
pub mod keys;
pub mod properties;
pub mod pulse;
pub mod request;
pub mod scorecard;
pub mod statistics;
pub mod steadiness;
pub mod world;

pub use closed_loop::ClosedLoop;
pub use lb_strategy_host::{Decision, Outcome, Picker, Probe, Refusal, Strategy, backend_id};
pub use request::{Ask, Requests};
pub use serde_json::{Value, json};
pub use world::{Subject, World, small_worlds, strategy};
