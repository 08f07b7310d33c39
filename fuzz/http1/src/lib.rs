//! The modules `http1` and `load_report` of lb, from their sources.

pub use sources::{http1, load_report};

// An inline module, so that each file finds its parts in its own folder.
#[path = "../../../lb/src"]
mod sources {
    pub mod http1;
    pub mod load_report;
}
