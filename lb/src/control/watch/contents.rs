//! The files that a reload reads: their identity and their content.
//!
//! Two costs, two types. A [`Look`] is a few calls of `stat` and is made often; [`Contents`] are hashes of all bytes
//! and are made when looks have settled. Invariant: contents are read by the rules of a reload, so that both see the
//! same file and the same bytes.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lb_strategy_host::sha256_of;
use sha2::{Digest as _, Sha256};

use crate::config;

/// SHA-256.
pub(super) type Digest = [u8; 32];

/// A plugin file and its bytes.
pub(super) type Found = (PathBuf, Digest);

/// The files that a reload would read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    /// The configuration file, absolute.
    pub(super) config: PathBuf,
    /// The possible places of each pool's plugin. The first one that exists counts. Missing ones are watched too.
    pub(super) plugins: Vec<Vec<PathBuf>>,
}

/// The identity of all watched paths in order. It changes with a file and is found without reading the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look(Vec<Option<Identity>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The digests of all watched files; `None` for a file that is missing or unreadable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) config: Option<Digest>,
    /// One for each pool.
    pub(super) plugins: Vec<Option<Found>>,
}

/// The content that a reload has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::control) struct Attempt {
    pub(in crate::control) config: Option<Digest>,
    /// One for each pool; `None` if the configuration's text names no valid set of plugins.
    pub(in crate::control) plugins: Option<Vec<Taken>>,
}

/// The plugin file that a reload found for one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Taken {
    /// Its possible places.
    pub(in crate::control) candidates: Vec<PathBuf>,
    pub(in crate::control) found: Option<Found>,
}

fn look_at(path: &Path) -> Option<Identity> {
    std::fs::metadata(path).ok().as_ref().map(Identity::of)
}

/// The first file that exists, if it can be read.
pub(super) fn find(candidates: &[PathBuf]) -> Option<Found> {
    let path = candidates.iter().find(|path| path.exists())?;
    Some((path.clone(), sha256_of(path).ok()?))
}

// === impl Watched ===

impl Watched {
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> + Clone {
        std::iter::once(&self.config).chain(self.plugins.iter().flatten()).map(PathBuf::as_path)
    }
}

// === impl Look ===

impl Look {
    pub(super) fn at(watched: &Watched) -> Self {
        Self(watched.paths().map(look_at).collect())
    }
}

// === impl Identity ===

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

// === impl Contents ===

impl Contents {
    /// Reads all files.
    pub(super) fn of(watched: &Watched) -> Self {
        // Only regular files: opening a pipe would wait for a writer.
        let is_file = watched.config.is_file();
        let config = is_file.then(|| config::read(&watched.config).ok()).flatten();
        Self {
            config: config.map(|bytes| Sha256::digest(bytes).into()),
            plugins: watched.plugins.iter().map(|candidates| find(candidates)).collect(),
        }
    }
}

// === impl Taken ===

impl Taken {
    /// For a plugin that the reload did not reach.
    pub(in crate::control) fn unread(candidates: Vec<PathBuf>) -> Self {
        let found = find(&candidates);
        Self { candidates, found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_existing_file_counts_with_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first.so", "second.so"].map(|name| folder.path().join(name));
        let config = folder.path().join("lb.toml");
        let watched = Watched { config: config.clone(), plugins: vec![vec![first.clone(), second.clone()]] };
        assert_eq!(Contents::of(&watched), Contents { config: None, plugins: vec![None] });
        std::fs::write(&config, "text").unwrap();
        std::fs::write(&second, "bytes").unwrap();
        let digest = |bytes: &str| Sha256::digest(bytes).into();
        let contents = Contents::of(&watched);
        assert_eq!((contents.config, &contents.plugins[0]), (Some(digest("text")), &Some((second, digest("bytes")))));
        std::fs::write(&first, "bytes").unwrap();
        assert_eq!(Contents::of(&watched).plugins, [Some((first, digest("bytes")))]);
    }

    #[test]
    fn a_path_that_is_no_file_has_no_contents_and_does_not_hang() {
        let folder = tempfile::tempdir().unwrap();
        let watched = Watched { config: folder.path().to_owned(), plugins: vec![vec![folder.path().to_owned()]] };
        assert_eq!(Contents::of(&watched), Contents { config: None, plugins: vec![None] });
    }

    #[test]
    fn a_look_sees_a_file_replaced_by_an_equal_one() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("lb.toml");
        let watched = Watched { config: config.clone(), plugins: Vec::new() };
        let nothing = Look::at(&watched);
        std::fs::write(&config, "text").unwrap();
        let before = Look::at(&watched);
        assert_ne!(before, nothing);
        assert_eq!(before, Look::at(&watched));
        std::fs::write(folder.path().join("new"), "text").unwrap();
        std::fs::rename(folder.path().join("new"), &config).unwrap();
        assert_ne!(Look::at(&watched), before);
    }
}
