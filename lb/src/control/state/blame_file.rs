//! The file of crashes: one line for each, written by the handler of a process that ended.
//!
//! Why lines that are appended: the handler cannot rename a file, and a run may end in the middle of a line.
//! Invariants: the file is never replaced, so that the descriptor of the handler stays valid when lines are removed. If
//! lb ends while lines are removed, no other line is lost. This module does not interpret a line.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use crate::config::open_regular;

/// The rest of a larger file is ignored.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Clone, Debug)]
pub(in crate::control) struct BlameFile(PathBuf);

// === impl BlameFile ===

impl BlameFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its lines, in the order of the crashes; none if there is no file.
    pub(in crate::control) fn lines(&self) -> io::Result<Vec<String>> {
        let mut bytes = Vec::new();
        match open_regular(&self.0) {
            Ok(file) => file.take(MAX_BYTES).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
    }

    /// The file for the handler, open for appending.
    pub(in crate::control) fn open(&self) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(&self.0)
    }

    /// Leaves only `lines`. A crash of this moment may be lost.
    pub(in crate::control) fn replace(&self, lines: &[String]) -> io::Result<()> {
        let is_empty = std::fs::metadata(&self.0).map_or(true, |found| found.len() == 0);
        if lines.is_empty() && is_empty {
            return Ok(());
        }
        let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
        // Over the old text and not at its end, as a descriptor for appending would write.
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.0)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(text.len() as u64)
    }
}

impl std::fmt::Display for BlameFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn an_open_descriptor_still_appends_after_lines_were_removed() {
        let dir = tempfile::tempdir().unwrap();
        let file = BlameFile::new(dir.path().join("blame"));
        assert_eq!(file.lines().unwrap(), Vec::<String>::new());
        file.replace(&[]).unwrap();
        assert!(!file.0.exists(), "no file is made to be empty");
        let mut handler = file.open().unwrap();
        handler.write_all(b"one\ntwo\n").unwrap();
        assert_eq!(file.lines().unwrap(), ["one", "two"]);
        file.replace(&["two".to_owned()]).unwrap();
        handler.write_all(b"three\n").unwrap();
        assert_eq!(file.lines().unwrap(), ["two", "three"]);
    }
}
