//! The `lb` program from outside: tests start it as a process, send requests over sockets and stop it with signals.
//!
//! One test binary, because each one links the whole crate. Invariants: the kernel chooses each port, and tests read it
//! from the ready file. A test waits for an event, at most for [`lb_test_support::PATIENCE`]. A process that a
//! test starts ends with the test.

mod access_log;
mod api;
mod attacks;
mod backups;
mod client;
mod costs;
mod course;
mod descriptors;
mod drains;
mod explain;
mod guard;
mod labels;
mod lifecycle;
mod live;
mod logs;
mod lost;
mod manual;
mod mistakes;
mod notify;
mod openapi;
mod outliers;
mod places;
mod queue;
mod reports;
mod slow_start;
