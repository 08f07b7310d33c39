//! The watcher's thread: waits, looks, compares, asks for a reload.
//!
//! Invariants: looks for hints have a pause between them, so that a busy folder costs little. Folders are followed
//! before each look, so that a change after the look causes a hint. While it waits, it holds no sender to control.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc::WeakSender;
use tokio::sync::oneshot;

use super::{Attempt, Compare, Contents, Hints, Look, News, Next, Settle, Watched};
use crate::config;
use crate::control::api::{ReloadError, ReloadRequest, Trigger, WatchStatus};
use crate::control::handle::Command;

/// The pause between two looks for hints.
const PAUSE: Duration = Duration::from_millis(10);

pub(super) struct Watcher {
    settings: config::Reload,
    watched: Watched,
    settle: Settle<Look>,
    compare: Compare,
    /// `None` if switched off, or if the system has none left.
    hints: Option<Hints>,
    commands: WeakSender<Command>,
    /// The sender of our own queue, and whether a hint is in the queue.
    hint: (Sender<News>, Arc<AtomicBool>),
    news: Receiver<News>,
    status: Arc<Mutex<Option<WatchStatus>>>,
    settled: u64,
    looked: Instant,
    /// The next look; `None` while switched off.
    due: Option<Instant>,
    /// Files for which the warning "gone" was logged.
    lost: BTreeSet<PathBuf>,
}

/// The thread ends.
struct Stopped;

// === impl Watcher ===

impl Watcher {
    pub(super) fn new(
        settings: config::Reload,
        file: PathBuf,
        loaded: Attempt,
        commands: WeakSender<Command>,
        hint: (Sender<News>, Arc<AtomicBool>),
        news: Receiver<News>,
        status: Arc<Mutex<Option<WatchStatus>>>,
    ) -> Self {
        let mut watched = Watched { config: file, plugins: Vec::new() };
        let mut compare = Compare::new(Contents::default());
        compare.attempted(loaded, &mut watched);
        Self {
            settings,
            watched,
            settle: Settle::new(),
            compare,
            hints: None,
            commands,
            hint,
            news,
            status,
            settled: 0,
            looked: Instant::now(),
            due: None,
            lost: BTreeSet::new(),
        }
    }

    pub(super) fn run(mut self) {
        self.switch();
        while let Ok(()) = self.wait().and_then(|()| self.look()) {}
    }

    /// Begins or ends to watch, by the settings.
    fn switch(&mut self) {
        let is_on = self.due.is_some();
        match self.settings.watch {
            true if !is_on => {
                self.hints = self.listen();
                self.settle = Settle::new();
                self.due = Some(Instant::now());
                let file = self.watched.config.display();
                tracing::info!(%file, "watching the configuration file and its plugins for changes");
            }
            false if is_on => {
                (self.hints, self.due) = (None, None);
                *self.status.lock() = None;
                tracing::info!("watching for changes is switched off");
            }
            // An interval may have become shorter.
            _ => self.due = self.due.map(|_| Instant::now()),
        }
    }

    fn listen(&self) -> Option<Hints> {
        let (sender, is_queued) = self.hint.clone();
        let heard = move || {
            if !is_queued.swap(true, Relaxed) {
                let _ = sender.send(News::Hint);
            }
        };
        let told = |error: &notify::Error| {
            let poll_ms = self.settings.poll.as_millis() as u64;
            tracing::warn!(poll_ms, %error, "the system reports no changes of files: they are found by polling");
        };
        Hints::new(heard).inspect_err(told).ok()
    }

    /// Waits until the next look.
    fn wait(&mut self) -> Result<(), Stopped> {
        loop {
            let news = match self.due {
                None => self.news.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => self.news.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match news {
                Ok(news) => self.hear(news)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(Stopped),
            }
        }
    }

    fn hear(&mut self, news: News) -> Result<(), Stopped> {
        match news {
            News::Hint => {
                self.hint.1.store(false, Relaxed);
                self.look_by(self.looked + PAUSE);
            }
            News::Attempted(attempt) => {
                if self.compare.attempted(attempt, &mut self.watched) {
                    self.settle = Settle::new();
                }
                self.look_by(Instant::now());
            }
            News::Settings(settings) => {
                self.settings = settings;
                self.switch();
            }
            News::Stop => return Err(Stopped),
        }
        Ok(())
    }

    fn look_by(&mut self, at: Instant) {
        self.due = self.due.map(|due| due.min(at));
    }

    fn look(&mut self) -> Result<(), Stopped> {
        if let Some(hints) = &mut self.hints {
            hints.follow(self.watched.paths(), |folder: &Path, error: &notify::Error| {
                let folder = folder.display();
                tracing::warn!(%folder, %error, "the folder cannot be watched: changes in it are found by polling");
            });
        }
        let look = Look::at(&self.watched);
        self.looked = Instant::now();
        let polled = self.looked + self.settings.poll;
        self.due = Some(polled);
        let next = self.settle.look(look, self.looked, self.settings.settle);
        let is_settled = match next {
            // The content that was read last is still in place. Another attempt may have read other files meanwhile.
            Next::Rest => true,
            Next::LookAt(at) => {
                self.look_by(at);
                false
            }
            Next::Take => self.read(),
        };
        self.tell();
        if is_settled && self.compare.is_due() { self.ask() } else { Ok(()) }
    }

    /// Reads the settled content; `false` if it changes meanwhile.
    fn read(&mut self) -> bool {
        let contents = Contents::of(&self.watched);
        if let Next::LookAt(at) = self.settle.look(Look::at(&self.watched), Instant::now(), self.settings.settle) {
            self.look_by(at);
            return false;
        }
        self.settle.take();
        self.settled += 1;
        self.compare.settled(contents);
        let lost: BTreeSet<PathBuf> = self.compare.lost(&self.watched).cloned().collect();
        for file in lost.difference(&self.lost) {
            let file = file.display();
            tracing::warn!(%file, "the file is gone, empty or unreadable: the running state stays until it is back");
        }
        for file in self.lost.difference(&lost) {
            tracing::info!(file = %file.display(), "the file is back");
        }
        self.lost = lost;
        true
    }

    fn tell(&self) {
        let files = std::iter::once(&self.watched.config).chain(self.compare.plugins()).cloned().collect();
        let missing = self.lost.iter().cloned().collect();
        let status = WatchStatus { files, missing, has_events: self.hints.is_some(), settled: self.settled };
        *self.status.lock() = Some(status);
    }

    /// Asks for a reload and waits for its end; control logs the result. `Busy` means that an override has read the
    /// files and is in force, so there was no attempt.
    fn ask(&mut self) -> Result<(), Stopped> {
        let (answer, answered) = oneshot::channel();
        let command = Command::Reload { request: ReloadRequest::default(), by: Trigger::Watcher, waits: true, answer };
        let commands = self.commands.upgrade().ok_or(Stopped)?;
        commands.blocking_send(command).map_err(|_| Stopped)?;
        // While this sender exists, control does not notice that all others are gone.
        drop(commands);
        let is_taken_back = matches!(answered.blocking_recv(), Ok(Err(ReloadError::Busy)));
        while let Ok(news) = self.news.try_recv() {
            self.hear(news)?;
        }
        if !is_taken_back {
            self.compare.answered();
        }
        self.look_by(Instant::now());
        Ok(())
    }
}
