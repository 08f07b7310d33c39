//! The rules of the house that a machine can hold: one test each, named as the claim, with a bad sample that it must catch.
//!
//! Sources are read as text from the workspace's root, so that a file which nobody compiles is held to them as well.

mod arrows;
mod docs;
mod files;
mod lexer;

mod sources;
mod wing_arrows;
mod words;
