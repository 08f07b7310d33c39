//! The data wing over real sockets: a proxy without control, with mock servers and hostile backends. Tests write the
//! bytes of clients themselves.
//!
//! One test binary, because each one links the whole crate. Invariants: the kernel chooses each port. A test waits for
//! an event, at most for [`lb_test_support::PATIENCE`]. Every wire test ends with nothing in flight.

mod aborts;
mod access_log;
mod answers;
mod attacks;
mod basics;
mod bodies;
mod budget;
mod caps;
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
mod hedges;
mod interim;
mod kept;
mod limits;
mod listeners;
mod losses;
mod mirror;
mod mixed;
mod old_clients;
mod pipeline;
mod policies;
mod prefix;
mod queue;
mod refusals;
mod replays;
mod request_id;
mod retries;
mod routing;
mod slow;
mod snapshot;
mod split;
mod starts;
mod sticky;
mod support;
mod timeouts;
mod trailers;
mod upgrade;
mod waits;
