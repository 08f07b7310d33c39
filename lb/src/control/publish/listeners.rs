//! The addresses where clients connect. A reload opens the sockets; the data wing accepts on them and closes them.

use std::sync::Arc;

use crate::listener::Listener;
use crate::telemetry::Metrics;

pub(in crate::control) struct Listeners {
    /// Listeners of the newest generation.
    open: Vec<Arc<Listener>>,
    /// Listeners of older generations, until the acceptor has closed them.
    closing: Vec<Arc<Listener>>,
}

// === impl Listeners ===

impl Listeners {
    pub(super) fn new(open: Vec<Arc<Listener>>) -> Self {
        Self { open, closing: Vec::new() }
    }

    pub(in crate::control) fn open(&self) -> &[Arc<Listener>] {
        &self.open
    }

    pub(in crate::control) fn closing(&mut self) -> &[Arc<Listener>] {
        self.closing.retain(|listener| !listener.is_closed());
        &self.closing
    }

    /// Sets the listeners of the next generation. Returns those that it no longer has; pass them to
    /// [`Listeners::close`] after the publish.
    pub(in crate::control) fn replace(
        &mut self,
        listeners: Vec<Arc<Listener>>,
        metrics: &Metrics,
    ) -> Vec<Arc<Listener>> {
        let before = std::mem::replace(&mut self.open, listeners);
        for listener in without(&self.open, &before) {
            tracing::info!(address = %listener.name(), "listens");
            metrics.listener_opened(listener.name());
        }
        without(&before, &self.open)
    }

    /// No generation has these any more, so the acceptor closes them.
    pub(in crate::control) fn close(&mut self, gone: Vec<Arc<Listener>>, metrics: &Metrics) {
        for listener in &gone {
            tracing::info!(address = %listener.name(), "no longer listens; open connections stay");
            metrics.retire_listener(listener.name());
        }
        self.closing.extend(gone);
    }
}

fn without(all: &[Arc<Listener>], others: &[Arc<Listener>]) -> Vec<Arc<Listener>> {
    all.iter().filter(|one| !others.iter().any(|other| Arc::ptr_eq(one, other))).cloned().collect()
}
