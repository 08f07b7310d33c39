//! The module `http1` of lb, from its sources.

pub use sources::http1;

// An inline module, so that http1.rs finds its parts in its own folder.
#[path = "../../../lb/src"]
mod sources {
    pub mod http1;
}
