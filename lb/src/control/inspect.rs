//! Questions about the generation in force. The builder answers them and changes nothing.

mod explain;
mod ring;
mod wait;

pub use explain::{Candidate, ExplainRequest, Explanation};
pub use ring::{Ring, RingArc};
pub use wait::Wait;

pub(super) use explain::explain;
