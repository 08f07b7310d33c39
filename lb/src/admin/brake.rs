//! The brake on guessing the token: a wrong one is answered late, and refusals are told in the log together.
//!
//! Invariants: who shows the right token never waits here; so few wait that a flood costs neither memory nor connections, and those
//! beyond are answered at once, without a word on the token.

use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::answer::Answer;

/// With [`PLACES`] at most 32 guesses a second.
const DELAY: Duration = Duration::from_millis(250);
const PLACES: usize = 8;
/// Between two lines of the log.
const LINES_APART: Duration = Duration::from_secs(1);

pub(super) struct Brake {
    places: Semaphore,
    refusals: Mutex<Refusals>,
}

#[derive(Default)]
struct Refusals {
    untold: u64,
    told: Option<Instant>,
}

// === impl Brake ===

impl Default for Brake {
    fn default() -> Self {
        Self { places: Semaphore::new(PLACES), refusals: Mutex::default() }
    }
}

impl Brake {
    /// The answer to a wrong token, when it is time for it.
    pub(super) async fn slow(&self, refused: Answer) -> Answer {
        let Ok(_place) = self.places.try_acquire() else {
            let answer =
                Answer::failure(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens at a time: try again later");
            return Answer { headers: vec![(RETRY_AFTER, HeaderValue::from_static("1"))], ..answer };
        };
        sleep(DELAY).await;
        refused
    }

    /// Notes that somebody was refused.
    pub(super) fn tell(&self) {
        if let Some(count) = self.count() {
            tracing::warn!(count, "admin: refused for want of the right token, so often since the last such line");
        }
    }

    /// Counts one in; how many are to be told of now.
    fn count(&self) -> Option<u64> {
        let mut refusals = self.refusals.lock();
        refusals.untold += 1;
        if refusals.told.is_some_and(|told| told.elapsed() < LINES_APART) {
            return None;
        }
        refusals.told = Some(Instant::now());
        Some(std::mem::take(&mut refusals.untold))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn refused() -> Answer {
        Answer::failure(StatusCode::UNAUTHORIZED, "no")
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_token_is_answered_late_and_too_many_at_once() {
        let brake = Brake::default();
        let began = Instant::now();
        let mut waiting: Vec<_> = (0..PLACES).map(|_| Box::pin(brake.slow(refused()))).collect();
        for one in &mut waiting {
            assert!(poll_once(one.as_mut()).is_none());
        }
        let answer = brake.slow(refused()).await;
        assert_eq!((answer.status.as_u16(), began.elapsed()), (429, Duration::ZERO));
        for one in waiting {
            assert_eq!(one.await.status, 401);
        }
        assert!(began.elapsed() >= DELAY);
        assert_eq!(brake.slow(refused()).await.status, 401, "places are free again");
    }

    /// What a future has now.
    fn poll_once<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_told_once_a_second_with_their_number() {
        let brake = Brake::default();
        assert_eq!(brake.count(), Some(1), "the first at once");
        assert!((0..1000).all(|_| brake.count().is_none()));
        advance(LINES_APART).await;
        assert_eq!((brake.count(), brake.count()), (Some(1001), None));
    }
}
