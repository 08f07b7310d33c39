//! The state directory: state that outlives this process, and the private copies of plugins.
//!
//! Invariants:
//!
//! - The directory and its folder of plugins belong to this user and have mode 0700.
//! - One lb at a time holds its lock, also if no changes are kept. Two would mix up plugin copies and overlays.
//! - The overlay's file is either the old one or the new one, never a part.
//! - Nothing here blocks the actor.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::control::state::{BlameFile, OverlayFile, StateError};

const LOCK_FILE: &str = "lock";
const PLUGINS_FOLDER: &str = "plugins";
/// The largest file of learnt state that is read, in bytes. What lb writes is smaller.
const SAVED_FILE_MAX_BYTES: u64 = 128 << 20;

/// A state directory that is locked by this process.
pub(in crate::control) struct StateDir {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

// === impl StateDir ===

impl StateDir {
    /// Makes the directory if it is missing, and locks it.
    pub(in crate::control) fn open(path: &Path) -> Result<Self, StateError> {
        let unusable = |error: io::Error| StateError::Unusable { dir: path.to_owned(), error };
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
                return Err(StateError::InUse { dir: path.to_owned(), pid: Holder(pid) });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        // Only for the message above; the lock decides.
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(unusable)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Tests whether [`StateDir::open`] could use `path`, and returns the process that uses it now. Leaves nothing
    /// behind and takes no lock.
    pub(in crate::control) fn probe(path: &Path) -> Result<Option<Holder>, StateError> {
        let unusable = |error: io::Error| StateError::Unusable { dir: path.to_owned(), error };
        let exists = path.symlink_metadata().is_ok();
        if exists {
            is_open_to_others(path)?;
        }
        // `open` would create missing folders below the nearest existing one
        let nearest = path.ancestors().find(|folder| folder.symlink_metadata().is_ok()).unwrap_or(path);
        let trial = nearest.join(format!(".lb-check-{}-{:016x}", std::process::id(), fastrand::u64(..)));
        DirBuilder::new().mode(0o700).create(&trial).and_then(|()| fs::remove_dir(&trial)).map_err(unusable)?;

        let lock = fs::metadata(path.join(LOCK_FILE)).ok().filter(fs::Metadata::is_file);
        let Some(lock) = lock else { return Ok(None) };
        // a test of the lock itself would refuse an lb that starts at this moment
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        let inode = format!(":{}", lock.ino());
        let is_held =
            |line: &str| line.contains(" FLOCK ") && line.split_whitespace().any(|word| word.ends_with(&inode));
        let pid = fs::read_to_string(path.join(LOCK_FILE)).ok().and_then(|pid| pid.trim().parse().ok());
        Ok(locks.lines().any(is_held).then_some(Holder(pid)))
    }

    /// The files about proven strategies and crashes, and the folder of copies, of a directory that is not locked. They
    /// are only to be read.
    pub(in crate::control) fn files_to_look_at(path: &Path) -> (OverlayFile, BlameFile, PathBuf) {
        (proven_file(path), blame_file(path), path.join(PLUGINS_FOLDER))
    }

    /// The folder of private plugin copies.
    pub(in crate::control) fn plugins(&self) -> PathBuf {
        self.path.join(PLUGINS_FOLDER)
    }

    /// The file of changes that were made at run time.
    pub(in crate::control) fn overlay(&self) -> OverlayFile {
        OverlayFile::new(self.path.join("overlay.json"), "changes made at run time")
    }

    /// The file of what strategies have learnt.
    pub(in crate::control) fn learnt(&self) -> OverlayFile {
        OverlayFile::new(self.path.join("learnt.json"), "learnt state of strategies").at_most(SAVED_FILE_MAX_BYTES)
    }

    /// The file of the last proven strategy of each pool.
    pub(in crate::control) fn proven(&self) -> OverlayFile {
        proven_file(&self.path)
    }

    /// The file of crashes.
    pub(in crate::control) fn blame(&self) -> BlameFile {
        blame_file(&self.path)
    }
}

fn proven_file(path: &Path) -> OverlayFile {
    OverlayFile::new(path.join("proven.json"), "record of proven strategies")
}

fn blame_file(path: &Path) -> BlameFile {
    BlameFile::new(path.join("blame"))
}

/// The process that holds a lock, if the lock file names it.
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

/// Whether other users may read the directory, so that lb must set its mode. Refuses a directory that lb must not
/// change: `/tmp`, for example, or one that another user created.
fn is_open_to_others(path: &Path) -> Result<bool, StateError> {
    let dir = || path.to_owned();
    let unusable = |error: io::Error| StateError::Unusable { dir: dir(), error };
    let refused = |what: String| StateError::Unsafe { dir: dir(), what };
    let ours = rustix::process::geteuid().as_raw();
    let metadata = fs::metadata(path).map_err(unusable)?;
    let link = fs::symlink_metadata(path).map_err(unusable)?;
    // the administrator may link our directory to another one of ours
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lb_is_refused_with_the_pid_of_the_first() {
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
    fn a_directory_that_may_be_of_another_program_is_refused_unchanged() {
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
    fn a_directory_of_another_user_is_refused() {
        // root can give a folder away; for other users, `/proc/sys` belongs to root
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
    fn a_probe_leaves_nothing_and_names_the_holder() {
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
}
