//! Writes what strategies have learnt: at regular times while lb runs, and at its end.
//!
//! Why while it runs: a crash or `kill -9` leaves no time to write. At most what was learnt since the last write is
//! lost then. Invariants: strategies are asked on the builder, and files are written on another thread, so neither a
//! worker nor the actor waits. One write at a time. A text that was written last is not written again.

use std::future::pending;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::control::publish::Publisher;
use crate::control::state::OverlayWriter;

/// A text and its hash.
pub(super) struct Text {
    text: String,
    hash: u64,
}

pub(in crate::control) struct Saver {
    writer: OverlayWriter,
    /// `None`: at the end only.
    every: Option<Duration>,
    due: Instant,
    /// Asks the strategies.
    asking: Option<JoinHandle<Option<Text>>>,
    /// The hash of the last text.
    written: Option<u64>,
}

// === impl Saver ===

impl Saver {
    pub(in crate::control) fn new(writer: OverlayWriter, every: Option<Duration>) -> Self {
        let due = Instant::now() + every.unwrap_or_default();
        Self { writer, every, due, asking: None, written: None }
    }

    /// The next time at which a write is due without a message.
    pub(super) fn next_look(&self) -> Option<Instant> {
        (self.every.is_some() && self.asking.is_none()).then_some(self.due)
    }

    /// Asks the strategies if that is due. Not while the builder is stuck: it would not respond in time.
    pub(super) fn begin_if_due(&mut self, desk: &Publisher) {
        let (Some(every), None) = (self.every, &self.asking) else { return };
        let now = Instant::now();
        if now < self.due {
            return;
        }
        self.due = now + every;
        if !desk.builder.is_stuck() {
            let learnt = desk.learnt();
            self.asking = Some(tokio::spawn(async move {
                let text = learnt.await?;
                // A long text takes a while.
                tokio::task::spawn_blocking(move || Text::of(text)).await.ok()
            }));
        }
    }

    /// Waits until the strategies have responded. Can be dropped and called again.
    pub(super) async fn asked(saver: Option<&mut Self>) -> Option<Text> {
        let Some(asking) = saver.and_then(|saver| saver.asking.as_mut()) else { return pending().await };
        asking.await.ok().flatten()
    }

    /// The response of [`Saver::asked`]: writes it if it is new.
    pub(super) fn take(&mut self, text: Option<Text>) {
        self.asking = None;
        if let Some(Text { text, hash }) = text
            && (self.written.replace(hash) != Some(hash) || self.writer.error().is_some())
        {
            self.writer.write(text);
        }
    }

    /// The last write, of `learnt`.
    pub(super) async fn finish(self, learnt: impl Future<Output = Option<String>>) {
        if let Some(asking) = self.asking {
            asking.abort();
        }
        if let Some(text) = learnt.await {
            self.writer.write(text);
        }
        self.writer.finish().await;
    }
}

// === impl Text ===

impl Text {
    fn of(text: String) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self { text, hash: hasher.finish() }
    }
}
