//! Slows down guesses of the token: responses to wrong tokens are spaced in time, and log lines on refusals are merged.
//!
//! A guess waits in the queue of its address and in the queue of all addresses. Many connections therefore do not
//! allow more guesses. The main defence against guessing is the length of the token: the configuration refuses a token
//! below 128 bits.
//!
//! Invariants: a request with the right token never comes here, so it never waits. A guess keeps its connection until
//! its turn. A wait has a bound.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::answer::Answer;
use super::places::source_of;

/// The least delay of the response to a wrong token.
const DELAY: Duration = Duration::from_millis(250);
/// Between two responses to one address: 8 a second.
const APART: Duration = Duration::from_millis(125);
/// Between two responses over all addresses: 32 a second.
const APART_IN_ALL: Duration = Duration::from_micros(31_250);
/// The longest wait in the queue of an address, and in the queue of all. That is one turn for each place: 64 for an
/// address, 512 in all (see `places`).
const WAIT_MAX: Duration = Duration::from_secs(8);
const WAIT_MAX_IN_ALL: Duration = Duration::from_secs(16);
/// The limit on addresses with a queue. A further address waits only in the queue of all.
const ADDRESSES_MAX: usize = 4_096;
/// Between two log lines.
const LINES_APART: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Brake {
    queues: Mutex<Queues>,
    refusals: Mutex<Refusals>,
}

/// The time of the last delayed response, for each address and for all.
#[derive(Default)]
struct Queues {
    by_address: HashMap<IpAddr, Instant>,
    in_all: Option<Instant>,
}

#[derive(Default)]
struct Refusals {
    untold: u64,
    told: Option<Instant>,
}

// === impl Queues ===

impl Queues {
    /// The time of the response to a guess that arrives now from `address`.
    fn turn(&mut self, address: IpAddr, now: Instant) -> Instant {
        let next = |last: Option<Instant>, apart, wait_max| (last.unwrap_or(now).max(now) + apart).min(now + wait_max);
        let in_all = next(self.in_all, APART_IN_ALL, WAIT_MAX_IN_ALL);
        self.in_all = Some(in_all);
        let source = source_of(address);
        if self.by_address.len() >= ADDRESSES_MAX {
            self.by_address.retain(|_, last| *last > now);
        }
        let own = next(self.by_address.get(&source).copied(), APART, WAIT_MAX);
        if self.by_address.len() < ADDRESSES_MAX || self.by_address.contains_key(&source) {
            self.by_address.insert(source, own);
        }
        own.max(in_all).max(now + DELAY)
    }
}

// === impl Brake ===

impl Brake {
    /// Waits for the turn of `address`, then returns the response.
    pub(super) async fn slow(&self, address: IpAddr, refused: Answer) -> Answer {
        let turn = self.queues.lock().turn(address, Instant::now());
        sleep_until(turn).await;
        refused
    }

    /// Counts a refused request, and logs the count at most once in [`LINES_APART`].
    pub(super) fn tell(&self) {
        if let Some(count) = self.count() {
            tracing::warn!(
                count,
                "admin: requests without the right token were refused; count is since the last such line"
            );
        }
    }

    /// Counts one refusal. Returns the count to log now, if a line is due.
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

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn other(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0b00_0000 + number).into()
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_from_one_address_get_their_responses_one_after_the_other() {
        let (brake, began) = (Brake::default(), Instant::now());
        let refused = || Answer::failure(http::StatusCode::UNAUTHORIZED, "no");
        let all = (0..32).map(|_| brake.slow(ONE, refused()));
        let mut all: Vec<_> = all.map(Box::pin).collect();
        for one in &mut all {
            assert_eq!(poll_once(one.as_mut()), None, "none is answered at once");
        }
        let mut answered = Vec::new();
        for one in all {
            assert_eq!(one.await.status, 401);
            answered.push(began.elapsed());
        }
        assert!(answered.windows(2).skip(1).all(|two| two[1] - two[0] >= APART), "{answered:?}");
        assert!(answered[0] >= DELAY && answered[31] >= 32 * APART, "{answered:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_from_one_address_delay_another_only_when_all_together_are_too_many() {
        let (mut queues, now) = (Queues::default(), Instant::now());
        for _ in 0..20 {
            queues.turn(ONE, now);
        }
        assert!(queues.turn(other(0), now) - now < Duration::from_secs(1));
        let last = (1..200).map(|number| queues.turn(other(number), now) - now).last();
        assert!(last >= Some(200 * APART_IN_ALL), "{last:?}: more addresses do not allow more guesses");
    }

    #[tokio::test(start_paused = true)]
    async fn waits_and_memory_are_bounded() {
        let (mut queues, now) = (Queues::default(), Instant::now());
        for number in 0..2 * ADDRESSES_MAX {
            assert!(queues.turn(other(number as u32), now) - now <= WAIT_MAX_IN_ALL);
            assert!(queues.turn(ONE, now) - now <= WAIT_MAX_IN_ALL);
        }
        assert!(queues.by_address.len() <= ADDRESSES_MAX);
        let later = now + WAIT_MAX_IN_ALL;
        assert_eq!(queues.turn(other(1), later) - later, DELAY, "then all is as at first");
        assert_eq!(queues.by_address.len(), 1);
    }

    /// The output of a future that is ready now.
    fn poll_once<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_logged_once_a_second_with_their_count() {
        let brake = Brake::default();
        assert_eq!(brake.count(), Some(1), "the first at once");
        assert!((0..1000).all(|_| brake.count().is_none()));
        advance(LINES_APART).await;
        assert_eq!((brake.count(), brake.count()), (Some(1001), None));
    }
}
