//! A private directory that is removed when dropped: for the plugin copies of commands that start no balancer.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::control::state::StateError;

pub(in crate::control) struct Scratch(PathBuf);

// === impl Scratch ===

impl Scratch {
    /// A new directory of mode 0700 below the system's temporary one.
    pub(in crate::control) fn new() -> Result<Self, StateError> {
        let dir = std::env::temp_dir().join(format!("lb-{}-{:016x}", std::process::id(), fastrand::u64(..)));
        // Not recursive: a directory that another user created there is an error.
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => Ok(Self(dir)),
            Err(error) => Err(StateError::Unusable { dir, error }),
        }
    }

    pub(in crate::control) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
