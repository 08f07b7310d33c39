//! Reports of synthetic runs. The tests read pages as XML, pictures as texts with places, and tables as numbers.
//!
//! The reports stay in `target/tmp/reports/`, so that people can look at them.

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
