//! The watcher: notices that the configuration file or a plugin file has changed, and asks control for a reload.
//!
//! Why a thread of its own: it stats, reads and waits, and control's runtime must never block. What it watches is what a reload would
//! read: the configuration file, and for each pool the places where its plugin may lie. Events of the system ([`hints`](Hints)) only
//! say when to look; a slow poll looks as well, because events get lost and do not come from NFS. Whether a reload is asked for is
//! decided by content alone: files whose identity changed must first [settle](Settle), then their bytes are [compared](Compare) with
//! those that were last attempted, whoever asked for that.
//!
//! Invariants: content that settles and differs from the last attempt gives exactly one reload, content that does not settle gives
//! none, and content that was attempted is not attempted again until bytes change, however that ended; a file that is gone gives none, and nor does an empty configuration.

mod compare;
mod contents;
mod hints;
mod settle;
mod watcher;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;

use parking_lot::Mutex;
use tokio::sync::mpsc::WeakSender;

use crate::config;
use crate::control::api::WatchStatus;
use crate::control::handle::Command;
use compare::Compare;
use contents::{Contents, Digest, Found, Look, Watched};
use hints::Hints;
use settle::{Next, Settle};
use watcher::Watcher;

pub(super) use contents::{Attempt, Taken};

/// The way to the watcher's thread, which ends when this is dropped.
pub(super) struct Watch {
    news: mpsc::Sender<News>,
    status: Arc<Mutex<Option<WatchStatus>>>,
}

/// Tells the watcher what a reload has read.
#[derive(Clone)]
pub(super) struct Reporter(mpsc::Sender<News>);

/// What wakes the watcher.
enum News {
    /// Something happened in a watched folder; sent once until it is heard.
    Hint,
    /// A reload has read this.
    Attempted(Attempt),
    /// In force from now on.
    Settings(config::Reload),
    Stop,
}

// === impl Watch ===

impl Watch {
    /// Starts the thread. `file` is the configuration file, absolute; `loaded` is what lb has started with.
    pub(super) fn start(
        settings: config::Reload,
        file: PathBuf,
        loaded: Attempt,
        commands: WeakSender<Command>,
    ) -> std::io::Result<Self> {
        let (news, queue) = mpsc::channel();
        let status = Arc::new(Mutex::new(None));
        let hinted = Arc::new(AtomicBool::new(false));
        let watcher = Watcher::new(settings, file, loaded, commands, (news.clone(), hinted), queue, status.clone());
        std::thread::Builder::new().name("lb-watcher".into()).spawn(move || watcher.run())?;
        Ok(Self { news, status })
    }

    /// For a reload's own thread.
    pub(super) fn reporter(&self) -> Reporter {
        Reporter(self.news.clone())
    }

    /// The settings of a configuration that has come in force.
    pub(super) fn set(&self, settings: config::Reload) {
        let _ = self.news.send(News::Settings(settings));
    }

    /// `None` while it is switched off.
    pub(super) fn status(&self) -> Option<WatchStatus> {
        self.status.lock().clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.news.send(News::Stop);
    }
}

// === impl Reporter ===

impl Reporter {
    pub(super) fn attempted(&self, attempt: Attempt) {
        let _ = self.0.send(News::Attempted(attempt));
    }
}
