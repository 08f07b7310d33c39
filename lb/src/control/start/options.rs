//! The options of a start of control.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, Source};
use crate::generation::OwnRoutes;
use crate::listener::Listener;
use crate::telemetry::Metrics;

/// Everything that control needs to start.
pub struct Options {
    pub config: Config,
    pub metrics: Arc<Metrics>,
    /// The open listeners of `config.proxy.listen`; a reload may change them.
    pub listeners: Vec<Arc<Listener>>,
    /// The address of the admin port with its real number; `None`: that of `config.admin`.
    pub admin: Option<SocketAddr>,
    /// Forget changes that were made at run time.
    pub fresh: bool,
    /// The source of `config`, read again at a reload; without it every reload is refused.
    pub source: Option<Source>,
    /// SHA-256 of the text of `config`. With it and `source`, files are watched as `config` says.
    pub loaded: Option<[u8; 32]>,
    /// The `lb` whose child processes try plugins first. Without one, plugins are not tried.
    pub vet: Option<PathBuf>,
    /// Routes on the proxy's port that lb answers itself, if `course.on_proxy_port` is set.
    pub own_routes: Option<OwnRoutes>,
    /// Replaces a backend's 404 to a GET, if `course.missing_path_is_400` is set. `{path}` stands for the path.
    pub missing_path: &'static str,
}

// === impl Options ===

impl Options {
    /// The defaults: keeps run-time changes, has no listener, refuses reloads and tries no plugin.
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
