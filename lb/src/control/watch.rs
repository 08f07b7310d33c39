//! The watcher: notices that the configuration file or a plugin file has changed, and asks control for a reload.
//!
//! Why a thread: it stats, reads and waits, and control's runtime must never block. It watches the files that a reload
//! would read: the configuration file, and for each pool the places of its plugin. Events of the system
//! ([`hints`](Hints)) only decide when to look. A slow poll looks as well, because events can be lost and do not come
//! from NFS. Content alone decides about a reload. Files whose identity changed must first [settle](Settle). Then their
//! bytes are [compared](Compare) with those of the last attempt, whatever triggered it.
//!
//! Invariants:
//!
//! - Content that settles and differs from the last attempt causes exactly one reload. An override that came into force
//!   counts as an attempt for the content that it read.
//! - Content that does not settle causes none.
//! - Content of an attempt, successful or not, is not attempted again until bytes change.
//! - A missing file and an empty configuration cause none.

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

/// Sends messages to the watcher's thread, which ends when this is dropped.
pub(super) struct Watch {
    news: mpsc::Sender<News>,
    status: Arc<Mutex<Option<WatchStatus>>>,
}

/// Reports to the watcher the files that a reload has read.
#[derive(Clone)]
pub(super) struct Reporter(mpsc::Sender<News>);

/// What wakes the watcher.
enum News {
    /// An event in a watched folder; sent once until it is received.
    Hint,
    /// A reload has read these files.
    Attempted(Attempt),
    /// Settings of a new configuration.
    Settings(config::Reload),
    Stop,
}

// === impl Watch ===

impl Watch {
    /// Starts the thread. `file` is the configuration file, absolute; `loaded` is the content that lb started with.
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

    /// Applies the settings of a new configuration.
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
