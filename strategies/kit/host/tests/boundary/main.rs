//! Tests of the host's side of the plugin boundary: refused files and their reasons, hostile results, panics.
//!
//! Most fixtures are C files under `strategies/examples`. They are compiled here with `cc`, which the Rust toolchain
//! needs as its linker. Tests with the shipped strategies are in the conformance crate.

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
