//! Makes instances of configured strategies, and lists the plugins in the plugin folders.
//!
//! Every error names the pool and the key of the configuration. Invariant: a function that calls into a plugin runs on
//! the thread that the caller chose for it. That is the builder; in `lb check` it is the only thread.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lb_strategy_host::{LoadError, Loader, Plugin as LoadedPlugin, Staged, Strategy, Wanted, file_name, find};

use crate::config::{self, DEFAULT_POOL, Plugin, PoolConfig};
use crate::control::api::{FoundStrategy, LoadedStrategy, OfferedStrategy};
use crate::control::trust::vet::{About, VetBackend, VetError, VetRequest, VetStage, Vetter};
use crate::control::trust::{PluginError, Role};

/// The symbol that every strategy library exports.
const ENTRY_SYMBOL: &[u8] = b"lb_strategy_entry_v1";

/// Finds the plugin and does all steps that do not run it.
pub(in crate::control) fn stage(
    loader: &Loader,
    directories: &[PathBuf],
    role: &Role<'_>,
) -> Result<Staged, PluginError> {
    let refused = |source| plugin_refused(role, source);
    let (path, name) = match role.plugin {
        Plugin::Name(name) => (find(name, directories).map_err(refused)?, Some(name.as_str())),
        Plugin::Path { path, name } => (path.clone(), name.as_deref()),
    };
    loader.stage(&Wanted { path: &path, name, sha256: role.sha256 }).map_err(refused)
}

/// The files that may be `plugin`. The first one that exists counts.
pub(in crate::control) fn candidates(directories: &[PathBuf], plugin: &Plugin) -> Vec<PathBuf> {
    match plugin {
        Plugin::Name(name) => directories.iter().map(|directory| directory.join(file_name(name))).collect(),
        Plugin::Path { path, name: _ } => vec![path.clone()],
    }
}

/// The file that [`stage`] refused and the SHA-256 of its bytes, if it could read them.
pub(in crate::control) fn refused_bytes(error: &PluginError) -> Option<(PathBuf, [u8; 32])> {
    match error {
        PluginError::Load { source, .. } => Some((source.path.clone(), source.sha256?)),
        _ => None,
    }
}

/// Tries the staged plugin in a child process, with its options and the backends of its pool.
pub(in crate::control) async fn vet(
    vetter: &Vetter,
    staged: &Staged,
    role: &Role<'_>,
    workers: usize,
    backends: Vec<VetBackend>,
) -> Result<(), PluginError> {
    let request = VetRequest::new(staged, role.options.clone(), workers, backends);
    let refused = |source: VetError| {
        let key = match source.stage {
            VetStage::Options => role.options_key(),
            VetStage::Picker => key_of(role.pool, "backends"),
            _ => role.plugin_key(),
        };
        PluginError::Vet { pool: role.pool.to_owned(), key, source: Box::new(source) }
    };
    vetter.vet(&request).await.map(drop).map_err(refused)
}

/// Opens the staged plugin and makes an instance with its options.
pub(in crate::control) fn open(
    loader: &Loader,
    staged: Staged,
    role: &Role<'_>,
) -> Result<(Arc<Strategy>, LoadedStrategy), PluginError> {
    let strategy = instance(open_plugin(loader, staged, role)?, role)?;
    let loaded = loaded(role.pool, &strategy);
    Ok((strategy, loaded))
}

/// Opens the staged plugin.
pub(in crate::control) fn open_plugin(
    loader: &Loader,
    staged: Staged,
    role: &Role<'_>,
) -> Result<Arc<LoadedPlugin>, PluginError> {
    loader.open(staged).map_err(|source| plugin_refused(role, source))
}

/// Makes an instance with its options.
pub(in crate::control) fn instance(plugin: Arc<LoadedPlugin>, role: &Role<'_>) -> Result<Arc<Strategy>, PluginError> {
    Strategy::for_pool(plugin, role.options, &role.owner()).map_err(|source| PluginError::Hook {
        pool: role.pool.to_owned(),
        key: role.options_key(),
        source,
    })
}

fn plugin_refused(role: &Role<'_>, source: LoadError) -> PluginError {
    PluginError::Load { pool: role.pool.to_owned(), key: role.plugin_key(), source: Box::new(source) }
}

/// Describes the plugin of `strategy`.
pub(in crate::control) fn loaded(pool: &str, strategy: &Strategy) -> LoadedStrategy {
    let plugin = strategy.plugin();
    LoadedStrategy {
        pool: pool.to_owned(),
        strategy: plugin.name().to_owned(),
        version: plugin.version().to_owned(),
        sha256: plugin.sha256_hex(),
        file: plugin.path().map(Path::to_owned),
    }
}

/// The strategies in `directories`, in order of search and then by name. Libraries without the entry symbol are
/// skipped. The others are opened in children, because a library may run code when it is opened.
pub(in crate::control) async fn list(loader: &Loader, vetter: &Vetter, directories: &[PathBuf]) -> Vec<FoundStrategy> {
    let mut found: Vec<FoundStrategy> = Vec::new();
    let mut searched: Vec<PathBuf> = Vec::new();
    for directory in directories {
        // One folder under two names would list every library twice.
        let real = directory.canonicalize().unwrap_or_else(|_| directory.clone());
        if searched.contains(&real) {
            continue;
        }
        searched.push(real);
        for path in libraries(directory).filter(|path| is_candidate(path)) {
            let file = path.file_name();
            let shadowed_by = found.iter().find(|other| other.path.file_name() == file).map(|other| other.path.clone());
            found.push(FoundStrategy { shadowed_by, ..describe(loader, vetter, path).await });
        }
    }
    found
}

/// The names that a running balancer can load, sorted. No library is opened here, because it may run code then. A
/// reload tests it in a child.
pub(in crate::control) fn offered(directories: &[PathBuf]) -> Vec<OfferedStrategy> {
    let mut first = BTreeMap::new();
    for path in directories.iter().flat_map(|directory| libraries(directory)) {
        if let Some(name) = name_of(&path) {
            // the first file found counts, also if it is broken
            first.entry(name.to_owned()).or_insert(path);
        }
    }
    let found = first.into_iter().filter(|(_, path)| is_candidate(path));
    found.map(|(name, path)| OfferedStrategy { name, path }).collect()
}

/// The files `lib….so` of a folder, sorted.
fn libraries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = entries.filter(|path| name_of(path).is_some()).collect();
    paths.sort();
    paths.into_iter()
}

/// The name by which a library is loaded.
fn name_of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_prefix("lib")?.strip_suffix(".so")
}

/// Whether the file contains the entry symbol. It searches the bytes and not the symbol table, so that a damaged
/// strategy is listed with its error.
fn is_candidate(path: &Path) -> bool {
    let mut bytes = Vec::new();
    let read = config::open_regular(path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.is_ok() && bytes.windows(ENTRY_SYMBOL.len()).any(|window| window == ENTRY_SYMBOL)
}

async fn describe(loader: &Loader, vetter: &Vetter, path: PathBuf) -> FoundStrategy {
    let staged = loader.stage(&Wanted { path: &path, name: None, sha256: None });
    let told = match staged {
        Ok(staged) => {
            let request = VetRequest::new(&staged, serde_json::json!({}), 1, Vec::new());
            let about = vetter.describe(&request).await.map_err(|error| error.reason);
            about.map(|about| (about, staged.sha256_hex()))
        }
        Err(error) => Err(error.reason),
    };
    let shadowed_by = None;
    match told {
        Ok((About { name, version, expectation }, sha256)) => {
            let expectation = Some(expectation).filter(|text| !text.is_empty());
            let (version, sha256, error) = (Some(version), Some(sha256), None);
            FoundStrategy { name, path, version, sha256, expectation, shadowed_by, error }
        }
        Err(reason) => {
            let (name, error) = (name_of(&path).unwrap_or_default().to_owned(), Some(reason));
            FoundStrategy { name, path, version: None, sha256: None, expectation: None, shadowed_by, error }
        }
    }
}

/// A warning if the strategy asks for probes that the pool does not send.
pub(in crate::control) fn unsent_probes(pool: &PoolConfig, plugin: &LoadedPlugin) -> Option<String> {
    let is_unsent = plugin.wants().probes && pool.strategy.probe.is_none();
    is_unsent.then(|| {
        let (key, name) = (key_of(&pool.name, "strategy.probe.path"), plugin.name());
        format!("the strategy {name} asks for probes, and none are sent: set {key}")
    })
}

/// A warning if a shadow asks for probes: shadows send none.
pub(in crate::control) fn unsent_probes_of_shadow(pool: &str, shadow: &str, plugin: &LoadedPlugin) -> Option<String> {
    plugin.wants().probes.then(|| {
        let name = plugin.name();
        format!("pool {pool}: the shadow {shadow} is {name}, which decides by probes: a shadow sends none, so it picks otherwise")
    })
}

/// The configuration's key for a setting of a pool.
pub(in crate::control) fn key_of(pool: &str, key: &str) -> String {
    if pool == DEFAULT_POOL { key.to_owned() } else { format!("pools.{pool}.{key}") }
}
