//! What control is started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, Source};
use crate::generation::OwnRoutes;
use crate::listener::Listener;
use crate::telemetry::Metrics;

/// What control needs to start.
pub struct Options {
    pub config: Config,
    pub metrics: Arc<Metrics>,
    /// Those of `config.proxy.listen`, open; a reload may change them.
    pub listeners: Vec<Arc<Listener>>,
    /// Where the admin port is, its number known; `None`: as `config.admin` has it.
    pub admin: Option<SocketAddr>,
    /// Forget changes that were made at run time.
    pub fresh: bool,
    /// Where `config` came from and is read again at a reload; without it every reload is refused.
    pub source: Option<Source>,
    /// SHA-256 of the text that `config` was read from. With it and `source`, files are watched as `config` has it.
    pub loaded: Option<[u8; 32]>,
    /// The `lb` in whose child processes plugins are tried first; without one they are not.
    pub vet: Option<PathBuf>,
    /// Routes on the proxy's port that lb answers itself, while `course.on_proxy_port` says so.
    pub own_routes: Option<OwnRoutes>,
    /// Replaces a backend's 404 to a GET, while `course.missing_path_is_400` says so. `{path}` stands for the path.
    pub missing_path: &'static str,
}

// === impl Options ===

impl Options {
    /// With nothing but these: it keeps what was changed at run time, has no listener, refuses reloads and tries no plugin.
    pub fn new(config: Config, metrics: Arc<Metrics>) -> Self {
        Self {
            config,
            metrics,
            listeners: Vec::new(),
            admin: None,
            fresh: false,
            source: None,
            loaded: None,
            vet: None,
            own_routes: None,
            missing_path: "no such path: {path}",
        }
    }
}
