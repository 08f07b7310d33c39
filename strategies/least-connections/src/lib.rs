//! Least connections: the backend with the fewest requests in flight for its weight.
//!
//! Idea: a slow backend needs longer for its requests, so it has more in flight and gets fewer new ones. No measurement
//! is needed. Source: LVS "least-connection", 1998.
//!
//! Up to 64 candidates are all compared, so the pick is exact. Of more, 64 neighbours from a random place are compared,
//! so the cost has a bound. The price is small. With 1,000 backends and 5,000 requests in flight, the fullest backend
//! has 6 of them; a look at all would give 5. The test `many_backends_stay_nearly_as_even_as_with_a_look_at_all`
//! measures it.
//!
//! Cost: one relaxed load for each compared candidate; no allocation, no lock.
//!
//! Invariants: the picked candidate has the least in_flight / weight of those compared. The comparison multiplies
//! crosswise, so it does not divide or round. Ties are drawn with the request's random bits, with probabilities
//! proportional to the weights. Without the draw, the first of equals would get every request of an idle pool.
//! [`least`] does both.
//!
//! Limit: a backend that fails fast has the fewest requests in flight, so it gets most of the requests. The outlier
//! detection of lb ejects it.

use lb_strategy::{Backends, Error, Host, NoOptions, Pick, Request, Strategy};
use lb_strategy_loads::{Draws, Load, explained, least};

pub struct LeastConnections;

lb_strategy::export!(LeastConnections);

#[inline]
fn choose(backends: &Backends<'_>, request: &Request<'_>) -> Option<usize> {
    least(backends, request, &mut Draws::of(request), Load::of)
}

// === impl LeastConnections ===

impl Strategy for LeastConnections {
    const NAME: &'static str = "least_connections";
    const EXPECTATION: &'static str = r#"{"balance":"by_load","weights":true}"#;
    const EXPLAINS: bool = true;
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        choose(backends, request).map_or(Pick::NoBackend, Pick::Backend)
    }

    /// The load of each candidate.
    fn explain(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> String {
        explained(choose(backends, request), backends, request, |backend| {
            [("in_flight", f64::from(backend.in_flight())), ("weight", f64::from(backend.effective_weight()) / 1e3)]
        })
    }
}

#[cfg(test)]
mod tests {
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::statistics::{chi_square_p, counts};
    use lb_strategy_conformance::{ClosedLoop, Decision, Requests, World, json, properties, small_worlds, strategy};

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

    /// The numbers in the head of this file. Each backend needs 50 ms on average; 5,000 clients.
    #[test]
    fn many_backends_stay_nearly_as_even_as_with_a_look_at_all() {
        const BACKENDS: usize = 1_000;
        let world = World::of(BACKENDS);
        let instance = strategy(&TABLE, &json!({})).unwrap();
        let mut pool = ClosedLoop::new(&instance, world.clone(), 35).unwrap().clients(5 * BACKENDS);
        pool.run(20_000).unwrap();
        let mut fullest = Vec::new();
        for _ in 0..100 {
            pool.run(300).unwrap();
            fullest.push((0..BACKENDS).map(|index| world.load(index)).max().unwrap());
        }
        println!("the fullest of {BACKENDS}: {fullest:?}");
        assert!(fullest.iter().all(|load| *load <= 6), "{fullest:?}");
    }
}
