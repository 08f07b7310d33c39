//! The house rules that a machine can check. Each rule is a test named as a claim, with samples that it must catch.
//!
//! Sources are read as text from the workspace's root, so the rules also hold for files that no build compiles.

mod arrows;
mod docs;
mod files;
mod functions;
mod lexer;
mod packaging;
mod plain;
mod promises;
mod prose;
mod reasons;
mod sources;
mod unplain;
mod wing_arrows;
mod words;
