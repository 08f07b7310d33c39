//! Tests of the table: keys stay, memory is bounded, and the first choice is the lighter of two.

use std::collections::HashSet;

use lb_strategy::abi::LbStrategyTable;
use lb_strategy_conformance::statistics::{chi_square_p, counts};
use lb_strategy_conformance::{Decision, Picker, Refusal, Requests, World, keys, scorecard, strategy};

use super::*;

static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<StickyFirst>("0", "test");

fn pick(requests: &mut Requests, picker: &Picker, key: usize) -> usize {
    requests.ask().key(key.to_string()).pick_backend(picker).unwrap()
}

/// How many of `keys` keys, asked for in this order for the second time, are where they were the first time.
fn kept(picker: &Picker, keys: impl Iterator<Item = usize> + Clone) -> usize {
    let mut requests = Requests::seeded(1);
    let first: Vec<usize> = keys.clone().map(|key| pick(&mut requests, picker, key)).collect();
    let second: Vec<usize> = keys.map(|key| pick(&mut requests, picker, key)).collect();
    first.iter().zip(&second).filter(|(first, second)| first == second).count()
}

#[test]
fn passes_the_score_card() {
    for seed in [1, 2] {
        assert_eq!(scorecard::complaints(&TABLE, &json!({}), seed), []);
    }
}

#[test]
fn a_key_stays_where_it_was_first_whatever_comes() {
    let instance = strategy(&TABLE, &json!({})).unwrap();
    let homes = |world: &World, seed| keys::homes(&instance, world, 3_000, seed).unwrap();
    let before = homes(&World::of(3), 1);
    assert_eq!(homes(&World::of(30).reversed(), 2), before, "a larger pool in another order");
    let world = World::of(3);
    (0..3).for_each(|index| world.set_load(index, 100 * index as u32));
    assert_eq!(homes(&world, 3), before, "loads");
}

#[test]
fn an_outage_moves_keys_once_and_a_retry_does_not_move_them() {
    let instance = strategy(&TABLE, &json!({})).unwrap();
    let homes = |world: &World| keys::homes(&instance, world, 2_000, 1).unwrap();
    let before = homes(&World::of(4));
    let picker = World::of(4).picker(&instance).unwrap();
    for number in 0..2_000 {
        let ask = Requests::seeded(number).ask().key(format!("key {number}"));
        assert_ne!(ask.tried(&[1]).pick_backend(&picker), Ok(1));
    }
    assert_eq!(homes(&World::of(4)), before, "retries");
    let out = homes(&World::of(4).up(&[true, false, true, true]));
    assert_eq!(keys::moved_in_vain(&before, &out, Some("b1"), None), 0);
    assert_eq!(homes(&World::of(4)), out, "its keys stay where the outage has moved them");
}

#[test]
fn a_new_key_goes_to_the_lighter_of_two() {
    let world = World::of(2).weights(&[1, 3]);
    let (picker, mut requests) = (world.picker(&strategy(&TABLE, &json!({})).unwrap()).unwrap(), Requests::seeded(2));
    world.set_load(0, 1);
    world.set_load(1, 4);
    // 2/1 against 5/3: the second is lighter, unless both draws, of weight 1/4 each, are the first.
    let shares = counts(2, (0..20_000).map(|key| pick(&mut requests, &picker, key)));
    let p = chi_square_p(&shares, &[1.0, 15.0]);
    assert!(p > 0.001, "{shares:?}: p {p}");
}

#[test]
fn the_table_keeps_as_many_keys_as_it_says() {
    let picker = |keys: usize| World::of(50).picker(&strategy(&TABLE, &json!({ "keys": keys })).unwrap()).unwrap();
    // A quarter full: nearly no set has more than its 8 keys.
    assert!(kept(&picker(4096), 0..1024) > 1020);
    // Sixteen times too many: a key that returns is mostly new again.
    let lost = kept(&picker(4096), 0..65_536);
    assert!(lost < 65_536 / 5, "{lost}");
}

#[test]
fn keys_in_use_outlive_many_that_come_once() {
    let picker = World::of(50).picker(&strategy(&TABLE, &json!({ "keys": 1024 })).unwrap()).unwrap();
    let mut requests = Requests::seeded(3);
    let mut homes: Vec<usize> = (0..100).map(|key| pick(&mut requests, &picker, key)).collect();
    let mut moved = 0;
    for rare in 0..20_000 {
        pick(&mut requests, &picker, 1000 + rare);
        if rare % 100 == 0 {
            for (key, home) in homes.iter_mut().enumerate() {
                let now = pick(&mut requests, &picker, key);
                moved += usize::from(now != *home);
                *home = now;
            }
        }
    }
    // A random choice of the place would move about 2,000.
    assert!(moved < 300, "{moved} of 20,000");
}

#[test]
fn a_set_takes_the_free_place_first_and_then_one_that_is_not_in_use() {
    let (set, place) = (Set::default(), |key: u64| Place(key << 32 | Place::USED | 5));
    for key in 1..=8 {
        set.put(place(key), 0);
    }
    let held = || set.0.iter().map(|place| place.load(Relaxed) >> 32).collect::<HashSet<_>>();
    assert_eq!(held(), (1..=8).collect());
    // All are in use: the search takes each mark and comes back to its first place, the one of key 3.
    set.put(place(9), 2);
    assert!(held().contains(&9) && !held().contains(&3) && held().len() == 8);
    // Now no mark is left but that of key 9, which is at the first place of this search.
    set.put(place(10), 2);
    assert!(held().contains(&9) && !held().contains(&4) && held().len() == 8);
    set.put(Place(9 << 32 | Place::USED | 6), 2);
    assert!(set.0.iter().any(|place| place.load(Relaxed) == 9 << 32 | Place::USED | 6) && held().len() == 8);
}

#[test]
fn dry_picks_are_not_remembered() {
    let picker = World::of(20).picker(&strategy(&TABLE, &json!({})).unwrap()).unwrap();
    let mut requests = Requests::seeded(4);
    let picks: HashSet<_> = (0..100).map(|_| requests.ask().key("one").dry().pick_backend(&picker)).collect();
    assert!(picks.len() > 5, "{picks:?}");
}

#[test]
fn a_successor_takes_over_the_table_of_the_same_size_only() {
    let old = strategy(&TABLE, &json!({ "keys": 4096 })).unwrap();
    let before = keys::homes(&old, &World::of(9), 1_000, 1).unwrap();
    let state = old.export_state().unwrap().unwrap();
    assert_eq!(state.len(), 4 + 12 * 1_000);
    let new = strategy(&TABLE, &json!({ "keys": 4000 })).unwrap();
    new.import_state(STATE_VERSION, &state).unwrap();
    assert_eq!(keys::homes(&new, &World::of(9).reversed(), 1_000, 2).unwrap(), before);
    let other = strategy(&TABLE, &json!({ "keys": 8192 })).unwrap();
    assert!(other.import_state(STATE_VERSION, &state).is_err());
}

#[test]
fn the_host_takes_the_export_of_the_largest_table() {
    let full = StickyFirst::new(Options { keys: KEYS_MAX }, Host::NONE).unwrap();
    full.places.iter().flat_map(|set| &set.0).for_each(|place| place.store(u64::MAX, Relaxed));
    let state = full.export();
    assert_eq!(state.len(), 4 + ENTRY_BYTES * KEYS_MAX);
    let instance = strategy(&TABLE, &json!({ "keys": KEYS_MAX })).unwrap();
    instance.import_state(STATE_VERSION, &state).unwrap();
    assert!(instance.export_state().unwrap().unwrap() == state);
}

#[test]
fn numbers_lead_back_to_their_backends() {
    let world = World::of(500);
    let list = world.list();
    let numbers = Numbers::of(&list.lend());
    for (index, backend) in list.lend().iter().enumerate() {
        assert_eq!(numbers.index(number(backend.id())), Some(index));
    }
    assert_eq!(numbers.index(number(lb_hashing::mix(7, 7))), None);
    assert_eq!(Numbers::of(&World::of(0).list().lend()).index(7), None);
}

#[test]
fn without_a_key_the_host_decides() {
    let picker = World::of(3).picker(&strategy(&TABLE, &json!({})).unwrap()).unwrap();
    assert_eq!(Requests::seeded(1).ask().without_key().pick(&picker), Decision::Refused(Refusal::Undecided));
}

#[test]
fn options_out_of_range_or_unknown_are_refused_by_name() {
    for (options, word) in [
        (json!({ "keys": 7 }), "keys is 7"),
        (json!({ "keys": 1_048_577 }), "8 to 1048576"),
        (json!({ "ttl": 9 }), "ttl"),
    ] {
        let Err(error) = strategy(&TABLE, &options) else { panic!("{options} was taken") };
        assert!(error.contains(word), "{error}");
    }
}
