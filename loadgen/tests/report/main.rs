//! Reports of synthetic runs, read back as their readers do: pages as XML, pictures as text with a place, tables as numbers.
//!
//! The reports stay in `target/tmp/reports/`, for people to look at.

mod brief;
mod check;
mod damaged;
mod digests;
mod folder;
mod page;
mod pictures;
mod replayed;
mod suspended;
mod synthetic;
mod verdicts;
mod words;
