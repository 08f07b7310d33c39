//! State that outlives the process: the state directory with its lock, plugin copies, the overlay file, and the files
//! of proven strategies and of crashes.

mod blame_file;
mod dir;
mod error;
mod overlay_file;
mod scratch;

pub use error::StateError;

pub use dir::Holder;

pub(super) use blame_file::BlameFile;
pub(super) use dir::StateDir;
pub(super) use overlay_file::{OverlayFile, OverlayWriter};
pub(super) use scratch::Scratch;
