//! How often a connection is polled in a row: until it has gathered the small chunks of a body that are ready.
//!
//! hyper decodes one chunk a poll, at a hundred times the price of copying it. Invariants: other connections of the worker wait some
//! 10 µs at most; a client that sends nothing but crumbs pauses between them, so that it holds a few per cent of a core at most, and
//! one that sends chunks of any size that makes sense does not.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::client::Client;

const TURNS_MAX: u32 = 64;
/// Chunks that are smaller, so many in a row, are crumbs.
const CRUMB_BYTES: u64 = 16;
const CRUMBS_PAUSE: Duration = Duration::from_millis(1);

#[derive(Default)]
pub(super) struct Turns {
    /// Until when the client has to wait.
    pause: Option<Instant>,
}

// === impl Turns ===

impl Turns {
    /// Polls the connection, and again while more of a request's body may be ready (`Client::ask_again`).
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        client: &Client,
        mut connection: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if let Some(end) = self.pause {
            ready!(client.watchdog.poll(cx, end));
            self.pause = None;
        }
        let before = client.body_bytes.get();
        for _ in 0..TURNS_MAX {
            let polled = connection(cx);
            if !client.ask_again.replace(false) || polled.is_ready() {
                return polled;
            }
        }
        let is_crumbs = client.body_bytes.get() - before < u64::from(TURNS_MAX) * CRUMB_BYTES;
        let end = Instant::now() + CRUMBS_PAUSE;
        if is_crumbs && client.watchdog.poll(cx, end).is_pending() {
            self.pause = Some(end);
        } else {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
