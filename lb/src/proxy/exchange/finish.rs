//! The guard that ends a request exactly once, on every path.
//!
//! Invariant: a guard that is dropped without a recorded outcome counts the client as gone.

use std::rc::Rc;
use std::sync::Arc;

use http::Method;
use tokio::time::Instant;

use super::{Context, notes};
use crate::access_log::Record;
use crate::generation::Settings;
use crate::proxy::fault::Fault;
use crate::proxy::view::PoolView;
use crate::telemetry::PoolShard;

/// One request, from its head read to its response's last byte.
pub(super) struct RequestGuard {
    context: Rc<Context>,
    pub(super) settings: Rc<Settings>,
    /// Looked up once; `None` if the listener is gone.
    shard: Option<Arc<PoolShard>>,
    method: Method,
    pub(super) started: Instant,
    /// Its record, if there is a log or the client asked for an explanation.
    pub(super) record: Option<Box<Record>>,
    has_ended: bool,
}

// === impl RequestGuard ===

impl RequestGuard {
    pub(super) fn begin(
        context: &Rc<Context>,
        settings: Rc<Settings>,
        pool: &PoolView,
        method: Method,
        started: Instant,
    ) -> Self {
        let shard = pool.shard(context.peer.listener);
        if let Some(shard) = &shard {
            shard.in_flight.inc();
        }
        Self { context: context.clone(), settings, shard, method, started, record: None, has_ended: false }
    }

    /// For a second attempt of the same request: it counts picks, and ends nothing.
    pub(super) fn twin(&self) -> Self {
        Self {
            context: self.context.clone(),
            settings: self.settings.clone(),
            shard: self.shard.clone(),
            method: self.method.clone(),
            started: self.started,
            record: None,
            has_ended: true,
        }
    }

    /// The counters of the request's pool.
    pub(super) fn shard(&self) -> Option<Arc<PoolShard>> {
        self.shard.clone()
    }

    pub(super) fn count<T>(&self, note: impl FnOnce(&PoolShard) -> T) -> Option<T> {
        self.shard.as_deref().map(note)
    }

    /// Adds bytes of the response's body that were handed over.
    pub(super) fn sent(&mut self, bytes: u64) {
        if let Some(record) = &mut self.record {
            record.bytes_out += bytes;
        }
        self.count(|shard| shard.response_bytes.add(bytes));
    }

    /// Adds bytes of the request's body that arrived.
    pub(super) fn received(&mut self, bytes: u64) {
        if let Some(record) = &mut self.record {
            record.bytes_in = bytes;
        }
    }

    /// The response's last byte was handed over, or no more arrives.
    pub(super) fn finish(&mut self, status: u16, fault: Option<Fault>, now: Instant) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        let (reason, took) = (fault.map(Fault::reason), now - self.started);
        // The line comes first, so that a reader of the counters finds it.
        if let Some(record) = self.record.take() {
            notes::end(record, &self.context, &self.settings, status, reason, took);
        }
        self.count(|shard| {
            if let Some(reason) = reason {
                shard.error(reason);
            }
            shard.request_finished(&self.method, status, took.as_nanos() as u64);
            shard.in_flight.dec();
        });
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        self.finish(Fault::ClientGone.status().as_u16(), Some(Fault::ClientGone), Instant::now());
    }
}
