//! Response times by stretches of the run, from which intervals of percentiles are computed (`statistics::batches`).
//!
//! Requests close in time are correlated, so an interval needs the differences between stretches of the run. At most
//! [`BATCHES`] stretches of equal length are kept. If the run outgrows them, neighbours are merged and the length
//! doubles. So from then on there are always between half and all of them.
//!
//! Invariants: a time belongs to the stretch of its scheduled send time. All threads of a run cut at the same moments,
//! so their stretches can be added. Memory does not grow with the number of requests. A request allocates only if its
//! time exceeds the range of its stretch's histogram.

use super::outcome::{RoughLatencies, new_rough};
use super::recorder::note;

/// The good responses of one segment by stretches of time.
#[derive(Clone, Debug)]
pub struct Batches {
    from_ns: u64,
    /// A stretch lasts 2 to this power nanoseconds: a shift is cheaper than a division.
    shift: u32,
    stretches: Vec<Stretch>,
    /// Stretches from this one on are empty, but may hold counts of an earlier segment.
    used: usize,
}

/// The good responses to the requests of one stretch of time.
#[derive(Clone, Debug)]
pub struct Stretch {
    pub latency: Times,
    /// Empty in a closed loop, where it equals `latency`.
    pub service: Times,
}

#[derive(Clone, Debug)]
pub struct Times {
    /// The exact sum; the histogram has only two digits.
    pub sum_ns: u128,
    pub counts: RoughLatencies,
}

/// The most stretches. An interval needs at least half of them.
const BATCHES: usize = 64;
/// 0.26 ms, so that 200 requests of a quick server fill several stretches.
const FIRST_SHIFT: u32 = 18;

// === impl Batches ===

impl Batches {
    /// An empty set for a segment that begins at `from_ns`.
    pub(crate) fn new(from_ns: u64) -> Self {
        let stretches = (0..BATCHES).map(|_| Stretch::new()).collect();
        Self { from_ns, shift: FIRST_SHIFT, stretches, used: 0 }
    }

    /// The stretches in order of time. They keep the memory of their histograms. The last may be shorter than the
    /// others.
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches[..self.used]
    }

    pub fn length_ns(&self) -> u64 {
        1 << self.shift
    }

    /// Begins another segment at `from_ns`.
    pub(crate) fn begin(&mut self, from_ns: u64) {
        (self.from_ns, self.shift, self.used) = (from_ns, FIRST_SHIFT, 0);
    }

    /// Counts one good response. A request scheduled before the beginning of the segment belongs to its first stretch.
    pub(crate) fn note(&mut self, intended_ns: u64, latency_ns: u64, service_ns: Option<u64>) {
        let stretch = self.at(intended_ns.saturating_sub(self.from_ns));
        stretch.latency.note(latency_ns);
        if let Some(service_ns) = service_ns {
            stretch.service.note(service_ns);
        }
    }

    /// Adds the counts of another thread for the same segment.
    pub(super) fn add(&mut self, mut other: Self) {
        while self.shift < other.shift {
            self.double();
        }
        while other.shift < self.shift {
            other.double();
        }
        self.use_up_to(other.used);
        self.stretches.iter_mut().zip(other.stretches()).for_each(|(mine, other)| mine.add(other));
    }

    fn at(&mut self, since_ns: u64) -> &mut Stretch {
        while since_ns >> self.shift >= BATCHES as u64 {
            self.double();
        }
        let number = (since_ns >> self.shift) as usize;
        self.use_up_to(number + 1);
        &mut self.stretches[number]
    }

    fn use_up_to(&mut self, used: usize) {
        while self.used < used {
            self.stretches[self.used].clear();
            self.used += 1;
        }
    }

    /// Merges neighbours.
    fn double(&mut self) {
        for number in 0..self.used.div_ceil(2) {
            self.stretches.swap(number, 2 * number);
            if 2 * number + 1 < self.used {
                let (left, right) = self.stretches.split_at_mut(2 * number + 1);
                left[number].add(&right[0]);
            }
        }
        self.used = self.used.div_ceil(2);
        self.shift += 1;
    }
}

// === impl Stretch ===

impl Stretch {
    fn new() -> Self {
        let empty = || Times { sum_ns: 0, counts: new_rough() };
        Self { latency: empty(), service: empty() }
    }

    fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.service.add(&other.service);
    }

    fn clear(&mut self) {
        self.latency.clear();
        self.service.clear();
    }
}

// === impl Times ===

impl Times {
    fn note(&mut self, ns: u64) {
        self.sum_ns += u128::from(ns);
        note(&mut self.counts, ns);
    }

    fn add(&mut self, other: &Self) {
        self.sum_ns += other.sum_ns;
        if !other.counts.is_empty() {
            self.counts.add(&other.counts).expect("a histogram that grows takes any other");
        }
    }

    fn clear(&mut self) {
        self.sum_ns = 0;
        if !self.counts.is_empty() {
            self.counts.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(batches: &Batches) -> Vec<u64> {
        batches.stretches().iter().map(|stretch| stretch.latency.counts.len()).collect()
    }

    #[test]
    fn however_long_a_run_is_there_are_32_to_64_stretches_and_no_answer_is_lost() {
        let mut batches = Batches::new(1_000);
        for number in 0..200_000_u64 {
            batches.note(1_000 + number * 50_000, 1_000 + number, Some(500));
            let used = batches.stretches().len();
            assert!(used <= 64 && (used >= 32 || batches.shift == FIRST_SHIFT), "{used} after {number}");
        }
        let counts = counts(&batches);
        assert_eq!(counts.iter().sum::<u64>(), 200_000);
        // 10 s in stretches of 2^28 ns
        assert_eq!((batches.length_ns(), counts.len()), (1 << 28, 38));
        let whole = (1_u64 << 28) / 50_000;
        assert!(counts[..37].iter().all(|count| count.abs_diff(whole) <= 1), "{counts:?}");
        let sum: u128 = batches.stretches().iter().map(|stretch| stretch.latency.sum_ns).sum();
        assert_eq!(sum, (1_000..201_000).sum::<u64>().into());
    }

    #[test]
    fn threads_are_added_stretch_by_stretch_whatever_their_lengths() {
        let [mut quick, mut slow, mut both] = [(); 3].map(|()| Batches::new(0));
        for number in 0..10_000_u64 {
            let (at, latency) = (number * 100_000, 1_000 + number);
            both.note(at, latency, None);
            // The slow thread had no requests in the later half.
            if number % 3 == 0 && number < 5_000 { &mut slow } else { &mut quick }.note(at, latency, None);
        }
        assert!(slow.shift < quick.shift);
        let mut other = quick.clone();
        other.add(slow.clone());
        slow.add(quick);
        assert_eq!((counts(&slow), slow.shift), (counts(&both), both.shift));
        assert_eq!((counts(&other), other.shift), (counts(&both), both.shift));
    }

    #[test]
    fn a_new_segment_begins_empty_and_a_pause_is_an_empty_stretch() {
        let mut batches = Batches::new(0);
        (0..1_000_u64).for_each(|number| batches.note(number * 1_000_000, 5_000, None));
        batches.begin(2_000_000_000);
        batches.note(1_999_999_999, 7_000, None);
        batches.note(2_000_000_000 + (5 << FIRST_SHIFT), 9_000, None);
        assert_eq!(counts(&batches), [1, 0, 0, 0, 0, 1]);
        assert_eq!(batches.stretches()[0].latency.sum_ns, 7_000);
    }
}
