//! The load engine against real servers: its requests, its counts, and its end.
//!
//! One test binary, so that it links once. Servers are `mock-server` in-process, and a scripted server for faults that
//! a good server does not have. Tests do not depend on the speed of the machine: counts are exact, times are lower
//! bounds, and tests wait for events. Where a time has an upper bound, the test accepts a late machine or repeats the
//! run.

mod answers;
mod ends;
mod lateness;
mod manual;
mod open_loop;
mod program;
mod segments;
mod stored;
mod support;
mod timeouts;
mod view;
