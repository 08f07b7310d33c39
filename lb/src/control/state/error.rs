//! Why a state directory cannot be used.

use std::path::PathBuf;

use super::Holder;

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("state directory {} cannot be used: {error}; set [state] dir to one that this user may write to", dir.display())]
    Unusable { dir: PathBuf, error: std::io::Error },
    #[error("state directory {}: {what}", dir.display())]
    Unsafe { dir: PathBuf, what: String },
    #[error(
        "another lb{pid} uses this state directory {}: stop it, or give this one another [state] dir", dir.display()
    )]
    InUse { dir: PathBuf, pid: Holder },
}
