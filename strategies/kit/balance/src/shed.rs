//! Which requests may still wait when a queue fills: those of low priority are refused first.
//!
//! Why: a full queue refuses each request alike. Then important routes suffer from unimportant ones. Invariants: a
//! priority is never refused while a lower one may wait. The highest one may use the whole queue, so a pool in which
//! all routes have the same priority refuses none early.

/// When low priorities are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShedRules {
    /// The share of the queue that the lowest priority may fill, in per cent. Those between the lowest and the highest
    /// are spread evenly from it to 100. 100 switches shedding off.
    pub from_percent: u32,
}

/// The limits of one pool's queue in one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shedder {
    /// Priorities in use, lowest first, each with the length of the queue from which it is refused.
    limits: Vec<(u8, usize)>,
}

// === impl ShedRules ===

impl Default for ShedRules {
    fn default() -> Self {
        Self { from_percent: 50 }
    }
}

// === impl Shedder ===

impl Shedder {
    /// `priorities` are those of the routes to the pool, in any order; `length_max` is the queue's limit.
    pub fn new(rules: ShedRules, length_max: usize, priorities: impl IntoIterator<Item = u8>) -> Self {
        let mut used: Vec<_> = priorities.into_iter().collect();
        used.sort_unstable();
        used.dedup();
        let steps = used.len().saturating_sub(1).max(1) as u128;
        let from = u128::from(rules.from_percent.min(100));
        let is_alone = used.len() == 1;
        let limit = |(step, priority): (usize, u8)| {
            let step = if is_alone { steps } else { step as u128 };
            let share = from * steps + (100 - from) * step; // of 100 * steps
            (priority, (length_max as u128 * share / (100 * steps)) as usize)
        };
        Self { limits: used.into_iter().enumerate().map(limit).collect() }
    }

    /// Whether a request of this priority may wait while the queue has `length` values. A priority that is not in use
    /// counts as the next lower one in use, or as the lowest.
    #[inline]
    pub fn may_wait(&self, priority: u8, length: usize) -> bool {
        let above = self.limits.partition_point(|(used, _)| *used <= priority);
        self.limits.get(above.saturating_sub(1)).is_none_or(|(_, limit)| length < *limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_spread_from_the_lowest_priority_to_the_highest() {
        let shedder = Shedder::new(ShedRules::default(), 100, [7, 0, 3, 7]);
        assert_eq!(shedder.limits, [(0, 50), (3, 75), (7, 100)]);
        let refused = |priority| (0..).find(|length| !shedder.may_wait(priority, *length)).unwrap();
        assert_eq!([0, 2, 3, 6, 7, 255].map(refused), [50, 50, 75, 75, 100, 100]);
    }

    #[test]
    fn one_priority_alone_may_use_the_whole_queue() {
        for priorities in [vec![5], vec![5, 5]] {
            let shedder = Shedder::new(ShedRules { from_percent: 0 }, 10, priorities);
            assert!((0..=255).all(|priority| shedder.may_wait(priority, 9) && !shedder.may_wait(priority, 10)));
        }
        assert!(Shedder::new(ShedRules::default(), 10, []).may_wait(0, 9), "without a route the queue decides");
    }

    #[test]
    fn a_priority_is_never_refused_while_a_lower_one_may_wait() {
        let mut random = fastrand::Rng::with_seed(16);
        for _ in 0..2_000 {
            let used: Vec<u8> = (0..random.usize(1..6)).map(|_| random.u8(..)).collect();
            let rules = ShedRules { from_percent: random.u32(..120) };
            let length_max = random.usize(..50);
            let shedder = Shedder::new(rules, length_max, used.iter().copied());
            let highest = *used.iter().max().unwrap();
            for length in 0..=length_max {
                let may: Vec<_> = (0..=255).map(|priority| shedder.may_wait(priority, length)).collect();
                assert!(may.is_sorted(), "{rules:?} {used:?} {length} of {length_max}");
                assert_eq!(may[usize::from(highest)], length < length_max, "the highest uses the whole queue");
            }
        }
    }
}
