//! `GET /events`: server-sent events for live pages, one tick a second.
//!
//! One task reads the state and sends it to all viewers. A page that opens first gets the ticks of the last three
//! minutes, so it shows what happened before it was opened. A page that reconnects gets only the ticks that it missed
//! (`Last-Event-ID`).
//!
//! Invariants: control is asked once a tick, for all viewers. With more than [`UNWATCHED_MAX`] backends nothing is read
//! without a viewer for three minutes. At most [`VIEWERS_MAX`] viewers are connected. A viewer that reads too slowly is
//! disconnected. Every stream ends when lb stops.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::answer::Answer;
use super::server::Shared;
use super::tick::{Standing, Tick, milliseconds_since_the_epoch};
use crate::course::to_json;
use crate::telemetry::Traffic;

const VIEWERS_MAX: usize = 32;
const INTERVAL: Duration = Duration::from_secs(1);
/// Quantiles are taken over this many ticks. With fewer they jump; with more they hide a recent change.
const WINDOW: usize = 5;
/// The time that a page draws. With many backends, reading goes on for as long when the last page has closed.
const PAST: Duration = Duration::from_secs(180);
/// With more backends, lb reads only for viewers: a tick takes time and memory for each.
const UNWATCHED_MAX: usize = 256;
/// With very many backends this limit makes the past shorter.
const PAST_BYTES_MAX: usize = 4 << 20;
/// A viewer with more unread ticks is disconnected.
const LATE_MAX: usize = 8;
/// Tells the browser to reconnect 2 s after a lost connection.
const OPENING: &[u8] = b"retry: 2000\n\n";

/// The viewers, and the events of the last minutes.
#[derive(Default)]
pub(super) struct Feed(Mutex<State>);

#[derive(Default)]
struct State {
    viewers: Vec<mpsc::Sender<Bytes>>,
    /// Events with their numbers.
    past: VecDeque<(u64, Bytes)>,
    past_bytes: usize,
    number: u64,
    /// When a viewer was last connected.
    watched: Option<Instant>,
    closed: bool,
}

/// The body of a response: the past events, then the new ones. All viewers share the bytes.
pub(super) struct Events {
    past: VecDeque<Bytes>,
    news: mpsc::Receiver<Bytes>,
}

/// The number of the last event that a reconnecting client has received.
pub(super) fn last_seen(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

/// Sends ticks to the viewers until lb stops.
pub(super) async fn tell(shared: Arc<Shared>, mut closing: watch::Receiver<bool>) {
    let telling = async {
        let mut clock = tokio::time::interval(INTERVAL);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut readings: VecDeque<Traffic> = VecDeque::new();
        let run = milliseconds_since_the_epoch();
        let mut backends = 0;
        loop {
            clock.tick().await;
            if !shared.feed.is_watched() && backends > UNWATCHED_MAX {
                readings.clear();
                shared.feed.forget();
                continue;
            }
            // Control has ended; the server ends next.
            let Ok(status) = shared.handle.status().await else { continue };
            backends = status.pools.iter().map(|pool| pool.backends.len()).sum();
            readings.push_back(shared.metrics.traffic());
            if readings.len() > WINDOW + 1 {
                readings.pop_front();
            }
            if let (Some(earlier), Some(now)) = (readings.front(), readings.back()) {
                let standing = Standing { run, stopping: shared.is_stopping(), guarded: shared.guard.has_token() };
                shared.feed.send(&to_json(&Tick::new(&status, now, earlier, standing)));
            }
        }
    };
    tokio::select! {
        () = telling => {}
        _ = closing.changed() => {}
    }
    shared.feed.close();
}

// === impl Feed ===

impl Feed {
    /// Adds a viewer that has received the events up to `seen`.
    pub(super) fn join(&self, seen: Option<u64>) -> Result<Events, Answer> {
        let no = |sentence: &str| Err(Answer::failure(StatusCode::SERVICE_UNAVAILABLE, sentence));
        let mut state = self.0.lock();
        state.viewers.retain(|viewer| !viewer.is_closed());
        if state.closed {
            return no("the load balancer is stopping");
        }
        if state.viewers.len() >= VIEWERS_MAX {
            return no(&format!("{VIEWERS_MAX} live pages are open, and no more are served: close one"));
        }
        let (viewer, news) = mpsc::channel(LATE_MAX);
        state.viewers.push(viewer);
        // A number beyond ours is from an earlier process.
        let seen = seen.filter(|seen| *seen <= state.number).unwrap_or(0);
        let missed = state.past.iter().filter(|(number, _)| *number > seen).map(|(_, event)| event.clone());
        Ok(Events { past: std::iter::once(Bytes::from_static(OPENING)).chain(missed).collect(), news })
    }

    fn is_watched(&self) -> bool {
        let mut state = self.0.lock();
        state.viewers.retain(|viewer| !viewer.is_closed());
        if !state.viewers.is_empty() {
            state.watched = Some(Instant::now());
        }
        state.watched.is_some_and(|watched| watched.elapsed() < PAST)
    }

    fn forget(&self) {
        let mut state = self.0.lock();
        state.past.clear();
        state.past_bytes = 0;
    }

    fn send(&self, data: &[u8]) {
        let mut state = self.0.lock();
        state.number += 1;
        let number = state.number;
        let mut event = format!("id: {number}\nevent: tick\ndata: ").into_bytes();
        event.extend_from_slice(data);
        event.extend_from_slice(b"\n\n");
        let event = Bytes::from(event);
        state.viewers.retain(|viewer| viewer.try_send(event.clone()).is_ok());
        state.past_bytes += event.len();
        state.past.push_back((number, event));
        while state.past.len() as u64 > PAST.as_secs() || state.past_bytes > PAST_BYTES_MAX {
            let Some((_, oldest)) = state.past.pop_front() else { break };
            state.past_bytes -= oldest.len();
        }
    }

    fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.viewers.clear();
    }
}

// === impl Events ===

impl Events {
    pub(super) fn into_response(self) -> Response<Self> {
        let mut response = Response::new(self);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.past.pop_front() {
            Some(past) => Poll::Ready(Some(Ok(Frame::data(past)))),
            None => self.news.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn next(events: &mut Events) -> Option<String> {
        let frame = events.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_viewer_gets_past_events_then_new_events_then_the_end() {
        let feed = Feed::default();
        feed.send(b"{1}");
        let mut events = feed.join(None).unwrap_or_else(|_| panic!("no place"));
        feed.send(b"{2}");
        assert_eq!(next(&mut events).await.unwrap(), "retry: 2000\n\n");
        assert_eq!(next(&mut events).await.unwrap(), "id: 1\nevent: tick\ndata: {1}\n\n");
        assert_eq!(next(&mut events).await.unwrap(), "id: 2\nevent: tick\ndata: {2}\n\n");
        let mut again = feed.join(Some(1)).unwrap_or_else(|_| panic!("no place"));
        assert_eq!(next(&mut again).await.unwrap(), "retry: 2000\n\n");
        assert_eq!(next(&mut again).await.unwrap(), "id: 2\nevent: tick\ndata: {2}\n\n");
        let mut stranger = feed.join(Some(77)).unwrap_or_else(|_| panic!("no place"));
        assert_eq!(next(&mut stranger).await.unwrap(), "retry: 2000\n\n");
        assert!(next(&mut stranger).await.unwrap().contains("{1}"), "its number is of an earlier lb");
        feed.close();
        assert_eq!((next(&mut events).await, next(&mut again).await), (None, None));
        assert_eq!(feed.join(None).err().unwrap().status, 503);
    }

    #[tokio::test]
    async fn the_number_of_viewers_is_limited_and_a_closed_one_frees_its_place() {
        let feed = Feed::default();
        let mut viewers: Vec<_> = (0..VIEWERS_MAX).map(|_| feed.join(None).ok().unwrap()).collect();
        assert_eq!(feed.join(None).err().unwrap().status, 503);
        viewers.pop();
        assert!(feed.join(None).is_ok());
    }

    #[tokio::test]
    async fn a_viewer_that_reads_too_slowly_is_disconnected_and_the_past_stays_short() {
        let feed = Feed::default();
        let mut slow = feed.join(None).ok().unwrap();
        for _ in 0..1000 {
            feed.send(&[b'x'; 10_000]);
        }
        let mut told = 0;
        while next(&mut slow).await.is_some() {
            told += 1;
        }
        assert_eq!(told, 1 + LATE_MAX);
        let state = feed.0.lock();
        assert!(state.past.len() == 180 && state.past_bytes <= PAST_BYTES_MAX && state.viewers.is_empty());
        assert_eq!(state.past_bytes, state.past.iter().map(|(_, event)| event.len()).sum::<usize>());
    }

    #[test]
    fn a_feed_counts_as_watched_during_and_shortly_after_a_view() {
        let feed = Feed::default();
        assert!(!feed.is_watched());
        let viewer = feed.join(None).ok();
        assert!(feed.is_watched());
        drop(viewer);
        assert!(feed.is_watched(), "a page that is loaded again finds its past");
    }
}
