//! The project's rules that a program can check. Each rule is a test. A second test has samples that break the rule.
//!
//! Sources are read as text from the workspace's root, so the rules also apply to files that no build compiles.

mod arrows;
mod docs;
mod files;
mod functions;
mod lexer;
mod plain;
mod prose;
mod sources;
mod unplain;
mod wing_arrows;
mod words;
