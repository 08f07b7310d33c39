//! A JSON file of the state directory, such as that of run-time changes: read at start-up, written outside of the
//! actor's thread.
//!
//! Invariants: the file is either the old one or the new one, never a part. Nothing here blocks the actor. This module
//! does not interpret the text.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::open_regular;

/// A larger file was not written by lb.
const MAX_BYTES: u64 = 16 << 20;

/// The overlay file of one state directory, or another file that is handled alike.
pub(in crate::control) struct OverlayFile {
    path: PathBuf,
    /// Its content, in a few words for messages.
    holds: &'static str,
    max_bytes: u64,
}

/// Writes texts one after the other, outside of the actor's thread. The newest one is always written; older ones may be
/// skipped.
pub(in crate::control) struct OverlayWriter {
    newest: watch::Sender<String>,
    task: JoinHandle<()>,
    error: Arc<Mutex<Option<String>>>,
}

// === impl OverlayFile ===

impl OverlayFile {
    /// `path` ends with `.json`.
    pub(super) fn new(path: PathBuf, holds: &'static str) -> Self {
        Self { path, holds, max_bytes: MAX_BYTES }
    }

    /// The same, for a file of up to so many bytes.
    pub(super) fn at_most(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// The result of `parse`, or the default if there is no file. A file that cannot be read is renamed, and the second
    /// value is a warning about it.
    pub(in crate::control) fn read<T: Default>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> (T, Option<String>) {
        let Self { path, holds, max_bytes } = self;
        let reason = match read_limited(path, *max_bytes) {
            Ok(text) => match parse(&text) {
                Ok(value) => return (value, None),
                Err(reason) => reason,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (T::default(), None),
            Err(error) => error.to_string(),
        };
        let aside = path.with_extension("json.bad");
        let what = match fs::rename(path, &aside) {
            Ok(()) => format!("it was renamed to {}", aside.display()),
            Err(error) => format!("and it cannot be renamed ({error}); the next change overwrites it"),
        };
        let warning =
            format!("the {holds} in {} cannot be read ({reason}): starting without them, {what}", path.display());
        (T::default(), Some(warning))
    }

    /// The same without a change of the file: one that cannot be read counts as missing.
    pub(in crate::control) fn peek<T: Default>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> T {
        let text = read_limited(&self.path, self.max_bytes).map_err(|error| error.to_string());
        text.and_then(|text| parse(&text)).unwrap_or_default()
    }

    pub(in crate::control) fn writer(&self) -> OverlayWriter {
        OverlayWriter::start(self.path.clone(), self.holds)
    }
}

fn read_limited(path: &Path, max_bytes: u64) -> io::Result<String> {
    let mut text = String::new();
    let read = open_regular(path)?.take(max_bytes + 1).read_to_string(&mut text)?;
    if read as u64 > max_bytes {
        return Err(io::Error::other(format!("it is larger than {max_bytes} bytes")));
    }
    Ok(text)
}

/// All or nothing: a temporary file, synced, then renamed, then the directory synced.
fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("json.tmp");
    // Left by a killed process, perhaps. It is removed and not opened, because opening a named pipe would wait.
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

// === impl OverlayWriter ===

impl OverlayWriter {
    fn start(path: PathBuf, holds: &'static str) -> Self {
        let (newest, mut texts) = watch::channel(String::new());
        let error = Arc::<Mutex<Option<String>>>::default();
        let shown = error.clone();
        let task = tokio::spawn(async move {
            // Ends when the sender is gone and its last text is written.
            while texts.changed().await.is_ok() {
                let (text, target) = (texts.borrow_and_update().clone(), path.clone());
                let written = tokio::task::spawn_blocking(move || write_atomically(&target, text.as_bytes())).await;
                let failure = match written {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(format!("{} cannot be written: {error}", path.display())),
                    Err(error) => Some(format!("{} was not written: {error}", path.display())),
                };
                if let Some(failure) = &failure {
                    tracing::error!(reason = failure, "a restart would lose the {holds}");
                }
                *shown.lock() = failure;
            }
        });
        Self { newest, task, error }
    }

    /// Writes `text` next; never waits.
    pub(in crate::control) fn write(&self, text: String) {
        self.newest.send_replace(text);
    }

    /// Why the last write failed, if it did.
    pub(in crate::control) fn error(&self) -> Option<String> {
        self.error.lock().clone()
    }

    /// Waits until all is written.
    pub(in crate::control) async fn finish(self) {
        drop(self.newest);
        let _ = self.task.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &tempfile::TempDir) -> OverlayFile {
        OverlayFile::new(dir.path().join("overlay.json"), "changes made at run time")
    }

    fn parse(text: &str) -> Result<String, String> {
        if text.starts_with('{') { Ok(text.to_owned()) } else { Err("no object".to_owned()) }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_renamed_with_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir);
        for garbage in ["", "[]"] {
            fs::write(&file.path, garbage).unwrap();
            let (text, warning) = file.read(parse);
            assert_eq!(text, "");
            let warning = warning.unwrap();
            assert!(warning.contains("no object") && warning.contains("overlay.json.bad"), "{warning}");
            assert!(!file.path.exists());
            assert_eq!(fs::read_to_string(dir.path().join("overlay.json.bad")).unwrap(), garbage);
        }
        assert_eq!(file.read(parse), (String::new(), None), "a missing file is no reason to warn");
    }

    #[tokio::test]
    async fn the_newest_text_is_on_disk_when_the_writer_finished() {
        let dir = tempfile::tempdir().unwrap();
        let writer = file(&dir).writer();
        for n in 0..10 {
            writer.write(format!("{{{n}"));
        }
        writer.finish().await;
        assert_eq!(file(&dir).read(parse), ("{9".to_owned(), None));
    }

    #[tokio::test]
    async fn a_write_that_fails_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("overlay.json.tmp")).unwrap();
        let writer = file(&dir).writer();
        writer.write(String::new());
        let error = writer.error.clone();
        writer.finish().await;
        assert!(error.lock().as_ref().is_some_and(|error| error.contains("cannot be written")));
    }
}
