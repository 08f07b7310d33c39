//! The ready file: says that lb serves, and on which ports. For scripts that start lb with port 0, or wait for it.
//!
//! Invariants: it appears whole (written to another name, then renamed). It is removed at every end of lb but SIGKILL;
//! the next start removes such a leftover.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::report::Report;

/// Removes the file when dropped.
#[derive(Debug)]
pub(super) struct ReadyFile {
    path: PathBuf,
}

// === impl ReadyFile ===

impl ReadyFile {
    /// Removes a leftover, and tests whether a new one can be written.
    pub(super) fn make_way(path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let _ = std::fs::remove_file(path);
        let draft = draft_of(path);
        std::fs::write(&draft, "").and_then(|()| std::fs::remove_file(&draft))
    }

    pub(super) fn write(path: &Path, report: &Report<'_>) -> io::Result<Self> {
        let text = json!({ "pid": report.pid, "proxy": report.proxy, "admin": report.admin }).to_string();
        let draft = draft_of(path);
        let written = std::fs::write(&draft, text + "\n").and_then(|()| std::fs::rename(&draft, path));
        if written.is_err() {
            let _ = std::fs::remove_file(&draft);
        }
        written.map(|()| Self { path: path.to_owned() })
    }
}

/// The name under which it is written first.
fn draft_of(path: &Path) -> PathBuf {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    draft.into()
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
