//! When a slow attempt gets a second one beside it: after a quantile of the pool's time to head.
//!
//! Hedging after the 95th percentile adds about 5 % of requests and shortens the tail (J. Dean, L. A. Barroso, "The
//! Tail at Scale", CACM 56(2), 2013). It is off by default, uses the budget of the retries and happens at most once a
//! request.
//!
//! The quantile comes from a histogram with logarithmic buckets, as in HdrHistogram and DDSketch (C. Masson, J. E. Rim,
//! H. K. Lee, VLDB 12(12), 2019). Counts are halved every 10 s, so the estimate follows a changing pool; the P²
//! algorithm never forgets. Invariants: a sample costs a few instructions and no memory. Between
//! 8 µs and 137 s, the estimate is at most 1/16 too high and never too low. Without enough samples there is no
//! estimate, so there is no hedge.

/// Samples below it fall in the first bucket, in nanoseconds: 8 µs.
const LOWEST_BITS: u32 = 13;
/// Samples from here on fall in the last bucket: about 137 s.
const HIGHEST_BITS: u32 = 37;
/// Each power of two has this many buckets.
const PARTS_BITS: u32 = 4;
const PARTS: usize = 1 << PARTS_BITS;
const BUCKETS: usize = ((HIGHEST_BITS - LOWEST_BITS) as usize) * PARTS + 1;
/// The weight of samples below which there is no estimate.
const ENOUGH: u64 = 100;
const REFRESH_NS: u64 = 1_000_000_000;
/// Counts are halved at every this many refreshes.
const REFRESHES_TO_HALVE: u32 = 10;

/// A quantile of a stream of durations.
#[derive(Clone, Debug)]
pub struct Quantile {
    per_mille: u64,
    counts: Box<[u32; BUCKETS]>,
    refresh_at_ns: u64,
    refreshes: u32,
    value_ns: Option<u64>,
}

/// The hedges of one pool in one worker.
#[derive(Clone, Debug)]
pub struct Hedge {
    time_to_head: Quantile,
}

// === impl Hedge ===

impl Hedge {
    /// Hedges after the 95th percentile.
    pub fn new(now_ns: u64) -> Self {
        Self { time_to_head: Quantile::new(950, now_ns) }
    }

    /// An attempt got its response head after `elapsed_ns`. Also for an attempt that ended without one, for example
    /// because its hedge was faster: without such samples the estimate would sink with each hedge.
    #[inline]
    pub fn record(&mut self, now_ns: u64, elapsed_ns: u64) {
        self.time_to_head.record(now_ns, elapsed_ns);
    }

    /// The time after the start of an attempt at which its hedge begins; `None` if too little is known.
    #[inline]
    pub fn after_ns(&self) -> Option<u64> {
        self.time_to_head.value_ns()
    }

    /// Whether an attempt that waits this long for its head gets a hedge, if
    /// [`may_hedge`](crate::RetryRules::may_hedge) and the budget allow it.
    #[inline]
    pub fn should_hedge(&self, elapsed_ns: u64) -> bool {
        self.after_ns().is_some_and(|after| elapsed_ns >= after)
    }
}

// === impl Quantile ===

impl Quantile {
    /// The quantile at `per_mille`, from 1 to 1000.
    pub fn new(per_mille: u32, now_ns: u64) -> Self {
        Self {
            per_mille: u64::from(per_mille.clamp(1, 1000)),
            counts: Box::new([0; BUCKETS]),
            refresh_at_ns: now_ns.saturating_add(REFRESH_NS),
            refreshes: 0,
            value_ns: None,
        }
    }

    #[inline]
    pub fn record(&mut self, now_ns: u64, sample_ns: u64) {
        let count = &mut self.counts[bucket(sample_ns)];
        *count = count.saturating_add(1);
        if now_ns >= self.refresh_at_ns {
            self.refresh(now_ns);
        }
    }

    /// The estimate of the last refresh, which is at most about a second old while there are samples.
    #[inline]
    pub fn value_ns(&self) -> Option<u64> {
        self.value_ns
    }

    #[cold]
    fn refresh(&mut self, now_ns: u64) {
        self.value_ns = self.estimate();
        self.refresh_at_ns = now_ns.saturating_add(REFRESH_NS);
        self.refreshes += 1;
        if self.refreshes.is_multiple_of(REFRESHES_TO_HALVE) {
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
    }

    fn estimate(&self) -> Option<u64> {
        let total: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
        if total < ENOUGH {
            return None;
        }
        let rank = (total * self.per_mille).div_ceil(1000);
        let mut below = 0;
        let is_reached = |count: &u32| {
            below += u64::from(*count);
            below >= rank
        };
        self.counts.iter().position(is_reached).map(upper)
    }
}

#[inline]
fn bucket(sample_ns: u64) -> usize {
    let bits = u64::BITS - sample_ns.leading_zeros(); // the highest bit set is `bits - 1`
    if bits <= LOWEST_BITS {
        return 0;
    }
    if bits > HIGHEST_BITS {
        return BUCKETS - 1;
    }
    let octave = (bits - 1 - LOWEST_BITS) as usize;
    let part = (sample_ns >> (bits - 1 - PARTS_BITS)) as usize & (PARTS - 1);
    1 + octave * PARTS + part
}

/// The first duration above the bucket.
fn upper(bucket: usize) -> u64 {
    let Some(place) = bucket.checked_sub(1) else { return 1 << LOWEST_BITS };
    let (octave, part) = (place / PARTS, place % PARTS);
    ((PARTS + part + 1) as u64) << (octave as u32 + LOWEST_BITS - PARTS_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn every_duration_is_below_the_upper_end_of_its_bucket_and_at_most_a_16th_away() {
        let mut random = fastrand::Rng::with_seed(16);
        let edges = (LOWEST_BITS..HIGHEST_BITS).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1]);
        let some = (0..100_000).map(|_| {
            let bits = random.u32(LOWEST_BITS + 1..=HIGHEST_BITS);
            random.u64(..1 << bits)
        });
        for sample in edges.chain(some).filter(|sample| *sample >= 1 << LOWEST_BITS) {
            let upper = upper(bucket(sample));
            assert!(upper > sample && upper - sample <= sample / 16 + 1, "{sample}: {upper}");
        }
        assert_eq!([0, 1, (1 << LOWEST_BITS) - 1].map(bucket), [0; 3]);
        assert_eq!([1 << HIGHEST_BITS, u64::MAX].map(bucket), [BUCKETS - 1; 2]);
        let uppers: Vec<_> = (0..BUCKETS).map(upper).collect();
        assert!(uppers.windows(2).all(|pair| pair[0] < pair[1]), "buckets are in order");
    }

    /// Records `rate` samples a second for `seconds` and returns the exact quantile of them.
    fn feed(hedge: &mut Hedge, from_s: u64, seconds: u64, rate: u64, mut sample: impl FnMut() -> u64) -> u64 {
        let mut samples = Vec::new();
        for number in 0..seconds * rate {
            let now = from_s * SECOND_NS + (number + 1) * SECOND_NS / rate;
            samples.push(sample());
            hedge.record(now, samples[samples.len() - 1]);
        }
        samples.sort_unstable();
        samples[samples.len() * 95 / 100]
    }

    #[test]
    fn the_estimate_is_the_95th_percentile_of_exponential_even_and_constant_times() {
        let mut random = fastrand::Rng::with_seed(16);
        let exponential = |random: &mut fastrand::Rng| (-(1.0 - random.f64()).ln() * 20e6) as u64;
        for law in 0..3 {
            let mut hedge = Hedge::new(0);
            let exact = feed(&mut hedge, 0, 30, 500, || match law {
                0 => exponential(&mut random),
                1 => random.u64(1_000_000..100_000_000),
                _ => 20_000_000,
            });
            let found = hedge.after_ns().unwrap();
            let ratio = found as f64 / exact as f64;
            assert!((0.93..=1.12).contains(&ratio), "law {law}: {found} of {exact}");
            assert!(hedge.should_hedge(found) && !hedge.should_hedge(found - 1));
        }
    }

    #[test]
    fn a_slower_pool_is_followed_within_half_a_minute() {
        let mut hedge = Hedge::new(0);
        feed(&mut hedge, 0, 600, 500, || 10_000_000);
        feed(&mut hedge, 600, 30, 500, || 80_000_000);
        assert!((80_000_000..=85_000_000).contains(&hedge.after_ns().unwrap()));
        feed(&mut hedge, 630, 60, 500, || 10_000_000);
        assert!((10_000_000..=10_700_000).contains(&hedge.after_ns().unwrap()), "and back");
    }

    #[test]
    fn with_few_samples_there_is_no_hedge() {
        let mut hedge = Hedge::new(0);
        assert!(!hedge.should_hedge(u64::MAX), "with none");
        feed(&mut hedge, 0, 3, 33, || 10_000_000);
        assert!(!hedge.should_hedge(u64::MAX), "with 99");
        feed(&mut hedge, 3, 2, 33, || 10_000_000);
        assert!(hedge.should_hedge(u64::MAX), "with 100 and more");
        // One sample every 2 s is never enough: the old ones are forgotten.
        for second in 0..200 {
            hedge.record((10 + 2 * second) * SECOND_NS, 10_000_000);
        }
        assert!(!hedge.should_hedge(u64::MAX));
    }

    #[test]
    fn a_clock_that_stands_jumps_or_runs_backwards_is_safe() {
        let mut hedge = Hedge::new(7);
        for now in [7, 7, 9_000 * SECOND_NS, 0, 8_000 * SECOND_NS].iter().cycle().take(5_000) {
            hedge.record(*now, 10_000_000);
        }
        feed(&mut hedge, 9_001, 60, 500, || 80_000_000);
        assert!((80_000_000..=85_000_000).contains(&hedge.after_ns().unwrap()), "it goes on after the jump");
        hedge.record(u64::MAX, u64::MAX);
    }
}
