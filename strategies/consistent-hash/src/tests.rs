//! Tests of the strategy: which backend a key goes to, and the keys that move. The crate lb-hashing tests the ring.
//!
//! Invariant: expected values come from Python or a plain binary search, never from the code under test.

use lb_strategy::RING_ARCS_MAX;
use lb_strategy::abi::LbStrategyTable;
use lb_strategy_conformance::request::key_hash;
use lb_strategy_conformance::{Decision, Picker, Refusal, Requests, World, properties, strategy};
use serde_json::Value;

use super::*;

static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<ConsistentHash>("0", "test");

const KEYS: u32 = 10_000;

fn picker(world: &World) -> Picker {
    world.picker(&strategy(&TABLE, &json!({})).expect("defaults")).expect("a picker")
}

/// The name of the backend that each key goes to.
fn homes(world: &World) -> Vec<String> {
    let (picker, mut requests) = (picker(world), Requests::seeded(7));
    (0..KEYS)
        .map(|key| requests.ask().key(key.to_string()).pick_backend(&picker).expect("a backend is up"))
        .map(|index| world.name(index).to_owned())
        .collect()
}

#[test]
fn has_the_properties_of_every_strategy() {
    properties::check_all(&TABLE, &json!({})).unwrap();
    properties::check_all(&TABLE, &json!({ "virtual_nodes": 1 })).unwrap();
}

#[test]
fn a_key_goes_to_its_backend_on_the_ring_and_stays() {
    let world = World::of(10);
    let ring = Ring::by_weight(&world.list().lend(), 160, "virtual_nodes").unwrap();
    let points: Vec<_> = (0..ring.len()).map(|at| (ring.position(at).unwrap(), ring.owner(at).unwrap())).collect();
    let expected = (0..KEYS).map(|key| {
        let at = points.partition_point(|point| point.0 < key_hash(key.to_string().as_bytes()));
        world.name(points[at % points.len()].1).to_owned()
    });
    assert_eq!(homes(&world), expected.collect::<Vec<_>>());
    assert_eq!(homes(&world), homes(&world.clone()), "the same picks again");
}

#[test]
fn a_removed_backend_loses_its_keys_and_no_other_key_moves() {
    let world = World::of(10);
    let before = homes(&world);
    for gone in 0..10 {
        let after = homes(&world.clone().without(gone));
        for (was, is) in before.iter().zip(&after) {
            assert!(
                was == is || was == world.name(gone),
                "a key of {was} moved to {is} when {} left",
                world.name(gone)
            );
            assert_ne!(is, world.name(gone));
        }
        assert!(before.iter().any(|was| was == world.name(gone)), "the removed backend had keys");
    }
}

#[test]
fn an_added_backend_gets_keys_and_no_other_key_moves() {
    let (before, after) = (homes(&World::of(10)), homes(&World::of(11)));
    let moved =
        before.iter().zip(&after).filter(|(was, is)| was != is).inspect(|(_, is)| assert_eq!(*is, "b10")).count();
    let share = moved as f64 / f64::from(KEYS);
    assert!((share - 1.0 / 11.0).abs() < 0.03, "{share} of the keys moved, 1/11 is fair");
}

#[test]
fn the_order_of_the_list_is_irrelevant() {
    assert_eq!(homes(&World::of(10)), homes(&World::of(10).reversed()));
}

#[test]
fn one_instance_serves_the_list_in_another_order() {
    let instance = strategy(&TABLE, &json!({})).unwrap();
    let (world, reversed) = (World::of(4), World::of(4).reversed());
    let (picker, other) = (world.picker(&instance).unwrap(), reversed.picker(&instance).unwrap());
    for ask in std::iter::repeat_with({
        let mut requests = Requests::seeded(5);
        move || requests.ask()
    })
    .take(1000)
    {
        let (one, two) = (ask.pick_backend(&picker).unwrap(), ask.pick_backend(&other).unwrap());
        assert_eq!(world.name(one), reversed.name(two));
    }
}

#[test]
fn an_outage_moves_the_keys_as_a_removal_would_and_they_come_back() {
    let world = World::of(5);
    let up = [true, true, false, true, true];
    assert_eq!(homes(&world.clone().up(&up)), homes(&world.clone().without(2)));
    assert_eq!(homes(&world.clone().up(&up).up(&[true; 5])), homes(&world));
}

#[test]
fn a_retry_goes_where_the_key_would_go_without_the_tried_one() {
    let world = World::of(5);
    let (all, fewer) = (picker(&world), picker(&world.clone().without(0)));
    let mut requests = Requests::seeded(9);
    for _ in 0..1000 {
        let ask = requests.ask();
        let retry = ask.clone().tried(&[0]).pick_backend(&all).unwrap();
        assert_eq!(retry, ask.pick_backend(&fewer).unwrap() + 1);
    }
}

#[test]
fn the_ring_is_kept_while_only_health_changes() {
    let instance = ConsistentHash::new(Options { virtual_nodes: 160 }, Host::NONE).unwrap();
    let ring = |world: &World| instance.picker(&world.list().lend()).unwrap().0;
    let first = ring(&World::of(3));
    assert!(Arc::ptr_eq(&first, &ring(&World::of(3).up(&[true, false, true]))), "health");
    let weighted = ring(&World::of(3).weights(&[1, 2, 1]));
    assert!(!Arc::ptr_eq(&first, &weighted), "weights");
    assert_eq!(weighted.len(), 4 * 160);
    assert!(!Arc::ptr_eq(&weighted, &ring(&World::of(4))), "members");
}

#[test]
fn without_a_key_the_host_decides() {
    let ask = Requests::seeded(1).ask().without_key();
    assert_eq!(ask.pick(&picker(&World::of(3))), Decision::Refused(Refusal::Undecided));
}

#[test]
fn explain_names_the_picked_backend_and_those_walked_over() {
    let world = World::of(4).up(&[true, false, true, true]);
    let picker = picker(&world);
    let mut requests = Requests::seeded(11);
    let mut walks = 0;
    for _ in 0..200 {
        let ask = requests.ask().tried(&[3]);
        let words: Value = serde_json::from_str(&ask.explain(&picker).expect("it explains")).expect("JSON");
        assert_eq!(words["backend"], world.name(ask.pick_backend(&picker).unwrap()));
        let walked_over = words["walked_over"].as_array().unwrap();
        assert!(walked_over.iter().all(|name| name == "b1" || name == "b3"), "{words}");
        walks += usize::from(!walked_over.is_empty());
    }
    assert!(walks > 50, "half of the keys have an owner that may not serve, and {walks} of 200 walked");
    let words = requests.ask().without_key().explain(&picker).unwrap();
    assert!(words.contains("no key"), "{words}");
}

#[test]
fn a_ring_that_is_too_large_is_refused_with_the_remedy() {
    let instance = strategy(&TABLE, &json!({ "virtual_nodes": 4096 })).unwrap();
    let Err(error) = World::of(2).weights(&[256, 1]).picker(&instance) else { panic!("1,052,672 points were taken") };
    assert!(error.contains("1052672 points") && error.contains("set virtual_nodes to 4080 or less"), "{error}");
}

#[test]
fn options_out_of_range_or_unknown_are_refused_by_name() {
    for (options, word) in [
        (json!({ "virtual_nodes": 0 }), "virtual_nodes is 0"),
        (json!({ "virtual_nodes": 4097 }), "1 to 4096"),
        (json!({ "virtual_nodes": -1 }), "-1"),
        (json!({ "vnodes": 9 }), "vnodes"),
    ] {
        let Err(error) = strategy(&TABLE, &options) else { panic!("{options} was taken") };
        assert!(error.contains(word), "{error}");
    }
}

/// The number of arcs in the ring from `explain`, and the share of each backend by length of arcs.
fn told_parts(world: &World) -> (usize, Vec<f64>) {
    let words = Requests::seeded(1).ask().without_key().explain(&picker(world)).expect("it explains");
    let words: Value = serde_json::from_str(&words).expect("JSON");
    let arcs = words["ring"].as_array().expect("a ring");
    let mut parts = vec![0.0; world.len()];
    let mut begin = arcs.last().expect("arcs")[0].as_f64().expect("an end") - 1.0;
    for arc in arcs {
        let end = arc[0].as_f64().expect("an end");
        parts[arc[1].as_u64().expect("a backend") as usize] += end - begin;
        begin = end;
    }
    (arcs.len(), parts)
}

#[test]
fn the_ring_from_explain_is_the_one_that_picks() {
    let names = ["Server 1", "Server 2", "Server 3"];
    let (arcs, parts) = told_parts(&World::named(names));
    // The lengths from Python, as above.
    let exact = [5896744742070277196_u64, 5883655180987825508, 6666344150651448912];
    assert_eq!(arcs, 480);
    for (part, exact) in parts.iter().zip(exact) {
        assert!((part - exact as f64 / 2_f64.powi(64)).abs() < 1e-7, "{part} and {exact}");
    }
    let keyed = Requests::seeded(1).ask().explain(&picker(&World::named(names))).expect("it explains");
    assert!(!keyed.contains("\"ring\""), "a request with a key does not ask for the ring");
}

#[test]
fn a_ring_of_too_many_points_is_explained_in_equal_arcs() {
    let world = World::of(150);
    let ring = Ring::by_weight(&world.list().lend(), 160, "virtual_nodes").unwrap();
    let mut exact = vec![0_u64; 150];
    ring.lengths().for_each(|(at, length)| exact[ring.owner(at).unwrap()] += length);
    let (told, parts) = told_parts(&world);
    assert_eq!(told, RING_ARCS_MAX);
    for (part, exact) in parts.iter().zip(exact) {
        let exact = exact as f64 / 2_f64.powi(64);
        assert!((part / exact - 1.0).abs() < 0.25, "{part} and {exact}");
    }
}

#[test]
fn a_slow_start_moves_no_key() {
    let world = World::of(4).weights(&[1, 2, 3, 4]);
    let before = homes(&world);
    for part in [10, 100, 900] {
        assert_eq!(homes(&world.clone().shares(&[1000, part, 1000, part])), before, "{part}");
    }
}
