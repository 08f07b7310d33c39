//! Reloads of a running balancer: swaps under load, refusals, state, triggers.
//!
//! One binary, because each one links the whole crate. A balancer is a process, asked over sockets. Invariants: ports
//! are the kernel's choice, waits are for events, and what is refused is held against generation, counters and strategy
//! from before.

mod bench;
mod coherence;
mod files;
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
