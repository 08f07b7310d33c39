//! Slow start: a backend that is new or returns gets its share of requests in steps, so that its caches can fill.
//!
//! [`Ramp`] is the curve. [`SlowStart`] remembers since when each backend of a pool is up, and so the time of its ramp.
//! The result goes into `effective` of the lent list. Strategies that hash ignore it, because a changed weight would
//! move keys (Envoy has the same exception).
//!
//! The curve is that of Envoy's `slow_start_config`: weight × max(min, t^(1 / aggression)), with t from 0 to 1. It is
//! cut into steps, because each change is a publish to all workers.
//!
//! A ramp starts for a member that joins, and for one that was down or ejected. It does not start
//!
//! - for the initial set: members of the first look, if they are up within one window from it. All of them are cold, so
//!   a ramp would change no share, and an experiment would begin with a disturbance.
//! - after a drain or a weight of 0: the process went on, with warm caches.
//! - for a member that got requests in spite of its checks or its ejection. Its pool needs its full share.
//!
//! Invariants: a factor never falls while a ramp runs, and ends at 1000 exactly. A member with a weight keeps at least
//! 1 % of it, so `effective` is not 0. The times of changes lie on a grid ([`GRID`]), so that ramps that began at
//! different times share publishes.

use std::collections::HashMap;

use crate::{Eligibility, PoolRule};

/// The factor of a weight at full share.
const FULL: u32 = 1000;
/// Changes for each step of the curve, at most, with any number of ramps. A change is at most this part of a step late.
const GRID: u64 = 4;

/// The curve of a slow start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    pub window_ns: u64,
    /// The share at the beginning, 1 to 100.
    pub min_percent: u8,
    /// 1 is a straight line; a larger value gives a larger share early.
    pub aggression: f64,
    /// Changes of the factor over the window, at most.
    pub steps: u32,
}

/// The ramps of one pool.
#[derive(Clone, Debug)]
pub struct SlowStart {
    ramp: Option<Ramp>,
    /// The end of the time in which members of the initial set may come up without a ramp.
    initial_until_ns: Option<u64>,
    members: HashMap<u64, Warmth>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Warmth {
    /// In the initial set, and not up yet.
    Awaited,
    /// Down or ejected: a ramp starts when it is up.
    Out,
    /// Up since this time, with a ramp.
    Since(u64),
    Warm,
}

// === impl Ramp ===

impl Default for Ramp {
    /// 10 s from a tenth of the weight, in a straight line.
    fn default() -> Self {
        Self { window_ns: 10_000_000_000, min_percent: 10, aggression: 1.0, steps: 10 }
    }
}

impl Ramp {
    /// The share at an age, in thousandths.
    pub fn factor(&self, age_ns: u64) -> u32 {
        if age_ns >= self.window_ns {
            return FULL;
        }
        let steps = self.steps();
        let step = (u128::from(age_ns) * u128::from(steps) / u128::from(self.window_ns)) as u32;
        self.factor_at(step)
    }

    /// The age of the next change of the factor; `None` if the ramp is over.
    pub fn next_change(&self, age_ns: u64) -> Option<u64> {
        let now = self.factor(age_ns);
        let step = (1..=self.steps()).find(|step| self.factor_at(*step) > now)?;
        // Rounded up, so that the factor has changed at this age.
        Some((u128::from(self.window_ns) * u128::from(step)).div_ceil(u128::from(self.steps())) as u64)
    }

    fn factor_at(&self, step: u32) -> u32 {
        let aggression = if self.aggression > 0.0 { self.aggression } else { 1.0 };
        let part = (f64::from(step) / f64::from(self.steps())).powf(1.0 / aggression);
        let min = u32::from(self.min_percent.clamp(1, 100)) * 10;
        ((part * f64::from(FULL)).round() as u32).clamp(min, FULL)
    }

    fn steps(&self) -> u32 {
        self.steps.max(1)
    }
}

// === impl SlowStart ===

impl SlowStart {
    /// `None` is off.
    pub fn new(ramp: Option<Ramp>) -> Self {
        Self { ramp, initial_until_ns: None, members: HashMap::new() }
    }

    /// Ramps that run follow the new curve.
    pub fn set_ramp(&mut self, ramp: Option<Ramp>) {
        self.ramp = ramp;
    }

    /// Takes all members of the pool. Call it after each change of one, and at [`Self::next_change`].
    pub fn look(&mut self, now_ns: u64, members: impl IntoIterator<Item = (u64, Eligibility)>) {
        let window_ns = self.ramp.map_or(0, |ramp| ramp.window_ns);
        let is_first = self.initial_until_ns.is_none();
        let initial_until_ns = *self.initial_until_ns.get_or_insert(now_ns.saturating_add(window_ns));
        let mut before = std::mem::take(&mut self.members);
        for (number, eligibility) in members {
            let warmth = match (is_up(eligibility), before.remove(&number)) {
                _ if eligibility.pool == PoolRule::Include => Warmth::Warm,
                (true, Some(Warmth::Awaited)) if now_ns <= initial_until_ns => Warmth::Warm,
                (true, Some(Warmth::Since(start))) if now_ns.saturating_sub(start) < window_ns => Warmth::Since(start),
                (true, Some(Warmth::Since(_) | Warmth::Warm)) => Warmth::Warm,
                (true, None) if is_first => Warmth::Warm,
                (true, _) if self.ramp.is_none() => Warmth::Warm,
                (true, Some(Warmth::Awaited | Warmth::Out) | None) => Warmth::Since(now_ns),
                (false, None) if is_first => Warmth::Awaited,
                (false, Some(Warmth::Awaited)) => Warmth::Awaited,
                (false, _) => Warmth::Out,
            };
            self.members.insert(number, warmth);
        }
    }

    /// Another server has taken this number: it is new at the next look.
    pub fn forget(&mut self, number: u64) {
        self.members.remove(&number);
    }

    /// The share of a member that is up and joins now.
    pub fn first_factor(&self) -> u32 {
        match (self.ramp, self.initial_until_ns) {
            (Some(ramp), Some(_)) => ramp.factor(0),
            _ => FULL,
        }
    }

    /// The share of a member now, in thousandths; 1000 if it has no ramp.
    pub fn factor(&self, number: u64, now_ns: u64) -> u32 {
        match (self.ramp, self.members.get(&number)) {
            (Some(ramp), Some(Warmth::Since(start))) => ramp.factor(now_ns.saturating_sub(*start)),
            _ => FULL,
        }
    }

    /// How long the ramp of a member still runs; `None` if it has none.
    pub fn left(&self, number: u64, now_ns: u64) -> Option<u64> {
        match (self.ramp, self.members.get(&number)) {
            (Some(ramp), Some(Warmth::Since(start))) => {
                ramp.window_ns.checked_sub(now_ns.saturating_sub(*start)).filter(|left| *left > 0)
            }
            _ => None,
        }
    }

    /// When a look and a publish are due, because the factor of a member has changed; `None` if no ramp runs.
    pub fn next_change(&self, now_ns: u64) -> Option<u64> {
        let ramp = self.ramp?;
        let changes = self.members.values().filter_map(|warmth| match warmth {
            Warmth::Since(start) => Some(start.saturating_add(ramp.next_change(now_ns.saturating_sub(*start))?)),
            _ => None,
        });
        let grid = (ramp.window_ns / (u64::from(ramp.steps()) * GRID)).max(1);
        changes.min().map(|change| change.checked_next_multiple_of(grid).unwrap_or(u64::MAX))
    }

    /// Forgets all members: the next look is the first.
    pub fn reset(&mut self) {
        self.members.clear();
        self.initial_until_ns = None;
    }
}

/// By its checks, and not ejected.
const fn is_up(eligibility: Eligibility) -> bool {
    eligibility.healthy && !eligibility.ejected
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Lets `pool` look at members, each with whether it is up.
    fn look<const N: usize>(pool: &mut SlowStart, now_ns: u64, members: [(u64, bool); N]) {
        pool.look(now_ns, members.map(|(number, is_up)| (number, Eligibility::of(is_up, false, 1))));
    }

    /// Ages and factors of a ramp, from one change to the next.
    fn course(ramp: &Ramp) -> Vec<(u64, u32)> {
        let mut course = vec![(0, ramp.factor(0))];
        while let Some(age) = ramp.next_change(course[course.len() - 1].0) {
            assert_eq!(ramp.factor(age - 1), course[course.len() - 1].1, "no change before, with {ramp:?}");
            course.push((age, ramp.factor(age)));
        }
        course
    }

    #[test]
    fn by_default_the_share_grows_by_a_tenth_in_a_second() {
        let seconds: Vec<_> = course(&Ramp::default()).iter().map(|(age, factor)| (age / SECOND, *factor)).collect();
        let expected =
            [(0, 100), (2, 200), (3, 300), (4, 400), (5, 500), (6, 600), (7, 700), (8, 800), (9, 900), (10, 1000)];
        assert_eq!(seconds, expected);
    }

    #[test]
    fn every_ramp_only_rises_ends_at_full_share_and_changes_at_most_once_a_step() {
        let windows = [1, 7, 999, 10 * SECOND, 3_600 * SECOND, u64::MAX];
        for (window_ns, min_percent) in windows.into_iter().flat_map(|window| [1, 10, 50, 100].map(|min| (window, min)))
        {
            for (aggression, steps) in
                [0.2, 1.0, 1.7, 10.0, 0.0].into_iter().flat_map(|a| [0, 1, 3, 10].map(|s| (a, s)))
            {
                let ramp = Ramp { window_ns, min_percent, aggression, steps };
                let course = course(&ramp);
                assert!(course.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{ramp:?}: {course:?}");
                assert!(course.len() <= steps.max(1) as usize + 1, "{ramp:?}: {course:?}");
                assert_eq!(course[0].1, u32::from(min_percent) * 10, "{ramp:?}");
                assert_eq!((ramp.factor(window_ns), ramp.factor(u64::MAX)), (1000, 1000));
                assert!(course.last().unwrap().1 == 1000 && course.last().unwrap().0 <= window_ns, "{ramp:?}");
            }
        }
        assert!(course(&Ramp::default()).len() <= 10, "ten publishes with the first");
    }

    #[test]
    fn more_aggression_gives_a_larger_share_early() {
        let early = |aggression| Ramp { aggression, ..Ramp::default() }.factor(3 * SECOND);
        assert_eq!([early(0.5), early(1.0), early(2.0)], [100, 300, 548]);
    }

    #[test]
    fn new_and_returning_members_have_a_ramp_and_the_initial_set_has_none() {
        let mut pool = SlowStart::new(Some(Ramp::default()));
        look(&mut pool, 0, [(1, true), (2, false), (3, false)]);
        look(&mut pool, 5 * SECOND, [(1, true), (2, true), (3, false)]);
        assert_eq!([pool.factor(1, 5 * SECOND), pool.factor(2, 5 * SECOND)], [1000; 2], "the initial set");
        assert_eq!(pool.next_change(5 * SECOND), None);
        let now = 20 * SECOND;
        look(&mut pool, now, [(1, false), (2, true), (3, true), (4, true)]);
        assert_eq!([pool.factor(2, now), pool.factor(3, now), pool.factor(4, now)], [1000, 100, 100], "late, and new");
        assert_eq!(pool.next_change(now), Some(now + 2 * SECOND));
        let later = now + 4 * SECOND;
        look(&mut pool, later, [(1, true), (2, true), (3, false), (4, true)]);
        assert_eq!([pool.factor(1, later), pool.factor(4, later)], [100, 400], "back, and on its way");
        look(&mut pool, later + 1, [(1, true), (2, true), (3, true), (4, true)]);
        assert_eq!(pool.factor(3, later + 1), 100, "an interrupted ramp begins again");
        look(&mut pool, later + 60 * SECOND, [1, 2, 3].map(|number| (number, true)));
        assert_eq!(pool.next_change(later + 60 * SECOND), None);
        look(&mut pool, later + 61 * SECOND, [1, 2, 3, 4].map(|number| (number, true)));
        assert_eq!(pool.factor(4, later + 61 * SECOND), 100, "a member that left and joins is new");
        pool.reset();
        look(&mut pool, later + 62 * SECOND, [1, 4].map(|number| (number, true)));
        assert_eq!(pool.next_change(later + 62 * SECOND), None, "the initial set after a reset");
    }

    #[test]
    fn a_share_is_never_nothing_and_full_without_a_ramp() {
        let cold = Ramp { min_percent: 0, ..Ramp::default() };
        let mut pool = SlowStart::new(Some(cold));
        assert_eq!(pool.first_factor(), 1000, "before the first look all are the initial set");
        look(&mut pool, 0, [(1, true)]);
        look(&mut pool, 1, [(1, true), (2, true)]);
        assert_eq!([pool.factor(1, 1), pool.factor(2, 1), pool.first_factor()], [1000, 10, 10]);
        assert_eq!([pool.left(1, 1), pool.left(2, SECOND + 1)], [None, Some(9 * SECOND)]);
        pool.set_ramp(None);
        assert_eq!((pool.factor(2, 1), pool.next_change(1), pool.first_factor()), (1000, None, 1000));
        look(&mut pool, 2, [(1, true), (2, true), (3, true)]);
        pool.set_ramp(Some(cold));
        assert_eq!(pool.factor(3, 2), 1000, "it came while slow start was off");
    }

    #[test]
    fn a_member_that_its_pool_needs_has_its_full_share_and_is_warm_later() {
        let mut pool = SlowStart::new(Some(Ramp::default()));
        look(&mut pool, 0, [(1, true), (2, true)]);
        look(&mut pool, 1, [(1, true), (2, false)]);
        let needed = Eligibility { pool: PoolRule::Include, ..Eligibility::of(false, false, 1) };
        pool.look(2, [(1, Eligibility::of(true, false, 1)), (2, needed)]);
        assert_eq!(pool.factor(2, 2), 1000);
        look(&mut pool, 3, [(1, true), (2, true)]);
        assert_eq!(pool.factor(2, 3), 1000);
        let ejected = Eligibility { ejected: true, ..Eligibility::of(true, false, 1) };
        pool.look(4, [(1, ejected), (2, Eligibility::of(true, true, 1))]);
        look(&mut pool, 5, [(1, true), (2, true)]);
        assert_eq!([pool.factor(1, 5), pool.factor(2, 5)], [100, 1000], "after an ejection, and after a drain");
    }

    #[test]
    fn another_server_with_the_number_of_a_warm_one_is_new() {
        let mut pool = SlowStart::new(Some(Ramp::default()));
        look(&mut pool, 0, [(1, true)]);
        pool.forget(1);
        look(&mut pool, 1, [(1, true)]);
        assert_eq!(pool.factor(1, 1), 100);
    }

    #[test]
    fn a_thousand_ramps_need_at_most_four_publishes_a_step_beside_those_of_the_joins() {
        const BETWEEN: u64 = 10_007_000;
        let mut pool = SlowStart::new(Some(Ramp::default()));
        pool.look(0, []);
        let joined = |now: u64| (1..=1000_u64).take_while(move |number| number * BETWEEN <= now);
        let (mut now, mut looks) = (0, 0);
        loop {
            let join = (joined(now).count() < 1000).then(|| (now / BETWEEN + 1) * BETWEEN);
            let step = pool.next_change(now);
            let Some(next) = join.into_iter().chain(step).min() else { break };
            looks += usize::from(step == Some(next));
            now = next;
            pool.look(now, joined(now).map(|number| (number, Eligibility::of(true, false, 1))));
        }
        assert!(looks <= 2 * 4 * 10 + 1, "{looks} looks in {now} ns");
        assert!(joined(now).all(|number| pool.factor(number, now) == 1000) && now <= 21 * SECOND, "{now} ns");
    }
}
