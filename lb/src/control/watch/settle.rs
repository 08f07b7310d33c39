//! Decides when a changing thing has settled: a state machine that gets looks with their times and has no clock.
//!
//! Why: copying and compiling write a file in pieces, and half a file must not be tried. Invariant: [`Next::Take`] is
//! returned only if all looks over at least the settle time saw the same, and that differs from what was last taken.

use std::time::{Duration, Instant};

/// `L` is one look at the thing.
#[derive(Debug)]
pub(super) struct Settle<L> {
    /// The look that was last taken.
    taken: Option<L>,
    /// Another look, and when it was first seen.
    seen: Option<(L, Instant)>,
}

/// What to do after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing has changed since the last take.
    Rest,
    /// Look again at that time.
    LookAt(Instant),
    /// It has settled.
    Take,
}

// === impl Settle ===

impl<L: PartialEq> Settle<L> {
    /// Nothing taken yet.
    pub(super) fn new() -> Self {
        Self { taken: None, seen: None }
    }

    /// Takes a look that was made at `now`.
    pub(super) fn look(&mut self, look: L, now: Instant, settle: Duration) -> Next {
        if self.taken.as_ref() == Some(&look) {
            self.seen = None;
            return Next::Rest;
        }
        match &self.seen {
            Some((seen, since)) if *seen == look => {
                let settled = *since + settle;
                if now < settled { Next::LookAt(settled) } else { Next::Take }
            }
            _ => {
                self.seen = Some((look, now));
                Next::LookAt(now + settle)
            }
        }
    }

    /// Marks the last look as taken.
    pub(super) fn take(&mut self) {
        if let Some((seen, _)) = self.seen.take() {
            self.taken = Some(seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_millis(250);

    /// Looks are letters, times milliseconds since the start.
    struct Bench {
        settle: Settle<char>,
        start: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self { settle: Settle::new(), start: Instant::now() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn look(&mut self, look: char, ms: u64) -> Next {
            let next = self.settle.look(look, self.at(ms), SETTLE);
            if next == Next::Take {
                self.settle.take();
            }
            next
        }
    }

    #[test]
    fn a_change_is_taken_once_when_it_has_stayed_for_the_settle_time() {
        let mut bench = Bench::new();
        assert_eq!(bench.look('a', 0), Next::LookAt(bench.at(250)));
        assert_eq!(bench.look('a', 249), Next::LookAt(bench.at(250)));
        assert_eq!(bench.look('a', 250), Next::Take);
        for ms in [251, 600, 100_000] {
            assert_eq!(bench.look('a', ms), Next::Rest);
        }
        assert_eq!(bench.look('b', 100_001), Next::LookAt(bench.at(100_251)));
        assert_eq!(bench.look('b', 100_300), Next::Take);
    }

    #[test]
    fn a_thing_that_changes_at_every_look_is_not_taken_until_it_stops() {
        let mut bench = Bench::new();
        let mut now = 0;
        for look in ('a'..='z').cycle().take(1_000) {
            assert_eq!(bench.look(look, now), Next::LookAt(bench.at(now + 250)));
            now += 240;
        }
        assert_eq!(bench.look('!', now), Next::LookAt(bench.at(now + 250)));
        assert_eq!(bench.look('!', now + 250), Next::Take);
    }

    #[test]
    fn a_long_time_without_a_look_does_not_count_as_rest() {
        let mut bench = Bench::new();
        bench.look('a', 0);
        assert_eq!(bench.look('b', 10_000), Next::LookAt(bench.at(10_250)), "the time of the change to b is unknown");
        assert_eq!(bench.look('a', 10_100), Next::LookAt(bench.at(10_350)), "it was b meanwhile");
    }

    #[test]
    fn a_return_to_the_taken_look_is_at_rest() {
        let mut bench = Bench::new();
        bench.look('a', 0);
        assert_eq!(bench.look('a', 300), Next::Take);
        assert_eq!(bench.look('b', 400), Next::LookAt(bench.at(650)));
        assert_eq!(bench.look('a', 500), Next::Rest);
        assert_eq!(bench.look('b', 660), Next::LookAt(bench.at(910)), "the rest before does not count");
    }

    #[test]
    fn a_settled_look_that_was_not_taken_is_offered_again() {
        let (mut settle, start) = (Settle::new(), Instant::now());
        settle.look('a', start, SETTLE);
        assert_eq!(settle.look('a', start + SETTLE, SETTLE), Next::Take);
        assert_eq!(settle.look('a', start + SETTLE, SETTLE), Next::Take);
        assert_eq!(settle.look('b', start + SETTLE, SETTLE), Next::LookAt(start + SETTLE * 2));
    }
}
