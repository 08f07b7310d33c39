//! Reloads of a running balancer: swaps under load, refusals, state, triggers.
//!
//! One binary with the harness of the admin tests: a balancer as a process, asked over sockets. Invariants: ports are
//! the kernel's choice, waits are for events, and what is refused is held against generation, counters and strategy
//! from before.

mod bench;
#[path = "../proxy/client.rs"]
#[allow(dead_code, reason = "shared with the tests of the proxy, which use more of it")]
mod client;
mod coherence;
mod files;
#[path = "../admin/harness.rs"]
#[allow(dead_code, reason = "shared with the admin tests, which use more of it")]
mod harness;
mod kept;
mod listen;
mod lives;
mod load;
mod lodgers;
mod pace;
mod pools;
mod probation;
mod reach;
mod refused;
mod soak;
mod state;
mod triggers;
mod watch;
