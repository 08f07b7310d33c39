//! Slow start: a backend that is new or returns gets its share of requests in steps, so that its caches can fill.
//!
//! [`Ramp`] is the curve. [`SlowStart`] remembers since when each backend of a pool is up, and so the time of its ramp.
//! The result goes into `effective` of the lent list. Strategies that hash ignore it, because a changed weight would
//! move keys (Envoy has the same exception).
//!
//! The curve is that of Envoy's `slow_start_config`: weight × max(min, t^(1 / aggression)), with t from 0 to 1. It is
//! cut into steps, because each change is a publish to all workers.
//!
//! A ramp starts for a member that joins, and for one that was down or ejected. It begins when the member gets
//! requests: not while it drains, has weight 0 or stands by as a backup. So a process that restarts during its drain
//! starts slowly. A ramp does not start
//!
//! - for the initial set: members of the first look, if they are up within one window from it. All of them are cold, so
//!   a ramp would change no share, and an experiment would begin with a disturbance.
//! - after a drain or a weight of 0 during which the member stayed up: the process went on, with warm caches.
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

/// What slow start knows of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warmth {
    /// In the initial set, and not up yet.
    Awaited,
    /// Down or ejected since it last had requests, or new: a ramp starts when it is up and open.
    Out,
    /// Up and open since this time, with a ramp.
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
        let part = libm::pow(f64::from(step) / f64::from(self.steps()), 1.0 / aggression);
        let min = u32::from(self.min_percent.clamp(1, 100)) * 10;
        ((part * f64::from(FULL)).round() as u32).clamp(min, FULL)
    }

    fn steps(&self) -> u32 {
        self.steps.max(1)
    }

    fn grid_ns(&self) -> u64 {
        (self.window_ns / (u64::from(self.steps()) * GRID)).max(1)
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
        let at_ns = self.on_grid(now_ns);
        let is_first = self.initial_until_ns.is_none();
        let initial_until_ns = *self.initial_until_ns.get_or_insert(now_ns.saturating_add(window_ns));
        let mut before = std::mem::take(&mut self.members);
        for (number, eligibility) in members {
            let is_open = is_open(eligibility);
            let warmth = match (is_up(eligibility), before.remove(&number)) {
                _ if is_open && eligibility.pool == PoolRule::Include => Warmth::Warm,
                (true, Some(Warmth::Awaited)) if now_ns <= initial_until_ns => Warmth::Warm,
                (true, Some(Warmth::Since(start))) if at_ns.saturating_sub(start) < window_ns => match is_open {
                    true => Warmth::Since(start),
                    false => Warmth::Out,
                },
                (true, Some(Warmth::Since(_) | Warmth::Warm)) => Warmth::Warm,
                (true, None) if is_first => Warmth::Warm,
                (true, _) if self.ramp.is_none() => Warmth::Warm,
                (true, Some(Warmth::Awaited | Warmth::Out) | None) if !is_open => Warmth::Out,
                (true, Some(Warmth::Awaited | Warmth::Out) | None) => Warmth::Since(now_ns),
                (false, None) if is_first => Warmth::Awaited,
                (false, Some(Warmth::Awaited)) => Warmth::Awaited,
                (false, _) => Warmth::Out,
            };
            self.members.insert(number, warmth);
        }
    }

    /// What is known of a member, for [`Self::recall`].
    pub fn warmth(&self, number: u64) -> Option<Warmth> {
        self.members.get(&number).copied()
    }

    /// A member whose removal is undone goes on as before.
    pub fn recall(&mut self, number: u64, warmth: Option<Warmth>) {
        self.members.extend(warmth.map(|warmth| (number, warmth)));
    }

    /// Another server has taken this number: it is new at the next look.
    pub fn forget(&mut self, number: u64) {
        self.members.remove(&number);
    }

    /// Whether the ramp of a member begins if it has this eligibility at the next look. `None`: it is new.
    pub fn begins(&self, number: Option<u64>, eligibility: Eligibility) -> bool {
        let known = number.and_then(|number| self.members.get(&number));
        let is_cold = matches!(known, None | Some(Warmth::Out)) && eligibility.pool != PoolRule::Include;
        self.initial_until_ns.is_some() && is_cold && is_up(eligibility) && is_open(eligibility)
    }

    /// The share of a member now, in thousandths; 1000 if it has no ramp.
    pub fn factor(&self, number: u64, now_ns: u64) -> u32 {
        match (self.ramp, self.members.get(&number)) {
            (Some(ramp), Some(Warmth::Since(start))) => ramp.factor(self.on_grid(now_ns).saturating_sub(*start)),
            _ => FULL,
        }
    }

    /// How long the ramp of a member still runs; `None` if it has none.
    pub fn left(&self, number: u64, now_ns: u64) -> Option<u64> {
        match (self.ramp, self.members.get(&number)) {
            (Some(ramp), Some(Warmth::Since(start))) => {
                // The last step may be late by a part of the grid.
                Some(ramp.window_ns.saturating_sub(now_ns.saturating_sub(*start)))
            }
            _ => None,
        }
    }

    /// When a look and a publish are due, because the factor of a member has changed; `None` if no ramp runs.
    pub fn next_change(&self, now_ns: u64) -> Option<u64> {
        let (ramp, now_ns) = (self.ramp?, self.on_grid(now_ns));
        let changes = self.members.values().filter_map(|warmth| match warmth {
            Warmth::Since(start) => Some(start.saturating_add(ramp.next_change(now_ns.saturating_sub(*start))?)),
            _ => None,
        });
        changes.min().map(|change| change.checked_next_multiple_of(ramp.grid_ns()).unwrap_or(u64::MAX))
    }

    /// The last point of the grid. A ramp takes its steps only there, also if a look happens between two points.
    fn on_grid(&self, now_ns: u64) -> u64 {
        self.ramp.map_or(now_ns, |ramp| now_ns - now_ns % ramp.grid_ns())
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

/// Whether it gets requests while it is up.
fn is_open(eligibility: Eligibility) -> bool {
    !eligibility.draining && eligibility.weight > 0 && eligibility.pool != PoolRule::Exclude
}

#[cfg(test)]
mod tests;
