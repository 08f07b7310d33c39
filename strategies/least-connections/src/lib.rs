//! Least connections: the backend with the fewest requests in flight for its weight.
//!
//! Idea: a slow backend needs longer for its requests, so it has more in flight and gets fewer new ones. No measurement
//! is needed. Source: LVS "least-connection", 1998. This strategy looks at all backends: the result is exact, and for a
//! few dozen backends it is cheaper than a sample of two.
//!
//! Cost: one pass over the list with one relaxed load per backend; no allocation, no lock.
//!
//! Invariants: the picked candidate has the least in_flight / weight. The comparison multiplies crosswise, so it does
//! not divide or round. Ties are drawn with the request's random bits, with probabilities proportional to the weights.
//! Without the draw, the first of equals would get every request of an idle pool. The draw is reservoir sampling,
//! because a second pass could read other loads than the first.
//!
//! Limit: a backend that fails fast has the fewest requests in flight, so it gets most of the requests.

use std::cmp::Ordering;

use lb_strategy::{Backends, Error, Host, NoOptions, Pick, Request, Strategy};

pub struct LeastConnections;

/// A backend that may be picked. Its load is read once.
struct Candidate {
    index: usize,
    in_flight: u64,
    weight: u64,
}

/// A small generator for the few draws of one pick, seeded with the request's random bits.
struct Draws(u64);

lb_strategy::export!(LeastConnections);

// === impl LeastConnections ===

impl Strategy for LeastConnections {
    const NAME: &'static str = "least_connections";
    const EXPECTATION: &'static str = r#"{"balance":"by_load","weights":true}"#;
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let mut draws = Draws(request.random());
        let mut lightest: Option<Candidate> = None;
        let mut tied_weight = 0;
        for (index, backend) in backends.candidates(request) {
            let in_flight = u64::from(backend.in_flight());
            let weight = u64::from(backend.effective_weight().max(1));
            let this = Candidate { index, in_flight, weight };
            match lightest.as_ref().map_or(Ordering::Less, |best| this.compare_load(best)) {
                Ordering::Greater => {}
                Ordering::Equal => {
                    // It replaces the other with probability weight / sum. So in the end each of the tied backends is
                    // picked with a probability proportional to its weight.
                    tied_weight += weight;
                    if draws.below(tied_weight) < weight {
                        lightest = Some(this);
                    }
                }
                Ordering::Less => {
                    tied_weight = weight;
                    lightest = Some(this);
                }
            }
        }
        lightest.map_or(Pick::NoBackend, |best| Pick::Backend(best.index))
    }
}

// === impl Candidate ===

impl Candidate {
    fn compare_load(&self, other: &Self) -> Ordering {
        (self.in_flight * other.weight).cmp(&(other.in_flight * self.weight))
    }
}

// === impl Draws ===

impl Draws {
    /// A number in `0..bound`, with nearly equal probabilities: the high bits of a linear congruential step with
    /// Knuth's MMIX constants.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::statistics::{chi_square_p, counts};
    use lb_strategy_conformance::{Decision, Requests, World, properties, small_worlds, strategy};
    use serde_json::json;

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<LeastConnections>("0", "test");

    /// The number of picks of each backend, while no load changes.
    fn picks(world: &World, seed: u64, picks: usize) -> Vec<u64> {
        let picker = world.picker(&strategy(&TABLE, &json!({})).unwrap()).unwrap();
        let mut requests = Requests::seeded(seed);
        counts(world.len(), (0..picks).map(|_| requests.ask().pick_backend(&picker).unwrap()))
    }

    #[test]
    fn has_the_properties_of_every_strategy() {
        properties::check_all(&TABLE, &json!({})).unwrap();
    }

    #[test]
    fn in_every_small_world_the_pick_is_a_minimum() {
        let instance = strategy(&TABLE, &json!({})).unwrap();
        let mut requests = Requests::seeded(21);
        for world in [[1, 1, 1, 1], [2, 1, 3, 1], [256, 0, 255, 1]].into_iter().flat_map(small_worlds) {
            let picker = world.picker(&instance).unwrap();
            for tried in [vec![], vec![0], vec![2, 1]] {
                let tried: Vec<u32> = tried.into_iter().filter(|index| (*index as usize) < world.len()).collect();
                let load = |index: usize| f64::from(world.load(index)) / f64::from(world.weight(index));
                let least = world.candidates(&tried).into_iter().map(load).fold(f64::INFINITY, f64::min);
                match requests.ask().tried(&tried).pick(&picker) {
                    Decision::Backend { index, .. } => {
                        assert!(load(index) <= least, "{index} after {tried:?} in {world:?}")
                    }
                    Decision::NoBackend => assert_eq!(least, f64::INFINITY, "no backend after {tried:?} in {world:?}"),
                    other => panic!("{other:?} in {world:?}"),
                }
            }
        }
    }

    #[test]
    fn in_every_small_world_each_of_the_tied_is_picked() {
        for world in small_worlds([1; 4]) {
            let Some(least) = world.candidates(&[]).into_iter().map(|index| world.load(index)).min() else { continue };
            let tied = |index: &usize| world.load(*index) == least;
            let counted = picks(&world, 22, 100);
            // Each of 4 has 25 of 100 on average. One has none with a probability of 3 in 10^13.
            assert!(
                world.candidates(&[]).iter().filter(|index| tied(index)).all(|&index| counted[index] > 0),
                "{counted:?} in {world:?}"
            );
        }
    }

    #[test]
    fn ties_are_spread_evenly() {
        for (n, up, seed) in [
            (2, vec![true; 2], 23),
            (4, vec![true; 4], 24),
            (4, vec![true, false, true, true], 25),
            (50, vec![true; 50], 26),
        ] {
            let world = World::of(n).up(&up);
            let counted: Vec<u64> =
                picks(&world, seed, 20_000).into_iter().zip(up).filter(|pair| pair.1).map(|pair| pair.0).collect();
            let p = chi_square_p(&counted, &vec![1.0; counted.len()]);
            println!("seed {seed}: {counted:?}, p {p:.3}");
            assert!(p > 0.001, "seed {seed}: {counted:?} is uneven, p {p}");
        }
    }

    #[test]
    fn ties_are_spread_by_weight() {
        let counted = picks(&World::of(3).weights(&[5, 1, 2]), 27, 20_000);
        let p = chi_square_p(&counted, &[5.0, 1.0, 2.0]);
        assert!(p > 0.001, "{counted:?} is not 5:1:2, p {p}");
    }

    #[test]
    fn in_a_slow_start_a_backend_gets_its_part_of_ties_and_of_load() {
        let world = World::of(3).shares(&[1000, 1000, 100]);
        let counted = picks(&world, 33, 20_000);
        let p = chi_square_p(&counted, &[10.0, 10.0, 1.0]);
        assert!(p > 0.001, "{counted:?} is not 10:10:1, p {p}");
        [9, 9, 1].into_iter().enumerate().for_each(|(index, load)| world.set_load(index, load));
        assert_eq!(picks(&world, 34, 100)[2], 0, "one request is its part of ten");
    }

    #[test]
    fn a_backend_that_was_overtaken_is_not_among_the_tied() {
        let world = World::of(4).weights(&[8, 1, 1, 1]);
        [80, 5, 5, 5].into_iter().enumerate().for_each(|(index, load)| world.set_load(index, load));
        let counted = picks(&world, 30, 20_000);
        let p = chi_square_p(&counted[1..], &[1.0; 3]);
        assert!(counted[0] == 0 && p > 0.001, "{counted:?} is uneven, p {p}");
    }

    #[test]
    fn equal_random_bits_decide_equally() {
        let picker = World::of(4).picker(&strategy(&TABLE, &json!({})).unwrap()).unwrap();
        let ask = Requests::seeded(28).ask();
        assert_eq!(ask.pick(&picker), ask.pick(&picker));
    }

    #[test]
    fn a_changed_load_counts_at_once() {
        let world = World::of(3);
        let picker = world.picker(&strategy(&TABLE, &json!({})).unwrap()).unwrap();
        let mut requests = Requests::seeded(29);
        for busy in [[5, 5, 4], [0, 9, 9], [u32::MAX, 1, u32::MAX]] {
            busy.iter().enumerate().for_each(|(index, &load)| world.set_load(index, load));
            let least = (0..3).min_by_key(|&index| busy[index]).unwrap();
            assert_eq!(requests.ask().pick_backend(&picker), Ok(least), "{busy:?}");
        }
    }
}
