//! The seam to backends: connections that serve one request at a time, and those that wait for the next.
//!
//! After [`Upstream::begin`] the exchange polls [`Upstream::poll_send`] and [`Upstream::poll_head`] in any order;
//! [`Upstream::poll_frame`] follows the final head. Invariant: nothing here names an exchange or a client's connection.
//! The time limits of requests are the exchange's; only connecting has a limit of its own. [`Waiting`] ends requests
//! that wait for a lost backend. [`Probing`] is about probes, whose connections are apart.

mod counts;
mod http1;
mod idle;
mod probing;
mod waiting;

pub(super) use self::counts::{InUse, Link};
pub(super) use self::http1::Upstream;
pub(super) use self::idle::Idle;
pub(super) use self::probing::Probing;
pub(super) use self::waiting::Waiting;
