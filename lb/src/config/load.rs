//! Loading: from a path, an environment and a command line to a configuration or its mistakes.
//!
//! Everything from the machine is read here: the file, the token, addresses from the resolver, the number of cores. So
//! a test can give any input to the layers and the checks. It blocks while a backend's name is resolved.
//!
//! Invariant: only [`process_environment`] reads the process's own environment.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::document::Document;
use super::error::{ConfigError, Fault, one_line};
use super::explain::{Setting, settings};
use super::layers::{Origin, layer};
use super::mistakes;
use super::overrides::TOKEN_VARIABLE;
use super::places;
use super::regular::open_regular;
use super::token::admin_token;
use super::validate::{Surroundings, validate};
use super::validated::{Admin, Config};

/// The sources of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub path: PathBuf,
    /// The places without a configuration file, if no path was given and none of them has one.
    pub searched: Vec<PathBuf>,
    /// Key path and value, for example `("strategy.name", "round_robin")`.
    pub command_line: Vec<(String, String)>,
    pub environment: BTreeMap<String, String>,
}

/// A configuration, and its origins.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// Every setting with its value in force, section by section.
    pub settings: Vec<Setting>,
    /// Allowed, but probably a mistake; one line each.
    pub warnings: Vec<String>,
    /// The digest of its text.
    pub sha256: [u8; 32],
}

/// No configuration is longer than this.
const FILE_BYTES_MAX: u64 = 1 << 20;

// === impl Source ===

impl Source {
    /// The file at `path`, or without one the first file that lb finds by itself; the environment of this process.
    #[must_use]
    pub fn new(path: Option<PathBuf>, command_line: Vec<(String, String)>) -> Self {
        let (path, searched) = match path.map_or_else(places::find_file, Ok) {
            Ok(path) => (path, Vec::new()),
            Err(places) => (places[0].clone(), places),
        };
        Self { path, searched, command_line, environment: process_environment() }
    }
}

// === impl Loaded ===

impl Loaded {
    /// The place that set `key`, or the first setting of the section `key`: `FILE:LINE`, a variable or a flag. `None`
    /// if `key` has its default value.
    #[must_use]
    pub fn place_of(&self, key: &str) -> Option<String> {
        let is_within = |other: &str| match other.strip_prefix(key) {
            Some(rest) => rest.is_empty() || rest.starts_with(['.', '[']),
            None => false,
        };
        let origins = self.settings.iter().filter(|one| is_within(&one.key)).map(|one| &one.origin);
        origins.into_iter().find_map(|origin| match origin {
            Origin::Default => None,
            Origin::File { line } => self.config.file.as_ref().map(|file| format!("{}:{line}", file.display())),
            Origin::Environment(name) | Origin::CommandLine(name) => Some(name.clone()),
        })
    }
}

/// Reads, layers and checks.
pub fn load(source: &Source) -> Result<Loaded, ConfigError> {
    let bytes = read(&source.path).map_err(|error| match source.searched.is_empty() {
        true => error,
        false => ConfigError::Missing { searched: source.searched.iter().map(|place| absolute_path(place)).collect() },
    });
    load_bytes(source, &bytes?)
}

/// The bytes of the configuration file at `path`.
pub fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    read_bytes(path, FILE_BYTES_MAX).map_err(|reason| unreadable(path, &reason))
}

/// Like [`load`], with the bytes from [`read`].
pub fn load_bytes(source: &Source, bytes: &[u8]) -> Result<Loaded, ConfigError> {
    let text = text_of(bytes).map_err(|reason| unreadable(&source.path, &reason))?;
    load_text(source, text)
}

/// Like [`load`], with the file's text given; `source.path` is only its nominal place.
pub fn load_text(source: &Source, text: &str) -> Result<Loaded, ConfigError> {
    mistakes::collect(source, Document::parse(&source.path, text)?, check)
}

/// Layers and checks, until the first mistake.
fn check(source: &Source, document: &mut Document<'_>) -> Result<Loaded, ConfigError> {
    document.check()?;
    let mut layered = layer(document, &source.environment, &source.command_line)?;
    let mut warnings = std::mem::take(&mut layered.warnings);
    let at = |fault: Fault| {
        let place = layered.place_of(document, &fault.key);
        fault.at(place)
    };

    let file = absolute_path(&source.path);
    let mut around = Surroundings {
        folder: file.parent().unwrap_or(Path::new("/")).to_owned(),
        plugin_folders: std::env::current_exe()
            .map(|executable| places::plugin_folders(&executable, Path::is_dir))
            .unwrap_or_default(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        state_dir: places::state_dir(&file, &source.environment, places::system_state()),
        admin_token: None,
        file,
    };
    let token = admin_token(&layered, document, source, &around, &mut warnings).map_err(at)?;
    let (token, token_origin) = token.unzip();
    around.admin_token = token;
    let config = validate(&layered.form, &around, &mut warnings).map_err(at)?;
    let settings = settings(&layered, document, &config, token_origin);
    Ok(Loaded { config, settings, warnings, sha256: Sha256::digest(document.text()).into() })
}

/// The admin port's address and token, even if the rest of the configuration is wrong. For commands to a running
/// balancer, perhaps because of the wrong part.
pub fn load_admin(source: &Source) -> Result<Admin, ConfigError> {
    let is_told = source.command_line.iter().any(|(key, _)| key == "admin.listen")
        || source.environment.contains_key("LB__ADMIN__LISTEN");
    // No default address is tried: another balancer may listen there.
    let section =
        match read(&source.path).map(|bytes| String::from_utf8(bytes).unwrap_or_default().parse::<toml::Table>()) {
            Ok(Ok(mut file)) => file.remove_entry("admin"),
            _ if is_told => None,
            _ => return load(source).map(|loaded| loaded.config.admin),
        };
    let text = toml::Table::from_iter(section).to_string();
    let (mut command_line, mut environment) = (source.command_line.clone(), source.environment.clone());
    command_line.retain(|(key, _)| key.starts_with("admin."));
    environment.retain(|name, _| name.starts_with("LB__ADMIN__") || name == TOKEN_VARIABLE);
    let source = Source { command_line, environment, ..source.clone() };
    Ok(load_text(&source, &text)?.config.admin)
}

/// The environment of this process. Values that are not Unicode are converted as far as possible, so that the check of
/// the value reports them.
#[must_use]
pub fn process_environment() -> BTreeMap<String, String> {
    std::env::vars_os().map(|(name, text)| (name.to_string_lossy().into(), text.to_string_lossy().into())).collect()
}

fn unreadable(path: &Path, reason: &str) -> ConfigError {
    ConfigError::Unreadable { path: absolute_path(path), reason: one_line(reason) }
}

pub(super) fn read_bytes(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    open_regular(path)
        .and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("it is longer than {bytes_max} bytes"));
    }
    Ok(bytes)
}

pub(super) fn text_of(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| format!("byte {} is not UTF-8", error.valid_up_to() + 1))
}

/// `path` relative to the working folder. Its links are not resolved, so that a relative path in the file means what it
/// shows.
fn absolute_path(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
