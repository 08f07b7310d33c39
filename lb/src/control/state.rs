//! State that outlives the process: the state directory with its lock, plugin copies and the overlay file.

mod dir;
mod error;
mod overlay_file;
mod scratch;

pub use error::StateError;

pub use dir::Holder;

pub(super) use dir::StateDir;
pub(super) use overlay_file::{OverlayFile, OverlayWriter};
pub(super) use scratch::Scratch;
