//! The `lb` program from outside: started as a process, asked over sockets, stopped by signals.
//!
//! One binary, because each one links the whole crate. Invariants: ports are the kernel's choice and learnt from the ready file; a
//! wait is for an event and bounded by [`lb_test_support::PATIENCE`]; every process that a test starts ends with it.

mod access_log;
mod api;
mod client;
mod course;
mod descriptors;
mod doors;
mod explain;
mod guard;
mod lifecycle;
mod live;
mod logs;
mod mistakes;
