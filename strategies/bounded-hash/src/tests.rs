//! Tests of the caps: never above them, the plain ring without them, and counts that return to 0.

use lb_strategy::abi::LbStrategyTable;
use lb_strategy_conformance::statistics::spread;
use lb_strategy_conformance::{ClosedLoop, Decision, Picker, Refusal, Requests, World, keys, scorecard, strategy};
use serde_json::Value;

use super::*;

static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<BoundedHash>("0", "test");

fn picker(world: &World, options: &Value) -> Picker {
    world.picker(&strategy(&TABLE, options).unwrap()).unwrap()
}

fn loads(world: &World) -> Vec<u32> {
    (0..world.len()).map(|index| world.load(index)).collect()
}

/// The most that a backend may have: ceil(c·m·w/W), with `m` in flight.
fn cap(factor: f64, in_flight: u32, weight: u32, weights: u32) -> u32 {
    let thousandths = (factor * 1000.0).round() as u64 * u64::from(in_flight) * u64::from(weight);
    thousandths.div_ceil(1000 * u64::from(weights)) as u32
}

#[test]
fn passes_the_score_card() {
    for (options, seed) in [(json!({}), 1), (json!({}), 2), (json!({ "factor": 1 }), 3)] {
        assert_eq!(scorecard::complaints(&TABLE, &options, seed), []);
    }
}

/// Theorem 1 of the paper. One point for each unit of weight makes the ring so uneven that many requests overflow.
#[test]
fn no_backend_ever_has_more_in_flight_than_its_cap() {
    let mut random = fastrand::Rng::with_seed(1);
    for round in 0..60 {
        let n = random.usize(1..12);
        let weights: Vec<u32> = (0..n).map(|_| random.u32(1..5)).collect();
        let up: Vec<bool> = (0..n).map(|index| index == 0 || random.u8(..4) > 0).collect();
        let factor = [1.0, 1.1, 1.25, 2.0, 7.5][random.usize(..5)];
        let world = World::of(n).weights(&weights).up(&up);
        let sum: u32 = weights.iter().zip(&up).map(|(weight, is_up)| weight * u32::from(*is_up)).sum();
        let instance = strategy(&TABLE, &json!({ "factor": factor, "virtual_nodes": 1 })).unwrap();
        let times: Vec<u64> = (0..n).map(|_| random.u64(1..300)).collect();
        let mut pool = ClosedLoop::new(&instance, world.clone(), round).unwrap();
        pool = pool.clients(random.usize(1..60)).service_ms(&times);
        for _ in 0..500 {
            let picked = pool.run(1).unwrap().iter().position(|count| *count == 1).expect("a pick");
            let loads = loads(&world);
            let cap = cap(factor, loads.iter().sum(), weights[picked], sum);
            assert!(loads[picked] <= cap, "round {round}, factor {factor}: {loads:?} of {weights:?}, cap {cap}");
        }
    }
}

#[test]
fn without_a_bound_it_is_the_plain_ring() {
    let options = json!({ "factor": FACTOR_MAX, "virtual_nodes": 9 });
    let world = World::of(7).weights(&[1, 2, 1, 1, 3, 1, 1]);
    let ring = Ring::by_weight(&world.list().lend(), 9, "virtual_nodes").unwrap();
    let idle = picker(&world, &options);
    let mut pool = ClosedLoop::new(&strategy(&TABLE, &options).unwrap(), world.clone(), 3).unwrap().clients(50);
    let (mut requests, mut plain) = (Requests::seeded(3), vec![0; 7]);
    for _ in 0..5_000 {
        plain[requests.ask().pick_backend(&idle).unwrap()] += 1;
    }
    assert_eq!(pool.run(5_000).unwrap(), plain);
    for number in 0..1000 {
        let key = format!("key {number}");
        let hash = lb_strategy_conformance::request::key_hash(key.as_bytes());
        let owner = ring.owner(ring.at_or_after(hash));
        assert_eq!(requests.ask().key(key).pick_backend(&idle).ok(), owner);
    }
}

/// With the smallest factor, all loads are equal when the requests in flight can be divided evenly.
#[test]
fn with_the_smallest_factor_loads_are_as_even_as_they_can_be() {
    let (world, options) = (World::of(5), json!({ "factor": 1, "virtual_nodes": 1 }));
    let mut pool = ClosedLoop::new(&strategy(&TABLE, &options).unwrap(), world.clone(), 4).unwrap().clients(20);
    pool.run(20).unwrap();
    assert_eq!(loads(&world), [4; 5]);
    for _ in 0..2_000 {
        pool.run(1).unwrap();
        let loads: Vec<u64> = loads(&world).into_iter().map(u64::from).collect();
        assert!(spread(&loads) <= 4, "{loads:?}");
    }
}

#[test]
fn a_smaller_factor_evens_the_loads_of_an_uneven_ring() {
    let busiest = |factor: f64| {
        let options = json!({ "factor": factor, "virtual_nodes": 1 });
        let mut pool = ClosedLoop::new(&strategy(&TABLE, &options).unwrap(), World::of(5), 4).unwrap().clients(100);
        *pool.run(20_000).unwrap().iter().max().unwrap() as f64 / 4_000.0
    };
    let (even, bounded, plain) = (busiest(1.0), busiest(1.25), busiest(1000.0));
    println!("the busiest backend has {even:.3}, {bounded:.3} and {plain:.3} times the mean");
    assert!(even < 1.05 && bounded < 1.27 && plain > 1.5, "{even}, {bounded}, {plain}");
}

#[test]
fn a_hot_key_overflows_always_to_the_same_backends() {
    let world = World::of(10);
    let instance = strategy(&TABLE, &json!({})).unwrap();
    let picker = world.picker(&instance).unwrap();
    let ask = Requests::seeded(1).ask().key("hot");
    let first = ask.pick_backend(&picker).unwrap();
    // The pool's own requests fill the backends; the hot key is only asked for.
    let mut pool = ClosedLoop::new(&instance, world.clone(), 5).unwrap().clients(40);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..500 {
        pool.run(1).unwrap();
        let words: Value = serde_json::from_str(&ask.clone().dry().explain(&picker).unwrap()).unwrap();
        assert_eq!(words["owner"], world.name(first));
        seen.insert(words["backend"].as_str().unwrap().to_owned());
    }
    assert!(seen.contains(world.name(first)) && (2..=4).contains(&seen.len()), "{seen:?}");
}

#[test]
fn counts_return_to_zero_when_all_requests_have_ended() {
    let (count, none) = (AtomicU64::new(2), AtomicU64::new(0));
    assert!(decrease(&count) && !decrease(&none));
    assert_eq!((count.into_inner(), none.into_inner()), (1, 0), "an end without a begin");
    let (world, instance) = (World::of(3), strategy(&TABLE, &json!({})).unwrap());
    let mut pool = ClosedLoop::new(&instance, world.clone(), 6).unwrap().clients(30);
    pool.run(1000).unwrap();
    let in_flight = || {
        let words = Requests::seeded(1).ask().dry().explain(&world.picker(&instance).unwrap()).unwrap();
        serde_json::from_str::<Value>(&words).unwrap()["in_flight_of_all"].as_u64().unwrap()
    };
    assert_eq!(in_flight(), 30);
    // Each run ends requests until fewer than the clients are left, and begins one.
    let mut pool = pool.clients(1);
    for _ in 0..40 {
        pool.run(1).unwrap();
    }
    assert_eq!(in_flight(), u64::from(loads(&world).iter().sum::<u32>()));
}

/// As after a rollback, or when a backend leaves and returns: the slots and the instance are the same as before.
#[test]
fn ends_that_were_not_seen_do_not_count_for_ever() {
    let (world, instance) = (World::of(3), strategy(&TABLE, &json!({})).unwrap());
    let in_flight = |world: &World| {
        let words = Requests::seeded(1).ask().dry().explain(&world.picker(&instance).unwrap()).unwrap();
        serde_json::from_str::<Value>(&words).unwrap()["in_flight_of_all"].as_u64().unwrap()
    };
    let mut pool = ClosedLoop::new(&instance, world.clone(), 6).unwrap().clients(30);
    pool.run(30).unwrap();
    drop(pool);
    assert_eq!(in_flight(&world), 30);
    let of_first = u64::from(world.load(0));
    assert!(of_first > 0);
    assert_eq!(in_flight(&world.clone().without(0)), 30 - of_first, "those of a backend that left do not count");
    world.set_load(0, 0);
    assert_eq!(in_flight(&world), 30 - of_first, "it has returned, and its attempts have ended");
    (1..3).for_each(|index| world.set_load(index, 0));
    assert_eq!(in_flight(&world), 0);
}

#[test]
fn a_retry_and_a_full_pool_still_get_a_backend() {
    let (world, options) = (World::of(2), json!({ "factor": 1 }));
    let instance = strategy(&TABLE, &options).unwrap();
    let mut pool = ClosedLoop::new(&instance, world.clone(), 7).unwrap().clients(3);
    pool.run(3).unwrap();
    let picker = world.picker(&instance).unwrap();
    for tried in [0, 1] {
        let pick = Requests::seeded(8).ask().tried(&[tried]).pick_backend(&picker);
        assert_eq!(pick, Ok(1 - tried as usize));
    }
}

#[test]
fn a_slow_start_moves_no_key_of_an_idle_pool() {
    let instance = strategy(&TABLE, &json!({})).unwrap();
    let world = World::of(4).weights(&[1, 2, 3, 4]);
    let homes = |world: &World| keys::homes(&instance, world, 5_000, 1).unwrap();
    assert_eq!(homes(&world.clone().shares(&[1000, 100, 1000, 10])), homes(&world));
}

#[test]
fn without_a_key_the_host_decides_and_explain_has_the_ring() {
    let picker = picker(&World::of(3), &json!({}));
    let ask = Requests::seeded(1).ask().without_key();
    assert_eq!(ask.pick(&picker), Decision::Refused(Refusal::Undecided));
    let words: Value = serde_json::from_str(&ask.explain(&picker).unwrap()).unwrap();
    assert_eq!(words["ring"].as_array().unwrap().len(), 480);
}

#[test]
fn options_out_of_range_or_unknown_are_refused_by_name() {
    for (options, word) in [
        (json!({ "factor": 0.99 }), "factor is 0.99"),
        (json!({ "factor": 1e7 }), "1 to 1000000"),
        (json!({ "virtual_nodes": 0 }), "virtual_nodes is 0"),
        (json!({ "c": 2 }), "c"),
    ] {
        let Err(error) = strategy(&TABLE, &options) else { panic!("{options} was taken") };
        assert!(error.contains(word), "{error}");
    }
}
