//! Questions about the generation in force, answered on the builder without a change to anything.

mod explain;
mod ring;

pub use explain::{Candidate, ExplainRequest, Explanation};
pub use ring::{Ring, RingArc};

pub(super) use explain::explain;
