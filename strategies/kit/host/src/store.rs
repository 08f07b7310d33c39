//! Private copies of plugins, which are opened instead of the operator's file.
//!
//! Why two kinds: a copy is a file named by its content. On a file system without execution (`noexec`) it is a sealed
//! file in memory.
//!
//! Invariants: a copy contains the checked bytes, and no other user can change it. A path that the dynamic linker got
//! never leads to other bytes, because for a known path the linker returns the image that it has. So the descriptor
//! behind such a path is never closed: another plugin could get its number.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{MemfdFlags, SealFlags, StatVfsMountFlags, fcntl_add_seals, memfd_create, statvfs};

use crate::verify::our_user;

/// The owner may read and execute a copy. No user may write to it.
const COPY_MODE: u32 = 0o500;

/// Where private copies are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// Files in the loader's directory.
    Files,
    /// Sealed files in memory, if the directory's file system does not permit execution.
    Memory,
}

/// A copy. It can be opened as long as this value exists.
#[derive(Clone, Debug)]
pub struct PrivateCopy {
    path: PathBuf,
    memory: Option<Arc<File>>,
}

pub(crate) struct Store {
    directory: PathBuf,
    /// Determined at the first copy, when the directory exists, unless it was set before.
    copies: OnceLock<Copies>,
}

/// Files in memory whose path the dynamic linker got, by SHA-256. They stay open until the process ends.
static GIVEN: Mutex<BTreeMap<[u8; 32], Arc<File>>> = Mutex::new(BTreeMap::new());

/// Gives each temporary file of this process its own name.
static WRITES: AtomicU64 = AtomicU64::new(0);

// === impl PrivateCopy ===

impl PrivateCopy {
    /// A copy that another process made and keeps at `path`.
    pub fn of_another_process(path: PathBuf) -> Self {
        Self { path, memory: None }
    }

    /// The same bytes in the memory of this process, which then needs no access to the file.
    pub fn into_memory(self) -> io::Result<Self> {
        Ok(Self::in_memory(Arc::new(sealed("own", &fs::read(&self.path)?)?)))
    }

    /// The path of the copy, for every process of this user.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn in_memory(file: Arc<File>) -> Self {
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        Self { path: path.into(), memory: Some(file) }
    }

    /// The copy of this content whose path the dynamic linker may get.
    pub(crate) fn to_be_opened(&self, sha256: [u8; 32]) -> Self {
        match &self.memory {
            // Another thread may have opened its own copy first. Then that one is used.
            Some(file) => Self::in_memory(given().entry(sha256).or_insert_with(|| file.clone()).clone()),
            None => self.clone(),
        }
    }
}

// === impl Store ===

impl Store {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, copies: OnceLock::new() }
    }

    pub(crate) fn with_copies(self, copies: Copies) -> Self {
        Self { copies: copies.into(), ..self }
    }

    /// A copy of `bytes`. `sha256` is their digest, and `name` is the digest in hexadecimal digits. An existing copy is
    /// used if it has these bytes, the right owner and the right mode.
    pub(crate) fn put(&self, name: &str, sha256: &[u8; 32], bytes: &[u8]) -> Result<PrivateCopy, String> {
        let path = self.directory.join(format!("{name}.so"));
        let failed = |error: io::Error| format!("cannot be copied to {}: {error}", path.display());
        match self.copies.get().map_or_else(|| self.find_out(), |copies| Ok(*copies)).map_err(failed)? {
            Copies::Memory => self.put_in_memory(name, sha256, bytes),
            Copies::Files if is_just(&path, bytes) => Ok(PrivateCopy { path, memory: None }),
            Copies::Files => {
                self.write(&path, bytes).map_err(failed)?;
                match is_just(&path, bytes) {
                    true => Ok(PrivateCopy { path, memory: None }),
                    false => Err(format!("its copy {} does not contain the bytes that were written", path.display())),
                }
            }
        }
    }

    fn put_in_memory(&self, name: &str, sha256: &[u8; 32], bytes: &[u8]) -> Result<PrivateCopy, String> {
        let known = given().get(sha256).cloned();
        let file = known.map_or_else(|| sealed(&name[..16], bytes).map(Arc::new), Ok);
        file.map(PrivateCopy::in_memory).map_err(|error| {
            let directory = self.directory.display();
            format!("cannot be copied to memory, and {directory} does not permit execution (noexec): {error}")
        })
    }

    fn find_out(&self) -> io::Result<Copies> {
        self.make_directory()?;
        let is_noexec = statvfs(&self.directory).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::NOEXEC));
        let copies = if is_noexec { Copies::Memory } else { Copies::Files };
        if self.copies.set(copies).is_ok() && is_noexec {
            tracing::info!(
                "{} does not permit execution (noexec): plugins are opened from memory",
                self.directory.display()
            );
        }
        Ok(copies)
    }

    fn make_directory(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        fs::set_permissions(&self.directory, fs::Permissions::from_mode(0o700))
    }

    /// Writes all bytes or none: to a temporary file, which is synced and then renamed.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.make_directory()?;
        let number = WRITES.fetch_add(1, Relaxed);
        let temporary = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
        // A killed process with the same id may have left a file with this name.
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(COPY_MODE).open(&temporary)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

/// Whether `path` is a file of this process's user with these bytes, to which no user may write.
fn is_just(path: &Path, bytes: &[u8]) -> bool {
    let is_ours = fs::symlink_metadata(path)
        .is_ok_and(|found| found.is_file() && found.uid() == our_user() && found.mode() & 0o7777 == COPY_MODE);
    is_ours && fs::read(path).is_ok_and(|found| found == bytes)
}

/// A file in memory that can be executed and cannot be changed any more.
fn sealed(name: &str, bytes: &[u8]) -> io::Result<File> {
    let name = format!("lb-plugin-{name}");
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag EXEC and do not need it.
    let created = memfd_create(&*name, flags | MemfdFlags::EXEC).or_else(|error| match error {
        rustix::io::Errno::INVAL => memfd_create(&*name, flags),
        error => Err(error),
    });
    let mut file = File::from(created?);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file)
}

fn given() -> std::sync::MutexGuard<'static, BTreeMap<[u8; 32], Arc<File>>> {
    GIVEN.lock().unwrap_or_else(PoisonError::into_inner)
}
