//! The limit of a pool's attempts in this worker that follows the latency: an option.
//!
//! The rule is [`Gradient`]; here are its samples and its effect. Each worker has its part of the limit, so a request
//! may wait for the end of an attempt of its own worker. Invariant: while the option is off, an attempt costs two
//! additions and a comparison.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use lb_balance::{Gradient, GradientRules};
use tokio::time::Instant;

use crate::proxy::owner::Owner;
use crate::telemetry::QueueShard;

pub(super) struct Adaptive {
    /// `None`: off.
    gradient: RefCell<Option<Gradient>>,
    /// `u32::MAX`: none.
    limit: Cell<u32>,
    /// Attempts of this worker on all backends of the pool.
    in_flight: Cell<u32>,
    /// Shows the limit; written when it changes.
    shard: Arc<QueueShard>,
}

// === impl Adaptive ===

impl Adaptive {
    pub(super) fn new(shard: Arc<QueueShard>) -> Self {
        Self { gradient: RefCell::default(), limit: Cell::new(u32::MAX), in_flight: Cell::new(0), shard }
    }

    /// Switches it on or off. Its state stays while it is on.
    pub(super) fn set(&self, is_on: bool, owner: Owner) {
        let mut gradient = self.gradient.borrow_mut();
        if is_on != gradient.is_some() {
            let new = || Gradient::new(GradientRules::default(), owner.workers, owner.clock_ns(Instant::now()));
            *gradient = is_on.then(new);
            self.limit.set(gradient.as_ref().map_or(u32::MAX, Gradient::limit));
            self.shard.adaptive_limit.set(gradient.as_ref().map_or(0, Gradient::limit).into());
        }
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.limit.get() != u32::MAX
    }

    /// How many attempts may begin now; `None`: any number.
    #[inline]
    pub(super) fn free(&self) -> Option<usize> {
        self.is_on().then(|| self.limit.get().saturating_sub(self.in_flight.get()) as usize)
    }

    #[inline]
    pub(super) fn begin(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    #[inline]
    pub(super) fn end(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
    }

    /// An attempt in flight got its response head after this time, or timed out. Returns by how much the limit rose.
    #[cold]
    pub(super) fn sample(&self, now_ns: u64, elapsed_ns: u64) -> usize {
        let mut gradient = self.gradient.borrow_mut();
        let Some(gradient) = &mut *gradient else { return 0 };
        gradient.sample(now_ns, elapsed_ns, self.in_flight.get());
        let (before, after) = (self.limit.replace(gradient.limit()), gradient.limit());
        if before != after {
            self.shard.adaptive_limit.set(after.into());
        }
        after.saturating_sub(before) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn on() -> Adaptive {
        let adaptive = Adaptive::new(Arc::default());
        adaptive.set(true, Owner { number: 0, workers: 2, epoch: Instant::now() });
        adaptive
    }

    #[test]
    fn each_worker_has_its_part_of_the_limit_and_the_option_is_off_by_default() {
        let adaptive = on();
        assert_eq!((adaptive.free(), adaptive.shard.adaptive_limit.get()), (Some(10), 10), "half of 20");
        (0..11).for_each(|_| adaptive.begin());
        assert_eq!(adaptive.free(), Some(0));
        (0..2).for_each(|_| adaptive.end());
        assert_eq!(adaptive.free(), Some(1));
        adaptive.set(false, Owner { number: 0, workers: 2, epoch: Instant::now() });
        assert_eq!((adaptive.free(), adaptive.sample(1, 1)), (None, 0));
        assert_eq!(adaptive.shard.adaptive_limit.get(), 0, "none is shown");
    }

    #[test]
    fn the_limit_falls_while_the_latency_rises_and_then_rises_again() {
        let adaptive = on();
        (0..10).for_each(|_| adaptive.begin());
        let mut now_ns = 1_000_000 * MS;
        let mut window = |latency: u64| {
            now_ns += 1_100 * MS;
            (0..20).map(|_| adaptive.sample(now_ns, latency * MS)).sum::<usize>()
        };
        assert!((0..5).map(|_| window(10)).sum::<usize>() < 100, "its bounds are far away");
        let high = adaptive.limit.get();
        assert_eq!((0..10).map(|_| window(200)).sum::<usize>(), 0, "it does not rise");
        let low = adaptive.limit.get();
        assert!(low < high, "{low} {high}");
        assert!((0..10).map(|_| window(10)).sum::<usize>() > 0, "waiting requests are told");
        assert!(adaptive.limit.get() > low);
        assert_eq!(adaptive.shard.adaptive_limit.get(), i64::from(adaptive.limit.get()), "the metric follows");
    }
}
