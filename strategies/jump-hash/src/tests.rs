//! Tests of jump hashing: the published function, even shares, the order of names, and the keys that move.

use lb_strategy::abi::LbStrategyTable;
use lb_strategy_conformance::statistics::{chi_square_p, counts};
use lb_strategy_conformance::{Decision, Refusal, Requests, World, keys, scorecard, strategy};

use super::*;

static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<JumpHash>("0", "test");

const KEYS: usize = 10_000;

fn homes(world: &World) -> Vec<Option<String>> {
    keys::homes(&strategy(&TABLE, &json!({})).unwrap(), world, KEYS, 1).unwrap()
}

/// The part of the keys with another backend.
fn moved(before: &World, after: &World) -> f64 {
    keys::moved_in_vain(&homes(before), &homes(after), None, None) as f64 / KEYS as f64
}

#[test]
fn passes_the_score_card() {
    for seed in [1, 2] {
        assert_eq!(scorecard::complaints(&TABLE, &json!({}), seed), []);
    }
}

/// The expected buckets were computed in Python by figure 1 of the paper.
#[test]
fn buckets_are_the_published_ones() {
    for (key, buckets, expected) in [
        (1, 1, 0),
        (42, 57, 43),
        (0xDEAD_10CC, 1, 0),
        (0xDEAD_10CC, 666, 361),
        (256, 1024, 520),
        (u64::MAX, 100_000, 18_311),
        (12_345_678_901_234_567_890, 1000, 294),
        (7, 0, 0),
    ] {
        assert_eq!(jump(key, buckets), expected, "{key} of {buckets}");
    }
}

/// Section 2 of the paper: a new bucket gets its share from all others, and no key moves between the others.
#[test]
fn a_new_bucket_takes_an_even_share_and_nothing_else_moves() {
    let mut random = fastrand::Rng::with_seed(1);
    let keys: Vec<u64> = (0..50_000).map(|_| random.u64(..)).collect();
    for buckets in [1, 2, 9, 100] {
        let taken = keys.iter().filter(|key| {
            let (before, after) = (jump(**key, buckets), jump(**key, buckets + 1));
            assert!(after == before || after == buckets, "key {key}: from {before} to {after} of {buckets}");
            after == buckets
        });
        let (taken, rest) = (taken.count() as u64, f64::from(buckets));
        let p = chi_square_p(&[taken, keys.len() as u64 - taken], &[1.0, rest]);
        assert!(p > 0.001, "{taken} of {} keys go to bucket {buckets}: p {p}", keys.len());
    }
}

/// Table 1 of the paper: no spread but that of the keys.
#[test]
fn shares_are_even_but_for_the_chance_of_the_keys() {
    let mut random = fastrand::Rng::with_seed(2);
    for buckets in [3, 10, 1000] {
        let shares = counts(buckets, (0..200_000).map(|_| jump(random.u64(..), buckets as u32) as usize));
        let p = chi_square_p(&shares, &vec![1.0; buckets]);
        assert!((0.001..0.999).contains(&p), "{buckets} buckets: p {p}");
    }
}

#[test]
fn the_last_backend_may_come_and_go_and_one_in_the_middle_may_not() {
    let (ten, eleven) = (World::of(10), World::of(11));
    let (before, after) = (homes(&ten), homes(&eleven));
    assert_eq!(keys::moved_in_vain(&before, &after, None, Some("b10")), 0);
    assert_eq!(keys::moved_in_vain(&after, &before, Some("b10"), None), 0);
    // What it declares that it cannot do: a tenth of the keys must move.
    let of_the_middle = moved(&ten, &ten.clone().without(5));
    assert!((0.4..0.6).contains(&of_the_middle), "{of_the_middle}");
}

#[test]
fn buckets_are_in_order_of_name_and_number_in_any_list() {
    let names = ["cache-2", "cache-10", "cache-1", "b", "cache-1a", "cache-01"];
    let world = World::named(names).weights(&[2, 1, 1, 1, 1, 1]);
    let owners = Buckets::of(&world.list().lend()).0;
    let in_order: Vec<_> = owners.iter().map(|owner| world.name(*owner as usize)).collect();
    assert_eq!(in_order, ["b", "cache-01", "cache-1", "cache-1a", "cache-2", "cache-2", "cache-10"]);
    assert_eq!(moved(&world, &world.clone().reversed()), 0.0);
}

#[test]
fn the_order_of_names_is_total() {
    let names =
        ["", "a", "a0", "a00", "a1", "a01", "a1b", "a1b2", "a10", "ab", "b", "0", "00", "7", "07x", "7x", "é", "è1"];
    for one in names {
        for two in names {
            assert_eq!(by_name(one, two), by_name(two, one).reverse(), "{one} {two}");
            assert_eq!(by_name(one, two) == Ordering::Equal, one == two, "{one} {two}");
            for three in names {
                if by_name(one, two).is_lt() && by_name(two, three).is_lt() {
                    assert!(by_name(one, three).is_lt(), "{one} {two} {three}");
                }
            }
        }
    }
}

#[test]
fn an_outage_moves_only_the_keys_of_that_backend() {
    let up = [true, true, false, true, true];
    let (before, out) = (homes(&World::of(5)), homes(&World::of(5).up(&up)));
    assert_eq!(keys::moved_in_vain(&before, &out, Some("b2"), None), 0);
    assert!(before != out);
}

/// Another order or function would move keys at an update of lb.
#[test]
fn keys_are_where_they_were_in_earlier_versions() {
    assert_eq!(
        homes(&World::of(10)).into_iter().take(12).flatten().collect::<Vec<_>>().join(" "),
        "b5 b8 b5 b8 b7 b0 b7 b9 b1 b4 b1 b3"
    );
}

#[test]
fn without_a_key_the_host_decides() {
    let picker = World::of(3).picker(&strategy(&TABLE, &json!({})).unwrap()).unwrap();
    assert_eq!(Requests::seeded(1).ask().without_key().pick(&picker), Decision::Refused(Refusal::Undecided));
}

#[test]
fn options_are_refused() {
    let Err(error) = strategy(&TABLE, &json!({ "buckets": 7 })) else { panic!("it has no options") };
    assert!(error.contains("buckets"), "{error}");
}
