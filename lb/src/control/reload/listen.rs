//! The last step of the preparation: opens another access log and new addresses. Only pickers are made after it.
//!
//! Why last: clients see an open port, and the reload may still be refused. Invariant: after a refusal or a dry run no
//! socket is left (a refusal may leave an empty file).

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Prepared;
use crate::access_log::AccessLog;
use crate::control::api::ReloadError;
use crate::control::publish::{Builder, access_log};
use crate::listener::{self, Listener};
use crate::telemetry::AccessLogCounts;

/// Longer than closing a listener takes.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// The listeners and the access log when a reload begins.
pub(in crate::control) struct Doors {
    pub(in crate::control) current: Vec<Arc<Listener>>,
    /// The reload may ask again for an address that an earlier reload removed.
    pub(in crate::control) closing: Vec<Arc<Listener>>,
    /// The running log.
    pub(in crate::control) access_log: Option<AccessLog>,
    pub(in crate::control) counts: Arc<AccessLogCounts>,
    pub(in crate::control) is_dry: bool,
}

// === impl Doors ===

impl Doors {
    /// Opens the addresses and the log that the target adds. A dry run only tests whether that is possible.
    pub(in crate::control) async fn open(
        self,
        mut prepared: Prepared,
        builder: &Builder,
    ) -> Result<Prepared, ReloadError> {
        let Self { current, closing, access_log: running, counts, is_dry } = self;
        let config = prepared.target.config.clone();
        let opened =
            spawn_blocking(move || access_log(&config, running, counts, is_dry).map_err(|error| error.to_string()));
        match opened.await.unwrap_or_else(|broken| Err(broken.to_string())) {
            Ok(opened) => prepared.access_log = opened,
            Err(error) => {
                builder.retire(prepared);
                return Err(ReloadError::refused("access_log", error));
            }
        }
        for listener in closing {
            // If a listener hangs, only its own address is refused as in use.
            let _ = timeout(CLOSE_MAX, listener.closed()).await;
        }
        let addresses = &prepared.target.config.proxy.listen;
        let listeners = match is_dry {
            true => listener::check(addresses, &current).map(|()| current),
            false => listener::open(addresses, &current),
        };
        match listeners {
            Ok(listeners) => {
                prepared.listeners = listeners;
                Ok(prepared)
            }
            Err(error) => {
                builder.retire(prepared);
                Err(ReloadError::refused("listen", error))
            }
        }
    }
}
