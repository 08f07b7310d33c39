//! The data wing over real sockets: a proxy without control, servers and hostile backends on the other side, bytes by hand on this one.
//!
//! One binary, because each one links the whole crate. Invariants: ports are the kernel's choice; a wait is for an event and bounded
//! by [`lb_test_support::PATIENCE`]; every wire test ends with nothing in flight.

mod aborts;
mod access_log;
mod attacks;
mod basics;
mod bodies;
mod churn;
mod course;
mod drain;
mod early;
mod errors;
mod explain;
mod finishes;
mod generations;
mod half_closed;
mod headers;
mod interim;
mod kept;
mod limits;
mod listeners;
mod mirror;
mod mixed;
mod old_clients;
mod pipeline;
mod refusals;
mod request_id;
mod routing;
mod slow;
mod snapshot;
mod split;
mod support;
mod timeouts;
mod trailers;
mod upgrade;
