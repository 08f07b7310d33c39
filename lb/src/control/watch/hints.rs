//! Hints of the system (inotify) about changes near a watched file.
//!
//! Folders are watched and not files, because editors and deployments replace files, and a watch would stay with the
//! old file. Every folder on the way to a file that contains a link of this way is watched. (A deployment in Kubernetes
//! changes only the link `..data`.) If a part of the way is missing, the last existing folder is watched. Invariant:
//! when [`Hints::follow`] returns, watches are on the folders as they are. A look at the files after it misses no
//! change.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// A way with more links is a circle; the kernel has the same limit.
const LINKS_MAX: usize = 40;
/// How often folders may change during one call of `follow`. After that, only the poll finds changes.
const ROUNDS_MAX: usize = 8;

/// Folders by path; device and inode show whether a folder was replaced.
type Folders = BTreeMap<PathBuf, (u64, u64)>;

pub(super) struct Hints {
    watcher: RecommendedWatcher,
    folders: Folders,
}

/// Opening and reading change nothing, and the watcher does both.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// Adds the folders on the way to `path` in which a change can alter its target. `path` is absolute.
fn add_folders(path: &Path, folders: &mut Folders) {
    let mut real = PathBuf::from("/");
    // From the last part to the first.
    let mut rest: Vec<OsString> = parts(path);
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == ".." {
            real.pop();
            continue;
        }
        let next = real.join(&part);
        let kind = next.symlink_metadata().map(|metadata| metadata.file_type());
        match kind {
            Ok(kind) if kind.is_dir() => real = next,
            Ok(kind) if kind.is_symlink() && links < LINKS_MAX => {
                add_folder(&real, folders);
                links += 1;
                let Ok(target) = std::fs::read_link(&next) else { return };
                if target.is_absolute() {
                    real = PathBuf::from("/");
                }
                rest.extend(parts(&target));
            }
            _ => return add_folder(&real, folders),
        }
    }
}

/// The names in `path`, the last first.
fn parts(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

fn add_folder(folder: &Path, folders: &mut Folders) {
    if let Ok(metadata) = folder.metadata() {
        folders.insert(folder.to_owned(), (metadata.dev(), metadata.ino()));
    }
}

// === impl Hints ===

impl Hints {
    /// `heard` is called at each hint, on a thread of the library.
    pub(super) fn new(heard: impl Fn() + Send + 'static) -> notify::Result<Self> {
        // An error (a full queue) may hide a change.
        let handler = move |event: notify::Result<Event>| {
            if event.as_ref().map_or(true, is_change) {
                heard();
            }
        };
        Ok(Self { watcher: notify::recommended_watcher(handler)?, folders: Folders::new() })
    }

    /// Watches the folders on the way to `paths` and no others. Calls `failed` once for each folder that cannot be
    /// watched.
    pub(super) fn follow<'a>(
        &mut self,
        paths: impl Iterator<Item = &'a Path> + Clone,
        mut failed: impl FnMut(&Path, &notify::Error),
    ) {
        for _ in 0..ROUNDS_MAX {
            let mut wanted = Folders::new();
            paths.clone().for_each(|path| add_folders(path, &mut wanted));
            if wanted == self.folders {
                return;
            }
            for (folder, identity) in &self.folders {
                if wanted.get(folder) != Some(identity) {
                    // Fails if the folder is gone, because its watch is then gone too.
                    let _ = self.watcher.unwatch(folder);
                }
            }
            for (folder, identity) in &wanted {
                if self.folders.get(folder) != Some(identity)
                    && let Err(error) = self.watcher.watch(folder, RecursiveMode::NonRecursive)
                    && folder.exists()
                {
                    failed(folder, &error);
                }
            }
            self.folders = wanted;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folders(path: &Path) -> Vec<PathBuf> {
        let mut folders = Folders::new();
        add_folders(path, &mut folders);
        folders.into_keys().collect()
    }

    #[test]
    fn every_folder_with_a_link_on_the_way_is_watched_and_the_files_own() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        std::fs::create_dir_all(at("mount/..1")).unwrap();
        std::fs::create_dir(at("etc")).unwrap();
        std::fs::write(at("mount/..1/lb.toml"), "").unwrap();
        symlink("..1", at("mount/..data")).unwrap();
        symlink("..data/lb.toml", at("mount/lb.toml")).unwrap();
        symlink(at("mount/lb.toml"), at("etc/lb.toml")).unwrap();
        assert_eq!(folders(&at("etc/lb.toml")), [at("etc"), at("mount"), at("mount/..1")]);
        assert_eq!(folders(&at("etc/../mount/..1/lb.toml")), [at("mount/..1")]);
    }

    #[test]
    fn if_the_way_is_missing_the_last_existing_folder_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        assert_eq!(folders(&root.join("a/b/libx.so")), std::slice::from_ref(&root));
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        assert_eq!(folders(&root.join("a/b/libx.so")), [root.join("a/b")]);
        symlink("nowhere", root.join("a/b/libx.so")).unwrap();
        assert_eq!(folders(&root.join("a/b/libx.so")), [root.join("a/b")]);
    }

    #[test]
    fn a_circle_of_links_ends() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        assert_eq!(folders(&root.join("a")), [root]);
    }

    #[test]
    fn reading_is_no_change_and_writing_is() {
        use notify::event::{CreateKind, DataChange, ModifyKind};
        let is_change = |kind| is_change(&Event::new(kind));
        assert!(!is_change(EventKind::Access(AccessKind::Open(AccessMode::Any))));
        assert!(!is_change(EventKind::Access(AccessKind::Close(AccessMode::Read))));
        assert!(is_change(EventKind::Access(AccessKind::Close(AccessMode::Write))));
        assert!(is_change(EventKind::Create(CreateKind::File)));
        assert!(is_change(EventKind::Modify(ModifyKind::Data(DataChange::Any))));
        assert!(is_change(EventKind::Other), "its queue was full");
    }
}
