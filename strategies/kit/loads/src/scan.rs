//! A look at a bounded number of candidates, and the least of them.
//!
//! Why bounded: a look at every backend costs time that grows with the list. The least of 64 candidates is nearly the
//! least of all. If the loads of many backends are spread evenly, the least of 64 is in the lowest 1.5 % on average.
//!
//! Why neighbours from a random place, and not 64 draws: one draw is enough, and no candidate comes twice. And the
//! memory of neighbours is read in order.
//!
//! Invariants: with up to `most` candidates all of them are in the window, so the result is exact. Every candidate is
//! in it with the same probability. Of equal candidates each is taken with a probability in proportion to its weight.
//! That is reservoir sampling, because a second pass could read other loads than the first. A score that is no number
//! loses against each number.

use std::cmp::Ordering;

use lb_strategy::{Backend, Backends, Request};

use crate::Draws;

/// The number of candidates that the shipped strategies look at.
pub const LOOK_AT: usize = 64;

/// Requests in flight and the weight to share them by. The order is that of `in_flight / weight`.
///
/// The comparison multiplies crosswise, so it neither divides nor rounds.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub in_flight: u64,
    pub weight: u64,
}

/// An expected time and the weight to share requests by. The order is that of `time / weight`.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub time: f64,
    pub weight: f64,
}

/// The least candidate so far.
struct Least<S> {
    best: Option<(usize, S)>,
    /// The sum of the weights of those that are equal to it, its own included.
    tied_weight: u64,
}

/// Up to `most` candidates for `request`: neighbours in the list, from a random place if there are more.
#[inline]
pub fn window<'a, 'r>(
    backends: &Backends<'a>,
    request: &'r Request<'_>,
    most: usize,
    draws: &mut Draws,
) -> impl Iterator<Item = (usize, Backend<'a>)> + use<'a, 'r> {
    let (list, eligible, tried) = (*backends, backends.eligible(), request.tried());
    let first = if eligible.len() <= most { 0 } else { draws.below(eligible.len() as u64) as usize };
    let (before, from) = eligible.split_at(first);
    let untried = from.iter().chain(before).filter(move |index| tried.is_empty() || !tried.contains(index));
    untried.take(most).filter_map(move |index| Some((*index as usize, list.get(*index as usize)?)))
}

/// The index of the candidate with the least `score`, of up to [`LOOK_AT`] of them. Each score is computed once.
#[inline]
pub fn least<'a, S: PartialOrd>(
    backends: &Backends<'a>,
    request: &Request<'_>,
    draws: &mut Draws,
    score: impl Fn(Backend<'a>) -> S,
) -> Option<usize> {
    let mut least = Least { best: None, tied_weight: 0 };
    // Most pools are small and most requests are no retries. Then a plain walk is faster than a window.
    if backends.eligible().len() <= LOOK_AT && request.tried().is_empty() {
        for &index in backends.eligible() {
            let backend = backends.get(index as usize)?;
            least.consider(index as usize, score(backend), backend, draws);
        }
    } else {
        for (index, backend) in window(backends, request, LOOK_AT, draws) {
            least.consider(index, score(backend), backend, draws);
        }
    }
    least.best.map(|(index, _)| index)
}

// === impl Least ===

impl<S: PartialOrd> Least<S> {
    // Always, because a call for each candidate takes a quarter of the time.
    #[inline(always)]
    fn consider(&mut self, index: usize, score: S, backend: Backend<'_>, draws: &mut Draws) {
        let weight = u64::from(backend.effective_weight().max(1));
        match self.best.as_ref().map_or(Some(Ordering::Less), |(_, best)| score.partial_cmp(best)) {
            Some(Ordering::Less) => (self.best, self.tied_weight) = (Some((index, score)), weight),
            // It replaces the other with probability weight / sum. So in the end each of the tied backends is taken
            // with a probability in proportion to its weight.
            Some(Ordering::Equal) => {
                self.tied_weight += weight;
                if draws.below(self.tied_weight) < weight {
                    self.best = Some((index, score));
                }
            }
            Some(Ordering::Greater) => {}
            None => {
                // One of the two is no number. If it is the best one, each later candidate would lose against it.
                if self.best.as_ref().is_some_and(|(_, best)| best.partial_cmp(best).is_none()) {
                    (self.best, self.tied_weight) = (Some((index, score)), weight);
                }
            }
        }
    }
}

// === impl Load ===

impl Load {
    /// The load of a backend now.
    #[inline]
    pub fn of(backend: Backend<'_>) -> Self {
        Self { in_flight: u64::from(backend.in_flight()), weight: u64::from(backend.effective_weight().max(1)) }
    }
}

impl PartialEq for Load {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.in_flight * other.weight == other.in_flight * self.weight
    }
}

impl PartialOrd for Load {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some((self.in_flight * other.weight).cmp(&(other.in_flight * self.weight)))
    }
}

// === impl Expected ===

impl Expected {
    #[inline]
    pub fn new(time: f64, backend: Backend<'_>) -> Self {
        Self { time, weight: f64::from(backend.effective_weight().max(1)) }
    }

    /// The time for each unit of the weight.
    pub fn score(self) -> f64 {
        self.time / self.weight
    }
}

impl PartialEq for Expected {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.time * other.weight == other.time * self.weight
    }
}

impl PartialOrd for Expected {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self.time * other.weight).partial_cmp(&(other.time * self.weight))
    }
}

#[cfg(test)]
mod tests {
    use lb_strategy_conformance::statistics::{chi_square_p, counts};
    use lb_strategy_conformance::{Requests, World};

    use super::*;
    use crate::world::{picker, probe};

    probe!(NanFirst, |backends, request| {
        least(backends, request, &mut Draws::of(request), |backend| match backend.in_flight() {
            0 => f64::NAN,
            in_flight => f64::from(in_flight),
        })
    });
    probe!(Scan, |backends, request| { least(backends, request, &mut Draws::of(request), Load::of) });

    #[test]
    fn a_small_pool_is_looked_at_whole_and_a_large_one_evenly() {
        let world = World::of(LOOK_AT);
        (0..LOOK_AT).for_each(|index| world.set_load(index, 5 - u32::from(index == 17)));
        let small = picker::<Scan>(&world);
        let mut requests = Requests::seeded(1);
        assert!((0..1000).all(|_| requests.ask().pick_backend(&small) == Ok(17)));

        let large = picker::<Scan>(&World::of(4 * LOOK_AT));
        let drawn = counts(4 * LOOK_AT, (0..100_000).map(|_| requests.ask().pick_backend(&large).unwrap()));
        let p = chi_square_p(&drawn, &vec![1.0; drawn.len()]);
        assert!(p > 0.001, "p {p}");
    }

    #[test]
    fn a_score_that_is_no_number_loses_at_each_place() {
        let world = World::of(3);
        let picker = picker::<NanFirst>(&world);
        let mut requests = Requests::seeded(3);
        for loads in [[0, 2, 1], [2, 0, 1], [2, 1, 0]] {
            (0..).zip(loads).for_each(|(index, load)| world.set_load(index, load));
            let least = loads.iter().position(|load| *load == 1).unwrap();
            assert_eq!(requests.ask().pick_backend(&picker), Ok(least), "{loads:?}");
        }
    }

    #[test]
    fn retries_look_at_untried_candidates_only() {
        let large = picker::<Scan>(&World::of(2 * LOOK_AT));
        let tried: Vec<u32> = (3..2 * LOOK_AT as u32).collect();
        let mut requests = Requests::seeded(2);
        let drawn = counts(3, (0..3_000).map(|_| requests.ask().tried(&tried).pick_backend(&large).unwrap()));
        assert!(drawn.iter().all(|count| *count > 800), "{drawn:?}");
    }

    #[test]
    fn loads_are_compared_by_weight() {
        let load = |in_flight, weight| Load { in_flight, weight };
        assert!(load(2, 3) < load(1, 1));
        assert_eq!(load(2, 4), load(1, 2));
        assert!(load(u64::from(u32::MAX), 1) > load(u64::from(u32::MAX) - 1, 1));
    }
}
