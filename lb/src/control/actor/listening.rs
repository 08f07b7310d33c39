//! Where clients connect, as a reload changes it. The sockets are opened in [`Doors::open`] and accepted on by the data wing.

use std::sync::Arc;

use super::Actor;
use crate::control::reload::{Doors, Prepared};
use crate::listener::Listener;

// === impl Actor: listening ===

impl Actor {
    /// What a reload that begins now has to know.
    pub(super) fn doors(&mut self) -> Doors {
        self.closing.retain(|listener| !listener.is_closed());
        let is_dry = self.reloads.running.as_ref().is_some_and(|running| running.request.dry_run);
        let (access_log, counts) = (self.access_log(), self.metrics.access_log());
        Doors { current: self.listeners.clone(), closing: self.closing.clone(), access_log, counts, is_dry }
    }

    /// A reload came to nothing: what it opened is closed at once, however busy the builder is.
    pub(super) fn discard(&self, mut prepared: Prepared) {
        prepared.listeners.clear();
        self.builder.retire(prepared);
    }

    /// The next generation has these. Answers those that it lacks, to be [closed](Actor::close) after it.
    pub(super) fn listen(&mut self, listeners: Vec<Arc<Listener>>) -> Vec<Arc<Listener>> {
        let before = std::mem::replace(&mut self.listeners, listeners);
        for listener in without(&self.listeners, &before) {
            tracing::info!("listens on {}", listener.name());
            self.metrics.listener_opened(listener.name());
        }
        without(&before, &self.listeners)
    }

    /// The acceptor closes them, because no generation has them any more.
    pub(super) fn close(&mut self, gone: Vec<Arc<Listener>>) {
        for listener in &gone {
            tracing::info!("no longer listens on {}; what is connected there stays so", listener.name());
            self.metrics.retire_listener(listener.name());
        }
        self.closing.extend(gone);
    }
}

fn without(all: &[Arc<Listener>], others: &[Arc<Listener>]) -> Vec<Arc<Listener>> {
    all.iter().filter(|one| !others.iter().any(|other| Arc::ptr_eq(one, other))).cloned().collect()
}
