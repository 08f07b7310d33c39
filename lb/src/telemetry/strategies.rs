//! Counts by strategy: workers count for their pool without a strategy's name. Counts up to a swap belong to the old
//! strategy, later ones to the new one.
//!
//! Invariants: no count is doubled or lost at a swap. The strategy in charge is always among those shown, from the
//! start with zeros.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::cell::{HistogramSum, PICK_BOUNDS_NS, SLOW_PICK_NS};
use super::reason::{FallbackReason, QueueRefusal};
use super::shard::PoolShard;
use super::totals::PickTotals;

/// The strategies that a pool has had.
pub(super) struct Strategies {
    pub(super) name: Arc<str>,
    pub(super) version: Arc<str>,
    /// The pool's counts when the strategy in charge took over.
    at_start: Answers,
    /// The counts of each strategy before that, the one in charge included if it was in charge before.
    charged: BTreeMap<Arc<str>, Answers>,
}

/// The results of a strategy.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    pub(super) picks: u64,
    /// Times of timed picks.
    pub(super) pick_time: HistogramSum,
    pub(super) fallbacks: [u64; FallbackReason::COUNT],
    /// Requests that it let wait for too long.
    held: u64,
}

/// Replaced instances, while a reference to them exists. They may be of any type: only the references are counted.
#[derive(Default)]
pub(super) struct Replaced(Vec<Weak<dyn Any + Send + Sync>>);

// === impl Strategies ===

impl Strategies {
    /// The first strategy of a pool. It gets all counts from before it was named.
    pub(super) fn new(name: &str, version: &str) -> Strategies {
        Strategies {
            name: name.into(),
            version: version.into(),
            at_start: Answers::default(),
            charged: BTreeMap::new(),
        }
    }

    /// Adds to the strategy in charge the part of `counted` from its time, and puts another in its place.
    pub(super) fn hand_over(&mut self, name: &str, version: &str, counted: Answers) {
        self.charged = self.charged(&counted);
        self.at_start = counted;
        self.name = name.into();
        self.version = version.into();
    }

    /// The results by strategy if the pool's sum is `counted`.
    pub(super) fn charged(&self, counted: &Answers) -> BTreeMap<Arc<str>, Answers> {
        let mut charged = self.charged.clone();
        charged.entry(self.name.clone()).or_default().add_since(counted, &self.at_start);
        charged
    }
}

// === impl Answers ===

impl Default for Answers {
    fn default() -> Answers {
        let (pick_time, fallbacks) = (HistogramSum::new(PICK_BOUNDS_NS), [0; FallbackReason::COUNT]);
        Answers { picks: 0, pick_time, fallbacks, held: 0 }
    }
}

impl Answers {
    pub(super) fn add(&mut self, shard: &PoolShard) {
        self.picks += shard.picks.get();
        self.pick_time.add(&shard.pick_time);
        self.fallbacks.iter_mut().zip(&shard.fallbacks).for_each(|(sum, counter)| *sum += counter.get());
        self.held += shard.queue_refusals[QueueRefusal::Held as usize].get();
    }

    pub(super) fn totals(&self) -> PickTotals {
        let fallbacks = |reason: FallbackReason| self.fallbacks[reason as usize];
        PickTotals {
            picks: self.picks,
            timed: self.pick_time.count(),
            slow: self.pick_time.longer_than(SLOW_PICK_NS),
            panics: fallbacks(FallbackReason::Panic),
            senseless: fallbacks(FallbackReason::BadIndex)
                + fallbacks(FallbackReason::AlreadyTried)
                + fallbacks(FallbackReason::Declined)
                + fallbacks(FallbackReason::Error),
            held: self.held,
        }
    }

    fn add_since(&mut self, later: &Answers, earlier: &Answers) {
        self.picks += later.picks.saturating_sub(earlier.picks);
        self.held += later.held.saturating_sub(earlier.held);
        self.pick_time.add_since(&later.pick_time, &earlier.pick_time);
        for ((mine, later), earlier) in self.fallbacks.iter_mut().zip(later.fallbacks).zip(earlier.fallbacks) {
            *mine += later.saturating_sub(earlier);
        }
    }
}

// === impl Replaced ===

impl Replaced {
    pub(super) fn push(&mut self, instance: Weak<dyn Any + Send + Sync>) {
        self.0.push(instance);
    }

    /// The number of instances that are still referenced.
    pub(super) fn count(&mut self) -> usize {
        self.0.retain(|instance| instance.strong_count() > 0);
        self.0.len()
    }
}
