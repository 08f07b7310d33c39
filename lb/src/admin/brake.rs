//! The brake on guessing the token: answers to wrong ones come one after the other, and refusals are told in the log together.
//!
//! Who guesses over many connections waits in one queue for each address, and in one for all. Invariants: the right token never comes
//! here, so it never waits; a guess keeps its connection until its turn, so that more connections are no more guesses; a wait has a
//! bound. What is really in the way of guessing is the length of a token (the configuration takes none below 128 bits).

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::answer::Answer;
use super::places::source_of;

/// Every wrong token is answered so late.
const DELAY: Duration = Duration::from_millis(250);
/// Between two answers to one address: 8 a second.
const APART: Duration = Duration::from_millis(125);
/// Between two answers in all: 32 a second.
const APART_IN_ALL: Duration = Duration::from_micros(31_250);
/// All places of an address, and all there are, have had their turn by then.
const WAIT_MAX: Duration = Duration::from_secs(8);
const WAIT_MAX_IN_ALL: Duration = Duration::from_secs(16);
/// Addresses that are remembered; beyond it only the queue for all counts.
const ADDRESSES_MAX: usize = 4_096;
/// Between two lines of the log.
const LINES_APART: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Brake {
    queues: Mutex<Queues>,
    refusals: Mutex<Refusals>,
}

/// When the last answer that was put off is due.
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
    /// When it is the turn of a guess from `address` that comes now.
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
    /// The answer to a wrong token from `address`, when it is time for it.
    pub(super) async fn slow(&self, address: IpAddr, refused: Answer) -> Answer {
        let turn = self.queues.lock().turn(address, Instant::now());
        sleep_until(turn).await;
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

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn other(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0b00_0000 + number).into()
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_of_an_address_have_their_turns_one_after_the_other() {
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
    async fn nobody_waits_for_the_guesses_of_another_address_before_all_together_are_too_many() {
        let (mut queues, now) = (Queues::default(), Instant::now());
        for _ in 0..20 {
            queues.turn(ONE, now);
        }
        assert!(queues.turn(other(0), now) - now < Duration::from_secs(1));
        let last = (1..200).map(|number| queues.turn(other(number), now) - now).last();
        assert!(last >= Some(200 * APART_IN_ALL), "{last:?}: more addresses are no more guesses");
    }

    #[tokio::test(start_paused = true)]
    async fn neither_a_wait_nor_memory_grows_without_bound() {
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
