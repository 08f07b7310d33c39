//! Time limits of a client for its request's body: a time between two bytes, and a rate over all of it.
//!
//! Why a rate: a client that sends a byte a minute satisfies the first limit. It would hold a connection, a backend and
//! its place among the requests in flight for days. Each upload has a grace time. Waiting for the client uses it up,
//! and received bytes restore it (a token bucket in units of time). Invariant: only time in which lb waits for the
//! client counts, and the pauses after tiny chunks. So a slow backend is not counted against the client.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Limits, Timeouts};

pub(super) struct Pace {
    /// Bytes of the body at `since`.
    bytes: u64,
    since: Instant,
    /// lb has waited for the client since then.
    is_awaited: bool,
    idle: Duration,
    rate: Option<u64>,
    /// How long lb may still wait for it.
    grace: Duration,
    grace_max: Duration,
}

// === impl Pace ===

impl Pace {
    /// `bytes`: the number that the connection brought before.
    pub(super) fn new(bytes: u64, now: Instant, timeouts: &Timeouts, limits: &Limits) -> Self {
        let (idle, grace) = (timeouts.idle, timeouts.body_grace);
        let rate = limits.body_min_bytes_per_s;
        Self { bytes, since: now, is_awaited: false, idle, rate, grace, grace_max: grace.max(idle) }
    }

    /// When the last byte was seen, or waiting for it began; before that, when the request began.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Records the progress of the body. Reads the clock only after a change.
    pub(super) fn note(&mut self, bytes: u64, is_awaited: bool) {
        if bytes == self.bytes && is_awaited == self.is_awaited {
            return;
        }
        let now = Instant::now();
        if let Some(rate) = self.rate {
            if self.is_awaited {
                self.grace = self.grace.saturating_sub(now - self.since);
            }
            let earned = Duration::from_nanos((bytes - self.bytes).saturating_mul(NANOS_PER_S) / rate);
            self.grace = self.grace.saturating_add(earned).min(self.grace_max);
        }
        (self.bytes, self.is_awaited, self.since) = (bytes, is_awaited, now);
    }

    /// The time at which the client is too late.
    pub(super) fn deadline(&self) -> Instant {
        let patience = if self.rate.is_some() && self.is_awaited { self.grace.min(self.idle) } else { self.idle };
        self.since + patience
    }
}

const NANOS_PER_S: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::generation::samples;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// 100 bytes a second after 20 s, and 60 s between two bytes.
    fn pace() -> Pace {
        let settings = samples::settings(s(1));
        let timeouts = Timeouts { idle: s(60), body_grace: s(20), ..settings.timeouts };
        Pace::new(7, Instant::now(), &timeouts, &settings.limits)
    }

    /// The seconds left after the client has sent `bytes` each second.
    async fn left_after(pace: &mut Pace, seconds: u64, bytes: u64) -> u64 {
        pace.note(pace.bytes, true);
        for _ in 0..seconds {
            advance(s(1)).await;
            pace.note(pace.bytes + bytes, true);
        }
        pace.deadline().saturating_duration_since(Instant::now()).as_secs()
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn waiting_uses_the_grace_up_and_bytes_earn_it_back() {
        assert_eq!(left_after(&mut pace(), 10, 0).await, 10);
        assert_eq!(left_after(&mut pace(), 10, 50).await, 15, "half of the rate");
        assert_eq!(left_after(&mut pace(), 1_000, 100).await, 20, "at the rate it goes on for ever");
        assert_eq!(left_after(&mut pace(), 1_000, 99).await, 10, "a little below it does not");
        assert_eq!(left_after(&mut pace(), 10, 1_000_000).await, 60, "a burst buys no more than the idle time");
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_slow_backend_is_not_held_against_the_client() {
        let mut pace = pace();
        pace.note(8, false);
        advance(s(1_000)).await;
        pace.note(8, true);
        assert_eq!(pace.deadline() - Instant::now(), s(20) + Duration::from_millis(10));
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn without_a_rate_the_time_between_two_bytes_alone_counts() {
        let mut pace = pace();
        pace.rate = None;
        assert_eq!(left_after(&mut pace, 1_000, 1).await, 60);
        assert_eq!(left_after(&mut pace, 10, 0).await, 50);
    }
}
