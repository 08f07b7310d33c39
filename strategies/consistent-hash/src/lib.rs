//! Consistent hashing: a ring with virtual nodes. The same key goes to the same backend as long as that one is there.
//!
//! Idea: every backend owns many points on a circle of 2^64; a key goes to the first point at or after its hash. A backend that leaves
//! gives its arcs to the next points and nothing else moves. Source: Karger et al., "Consistent Hashing and Random Trees", STOC 1997;
//! 160 points per backend as in Ketama (last.fm, 2007).
//!
//! Recipe, the same on every node, so that two balancers agree: point `j` of a backend is the 8 bytes, big-endian, at 8·(j mod 4) of
//! SHA-256(name, 0x00, (j div 4) as u32 big-endian); a backend has virtual_nodes × weight points; equal points are in order of name.
//!
//! Balance: with N backends of K points each, one's share is Beta(K, K(N-1)): the fullest of 100 backends has 1.21 of the mean at
//! K = 160 and 1.08 at 1000. Cost: 12 bytes a point, and a pick of a table read and one or two steps, whatever the size.
//!
//! Invariants: the ring holds all members with weight, eligible or not, so an outage moves only the keys of those that are out (a pick
//! walks on clockwise) and they come back to where they were. Order of the list is irrelevant. The ring is kept while members stay.

use std::sync::{Arc, Mutex, PoisonError};

use lb_strategy::{Backends, Error, Host, Pick, Request, Strategy};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

/// Points of one backend of weight 1, at most.
const VIRTUAL_NODES_MAX: u32 = 4096;
/// Points of a ring, at most: 20 MB, and about half a second to build.
const POINTS_MAX: u64 = 1 << 20;

pub struct ConsistentHash {
    virtual_nodes: u32,
    /// The last ring, for the next picker. Only the builder thread comes here; a pick never does.
    last: Mutex<Option<Arc<Ring>>>,
}

/// `[strategy.config.consistent_hash]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Points of a backend for each unit of its weight.
    #[serde(default = "default_virtual_nodes")]
    virtual_nodes: u32,
}

/// One list's view: the ring, shared with the pickers before and after as long as only health changes.
pub struct View(Arc<Ring>);

/// The circle.
struct Ring {
    members_epoch: u64,
    /// Ids in the order of the list that it was made from: owners are indexes into it.
    ids: Box<[u64]>,
    /// Positions of the points, ascending.
    points: Box<[u64]>,
    /// Whose point it is.
    owners: Box<[u32]>,
    /// For each value of a hash's leading bits, the first point with those bits or later.
    starts: Box<[u32]>,
    /// What leaves only the leading bits.
    shift: u32,
}

lb_strategy::export!(ConsistentHash);

fn default_virtual_nodes() -> u32 {
    160
}

// === impl ConsistentHash ===

impl Strategy for ConsistentHash {
    const NAME: &'static str = "consistent_hash";
    const WANTS_HASH: bool = true;
    const EXPLAINS: bool = true;
    const EXPECTATION: &'static str = r#"{"balance":"ring:160","weights":true,"consistent":true}"#;
    type Config = Options;
    type Picker = View;

    fn new(options: Options, _: Host) -> Result<Self, Error> {
        let virtual_nodes = options.virtual_nodes;
        if !(1..=VIRTUAL_NODES_MAX).contains(&virtual_nodes) {
            return Err(format!("virtual_nodes is {virtual_nodes}: it may be 1 to {VIRTUAL_NODES_MAX}").into());
        }
        Ok(Self { virtual_nodes, last: Mutex::new(None) })
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<View, Error> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = match &*last {
            Some(ring) if ring.is_of(backends) => ring.clone(),
            _ => Arc::new(Ring::of(backends, self.virtual_nodes)?),
        };
        *last = Some(ring.clone());
        Ok(View(ring))
    }

    fn pick(&self, view: &View, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let Some(hash) = request.hash() else { return Pick::Fallback };
        view.walk(hash, backends, request).map_or(Pick::NoBackend, |(_, owner)| Pick::Backend(owner))
    }

    fn explain(&self, view: &View, backends: &Backends<'_>, request: &Request<'_>) -> String {
        let Some(hash) = request.hash() else {
            return json!({ "pick": "fallback", "reason": "the request has no key" }).to_string();
        };
        let ring = &view.0;
        let name = |owner: usize| backends.get(owner).map_or("", |backend| backend.name());
        let (first, found) = (ring.at_or_after(hash), view.walk(hash, backends, request));
        let mut walked_over: Vec<&str> = Vec::new();
        for step in 0..found.map_or(0, |(steps, _)| steps) {
            let passed = name(ring.owner(first + step));
            if !walked_over.contains(&passed) {
                walked_over.push(passed);
            }
        }
        json!({
            "position": format!("{hash:016x}"),
            "point": found.map(|(steps, _)| format!("{:016x}", ring.points[(first + steps) % ring.points.len()])),
            "backend": found.map(|(_, owner)| name(owner)),
            "walked_over": walked_over,
            "points": ring.points.len(),
        })
        .to_string()
    }
}

// === impl View ===

impl View {
    /// Clockwise from `hash` to the first point whose owner may serve: how many points were passed, and the owner.
    #[inline]
    fn walk(&self, hash: u64, backends: &Backends<'_>, request: &Request<'_>) -> Option<(usize, usize)> {
        let may_serve =
            |owner: usize| backends.get(owner).is_some_and(|backend| backend.is_eligible()) && !request.is_tried(owner);
        let first = self.0.at_or_after(hash);
        let owner = self.0.owner_or_none(first)?;
        if may_serve(owner) {
            return Some((0, owner));
        }
        // Off the usual way: some are out. If all are, a walk would go round in vain.
        backends.candidates(request).next()?;
        (1..self.0.points.len()).map(|step| (step, self.0.owner(first + step))).find(|&(_, owner)| may_serve(owner))
    }
}

// === impl Ring ===

impl Ring {
    fn of(backends: &Backends<'_>, virtual_nodes: u32) -> Result<Self, Error> {
        let weights: u64 = backends.iter().map(|backend| u64::from(backend.weight())).sum();
        let wanted = weights * u64::from(virtual_nodes);
        if wanted > POINTS_MAX {
            return Err(format!(
                "its ring would have {wanted} points (virtual_nodes {virtual_nodes} × weights {weights}) and {POINTS_MAX} is the limit: \
                 set virtual_nodes to {} or less, or lower the weights",
                POINTS_MAX / weights
            )
            .into());
        }
        let members: Vec<_> = backends.iter().map(|backend| (backend.name(), backend.weight())).collect();
        let ids = backends.iter().map(|backend| backend.id()).collect();
        Ok(Self::new(&place(&members, virtual_nodes), ids, backends.members_epoch()))
    }

    fn new(sorted: &[(u64, u32)], ids: Box<[u64]>, members_epoch: u64) -> Self {
        // About one table entry a point, so that the scan from an entry on is one or two steps.
        let bits = sorted.len().max(2).next_power_of_two().trailing_zeros();
        let shift = 64 - bits;
        let mut starts = Vec::with_capacity(1 << bits);
        let mut at = 0;
        for leading in 0..1_u64 << bits {
            while at < sorted.len() && sorted[at].0 >> shift < leading {
                at += 1;
            }
            starts.push(at as u32);
        }
        Self {
            members_epoch,
            ids,
            points: sorted.iter().map(|point| point.0).collect(),
            owners: sorted.iter().map(|point| point.1).collect(),
            starts: starts.into_boxed_slice(),
            shift,
        }
    }

    /// Whether it is the ring of this list too. The epoch would do but for the order, which it does not promise.
    fn is_of(&self, backends: &Backends<'_>) -> bool {
        self.members_epoch == backends.members_epoch()
            && self.ids.len() == backends.len()
            && self.ids.iter().zip(backends.iter()).all(|(id, backend)| *id == backend.id())
    }

    /// Index of the first point at or after `hash`; `points.len()`, which is point 0 again, past the last.
    #[inline]
    fn at_or_after(&self, hash: u64) -> usize {
        let mut at = self.starts[(hash >> self.shift) as usize] as usize;
        while at < self.points.len() && self.points[at] < hash {
            at += 1;
        }
        at
    }

    /// Whose the point is, counted round the circle. The ring must not be empty.
    #[inline]
    fn owner(&self, at: usize) -> usize {
        let length = self.owners.len();
        self.owners[if at < length { at } else { at % length }] as usize
    }

    #[inline]
    fn owner_or_none(&self, at: usize) -> Option<usize> {
        (!self.owners.is_empty()).then(|| self.owner(at))
    }
}

/// Position and owner of all points of these members (name, weight), ascending; equal positions in order of name.
fn place(members: &[(&str, u32)], virtual_nodes: u32) -> Vec<(u64, u32)> {
    let mut points = Vec::new();
    for (owner, &(name, weight)) in members.iter().enumerate() {
        points.extend(points_of(name).take((virtual_nodes * weight) as usize).map(|point| (point, owner as u32)));
    }
    let name = |owner: u32| members[owner as usize].0;
    points.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| name(a.1).cmp(name(b.1))));
    points
}

/// The points of the backend called `name`, in order of `j`.
fn points_of(name: &str) -> impl Iterator<Item = u64> {
    let seed = Sha256::new().chain_update(name).chain_update([0]);
    (0_u32..).flat_map(move |block| {
        let digest: [u8; 32] = seed.clone().chain_update(block.to_be_bytes()).finalize().into();
        std::array::from_fn::<u64, 4, _>(|part| u64::from_be_bytes(std::array::from_fn(|byte| digest[8 * part + byte])))
    })
}

#[cfg(test)]
mod tests {
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::request::key_hash;
    use lb_strategy_conformance::statistics::{kolmogorov_smirnov_p, peak_to_mean};
    use lb_strategy_conformance::{Decision, Picker, Refusal, Requests, World, properties, strategy};
    use serde_json::Value;
    use statrs::distribution::{Beta, ContinuousCDF};

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<ConsistentHash>("0", "test");

    const KEYS: u32 = 10_000;
    const SETS: usize = 300;

    fn picker(world: &World) -> Picker {
        world.picker(&strategy(&TABLE, &json!({})).expect("defaults")).expect("a picker")
    }

    /// The name of the backend that each key goes to.
    fn homes(world: &World) -> Vec<String> {
        let (picker, mut requests) = (picker(world), Requests::seeded(7));
        (0..KEYS)
            .map(|key| requests.ask().key(key.to_string()).pick_backend(&picker).expect("somebody is up"))
            .map(|index| world.name(index).to_owned())
            .collect()
    }

    /// The exact length of each member's arcs, of 2^64.
    fn arcs(members: &[(&str, u32)], virtual_nodes: u32) -> Vec<u64> {
        let points = place(members, virtual_nodes);
        let mut arcs = vec![0_u64; members.len()];
        let mut before = points.last().expect("members").0;
        for (point, owner) in points {
            arcs[owner as usize] += point.wrapping_sub(before);
            before = point;
        }
        arcs
    }

    /// The shares on 300 rings of `n` fixed names each. Two threads: unoptimised hashing is slow.
    fn shares(n: usize, virtual_nodes: u32) -> Vec<Vec<f64>> {
        let of_set = |set: usize| {
            let names: Vec<String> = (0..n).map(|index| format!("set {set} backend {index}")).collect();
            let members: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
            arcs(&members, virtual_nodes).into_iter().map(|arc| arc as f64 / 2_f64.powi(64)).collect()
        };
        let half = |sets: std::ops::Range<usize>| sets.map(of_set).collect::<Vec<Vec<f64>>>();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| half(SETS / 2..SETS));
            let mut all = half(0..SETS / 2);
            all.extend(second.join().expect("no panic"));
            all
        })
    }

    /// Checks the law of a ring with K points per backend: mean peak to mean (table 2 of Check C, computed from the exact law) within 3 %,
    /// and the share of one backend against Beta(K, K(N-1)). Shares within a ring depend on each other (they sum to 1), so each ring
    /// gives the test one sample: the share of its first backend.
    fn follows_the_law(virtual_nodes: u32, expected_peaks: [(usize, f64); 3]) {
        for (n, expected) in expected_peaks {
            let shares = shares(n, virtual_nodes);
            let peak = shares.iter().map(|ring| peak_to_mean(ring)).sum::<f64>() / SETS as f64;
            let k = f64::from(virtual_nodes);
            let law = Beta::new(k, k * (n as f64 - 1.0)).expect("a law");
            let first: Vec<f64> = shares.iter().map(|ring| ring[0]).collect();
            let p = kolmogorov_smirnov_p(&first, |share| law.cdf(share));
            println!(
                "K {virtual_nodes}, N {n}: peak/mean {peak:.4}, table {expected}, {:+.2} %; Kolmogorov-Smirnov p {p:.3}",
                (peak / expected - 1.0) * 100.0
            );
            assert!((peak / expected - 1.0).abs() < 0.03, "peak/mean {peak} is not within 3 % of {expected}");
            assert!(p > 0.01, "shares do not follow Beta({k}, {}): p {p}", k * (n as f64 - 1.0));
        }
    }

    #[test]
    fn keeps_what_every_strategy_must_keep() {
        properties::check_all(&TABLE, &json!({})).unwrap();
        properties::check_all(&TABLE, &json!({ "virtual_nodes": 1 })).unwrap();
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

    /// Expected values made with Python's hashlib, apart from this code:
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

    /// Expected arcs made with Python as above: sorted points, each arc to the owner of the point that ends it.
    #[test]
    fn arcs_are_those_of_an_independent_computation() {
        let of = |weights: [u32; 3]| {
            arcs(&[("Server 1", weights[0]), ("Server 2", weights[1]), ("Server 3", weights[2])], 160)
        };
        assert_eq!(of([1, 1, 1]), [5896744742070277196, 5883655180987825508, 6666344150651448912]);
        assert_eq!(of([1, 2, 1]), [4289645325874467980, 8999641690562125725, 5157457057272957911]);
    }

    #[test]
    fn the_table_finds_what_a_binary_search_finds() {
        let mut random = fastrand::Rng::with_seed(3);
        for (n, virtual_nodes) in [(1, 1), (1, 2), (3, 1), (3, 160), (10, 9), (40, 100)] {
            let names: Vec<String> = (0..n).map(|index| format!("b{index}")).collect();
            let members: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
            let ring = Ring::new(&place(&members, virtual_nodes), Box::default(), 0);
            let near = ring.points.iter().flat_map(|point| [point.wrapping_sub(1), *point, point.wrapping_add(1)]);
            let hashes: Vec<u64> = near.chain([0, u64::MAX]).chain((0..10_000).map(|_| random.u64(..))).collect();
            for hash in hashes {
                assert_eq!(
                    ring.at_or_after(hash),
                    ring.points.partition_point(|point| *point < hash),
                    "{hash:x} of {n}"
                );
            }
        }
    }

    #[test]
    fn a_key_goes_where_the_ring_says_and_stays() {
        let world = World::of(10);
        let points = place(&(0..10).map(|index| (world.name(index), 1)).collect::<Vec<_>>(), 160);
        let expected = (0..KEYS).map(|key| {
            let at = points.partition_point(|point| point.0 < key_hash(key.to_string().as_bytes()));
            world.name(points[at % points.len()].1 as usize).to_owned()
        });
        assert_eq!(homes(&world), expected.collect::<Vec<_>>());
        assert_eq!(homes(&world), homes(&world.clone()), "asked again");
    }

    #[test]
    fn who_leaves_gives_away_his_keys_and_moves_no_other() {
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
            assert!(before.iter().any(|was| was == world.name(gone)), "he had keys");
        }
    }

    #[test]
    fn who_joins_takes_keys_and_moves_no_other() {
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
        assert_eq!(weighted.points.len(), 4 * 160);
        assert!(!Arc::ptr_eq(&weighted, &ring(&World::of(4))), "members");
    }

    #[test]
    fn without_a_key_the_host_decides() {
        let ask = Requests::seeded(1).ask().without_key();
        assert_eq!(ask.pick(&picker(&World::of(3))), Decision::Refused(Refusal::Undecided));
    }

    #[test]
    fn explain_names_the_backend_of_the_pick_and_who_was_walked_over() {
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
        assert!(walks > 50, "half of the keys have a home that is out, {walks} of 200 said so");
        let words = requests.ask().without_key().explain(&picker).unwrap();
        assert!(words.contains("no key"), "{words}");
    }

    #[test]
    fn too_large_a_ring_is_refused_with_the_way_out() {
        let instance = strategy(&TABLE, &json!({ "virtual_nodes": 4096 })).unwrap();
        let Err(error) = World::of(2).weights(&[256, 1]).picker(&instance) else {
            panic!("1,052,672 points were taken")
        };
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
}
