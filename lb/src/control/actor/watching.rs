//! What passes between the actor and the watcher.
//!
//! The watcher asks for reloads as everybody does, by a command. What it must know of those of others is told by the reload's own
//! thread, where it has just been read. Invariant: only an attempt on what the files say is told of; a dry run puts nothing in force,
//! and an override says nothing about the file that it overrides.

use super::Actor;
use super::reloads::Transaction;
use crate::control::watch::{Reporter, Watch, WatchStatus};

impl Actor {
    /// Where `transaction` is to tell what it has read, if it counts as an attempt.
    pub(super) fn reporter_of(&self, transaction: &Transaction) -> Option<Reporter> {
        let request = &transaction.request;
        let counts = !request.dry_run && request.overriding.is_none();
        self.watch.as_ref().filter(|_| counts).map(Watch::reporter)
    }

    /// Other settings may have come in force.
    pub(super) fn watch_as_configured(&self) {
        if let Some(watch) = &self.watch {
            watch.set(self.config.reload.clone());
        }
    }

    pub(super) fn watch_status(&self) -> Option<WatchStatus> {
        self.watch.as_ref().and_then(Watch::status)
    }
}
