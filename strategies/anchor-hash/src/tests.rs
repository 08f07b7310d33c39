//! Tests of AnchorHash: the definition of the paper, minimal moves in any history, and the state that is kept.
//!
//! Invariant: expected buckets come from the sets of the paper's definition, not from the arrays.

use lb_hashing::{mix, part_of};
use lb_strategy::abi::LbStrategyTable;
use lb_strategy_conformance::statistics::{chi_square_p, counts};
use lb_strategy_conformance::{Decision, Refusal, Requests, World, keys, scorecard, strategy};

use super::*;

static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<AnchorHash>("0", "test");

const KEYS: usize = 5_000;

fn random_world(random: &mut fastrand::Rng) -> World {
    let names = (0..12).filter(|_| random.bool()).map(|number| format!("b{number}")).collect::<Vec<_>>();
    let weights: Vec<u32> = names.iter().map(|_| random.u32(1..4)).collect();
    World::named(names).weights(&weights)
}

#[test]
fn passes_the_score_card() {
    for seed in [1, 2] {
        assert_eq!(scorecard::complaints(&TABLE, &json!({}), seed), []);
    }
}

/// Section III of the paper: W_b is the set of the buckets that work right after the removal of `b`. Here it is a list,
/// in which the last one takes the place of the removed one.
#[test]
fn buckets_are_those_of_the_definition() {
    let mut random = fastrand::Rng::with_seed(1);
    for capacity in [1, 2, 7, 40] {
        let mut anchor = Anchor::full(capacity);
        let mut working: Vec<u32> = (0..capacity).collect();
        // The removed buckets with the lists of those that worked right before and right after.
        let mut removed: Vec<(u32, Vec<u32>, Vec<u32>)> = Vec::new();
        for _ in 0..200 {
            if random.bool() && working.len() > 1 {
                let before = working.clone();
                let bucket = working.swap_remove(random.usize(..working.len()));
                anchor.remove(bucket);
                removed.push((bucket, before, working.clone()));
            } else if let Some((bucket, before, _)) = removed.pop() {
                assert_eq!(anchor.add(), Some(bucket));
                working = before;
            }
            for _ in 0..50 {
                let hash = random.u64(..);
                let mut bucket = part_of(hash, u64::from(capacity)) as u32;
                while let Some((_, _, after)) = removed.iter().find(|(gone, _, _)| *gone == bucket) {
                    bucket = after[part_of(mix(hash, u64::from(bucket)), after.len() as u64) as usize];
                }
                assert_eq!(anchor.bucket(hash), bucket, "{hash:x} of {capacity}, removed {removed:?}");
            }
        }
    }
}

#[test]
fn each_change_of_a_long_history_moves_only_the_keys_that_must() {
    let mut random = fastrand::Rng::with_seed(2);
    let instance = strategy(&TABLE, &json!({ "capacity": 64 })).unwrap();
    let mut world = World::of(6);
    let mut before = keys::homes(&instance, &world, KEYS, 1).unwrap();
    for step in 0..60 {
        let next = random_world(&mut random);
        let after = keys::homes(&instance, &next, KEYS, 1).unwrap();
        let weight = |world: &World, name: &str| {
            (0..world.len()).find(|index| world.name(*index) == name).map_or(0, |index| world.weight(index))
        };
        for (old, new) in before.iter().zip(&after) {
            if old != new
                && let (Some(old), Some(new)) = (old, new)
            {
                let has_lost = weight(&next, old) < weight(&world, old);
                let has_gained = weight(&next, new) > weight(&world, new);
                assert!(has_lost || has_gained, "step {step}: a key moved from {old} to {new}");
            }
        }
        (world, before) = (next, after);
    }
}

#[test]
fn shares_stay_even_after_a_long_history() {
    let mut random = fastrand::Rng::with_seed(3);
    let instance = strategy(&TABLE, &json!({ "capacity": 128 })).unwrap();
    for _ in 0..40 {
        random_world(&mut random).picker(&instance).unwrap();
    }
    let weights = [1, 2, 3, 4, 0, 5];
    let picker = World::of(6).weights(&weights).picker(&instance).unwrap();
    let mut requests = Requests::seeded(4);
    let shares = counts(6, (0..30_000).map(|_| requests.ask().pick_backend(&picker).unwrap()));
    let p = chi_square_p(&[shares[0], shares[1], shares[2], shares[3], shares[5]], &[1.0, 2.0, 3.0, 4.0, 5.0]);
    assert!(p > 0.001 && shares[4] == 0, "{shares:?}: p {p}");
}

/// What the file says that it cannot do: with other histories, two instances disagree.
#[test]
fn instances_agree_if_their_histories_do() {
    let world = World::of(6);
    let of_history = |history: &[World]| {
        let instance = strategy(&TABLE, &json!({})).unwrap();
        history.iter().for_each(|world| drop(world.picker(&instance).unwrap()));
        keys::homes(&instance, &world, KEYS, 1).unwrap()
    };
    let fresh = of_history(&[]);
    assert_eq!(of_history(&[World::of(6).reversed(), World::of(6).up(&[false; 6])]), fresh);
    assert!(of_history(&[world.clone(), World::of(9)]) == fresh, "what came at last left at first");
    let other = [world.clone(), world.clone().without(1), world.clone().without(2).without(1)];
    assert!(of_history(&other) != fresh);
}

#[test]
fn all_backends_may_leave_and_come_back() {
    let instance = strategy(&TABLE, &json!({ "capacity": 4 })).unwrap();
    let before = keys::homes(&instance, &World::of(3), KEYS, 1).unwrap();
    assert!(keys::homes(&instance, &World::of(0), KEYS, 1).unwrap().iter().all(Option::is_none));
    let one = keys::homes(&instance, &World::named(["z"]), KEYS, 1).unwrap();
    assert!(one.iter().all(|home| home.as_deref() == Some("z")));
    let after = keys::homes(&instance, &World::of(3), KEYS, 1).unwrap();
    let shares = |homes: &[Option<String>]| {
        counts(3, homes.iter().flatten().map(|name| name[1..].parse::<usize>().expect("b0 to b2")))
    };
    for shares in [shares(&before), shares(&after)] {
        assert!(chi_square_p(&shares, &[1.0; 3]) > 0.001, "{shares:?}");
    }
}

#[test]
fn a_successor_continues_the_history() {
    let mut random = fastrand::Rng::with_seed(5);
    let old = strategy(&TABLE, &json!({ "capacity": 64 })).unwrap();
    for _ in 0..30 {
        random_world(&mut random).picker(&old).unwrap();
        let new = strategy(&TABLE, &json!({ "capacity": 64 })).unwrap();
        new.import_state(STATE_VERSION, &old.export_state().unwrap().unwrap()).unwrap();
        let (world, up) = (World::of(12), [true, false, true, true, true, true, false, true, true, true, true, true]);
        let copy = strategy(&TABLE, &json!({ "capacity": 64 })).unwrap();
        copy.import_state(STATE_VERSION, &old.export_state().unwrap().unwrap()).unwrap();
        let homes = |instance| keys::homes(instance, &world.clone().up(&up), 500, 1).unwrap();
        assert_eq!(homes(&new), homes(&copy));
        let owned = |bytes: &[u8]| Owned::import(64, bytes).unwrap();
        let exported = old.export_state().unwrap().unwrap();
        assert_eq!(owned(&exported).export(), exported);
    }
}

#[test]
fn a_damaged_history_is_refused() {
    let mut owned = Owned::new(8);
    owned.follow(&BTreeMap::from([(1, (0, 2)), (2, (1, 1))])).unwrap();
    let good = owned.export();
    assert!(Owned::import(8, &good).is_ok() && Owned::import(16, &good).is_err());
    for length in 0..good.len() {
        assert!(Owned::import(8, &good[..length]).is_err(), "{length} bytes");
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        if let Ok(other) = Owned::import(8, &bad) {
            // An id may be any number.
            assert_eq!(other.anchor, owned.anchor, "byte {at}");
        }
    }
    let vacant = Owned::new(8).export();
    assert_eq!(Owned::import(8, &vacant).unwrap().vacant, Some(0));
}

#[test]
fn a_list_that_is_too_heavy_is_refused_and_changes_nothing() {
    let instance = strategy(&TABLE, &json!({ "capacity": 8 })).unwrap();
    let before = keys::homes(&instance, &World::of(4), KEYS, 1).unwrap();
    let Err(error) = World::of(3).weights(&[4, 4, 1]).picker(&instance) else { panic!("9 of 8 buckets") };
    assert!(error.contains("sum to 9") && error.contains("set capacity to 32 or more"), "{error}");
    assert_eq!(keys::homes(&instance, &World::of(4), KEYS, 1).unwrap(), before);
}

/// Another order of buckets would move keys at an update of lb.
#[test]
fn keys_are_where_they_were_in_earlier_versions() {
    let homes = keys::homes(&strategy(&TABLE, &json!({})).unwrap(), &World::of(10), 12, 1).unwrap();
    assert_eq!(homes.into_iter().flatten().collect::<Vec<_>>().join(" "), "b3 b1 b4 b6 b0 b8 b0 b4 b6 b6 b6 b8");
}

#[test]
fn without_a_key_the_host_decides() {
    let picker = World::of(3).picker(&strategy(&TABLE, &json!({})).unwrap()).unwrap();
    assert_eq!(Requests::seeded(1).ask().without_key().pick(&picker), Decision::Refused(Refusal::Undecided));
}

#[test]
fn options_out_of_range_or_unknown_are_refused_by_name() {
    for (options, word) in [
        (json!({ "capacity": 0 }), "capacity is 0"),
        (json!({ "capacity": 1_048_577 }), "1 to 1048576"),
        (json!({ "buckets": 9 }), "buckets"),
    ] {
        let Err(error) = strategy(&TABLE, &options) else { panic!("{options} was taken") };
        assert!(error.contains(word), "{error}");
    }
}
