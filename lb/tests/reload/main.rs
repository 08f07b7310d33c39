//! Reloads of a running balancer: swaps under load, refusals, state, triggers.
//!
//! One test binary with the harness of the admin tests: lb runs as a process, and tests send requests over sockets.
//! Invariants: the kernel chooses each port. Tests wait for events. After a refused reload, tests compare generation,
//! counters and strategy with those from before.

mod bench;
mod coherence;
mod crash;
mod duties;
mod files;
mod hooks;
mod kept;
mod labels;
mod learnt;
mod listen;
mod lives;
mod load;
mod long_clients;
mod pace;
mod policies;
mod pools;
mod probation;
mod probes;
mod promises;
mod reach;
mod refused;
mod rounds;
mod shadow_crashes;
mod shadows;
mod soak;
mod state;
mod triggers;
mod watch;
