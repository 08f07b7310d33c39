//! Checks of a candidate as a file: its type, its owner, and the users that may change it.
//!
//! Why the whole file is read once: it may change between check and use, so all later stages use these bytes.

use std::fs::{Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::accounts;

/// A larger file is not a strategy.
const SIZE_MAX_BYTES: u64 = 64 << 20;

/// In the mode of a folder: only the owner of a file may remove or replace it there.
const STICKY: u32 = 0o1000;
const WRITABLE_BY_ALL: u32 = 0o002;
const WRITABLE_BY_GROUP: u32 = 0o020;

/// Opens `path` and reads the whole file. The metadata is that of the opened file, not of the path.
pub(crate) fn read(path: &Path) -> Result<(Vec<u8>, Metadata), String> {
    let file = OpenOptions::new()
        .read(true)
        // Without this flag the open of a named pipe waits for a writer. A pipe is refused below.
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .map_err(|error| format!("cannot be opened: {error}"))?;
    let metadata = file.metadata().map_err(|error| format!("cannot be examined: {error}"))?;
    if !metadata.is_file() {
        return Err("is not a regular file".into());
    }
    if metadata.len() > SIZE_MAX_BYTES {
        return Err(format!("has {} bytes; a plugin has at most {SIZE_MAX_BYTES}", metadata.len()));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(SIZE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    Ok((bytes, metadata))
}

/// Checks owner and modes. The file must belong to root or to this process's user. Neither the file nor a folder above
/// it may be writable by all users, nor by a group with members other than the owner.
pub(crate) fn permissions(path: &Path, metadata: &Metadata, allows_group_writable: bool) -> Result<(), String> {
    if metadata.uid() != 0 && metadata.uid() != our_user() {
        return Err(format!("belongs to user {}: it must belong to root or to the user that runs lb", metadata.uid()));
    }
    if metadata.mode() & WRITABLE_BY_ALL != 0 {
        return Err("is writable by all users: run `chmod o-w` on it".into());
    }
    let folders = folders(path);
    // In a sticky folder a user may remove and replace only files of that user.
    let has = |folder: &Path, bit: u32| {
        std::fs::metadata(folder).ok().filter(|found| found.mode() & bit != 0 && found.mode() & STICKY == 0)
    };
    if let Some(folder) = folders.iter().find(|folder| has(folder, WRITABLE_BY_ALL).is_some()) {
        return Err(format!("lies in {}, which is writable by all users: run `chmod o-w` on it", folder.display()));
    }
    if allows_group_writable {
        return Ok(());
    }
    let way_out = "or set allow_group_writable = true if all in that group may change what lb runs";
    let is_shared = |found: &Metadata| !accounts::is_private(found.gid(), found.uid());
    if metadata.mode() & WRITABLE_BY_GROUP != 0 && is_shared(metadata) {
        return Err(format!("is writable by its group {}: run `chmod g-w` on it, {way_out}", metadata.gid()));
    }
    let open = |folder: &PathBuf| {
        let found = has(folder, WRITABLE_BY_GROUP).filter(|found| is_shared(found))?;
        let (folder, gid) = (folder.display(), found.gid());
        Some(format!("lies in {folder}, which is writable by its group {gid}: run `chmod g-w` on it, {way_out}"))
    };
    folders.iter().find_map(open).map_or(Ok(()), Err)
}

/// The folders above the path as given. If the path contains a link, then also those above the real file. Nearest
/// first.
fn folders(path: &Path) -> Vec<PathBuf> {
    let ways = [std::path::absolute(path), path.canonicalize()];
    let mut folders = Vec::new();
    for way in ways.into_iter().flatten() {
        for folder in way.ancestors().skip(1) {
            if !folders.iter().any(|known| known == folder) {
                folders.push(folder.to_owned());
            }
        }
    }
    folders
}

/// The user that this process runs as.
pub(crate) fn our_user() -> u32 {
    rustix::process::geteuid().as_raw()
}
