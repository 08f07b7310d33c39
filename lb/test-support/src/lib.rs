//! Helpers of the integration tests of `lb`, `loadgen` and `mock-server`: each one exists once, here.
//!
//! The crate depends on no code of `lb`. Its unit tests have `lb::generation::samples` instead: a second copy of the
//! crate in one test would have types of its own. Invariants: ports are the kernel's choice. A wait ends with an event.
//! Each process and thread that a helper starts ends when its value is dropped.

mod balancer;
mod client;
mod commands;
mod compile;
mod folder;
mod hostile;
mod message;
pub mod metrics;
mod programs;
mod reply;
mod servers;
mod wait;

pub use balancer::{Balancer, TOKEN};
pub use client::{Broken, Client, Whole};
pub use commands::{bare_command, command, finish, run};
pub use compile::{compile, compile_rust};
pub use folder::{backends, folder};
pub use hostile::{Hostile, Wire};
pub use message::{Answer, Framing, Head, chunk, parse, request, request_with};
pub use programs::{build_programs, program};
pub use reply::{Reply, exchange, get, send};
pub use servers::{closed_address, mock, mock_with};
pub use wait::{PATIENCE, wait_for, wait_until};
