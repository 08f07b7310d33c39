//! The place for lines: a file, a named pipe, or stdout.
//!
//! Invariants: opening never waits. Whole lines are counted without torn ones, and after a torn line the next one
//! begins on a new line. A failure is logged once in the process log and not for every line.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub(super) struct Sink {
    file: File,
    /// `None`: stdout.
    path: Option<PathBuf>,
    /// The bytes written last do not end a line.
    is_torn: bool,
    is_failing: bool,
}

// === impl Sink ===

impl Sink {
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let file = match path {
            Some(path) => open_file(path)?,
            None => io::stdout().as_fd().try_clone_to_owned()?.into(),
        };
        Ok(Self { file, path: path.map(Path::to_owned), is_torn: false, is_failing: false })
    }

    /// Fails if `open` would, as far as that is visible without creating a file.
    pub(super) fn check(path: Option<&Path>) -> io::Result<()> {
        match path {
            Some(path) if path.try_exists()? => open_file(path).map(drop),
            Some(path) if has_folder(path) => Ok(()),
            Some(_) => Err(no_folder()),
            None => Ok(()),
        }
    }

    /// Opens the file that has the name now. If that fails, the open one stays.
    pub(super) fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match open_file(path) {
            Ok(file) => {
                self.file = file;
                self.is_torn = false;
                tracing::info!(path = %path.display(), "access log reopened");
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "access log not reopened, the old file stays in use");
            }
        }
    }

    /// Writes `count` lines. Returns how many of them are written whole.
    pub(super) fn write(&mut self, lines: &[u8], count: usize) -> usize {
        let mut written = 0;
        let failed = self.end_torn_line().and_then(|()| self.write_counting(lines, &mut written)).err();
        if written > 0 {
            self.is_torn = lines[written - 1] != b'\n';
        }
        if let Some(error) = &failed
            && !self.is_failing
        {
            tracing::error!(path = self.name(), %error, "the access log cannot be written: lines are dropped");
        } else if self.is_failing && failed.is_none() {
            tracing::info!(path = self.name(), "the access log is written again");
        }
        self.is_failing = failed.is_some();
        match written == lines.len() {
            true => count,
            false => lines[..written].iter().filter(|byte| **byte == b'\n').count(),
        }
    }

    fn end_torn_line(&mut self) -> io::Result<()> {
        if self.is_torn {
            self.file.write_all(b"\n")?;
            self.is_torn = false;
        }
        Ok(())
    }

    fn write_counting(&mut self, bytes: &[u8], written: &mut usize) -> io::Result<()> {
        while *written < bytes.len() {
            match self.file.write(&bytes[*written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(some) => *written += some,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "stdout".to_owned(), |path| path.display().to_string())
    }
}

/// Opens for appending, created if missing, for its owner and group. A pipe is opened in both directions, so that it
/// neither waits for a reader nor breaks if one leaves.
fn open_file(path: &Path) -> io::Result<File> {
    let is_pipe = std::fs::metadata(path).is_ok_and(|about| about.file_type().is_fifo());
    let mut options = OpenOptions::new();
    match is_pipe {
        true => options.read(true).write(true),
        false => options.append(true).create(true).mode(0o640),
    };
    options.open(path).map_err(|error| if has_folder(path) { error } else { no_folder() })
}

fn has_folder(path: &Path) -> bool {
    // A path has a parent unless it is the root, which exists.
    path.parent().is_none_or(Path::is_dir)
}

fn no_folder() -> io::Error {
    io::Error::new(ErrorKind::NotFound, "its folder does not exist")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_torn_line_the_next_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut sink = Sink::open(Some(&path)).unwrap();
        assert_eq!(sink.write(b"one\ntwo\n", 2), 2);
        sink.file.write_all(b"thr").unwrap();
        sink.is_torn = true;
        assert_eq!(sink.write(b"four\n", 1), 1);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\nthr\nfour\n");
    }

    #[test]
    fn lines_that_a_full_disk_refuses_are_not_counted_as_written() {
        let mut sink = Sink::open(Some(Path::new("/dev/full"))).unwrap();
        assert_eq!(sink.write(b"one\ntwo\n", 2), 0);
        assert!(sink.is_failing && !sink.is_torn);
    }

    #[test]
    fn a_check_creates_no_file_and_fails_where_opening_would() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert!(Sink::check(Some(&path)).is_ok() && !path.exists());
        assert!(Sink::check(Some(&folder.path().join("none/log"))).is_err());
        assert!(Sink::check(Some(folder.path())).is_err() && Sink::open(Some(folder.path())).is_err());
        assert!(Sink::check(None).is_ok());
    }
}
