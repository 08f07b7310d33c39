//! Tests of the ring: the law of its shares and the positions of its points.
//!
//! Invariant: expected values come from Python, the exact law or a plain binary search, never from the code under test.

use lb_strategy_conformance::World;
use lb_strategy_conformance::statistics::{kolmogorov_smirnov_p, peak_to_mean};
use statrs::distribution::{Beta, ContinuousCDF};

use super::*;

const SETS: usize = 300;

/// The exact total length of each member's arcs. The circle has 2^64.
fn arcs(members: &[(&str, u32)], points: u32) -> Vec<u64> {
    let ring = Ring::new(&place(members, points));
    let mut arcs = vec![0_u64; members.len()];
    ring.lengths().for_each(|(at, length)| arcs[ring.owner(at).expect("a point")] += length);
    arcs
}

/// The shares on 300 rings of `n` fixed names each. Two threads, because unoptimised hashing is slow.
fn shares(n: usize, points: u32) -> Vec<Vec<f64>> {
    let of_set = |set: usize| {
        let names: Vec<String> = (0..n).map(|index| format!("set {set} backend {index}")).collect();
        let members: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        arcs(&members, points).into_iter().map(|arc| arc as f64 / 2_f64.powi(64)).collect()
    };
    let half = |sets: std::ops::Range<usize>| sets.map(of_set).collect::<Vec<Vec<f64>>>();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| half(SETS / 2..SETS));
        let mut all = half(0..SETS / 2);
        all.extend(second.join().expect("no panic"));
        all
    })
}

/// Checks the law of a ring with K points per backend. The mean of peak to mean must be within 3 % of the value that
/// was computed from the exact law. The share of one backend must follow Beta(K, K(N-1)).
///
/// The shares of one ring depend on each other, because their sum is 1. So each ring gives the second test one sample:
/// the share of its first backend.
fn follows_the_law(points: u32, expected_peaks: [(usize, f64); 3]) {
    for (n, expected) in expected_peaks {
        let shares = shares(n, points);
        let peak = shares.iter().map(|ring| peak_to_mean(ring)).sum::<f64>() / SETS as f64;
        let k = f64::from(points);
        let law = Beta::new(k, k * (n as f64 - 1.0)).expect("a law");
        let first: Vec<f64> = shares.iter().map(|ring| ring[0]).collect();
        let p = kolmogorov_smirnov_p(&first, |share| law.cdf(share));
        println!(
            "K {points}, N {n}: peak/mean {peak:.4}, table {expected}, {:+.2} %; Kolmogorov-Smirnov p {p:.3}",
            (peak / expected - 1.0) * 100.0
        );
        assert!((peak / expected - 1.0).abs() < 0.03, "peak/mean {peak} is not within 3 % of {expected}");
        assert!(p > 0.01, "shares do not follow Beta({k}, {}): p {p}", k * (n as f64 - 1.0));
    }
}

#[test]
fn shares_of_9_points_follow_the_law() {
    follows_the_law(9, [(3, 1.29), (10, 1.58), (100, 2.03)]);
}

#[test]
fn shares_of_100_points_follow_the_law() {
    follows_the_law(100, [(3, 1.09), (10, 1.16), (100, 1.27)]);
}

#[test]
fn shares_of_160_points_follow_the_law() {
    follows_the_law(160, [(3, 1.07), (10, 1.13), (100, 1.21)]);
}

/// The standard error of a share, relative to the mean, on rings with 1 and 10 points. It is published in table 1 of
/// "A Fast, Minimal Memory, Consistent Hash Algorithm" (Lamping and Veach, 2014). Our rings have 100 backends.
#[test]
fn the_spread_of_shares_is_the_published_one() {
    for (points, published) in [(1, 0.997_906_0), (10, 0.315_181_0)] {
        let samples: Vec<f64> = shares(100, points).concat();
        let squares: f64 = samples.iter().map(|share| (share * 100.0 - 1.0).powi(2)).sum();
        let error = (squares / samples.len() as f64).sqrt();
        println!("{points} points: standard error {error:.4}, published {published}");
        assert!((error / published - 1.0).abs() < 0.03, "{points} points: {error}, not {published}");
    }
}

/// The expected values were computed with Python's hashlib, independent of this code:
/// `d = sha256(name + b"\0" + pack(">I", j // 4)).digest(); unpack(">Q", d[8 * (j % 4):][:8])`.
#[test]
fn points_follow_the_recipe() {
    let expected = [
        (
            "Server 1",
            [0x83b3612b65a82924, 0xc800c641af9ce442, 0x3ce53d1f25df9f9c, 0x8f371638202ef513, 0xc25e94a0febc31eb],
        ),
        (
            "Server 2",
            [0x6c82bc3c0a971e1c, 0xe95cc0f0cb290d59, 0x732e050536b8bfde, 0x95f63030b8a23fcd, 0x6d15d015d2ec4a20],
        ),
        ("b", [0xc73e2406d709574e, 0x36d87b57bdddb57a, 0x2c6995edd65ce3c7, 0x0c386035ee1075c7, 0x602281375897a4fe]),
    ];
    for (name, points) in expected {
        assert_eq!(points_of(name).take(5).collect::<Vec<u64>>(), points, "{name}");
    }
    assert_eq!(points_of("b").nth(8), Some(0xd43535717be73dcf));
}

/// The expected arcs were computed with Python as above. The points are sorted, and each arc belongs to the owner of
/// the point at its end.
#[test]
fn arcs_are_those_of_an_independent_computation() {
    let of =
        |weights: [u32; 3]| arcs(&[("Server 1", weights[0]), ("Server 2", weights[1]), ("Server 3", weights[2])], 160);
    assert_eq!(of([1, 1, 1]), [5896744742070277196, 5883655180987825508, 6666344150651448912]);
    assert_eq!(of([1, 2, 1]), [4289645325874467980, 8999641690562125725, 5157457057272957911]);
}

#[test]
fn the_table_finds_what_a_binary_search_finds() {
    let mut random = fastrand::Rng::with_seed(3);
    for (n, points) in [(1, 1), (1, 2), (3, 1), (3, 160), (10, 9), (40, 100)] {
        let names: Vec<String> = (0..n).map(|index| format!("b{index}")).collect();
        let members: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let ring = Ring::new(&place(&members, points));
        let near = ring.positions.iter().flat_map(|point| [point.wrapping_sub(1), *point, point.wrapping_add(1)]);
        let hashes: Vec<u64> = near.chain([0, u64::MAX]).chain((0..10_000).map(|_| random.u64(..))).collect();
        for hash in hashes {
            assert_eq!(
                ring.at_or_after(hash),
                ring.positions.partition_point(|point| *point < hash),
                "{hash:x} of {n}"
            );
        }
    }
}

#[test]
fn points_with_equal_leading_bits_are_told_apart() {
    let ring = Ring::new(&[(1 << 40, 0), ((1 << 40) + 1, 1), ((1 << 40) + 9, 2)]);
    for (hash, at) in [(1 << 40, 0), ((1 << 40) + 1, 1), ((1 << 40) + 2, 2), ((1 << 40) + 10, 3)] {
        assert_eq!(ring.at_or_after(hash), at, "{hash:x}");
    }
}

#[test]
fn points_beyond_the_last_one_are_the_first_ones() {
    let ring = Ring::new(&place(&[("one", 1), ("two", 1)], 1));
    assert_eq!((ring.owner(2), ring.position(3)), (ring.owner(0), ring.position(1)));
    let empty = Ring::new(&[]);
    assert_eq!((empty.at_or_after(7), empty.owner(0), empty.position(5)), (0, None, None));
    assert_eq!(empty.lengths().count(), 0);
}

#[test]
fn points_are_counted_by_weight_or_evenly() {
    let world = World::of(3).weights(&[1, 0, 5]);
    let list = world.list();
    assert_eq!(Ring::by_weight(&list.lend(), 10, "points").expect("a ring").len(), 60);
    assert_eq!(Ring::even(&list.lend(), 10, "points").expect("a ring").len(), 20);
}

#[test]
fn a_ring_that_is_too_large_is_refused_with_the_remedy() {
    let world = World::of(2).weights(&[256, 1]);
    let Err(error) = Ring::by_weight(&world.list().lend(), 4096, "virtual_nodes") else { panic!("too many points") };
    let error = error.to_string();
    assert!(error.contains("1052672 points") && error.contains("set virtual_nodes to 4080 or less"), "{error}");
}
