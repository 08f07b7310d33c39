//! The places of a connection in counts. They are values, because only a drop sees every kind of end.

use std::rc::Rc;
use std::sync::Arc;

use crate::pool::Backend;
use crate::proxy::queue::Line;
use crate::telemetry::BackendShard;

/// Counts a connection as active.
pub(in crate::proxy) struct InUse(Arc<BackendShard>);

/// An open connection to a backend, or one that is being opened: all workers share this count, which may have a cap.
/// Its end wakes a request that waits.
pub(in crate::proxy) struct Link {
    backend: Arc<Backend>,
    line: Rc<Line>,
}

// === impl InUse ===

impl InUse {
    pub(super) fn new(shard: &Arc<BackendShard>) -> Self {
        shard.connections_active.inc();
        Self(shard.clone())
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.connections_active.dec();
    }
}

// === impl Link ===

impl Link {
    pub(in crate::proxy) fn new(backend: &Arc<Backend>, line: &Rc<Line>) -> Self {
        backend.connection_opens();
        Self { backend: backend.clone(), line: line.clone() }
    }

    /// `None` if `most` connections to the backend are open.
    pub(in crate::proxy) fn within(backend: &Arc<Backend>, line: &Rc<Line>, most: u32) -> Option<Self> {
        backend.try_connection(most).then(|| Self { backend: backend.clone(), line: line.clone() })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.backend.connection_ends();
        self.line.freed();
    }
}
