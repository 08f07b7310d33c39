//! Why a pool's plugin cannot be used. Each error names the pool and the key of the configuration.

use lb_strategy_host::{HookError, LoadError};

use super::vet::VetError;

/// Why a pool's plugin cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The library was not found, or a check before the first call into it failed.
    #[error("pool {pool:?}, {key}: {source}")]
    Load { pool: String, key: String, source: Box<LoadError> },
    /// It failed in the child process.
    #[error("pool {pool:?}, {key}: {source}")]
    Vet { pool: String, key: String, source: Box<VetError> },
    /// It refused its options or its list of backends.
    #[error("pool {pool:?}, {key}: {source}")]
    Hook { pool: String, key: String, source: HookError },
}
