//! Loading as a list of named stages. A stage does one step, or refuses the candidate with a reason.
//!
//! Invariants: the operator's file is read once and never opened as a library. The host opens a private copy that is
//! identified by its content, so equal bytes are one image and different bytes are two. A refusal changes nothing,
//! except that the private copy and an image that was opened remain.
//!
//! Staging ends before plugin code runs. So a staged file can be tried in another process before this process opens it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::library::{HostInfo, Plugin};
use crate::store::{Copies, PrivateCopy, Store};
use crate::{elf, verify};

/// The default limit of resident images. Each keeps a thread-local key until the process ends, and a process has about
/// a thousand keys.
const IMAGES_MAX: usize = 128;

/// If a folder has more names, an error does not list them.
const NAMES_MAX: usize = 20;

/// A file to load, with the conditions that it must meet.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub path: &'a Path,
    /// The name that must be in the plugin's table.
    pub name: Option<&'a str>,
    /// The SHA-256 that the file must have.
    pub sha256: Option<[u8; 32]>,
}

/// The stages, in order. `new`, `state` and `picker` come after loading, when an instance is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Find,
    Read,
    Permissions,
    Pin,
    Elf,
    Images,
    Copy,
    Open,
    Version,
    Name,
}

/// A refused file, with the stage and the reason. The reason names the remedy.
#[derive(Debug, thiserror::Error)]
#[error("plugin {}: {reason} [stage {stage}]", path.display())]
pub struct LoadError {
    pub path: PathBuf,
    pub stage: Stage,
    pub reason: String,
    /// The SHA-256 of the refused bytes, if they could be read.
    pub sha256: Option<[u8; 32]>,
}

/// Opens plugins for one process. It owns the private copies and all resident images.
pub struct Loader {
    store: Store,
    host: HostInfo,
    images_max: usize,
    allows_group_writable: bool,
    /// All images that were ever opened, by SHA-256. Those with a refused table are included.
    images: Mutex<HashMap<[u8; 32], Arc<Plugin>>>,
}

/// A file that may be opened: all checks that need no plugin code have passed, and it is copied.
#[derive(Clone, Debug)]
pub struct Staged {
    pub sha256: [u8; 32],
    /// Exists even if the image is resident already.
    pub copy: PrivateCopy,
    /// The operator's file.
    pub origin: PathBuf,
    /// The name that must be in the plugin's table.
    pub name: Option<String>,
}

/// The state of a file in the stages before it is opened.
struct Candidate {
    path: PathBuf,
    pin: Option<[u8; 32]>,
    bytes: Vec<u8>,
    metadata: Option<Metadata>,
    /// All zero until the file is read.
    sha256: [u8; 32],
    copy: Option<PrivateCopy>,
}

/// The state of a file in the stages from its opening on.
struct Opening {
    staged: Staged,
    plugin: Option<Arc<Plugin>>,
}

type Step<T> = fn(&Loader, &mut T) -> Result<(), String>;

/// No plugin code runs in these.
const STAGING: [(Stage, Step<Candidate>); 6] = [
    (Stage::Read, read),
    (Stage::Permissions, permissions),
    (Stage::Pin, pin),
    (Stage::Elf, bytes),
    (Stage::Images, images),
    (Stage::Copy, copy),
];

/// The plugin's constructors and its entry run in the first of these.
const OPENING: [(Stage, Step<Opening>); 3] = [(Stage::Open, open), (Stage::Version, version), (Stage::Name, name)];

/// The file name of the strategy called `name`.
pub fn file_name(name: &str) -> String {
    format!("lib{name}.so")
}

/// The first `lib<name>.so` in `directories`. The first file found counts, even if it is broken.
pub fn find(name: &str, directories: &[PathBuf]) -> Result<PathBuf, LoadError> {
    let file = file_name(name);
    directories.iter().map(|directory| directory.join(&file)).find(|path| path.exists()).ok_or_else(|| {
        let looked = directories.iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(", ");
        LoadError {
            path: file.into(),
            stage: Stage::Find,
            sha256: None,
            reason: format!(
                "strategy {name:?} was not found in {looked}: {}build it there, add its folder to plugin_dirs, or set \
                 strategy.path (`lb strategies` lists what is there)",
                hint(name, &names_in(directories))
            ),
        }
    })
}

/// The SHA-256 of the file's bytes. They are read as in [`Loader::stage`], and an error is the same as there.
pub fn sha256_of(path: &Path) -> Result<[u8; 32], String> {
    verify::read(path).map(|(bytes, _)| Sha256::digest(&bytes).into())
}

/// The names of files in `directories` that may be strategies, sorted. Names with a hyphen are left out: those are
/// build artifacts of cargo, such as `libserde_derive-0a1b.so`, and no strategy has such a name.
fn names_in(directories: &[PathBuf]) -> Vec<String> {
    let files = directories.iter().flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.file_name());
    let name_of = |file: &str| Some(file.strip_prefix("lib")?.strip_suffix(".so")?.to_owned());
    let names = files.filter_map(|file| name_of(file.to_str()?)).filter(|name| !name.contains('-'));
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The name that `wanted` probably means, and the names that exist.
fn hint(wanted: &str, names: &[String]) -> String {
    let plain = |name: &str| name.to_lowercase().replace(['-', '_'], "");
    let distance = |name: &String| strsim::damerau_levenshtein(&plain(wanted), &plain(name));
    let nearest = names.iter().min_by_key(|name| distance(name)).filter(|name| distance(name) <= plain(name).len() / 3);
    let meant = nearest.map(|name| format!("did you mean {name:?}? ")).unwrap_or_default();
    match names.len() {
        1..=NAMES_MAX => format!("{meant}there is {}; or ", names.join(", ")),
        _ if meant.is_empty() => meant,
        _ => format!("{meant}or "),
    }
}

// === impl Loader ===

impl Loader {
    /// `directory` gets the private copies. It is made if it is missing, with mode 0700. `workers` threads may pick at
    /// the same time.
    pub fn new(directory: PathBuf, workers: usize) -> Self {
        Self {
            store: Store::new(directory),
            host: HostInfo::new(workers),
            images_max: IMAGES_MAX,
            allows_group_writable: false,
            images: Mutex::new(HashMap::new()),
        }
    }

    /// Sets the limit of opened images, by default 128. A further one is refused.
    #[must_use]
    pub fn with_images_max(self, images_max: usize) -> Self {
        Self { images_max, ..self }
    }

    /// Sets whether a file is accepted if a group with other members may change it or a folder above it. Default: no.
    #[must_use]
    pub fn with_group_writable(self, allows_group_writable: bool) -> Self {
        Self { allows_group_writable, ..self }
    }

    /// Sets the kind of copies, instead of the one that the directory's file system requires.
    #[must_use]
    pub fn with_copies(self, copies: Copies) -> Self {
        Self { store: self.store.with_copies(copies), ..self }
    }

    /// Takes the file through all stages. Equal bytes give the same image.
    pub fn load(&self, wanted: &Wanted<'_>) -> Result<Arc<Plugin>, LoadError> {
        self.open(self.stage(wanted)?)
    }

    /// Takes the file through all stages that run no plugin code.
    pub fn stage(&self, wanted: &Wanted<'_>) -> Result<Staged, LoadError> {
        let mut candidate = Candidate {
            path: wanted.path.to_owned(),
            pin: wanted.sha256,
            bytes: Vec::new(),
            metadata: None,
            sha256: [0; 32],
            copy: None,
        };
        let is_read = |error: &LoadError| error.stage != Stage::Read;
        if let Err(error) = self.walk(&STAGING, &mut candidate, wanted.path) {
            return Err(LoadError { sha256: is_read(&error).then_some(candidate.sha256), ..error });
        }
        let Candidate { path, sha256, copy, .. } = candidate;
        let copy = copy.expect("the copy stage sets the copy");
        Ok(Staged { sha256, copy, origin: path, name: wanted.name.map(str::to_owned) })
    }

    /// Opens a staged file, or finds its image if it is resident. Plugin code runs on the calling thread.
    pub fn open(&self, staged: Staged) -> Result<Arc<Plugin>, LoadError> {
        let (origin, sha256) = (staged.origin.clone(), Some(staged.sha256));
        let mut opening = Opening { staged, plugin: None };
        self.walk(&OPENING, &mut opening, &origin).map_err(|error| LoadError { sha256, ..error })?;
        Ok(opening.plugin.expect("the open stage sets the plugin"))
    }

    fn walk<T>(&self, stages: &[(Stage, Step<T>)], subject: &mut T, path: &Path) -> Result<(), LoadError> {
        stages.iter().try_for_each(|&(stage, step)| {
            step(self, subject).map_err(|reason| LoadError { path: path.to_owned(), stage, reason, sha256: None })
        })
    }

    /// The resident image with this SHA-256; `None` if there is none but room for it.
    fn resident(&self, sha256: &[u8; 32]) -> Result<Option<Arc<Plugin>>, String> {
        let images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        match images.get(sha256) {
            None if images.len() >= self.images_max => Err(format!(
                "would be image {} of this process and {} is the limit: restart lb",
                images.len() + 1,
                self.images_max
            )),
            found => Ok(found.cloned()),
        }
    }

    /// The number of resident images. They stay until the process ends.
    pub fn images(&self) -> usize {
        self.images.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

fn read(_: &Loader, candidate: &mut Candidate) -> Result<(), String> {
    let (bytes, metadata) = verify::read(&candidate.path)?;
    candidate.sha256 = Sha256::digest(&bytes).into();
    candidate.bytes = bytes;
    candidate.metadata = Some(metadata);
    Ok(())
}

fn permissions(loader: &Loader, candidate: &mut Candidate) -> Result<(), String> {
    let metadata = candidate.metadata.as_ref().expect("read comes first");
    verify::permissions(&candidate.path, metadata, loader.allows_group_writable)
}

fn pin(_: &Loader, candidate: &mut Candidate) -> Result<(), String> {
    match candidate.pin {
        Some(pinned) if pinned != candidate.sha256 => Err(format!(
            "has sha256 {}, but strategy.sha256 pins {}: correct the pin or restore the file",
            hex(&candidate.sha256),
            hex(&pinned)
        )),
        _ => Ok(()),
    }
}

fn bytes(_: &Loader, candidate: &mut Candidate) -> Result<(), String> {
    elf::check(&candidate.bytes, "lb_strategy_entry_v1")
}

fn images(loader: &Loader, candidate: &mut Candidate) -> Result<(), String> {
    loader.resident(&candidate.sha256).map(drop)
}

fn copy(loader: &Loader, candidate: &mut Candidate) -> Result<(), String> {
    let Candidate { sha256, bytes, .. } = &*candidate;
    candidate.copy = Some(loader.store.put(&hex(sha256), sha256, bytes)?);
    Ok(())
}

fn open(loader: &Loader, opening: &mut Opening) -> Result<(), String> {
    let Staged { sha256, copy, origin, .. } = &opening.staged;
    // The limit is checked again, because other images may have been opened since the staging.
    opening.plugin = loader.resident(sha256)?;
    if opening.plugin.is_none() {
        let plugin = Plugin::open(copy.to_be_opened(*sha256).path(), origin, *sha256, &loader.host)?;
        // From here on the image is resident and counts, even if a later stage refuses it. If two threads opened the
        // same bytes at the same time, the first stays.
        let mut images = loader.images.lock().unwrap_or_else(PoisonError::into_inner);
        opening.plugin = Some(images.entry(*sha256).or_insert_with(|| Arc::new(plugin)).clone());
    }
    Ok(())
}

fn version(_: &Loader, opening: &mut Opening) -> Result<(), String> {
    opening.plugin.as_ref().expect("open comes first").check_version()
}

fn name(_: &Loader, opening: &mut Opening) -> Result<(), String> {
    let found = opening.plugin.as_ref().expect("open comes first").name();
    match &opening.staged.name {
        Some(wanted) if wanted != found => {
            Err(format!("calls itself {found:?}, not {wanted:?}: correct strategy.name or name the right file"))
        }
        _ => Ok(()),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// === impl Staged ===

impl Staged {
    /// `sha256` as 64 hexadecimal digits.
    pub fn sha256_hex(&self) -> String {
        hex(&self.sha256)
    }
}

// === impl Stage ===

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Find => "find",
            Self::Read => "read",
            Self::Permissions => "permissions",
            Self::Pin => "pin",
            Self::Elf => "elf",
            Self::Images => "images",
            Self::Copy => "copy",
            Self::Open => "open",
            Self::Version => "version",
            Self::Name => "name",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_gets_the_nearest_name_and_the_names_that_exist() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["libround_robin.so", "libconsistent_hash.so", "libserde_derive-0a1b.so", "libx.a", "notes.so"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        let folders = [folder.path().to_owned(), folder.path().join("missing"), folder.path().to_owned()];
        let told = |name: &str| find(name, &folders).unwrap_err().reason;
        for name in ["roundrobin", "Round-Robin", "round_robbin", "ruond_robin"] {
            let said = told(name);
            assert!(
                said.contains("did you mean \"round_robin\"? there is consistent_hash, round_robin; or build"),
                "{said}"
            );
            assert!(!said.contains('\n'));
        }
        assert!(told("fastest").contains("missing, "), "{}", told("fastest"));
        assert!(told("fastest").contains(": there is consistent_hash, round_robin; or build"), "{}", told("fastest"));
        let many: Vec<String> = (0..=NAMES_MAX).map(|n| format!("strategy_{n}")).collect();
        assert_eq!(hint("strategy2", &many), "did you mean \"strategy_2\"? or ");
        assert_eq!(hint("fastest", &many), "");
        assert_eq!(hint("fastest", &[]), "");
    }
}
