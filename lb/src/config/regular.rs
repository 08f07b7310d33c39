//! Opens regular files only: opening a named pipe would wait, and opening a device may have effects.
//!
//! Invariant: opening never blocks, and the file that was checked is the one that is read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a regular file, or a link to one, for reading.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Checked before opening, because opening a device may have an effect. Checked again after it, because the file may
    // have been replaced.
    check(std::fs::metadata(path)?.is_file())?;
    let no_wait = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(no_wait).open(path)?;
    check(file.metadata()?.is_file())?;
    Ok(file)
}

fn check(is_file: bool) -> io::Result<()> {
    let what = "it is no regular file, nor a link to one (lb reads no named pipes, devices or folders)";
    if is_file { Ok(()) } else { Err(io::Error::other(what)) }
}
