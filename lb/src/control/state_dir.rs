//! The state directory: what outlives this process, and the private copies of plugins.
//!
//! Invariants: it and the folder of plugins belong to this user; mode 0700 and locked by one lb at a time, whether or not changes are kept (two would mix up their plugins' copies and
//! their overlays); the overlay's file is either the old one or the new one, never a part; nothing here blocks the actor.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::overlay::Overlay;
use super::start::StartError;
use crate::config::open_regular;

const LOCK_FILE: &str = "lock";
const PLUGINS_FOLDER: &str = "plugins";
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
        let lock_file = path.join(LOCK_FILE);
        if is_open_to_others(path)? {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(unusable)?;
        }
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

    /// Whether [`StateDir::open`] could use `path`, and who uses it now. Leaves nothing behind and takes no lock.
    pub(super) fn probe(path: &Path) -> Result<Option<Holder>, StartError> {
        let unusable = |error: io::Error| StartError::StateDir { dir: path.to_owned(), error };
        let exists = path.symlink_metadata().is_ok();
        if exists {
            is_open_to_others(path)?;
        }
        // what is missing would be made below the nearest that is there
        let nearest = path.ancestors().find(|folder| folder.symlink_metadata().is_ok()).unwrap_or(path);
        let trial = nearest.join(format!(".lb-check-{}-{:016x}", std::process::id(), fastrand::u64(..)));
        DirBuilder::new().mode(0o700).create(&trial).and_then(|()| fs::remove_dir(&trial)).map_err(unusable)?;

        let lock = fs::metadata(path.join(LOCK_FILE)).ok().filter(fs::Metadata::is_file);
        let Some(lock) = lock else { return Ok(None) };
        // trying the lock would turn away an lb that starts at this moment
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        let inode = format!(":{}", lock.ino());
        let is_held =
            |line: &str| line.contains(" FLOCK ") && line.split_whitespace().any(|word| word.ends_with(&inode));
        let pid = fs::read_to_string(path.join(LOCK_FILE)).ok().and_then(|pid| pid.trim().parse().ok());
        Ok(locks.lines().any(is_held).then_some(Holder(pid)))
    }

    pub(super) fn plugins(&self) -> PathBuf {
        self.path.join(PLUGINS_FOLDER)
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

/// Whether others may look into the directory, so that it has to be closed to them; an error if it is not ours to close: it may be
/// anything that somebody typed, `/tmp` for one, or what somebody else has put there for us.
fn is_open_to_others(path: &Path) -> Result<bool, StartError> {
    let dir = || path.to_owned();
    let unusable = |error: io::Error| StartError::StateDir { dir: dir(), error };
    let refused = |what: String| StartError::StateDirUnsafe { dir: dir(), what };
    let ours = rustix::process::geteuid().as_raw();
    let metadata = fs::metadata(path).map_err(unusable)?;
    let link = fs::symlink_metadata(path).map_err(unusable)?;
    // the administrator may link our directory to another of ours
    let link_owner = Some(link.uid()).filter(|_| link.is_symlink()).filter(|uid| *uid != 0);
    if let Some(uid) = [Some(metadata.uid()), link_owner].into_iter().flatten().find(|uid| *uid != ours) {
        return Err(refused(foreign("it", uid, ours)));
    }
    if let Ok(plugins) = fs::symlink_metadata(path.join(PLUGINS_FOLDER)) {
        match plugins.uid() {
            uid if uid != ours => return Err(refused(foreign("its folder plugins", uid, ours))),
            _ if !plugins.is_dir() => return Err(refused("its plugins is no folder: remove it".to_owned())),
            _ => {}
        }
    }
    let is_open = metadata.permissions().mode() & 0o077 != 0;
    let is_used = |path: &Path| fs::read_dir(path).map(|mut entries| entries.next().is_some());
    if is_open && !path.join(LOCK_FILE).exists() && is_used(path).map_err(unusable)? {
        return Err(refused(format!(
            "it is open to other users and has files in it that are not lb's: `chmod 700 {}` if it is meant for lb, or set \
             [state] dir to another",
            path.display()
        )));
    }
    Ok(is_open)
}

fn foreign(what: &str, uid: u32, ours: u32) -> String {
    format!(
        "{what} belongs to user {uid} and lb runs as user {ours}: set [state] dir to one that belongs to user {ours}"
    )
}

fn read_limited(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = open_regular(path)?.take(OVERLAY_MAX_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > OVERLAY_MAX_BYTES {
        return Err(io::Error::other(format!("it is larger than {OVERLAY_MAX_BYTES} bytes")));
    }
    Ok(text)
}

/// All or nothing: a temporary file, synced, then renamed, then the directory synced.
fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("json.tmp");
    // What was left there by one that was killed, or is no file at all, goes: to open a named pipe would wait.
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
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
        let error = StateDir::open(dir.path()).err().expect("not ours").to_string();
        assert!(error.contains(&format!("`chmod 700 {}`", dir.path().display())), "{error}");
        assert_eq!(StateDir::probe(dir.path()).unwrap_err().to_string(), error);
        assert_eq!(mode(), 0o755);
        fs::remove_file(dir.path().join("letters")).unwrap();
        assert!(StateDir::open(dir.path()).is_ok(), "an empty one is ours to close");
        assert_eq!(mode(), 0o700);
    }

    #[test]
    fn what_belongs_to_another_user_is_refused() {
        // root can give a folder away; anybody else finds one of root's
        let dir = tempfile::tempdir().unwrap();
        let is_root = rustix::process::geteuid().is_root();
        let path = if is_root { dir.path().to_owned() } else { PathBuf::from("/proc/sys") };
        if is_root {
            fs::create_dir(dir.path().join(PLUGINS_FOLDER)).unwrap();
            std::os::unix::fs::chown(dir.path().join(PLUGINS_FOLDER), Some(12345), None).unwrap();
            let error = StateDir::open(&path).err().expect("foreign").to_string();
            assert!(error.contains("its folder plugins belongs to user 12345"), "{error}");
            std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        }
        let owner = fs::metadata(&path).unwrap().uid();
        let error = StateDir::open(&path).err().expect("foreign").to_string();
        assert!(error.contains(&format!("it belongs to user {owner} ")), "{error}");
        assert_eq!(StateDir::probe(&path).unwrap_err().to_string(), error);
        assert!(!path.join(LOCK_FILE).exists());
    }

    #[test]
    fn a_probe_leaves_nothing_and_tells_who_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert_eq!(StateDir::probe(&path).unwrap(), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let held = StateDir::open(&path).unwrap();
        assert_eq!(StateDir::probe(&path).unwrap(), Some(Holder(Some(std::process::id()))));
        drop(held);
        assert_eq!(StateDir::probe(&path).unwrap(), None);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "the lock's file, as it was");
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(StateDir::probe(&dir.path().join("file/x")).is_err());
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
