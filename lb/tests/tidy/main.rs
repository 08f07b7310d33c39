//! The rules of the house that a machine can check. Each is a test, named as the claim, with samples that it catches.
//!
//! Sources are read as text from the workspace's root, so the rules also hold for files that no build compiles.

mod arrows;
mod docs;
mod files;
mod functions;
mod lexer;
mod plain;
mod prose;
mod reasons;
mod sources;
mod unplain;
mod wing_arrows;
mod words;
