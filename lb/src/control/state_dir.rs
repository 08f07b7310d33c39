//! The state directory: what outlives this process, and the private copies of plugins.
//!
//! Invariants: mode 0700 and locked by one lb at a time, whether or not changes are kept (two would mix up their plugins' copies and
//! their overlays); the overlay's file is either the old one or the new one, never a part; nothing here blocks the actor.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::overlay::Overlay;
use super::start::StartError;

const OVERLAY_FILE: &str = "overlay.json";
/// A larger file is not ours.
const OVERLAY_MAX_BYTES: u64 = 16 << 20;

/// A state directory that this process has to itself.
pub(super) struct StateDir {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

/// Writes overlays, one after the other and the newest for sure, off the actor's thread.
pub(super) struct OverlayWriter {
    queue: mpsc::UnboundedSender<Overlay>,
    task: JoinHandle<()>,
    error: Arc<Mutex<Option<String>>>,
}

// === impl StateDir ===

impl StateDir {
    /// Makes the directory if it is missing, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, StartError> {
        let unusable = |error: io::Error| StartError::StateDir { dir: path.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let lock_file = path.join("lock");
        make_private(path, &lock_file).map_err(unusable)?;
        let mut options = OpenOptions::new();
        let mut lock = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_file)
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = lock.take(20).read_to_string(&mut pid);
                let pid = pid.trim().parse().ok();
                return Err(StartError::StateDirInUse { dir: path.to_owned(), pid: Holder(pid) });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        // Only for the message above; the lock is what counts.
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(unusable)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(super) fn plugins(&self) -> PathBuf {
        self.path.join("plugins")
    }

    /// The overlay as it was left; what cannot be read is put aside, with a warning for people.
    pub(super) fn read_overlay(&self) -> (Overlay, Option<String>) {
        let path = self.path.join(OVERLAY_FILE);
        let reason = match read_limited(&path) {
            Ok(text) => match Overlay::from_json(&text) {
                Ok(overlay) => return (overlay, None),
                Err(reason) => reason,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (Overlay::default(), None),
            Err(error) => error.to_string(),
        };
        let aside = self.path.join(format!("{OVERLAY_FILE}.bad"));
        let what = match fs::rename(&path, &aside) {
            Ok(()) => format!("it is {} now", aside.display()),
            Err(error) => format!("and it cannot be renamed ({error}); the next change overwrites it"),
        };
        let warning = format!(
            "the changes made at run time in {} cannot be read ({reason}): starting without them, {what}",
            path.display()
        );
        (Overlay::default(), Some(warning))
    }

    pub(super) fn writer(&self) -> OverlayWriter {
        OverlayWriter::start(self.path.join(OVERLAY_FILE))
    }
}

/// The process that holds a lock, as far as it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder(pub Option<u32>);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, " (pid {pid})"),
            None => Ok(()),
        }
    }
}

/// Closes the directory to others, if it is ours to close: it may be anything that somebody typed, `/tmp` for one.
fn make_private(path: &Path, lock_file: &Path) -> io::Result<()> {
    let mut permissions = fs::metadata(path)?.permissions();
    if permissions.mode() & 0o077 == 0 {
        return Ok(());
    }
    if !lock_file.exists() && fs::read_dir(path)?.next().is_some() {
        return Err(io::Error::other("it is open to other users and has files in it that are not lb's"));
    }
    permissions.set_mode(0o700);
    fs::set_permissions(path, permissions)
}

fn read_limited(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(OVERLAY_MAX_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > OVERLAY_MAX_BYTES {
        return Err(io::Error::other(format!("it is larger than {OVERLAY_MAX_BYTES} bytes")));
    }
    Ok(text)
}

/// All or nothing: a temporary file, synced, then renamed, then the directory synced.
fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("json.tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

// === impl OverlayWriter ===

impl OverlayWriter {
    fn start(path: PathBuf) -> Self {
        let (queue, mut overlays) = mpsc::unbounded_channel::<Overlay>();
        let error = Arc::<Mutex<Option<String>>>::default();
        let shown = error.clone();
        let task = tokio::spawn(async move {
            while let Some(mut overlay) = overlays.recv().await {
                while let Ok(newer) = overlays.try_recv() {
                    overlay = newer;
                }
                let target = path.clone();
                let written =
                    tokio::task::spawn_blocking(move || write_atomically(&target, overlay.to_json().as_bytes())).await;
                let failure = match written {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(format!("{} cannot be written: {error}", path.display())),
                    Err(error) => Some(format!("{} was not written: {error}", path.display())),
                };
                if let Some(failure) = &failure {
                    tracing::error!("{failure}; changes made at run time would not outlive a restart");
                }
                *shown.lock() = failure;
            }
        });
        Self { queue, task, error }
    }

    /// Queues `overlay`; never waits.
    pub(super) fn write(&self, overlay: Overlay) {
        let _ = self.queue.send(overlay);
    }

    /// Why the last write failed, if it did.
    pub(super) fn error(&self) -> Option<String> {
        self.error.lock().clone()
    }

    /// Waits until all is written.
    pub(super) async fn finish(self) {
        drop(self.queue);
        let _ = self.task.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let first = StateDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let error = StateDir::open(&path).err().expect("locked").to_string();
        assert_eq!(
            error,
            format!(
                "another lb (pid {}) uses this state directory {}: stop it, or give this one another [state] dir",
                std::process::id(),
                path.display()
            )
        );
        drop(first);
        assert!(StateDir::open(&path).is_ok(), "free again");
    }

    #[test]
    fn a_directory_of_somebody_elses_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mode = || fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777;
        fs::write(dir.path().join("letters"), "").unwrap();
        assert!(StateDir::open(dir.path()).is_err());
        assert_eq!(mode(), 0o755);
        fs::remove_file(dir.path().join("letters")).unwrap();
        assert!(StateDir::open(dir.path()).is_ok(), "an empty one is ours to close");
        assert_eq!(mode(), 0o700);
    }

    #[test]
    fn what_cannot_be_read_is_put_aside_with_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        for garbage in ["", "{", "[]", r#"{"schema":2}"#, r#"{"schema":1,"surprise":1}"#] {
            fs::write(dir.path().join(OVERLAY_FILE), garbage).unwrap();
            let (overlay, warning) = state.read_overlay();
            assert_eq!(overlay, Overlay::default());
            assert!(warning.unwrap().contains("overlay.json.bad"), "{garbage}");
            assert!(!dir.path().join(OVERLAY_FILE).exists());
            assert_eq!(fs::read_to_string(dir.path().join("overlay.json.bad")).unwrap(), garbage);
        }
        assert_eq!(state.read_overlay(), (Overlay::default(), None), "none is no reason to warn");
    }

    #[tokio::test]
    async fn the_newest_overlay_is_on_disk_when_the_writer_finished() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let writer = state.writer();
        let mut newest = Overlay::default();
        for n in 0..10 {
            newest = Overlay::example(n);
            writer.write(newest.clone());
        }
        writer.finish().await;
        assert_eq!(state.read_overlay(), (newest, None));
    }

    #[tokio::test]
    async fn a_write_that_fails_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        fs::create_dir(dir.path().join("overlay.json.tmp")).unwrap();
        let writer = state.writer();
        writer.write(Overlay::default());
        let error = writer.error.clone();
        writer.finish().await;
        assert!(error.lock().as_ref().is_some_and(|error| error.contains("cannot be written")));
    }
}
