//! The boundary to plugins, from the host's side: what is refused and why, what hostile answers become, what a panic does.
//!
//! Fixtures are C files under `strategies/examples`, compiled here with `cc`, the linker that the Rust toolchain needs anyway. Tests
//! that need the real strategies are in the conformance crate, since the host does not depend on them.

mod compatibility;
mod copies;
mod fixture;
mod header;
mod hostile;
mod panics;
mod refused;
mod resident;
mod self_contained;
mod twins;
mod views;
