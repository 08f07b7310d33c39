//! Counts about shadows: strategies that pick for the requests of a pool and route none of them.
//!
//! Why apart from the hub: most pools have no shadow, and then there is no shard. Invariants: one worker writes a
//! shard, and no counter goes back while its series is shown. Series of a shadow or backend that is gone stay for
//! [`RETIRED_SERIES_STAY`]. The lock is taken when views are built and at scrapes, never for a request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::RETIRED_SERIES_STAY;
use super::cell::{Counter, Gauge, Histogram, HistogramSum, PICK_BOUNDS_NS, SLOW_PICK_NS};
use super::exposition::Exposition;
use super::hub::{Metrics, Workers};
use super::names;
use super::reason::ShadowResult;
use super::shard::is_pick_timed;
use super::totals::PickTotals;

/// A worker's counts of the picks of one shadow.
#[derive(Debug)]
#[repr(align(128))]
pub struct ShadowShard {
    results: [Counter; ShadowResult::COUNT],
    panics: Counter,
    picks: Counter,
    pick_time: Histogram,
    last_timed_ns: Gauge,
    /// When the call of a hook began that has not ended; 0: none.
    inside_ns: Gauge,
}

/// A worker's counts of one backend of a shadow.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ShadowBackendShard {
    /// Requests that the shadow would have sent there.
    pub picked: Counter,
    /// Of the requests that the shadow saw, those that the strategy in charge sent there.
    pub routed: Counter,
}

/// The counts of a shadow, over all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShadowTotals {
    pub picks: PickTotals,
    /// By [`ShadowResult`].
    pub results: [u64; ShadowResult::COUNT],
    /// By backend: those that the shadow would have sent there, and those that were sent there.
    pub backends: BTreeMap<Arc<str>, (u64, u64)>,
}

/// The shadows of all pools.
#[derive(Default)]
pub(super) struct Shadows(Mutex<BTreeMap<InPool, Series>>);

/// A pool and a shadow's id.
type InPool = (Arc<str>, Arc<str>);

#[derive(Default)]
struct Series {
    /// The name and the version of the strategy.
    strategy: (Arc<str>, Arc<str>),
    is_off: bool,
    shards: Workers<ShadowShard>,
    backends: BTreeMap<Arc<str>, OfBackend>,
    /// Since when no configuration has it.
    gone: Option<Instant>,
}

#[derive(Default)]
struct OfBackend {
    shards: Workers<ShadowBackendShard>,
    /// Since when the pool does not have it.
    gone: Option<Instant>,
}

/// What a scrape shows of a shadow.
struct Shown {
    of: InPool,
    /// `None`: it is gone.
    strategy: Option<(Arc<str>, Arc<str>)>,
    is_off: bool,
    totals: ShadowTotals,
    pick_time: HistogramSum,
}

fn is_over(gone: Option<Instant>, now: Instant) -> bool {
    gone.is_some_and(|since| now.saturating_duration_since(since) >= RETIRED_SERIES_STAY)
}

// === impl Metrics ===

impl Metrics {
    /// The shard of a worker for a shadow of a pool.
    pub fn shadow(&self, worker: usize, pool: &str, shadow: &str) -> Arc<ShadowShard> {
        let all = &mut *self.shared().shadows.0.lock();
        let of = all.entry((pool.into(), shadow.into())).or_default();
        of.shards.entry(worker).or_insert_with(|| Arc::new(ShadowShard::new())).clone()
    }

    /// The shard of a worker for one backend of a shadow.
    pub fn shadow_backend(&self, worker: usize, pool: &str, shadow: &str, backend: &str) -> Arc<ShadowBackendShard> {
        let all = &mut *self.shared().shadows.0.lock();
        let of = all.entry((pool.into(), shadow.into())).or_default().backends.entry(backend.into()).or_default();
        of.gone = None;
        of.shards.entry(worker).or_default().clone()
    }

    /// The shadow has this strategy from now on.
    pub fn shadow_begins(&self, pool: &str, shadow: &str, strategy: &str, version: &str) {
        let all = &mut *self.shared().shadows.0.lock();
        let of = all.entry((pool.into(), shadow.into())).or_default();
        (of.strategy, of.is_off, of.gone) = ((strategy.into(), version.into()), false, None);
    }

    /// lb switched the shadow off, because it failed.
    pub fn shadow_is_off(&self, pool: &str, shadow: &str) {
        if let Some(of) = self.shared().shadows.0.lock().get_mut(&(pool.into(), shadow.into())) {
            of.is_off = true;
        }
    }

    /// The configuration has no such shadow any more.
    pub fn shadow_ends(&self, pool: &str, shadow: &str) {
        let now = self.shared().now();
        if let Some(of) = self.shared().shadows.0.lock().get_mut(&(pool.into(), shadow.into())) {
            of.gone.get_or_insert(now);
        }
    }

    /// The counts of a shadow; zeros for an unknown one.
    pub fn shadow_totals(&self, pool: &str, shadow: &str) -> ShadowTotals {
        let all = self.shared().shadows.0.lock();
        all.get(&(pool.into(), shadow.into())).map(Series::totals).unwrap_or_default()
    }

    /// The picks of a shadow; zeros for an unknown one.
    pub fn shadow_picks(&self, pool: &str, shadow: &str) -> PickTotals {
        let all = self.shared().shadows.0.lock();
        all.get(&(pool.into(), shadow.into())).map(Series::picks).unwrap_or_default()
    }

    /// The number of workers that have been in one call of the shadow for longer than `most`. `now_ns` is on the clock
    /// of the strategies.
    pub fn shadow_hangs(&self, pool: &str, shadow: &str, now_ns: u64, most: Duration) -> usize {
        let all = self.shared().shadows.0.lock();
        let shards = all.get(&(pool.into(), shadow.into())).into_iter().flat_map(|of| of.shards.values());
        shards.filter(|shard| shard.is_inside_since(now_ns.saturating_sub(most.as_nanos() as u64))).count()
    }
}

// === impl ShadowShard ===

impl ShadowShard {
    fn new() -> Self {
        Self {
            results: [const { Counter::new() }; ShadowResult::COUNT],
            panics: Counter::new(),
            picks: Counter::new(),
            pick_time: Histogram::new(PICK_BOUNDS_NS),
            last_timed_ns: Gauge::new(),
            inside_ns: Gauge::new(),
        }
    }

    /// Makes the pick of a request that began at `now_ns`. Counts it, and sometimes times it.
    #[inline]
    pub fn pick<T>(&self, now_ns: u64, pick: impl FnOnce() -> T) -> T {
        let before = self.picks.get();
        self.picks.inc();
        let began = is_pick_timed(before, now_ns, &self.last_timed_ns).then(Instant::now);
        let made = self.inside(now_ns, pick);
        if let Some(began) = began {
            self.pick_time.observe(began.elapsed().as_nanos() as u64);
        }
        made
    }

    /// Makes a call of a hook that begins at `now_ns`, so that one that does not end is seen.
    #[inline]
    pub fn inside<T>(&self, now_ns: u64, call: impl FnOnce() -> T) -> T {
        self.inside_ns.set(now_ns.max(1) as i64);
        let made = call();
        self.inside_ns.set(0);
        made
    }

    #[inline]
    pub fn result(&self, result: ShadowResult) {
        self.results[result as usize].inc();
    }

    /// The pick panicked. It is also counted as a [fault](ShadowResult::Fault).
    pub fn panicked(&self) {
        self.panics.inc();
    }

    fn is_inside_since(&self, ns: u64) -> bool {
        (1..=ns as i64).contains(&self.inside_ns.get())
    }
}

// === impl Series ===

impl Series {
    fn pick_time(&self) -> HistogramSum {
        let mut sum = HistogramSum::new(PICK_BOUNDS_NS);
        self.shards.values().for_each(|shard| sum.add(&shard.pick_time));
        sum
    }

    fn sum(&self, of: impl Fn(&ShadowShard) -> u64) -> u64 {
        self.shards.values().map(|shard| of(shard)).sum()
    }

    fn picks(&self) -> PickTotals {
        let (times, panics) = (self.pick_time(), self.sum(|shard| shard.panics.get()));
        PickTotals {
            picks: self.sum(|shard| shard.picks.get()),
            timed: times.count(),
            slow: times.longer_than(SLOW_PICK_NS),
            panics,
            senseless: self.sum(|shard| shard.results[ShadowResult::Fault as usize].get()).saturating_sub(panics),
            held: 0,
        }
    }

    fn totals(&self) -> ShadowTotals {
        let results = std::array::from_fn(|result| self.sum(|shard| shard.results[result].get()));
        let picks = self.picks();
        let of_backend = |(id, of): (&Arc<str>, &OfBackend)| {
            let sum = |of_shard: fn(&ShadowBackendShard) -> &Counter| {
                of.shards.values().map(|shard| of_shard(shard).get()).sum::<u64>()
            };
            (id.clone(), (sum(|shard| &shard.picked), sum(|shard| &shard.routed)))
        };
        ShadowTotals { picks, results, backends: self.backends.iter().map(of_backend).collect() }
    }
}

// === impl Shadows ===

impl Shadows {
    /// The pool does not have the backend any more.
    pub(super) fn backend_goes(&self, pool: &str, backend: &str, now: Instant) {
        let all = &mut *self.0.lock();
        let of_pool = all.iter_mut().filter(|((name, _), _)| **name == *pool);
        of_pool.filter_map(|(_, of)| of.backends.get_mut(backend)).for_each(|of| _ = of.gone.get_or_insert(now));
    }

    /// The pool is removed.
    pub(super) fn pool_goes(&self, pool: &str, now: Instant) {
        let all = &mut *self.0.lock();
        let of_pool = all.iter_mut().filter(|((name, _), _)| **name == *pool);
        of_pool.for_each(|(_, of)| _ = of.gone.get_or_insert(now));
    }

    pub(super) fn tell(&self, e: &mut Exposition, now: Instant) {
        for Shown { of: (pool, shadow), strategy, is_off, totals, pick_time } in self.shown(now) {
            if let Some((strategy, version)) = &strategy {
                e.number(&names::SHADOW_INFO, &[&pool, &shadow, strategy, version], 1.0);
                e.number(&names::SHADOW_OFF, &[&pool, &shadow], f64::from(u8::from(is_off)));
            }
            for (result, count) in ShadowResult::ALL.iter().zip(totals.results) {
                e.number(&names::SHADOW_PICKS, &[&pool, &shadow, result.as_str()], count as f64);
            }
            for (backend, (picked, _)) in &totals.backends {
                e.number(&names::SHADOW_BACKEND_PICKS, &[&pool, &shadow, backend], *picked as f64);
            }
            e.histogram(&names::SHADOW_PICK, &[&pool, &shadow], &pick_time);
        }
    }

    /// Reads all series, and forgets those that are over.
    fn shown(&self, now: Instant) -> Vec<Shown> {
        let all = &mut *self.0.lock();
        all.retain(|_, of| !is_over(of.gone, now));
        let read = |(name, of): (&InPool, &mut Series)| {
            of.backends.retain(|_, backend| !is_over(backend.gone, now));
            let strategy = of.gone.is_none().then(|| of.strategy.clone());
            Shown { of: name.clone(), strategy, is_off: of.is_off, totals: of.totals(), pick_time: of.pick_time() }
        };
        all.iter_mut().map(read).collect()
    }
}

// === impl ShadowTotals ===

impl ShadowTotals {
    /// The counts since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let backend = |(id, (picked, routed)): (&Arc<str>, &(u64, u64))| {
            let (before, before_routed) = earlier.backends.get(id).copied().unwrap_or_default();
            (id.clone(), (picked.saturating_sub(before), routed.saturating_sub(before_routed)))
        };
        Self {
            picks: self.picks.since(earlier.picks),
            results: std::array::from_fn(|result| self.results[result].saturating_sub(earlier.results[result])),
            backends: self.backends.iter().map(backend).collect(),
        }
    }

    pub fn of(&self, result: ShadowResult) -> u64 {
        self.results[result as usize]
    }
}
