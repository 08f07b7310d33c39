//! The pool of one worker: the responses to its last probes.
//!
//! Why one for each worker: a worker makes one call at a time, so its pool needs no lock. Its words are atomic because
//! an explanation reads them from another thread. Invariants: a backend has at most one response. A place whose `at_ns`
//! is 0 is empty. A picker knows a backend by its id, and the index of a response is only a hint.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// The most responses of a pool.
pub(crate) const PLACES: usize = 16;
/// The threshold between hot and cold comes from the last so many responses.
const REMEMBERED: usize = 64;
/// On cache lines of its own.
#[repr(align(128))]
pub(crate) struct Pool {
    places: [Place; PLACES],
    /// The requests in flight of the last responses, as bits of an f64, and the number of responses.
    recent: [AtomicU64; REMEMBERED],
    received: AtomicU64,
    /// Responses with more requests in flight are hot.
    threshold: AtomicU64,
    /// Decides whether the oldest or the worst response is removed next.
    removals: AtomicU64,
}

#[derive(Default)]
struct Place {
    id: AtomicU64,
    hint: AtomicU32,
    /// Bits of an f64; not a number if the response does not tell it.
    in_flight: AtomicU64,
    own_in_flight: AtomicU64,
    share: AtomicU64,
    latency_ns: AtomicU64,
    at_ns: AtomicU64,
    uses: AtomicU32,
}

/// A response to a probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) id: u64,
    /// The index of the backend in a list that was the newest one.
    pub(crate) hint: usize,
    /// For the weight of an average backend. `None`: the backend did not tell it.
    pub(crate) in_flight: Option<f64>,
    /// The requests of this balancer when the probe was sent, for the same weight. They count if `in_flight` is `None`.
    pub(crate) own_in_flight: f64,
    /// The weight of an average backend divided by its own.
    pub(crate) share: f64,
    pub(crate) latency_ns: u64,
    pub(crate) at_ns: u64,
    /// The picks that may still use it.
    pub(crate) uses: u32,
}

// === impl Pool ===

impl Pool {
    pub(crate) fn new() -> Self {
        Self {
            places: std::array::from_fn(|_| Place::default()),
            recent: std::array::from_fn(|_| AtomicU64::new(0)),
            received: AtomicU64::new(0),
            threshold: AtomicU64::new(f64::INFINITY.to_bits()),
            removals: AtomicU64::new(0),
        }
    }

    /// The responses that are not older than `age_ns`, each with its place.
    #[inline]
    pub(crate) fn fresh(&self, now_ns: u64, age_ns: u64) -> impl Iterator<Item = (usize, Told)> {
        let told = self.places.iter().enumerate().filter_map(|(place, one)| Some((place, one.told()?)));
        told.filter(move |(_, told)| now_ns.saturating_sub(told.at_ns) <= age_ns)
    }

    /// Responses with more requests in flight are hot.
    #[inline]
    pub(crate) fn threshold(&self) -> f64 {
        f64::from_bits(self.threshold.load(Relaxed))
    }

    /// The number of responses so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Puts a response in: in place of the last one of its backend, in an empty place, or instead of the oldest one.
    /// `size` is the number of places that are used.
    pub(crate) fn put(&self, told: Told, size: usize, quantile: f64) {
        let places = &self.places[..size.clamp(1, PLACES)];
        let same = places.iter().find(|place| place.at_ns.load(Relaxed) > 0 && place.id.load(Relaxed) == told.id);
        let oldest = || places.iter().min_by_key(|place| place.at_ns.load(Relaxed));
        if let Some(place) = same.or_else(oldest) {
            place.set(&told);
        }
        self.remember(told.in_flight.unwrap_or(told.own_in_flight), quantile);
    }

    /// Removes the response of a backend.
    pub(crate) fn forget(&self, id: u64) {
        self.places.iter().filter(|place| place.id.load(Relaxed) == id).for_each(|place| place.at_ns.store(0, Relaxed));
    }

    /// Counts a use of the response at `place`: the backend has one request more, and the response one use less.
    pub(crate) fn used(&self, place: usize) {
        let place = &self.places[place];
        let [in_flight, share] = [&place.in_flight, &place.share].map(|word| f64::from_bits(word.load(Relaxed)));
        place.in_flight.store((in_flight + share).to_bits(), Relaxed);
        match place.uses.load(Relaxed) {
            0 | 1 => place.at_ns.store(0, Relaxed),
            uses => place.uses.store(uses - 1, Relaxed),
        }
    }

    /// Removes one response, in turns the oldest and the worst one. The worst is the hot one with the most requests in
    /// flight, or without a hot one the slowest. Two responses stay.
    pub(crate) fn remove_one(&self, now_ns: u64, age_ns: u64) {
        if self.fresh(now_ns, age_ns).count() <= 2 {
            return;
        }
        let turn = self.removals.load(Relaxed);
        self.removals.store(turn.wrapping_add(1), Relaxed);
        let threshold = self.threshold();
        let worst = |told: &Told| {
            let in_flight = told.in_flight.unwrap_or(told.own_in_flight);
            if in_flight > threshold { (true, in_flight) } else { (false, told.latency_ns as f64) }
        };
        let removed = if turn.is_multiple_of(2) {
            self.fresh(now_ns, age_ns).min_by_key(|(_, told)| told.at_ns)
        } else {
            self.fresh(now_ns, age_ns).max_by(|(_, one), (_, other)| {
                let ((one_is_hot, one), (other_is_hot, other)) = (worst(one), worst(other));
                one_is_hot.cmp(&other_is_hot).then(one.total_cmp(&other))
            })
        };
        if let Some((place, _)) = removed {
            self.places[place].at_ns.store(0, Relaxed);
        }
    }

    fn remember(&self, in_flight: f64, quantile: f64) {
        let received = self.received.load(Relaxed);
        self.received.store(received + 1, Relaxed);
        self.recent[(received % REMEMBERED as u64) as usize].store(in_flight.to_bits(), Relaxed);
        let known = (received + 1).min(REMEMBERED as u64) as usize;
        // Numbers that are not negative have the order of their bits.
        let mut sorted: [u64; REMEMBERED] = std::array::from_fn(|at| self.recent[at].load(Relaxed));
        let rank = ((known - 1) as f64 * quantile) as usize;
        let (_, threshold, _) = sorted[..known].select_nth_unstable(rank);
        self.threshold.store(*threshold, Relaxed);
    }
}

// === impl Place ===

impl Place {
    #[inline]
    fn told(&self) -> Option<Told> {
        let at_ns = self.at_ns.load(Relaxed);
        let [in_flight, share] = [&self.in_flight, &self.share].map(|word| f64::from_bits(word.load(Relaxed)));
        (at_ns > 0).then(|| Told {
            id: self.id.load(Relaxed),
            hint: self.hint.load(Relaxed) as usize,
            in_flight: (!in_flight.is_nan()).then_some(in_flight),
            own_in_flight: f64::from_bits(self.own_in_flight.load(Relaxed)),
            share,
            latency_ns: self.latency_ns.load(Relaxed),
            at_ns,
            uses: self.uses.load(Relaxed),
        })
    }

    fn set(&self, told: &Told) {
        self.id.store(told.id, Relaxed);
        self.hint.store(told.hint as u32, Relaxed);
        self.in_flight.store(told.in_flight.unwrap_or(f64::NAN).to_bits(), Relaxed);
        self.own_in_flight.store(told.own_in_flight.to_bits(), Relaxed);
        self.share.store(told.share.to_bits(), Relaxed);
        self.latency_ns.store(told.latency_ns, Relaxed);
        self.at_ns.store(told.at_ns.max(1), Relaxed);
        self.uses.store(told.uses, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn told(id: u64, in_flight: u32, at_ns: u64) -> Told {
        let in_flight = Some(f64::from(in_flight));
        Told { id, hint: id as usize, in_flight, own_in_flight: 0.0, share: 1.0, latency_ns: id * 10, at_ns, uses: 2 }
    }

    fn ids(pool: &Pool, now_ns: u64) -> Vec<u64> {
        let mut ids: Vec<u64> = pool.fresh(now_ns, SECOND).map(|(_, told)| told.id).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn a_backend_has_one_response_and_the_oldest_makes_room() {
        let pool = Pool::new();
        (1..=3).for_each(|id| pool.put(told(id, 0, id), 3, 0.84));
        pool.put(told(3, 5, 10), 3, 0.84);
        assert_eq!(ids(&pool, 10), [1, 2, 3]);
        pool.put(told(4, 0, 11), 3, 0.84);
        assert_eq!(ids(&pool, 11), [2, 3, 4]);
        assert_eq!(ids(&pool, SECOND + 11), [4], "the others are older than a second");
        pool.forget(4);
        assert_eq!(ids(&pool, 11), [2, 3]);
    }

    #[test]
    fn a_use_counts_a_request_and_the_last_one_removes_the_response() {
        let pool = Pool::new();
        pool.put(told(1, 5, 1), 4, 0.84);
        let (place, _) = pool.fresh(1, SECOND).next().unwrap();
        pool.used(place);
        assert_eq!(pool.fresh(1, SECOND).next().unwrap().1, Told { uses: 1, ..told(1, 6, 1) });
        pool.used(place);
        assert_eq!(ids(&pool, 1), [0; 0]);
    }

    #[test]
    fn the_oldest_and_the_worst_are_removed_in_turns_and_two_stay() {
        let pool = Pool::new();
        for (id, in_flight) in [(1, 0), (2, 9), (3, 0), (4, 0), (5, 1)] {
            pool.put(told(id, in_flight, id), 16, 0.6);
        }
        for left in [vec![2, 3, 4, 5], vec![3, 4, 5], vec![4, 5], vec![4, 5]] {
            pool.remove_one(9, SECOND);
            assert_eq!(ids(&pool, 9), left);
        }
    }

    #[test]
    fn the_threshold_is_a_quantile_of_the_recent_responses() {
        let pool = Pool::new();
        assert_eq!(pool.threshold(), f64::INFINITY, "nothing is hot");
        (0..100).for_each(|number| pool.put(told(1, number, 1), 16, 0.84));
        // Of 36 to 99, the value at 84 %.
        assert_eq!(pool.threshold(), 36.0 + 52.0);
    }
}
