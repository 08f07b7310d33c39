//! Tests of the course's map: published shares and counts, a simple reference, the requests that move.
//!
//! Invariant: expected values come from a published report, an enumeration in Python or a simple walk over slots, never
//! from the code under test.

use lb_strategy::abi::LbStrategyTable;
use lb_strategy_conformance::request::key_hash;
use lb_strategy_conformance::statistics::{chi_square_p, counts};
use lb_strategy_conformance::{Decision, Picker, Refusal, Requests, World, properties, strategy};
use serde_json::Value;

use super::*;

static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<AssignmentRing>("0", "test");

fn picker(world: &World, options: &Value) -> Picker {
    world.picker(&strategy(&TABLE, options).expect("options")).expect("a picker")
}

/// The course's names: "Server 2", "Server 3" …
fn servers(numbers: std::ops::RangeInclusive<u32>) -> World {
    World::named(numbers.map(|number| format!("Server {number}")))
}

/// The exact shares from `explain`, in the order of the list.
fn shares(world: &World, options: &Value) -> Vec<f64> {
    let words = Requests::seeded(1).ask().explain(&picker(world, options)).expect("it explains");
    let words: Value = serde_json::from_str(&words).expect("JSON");
    (0..world.len()).map(|index| words["shares"][world.name(index)].as_f64().expect("a share")).collect()
}

/// The number of requests that each backend gets, if `requests` have random 6-digit ids.
fn sampled(world: &World, options: &Value, requests: usize, seed: u64) -> Vec<u64> {
    let (picker, mut ids, mut asks) = (picker(world, options), fastrand::Rng::with_seed(seed), Requests::seeded(seed));
    let mut pick = || asks.ask().key(ids.u32(100_000..=999_999).to_string()).pick_backend(&picker).expect("a backend");
    counts(world.len(), (0..requests).map(|_| pick()))
}

fn assert_percent(shares: &[f64], percent: &[f64], what: &str) {
    let close = |(share, percent): (&f64, &f64)| (share * 100.0 - percent).abs() < 0.01;
    assert!(
        shares.len() == percent.len() && shares.iter().zip(percent).all(close),
        "{what}: {shares:?}, not {percent:?} %"
    );
}

#[test]
fn has_the_properties_of_every_strategy() {
    properties::check_all(&TABLE, &json!({})).unwrap();
    properties::check_all(&TABLE, &json!({ "request": "i % 512", "probing": "quadratic", "slots": 100 })).unwrap();
}

/// The exact shares of the sheet's functions were enumerated in Python.
#[test]
fn the_sheets_functions_give_their_exact_shares() {
    for percent in [
        &[95.31, 4.69][..],
        &[84.37, 4.69, 10.94],
        &[82.03, 4.69, 10.16, 3.12],
        &[79.69, 3.12, 9.38, 3.12, 4.69],
        &[78.91, 3.12, 9.38, 3.12, 4.69, 0.78],
    ] {
        let n = percent.len() as u32;
        assert_percent(&shares(&servers(1..=n), &json!({})), percent, &format!("N = {n}"));
    }
    let from_one = json!({ "first_virtual_index": 1 });
    assert_percent(&shares(&servers(1..=3), &from_one), &[83.59, 4.69, 11.72], "j = 1..9");
    let others = json!({ "request": "i^2+11i+19", "server": "16(i-1)+57j" });
    assert_percent(&shares(&servers(1..=3), &others), &[43.75, 28.13, 28.12], "a published replacement");
}

/// A course report published these counts for 10,000 requests each, with its servers' numbers. The p of Pearson's test
/// of the counts was computed in Python, from exact shares with two decimals.
#[test]
fn published_counts_and_sampled_ones_fit_the_exact_shares() {
    for (numbers, published, p_expected) in [
        (1..=3, &[8445, 425, 1130][..], 0.07),
        (2..=4, &[8258, 1073, 669], 0.30),
        (2..=5, &[8102, 1025, 470, 403], 0.92),
        (2..=6, &[8075, 999, 466, 377, 83], 0.87),
    ] {
        let world = servers(numbers.clone());
        let exact = shares(&world, &json!({}));
        let p_published = chi_square_p(published, &exact);
        assert!((p_published - p_expected).abs() < 0.015, "{numbers:?}: p {p_published:.3}, in Python {p_expected}");
        for seed in 1..=3 {
            let sampled = sampled(&world, &json!({}), 10_000, seed);
            let p = chi_square_p(&sampled, &exact);
            println!(
                "servers {numbers:?}, seed {seed}: {sampled:?}, p {p:.3}; published {published:?}, p {p_published:.3}"
            );
            assert!(p > 0.01, "servers {numbers:?}, seed {seed}: {sampled:?} does not fit {exact:?}, p {p}");
        }
    }
}

/// The simplest reading of the sheet: a walk from slot to slot.
struct Reference {
    taken: Vec<Option<usize>>,
}

impl Reference {
    fn new(n: u64, virtual_servers: u64, slots: usize, probe: fn(usize) -> usize, phi: fn(u64, u64) -> u64) -> Self {
        let mut taken = vec![None; slots];
        for (server, j) in (0..n).flat_map(|server| (0..virtual_servers).map(move |j| (server, j))) {
            let slot = phi(server + 1, j) as usize;
            let free =
                (0..).map(|step| (slot + probe(step)) % slots).find(|&at| taken[at].is_none()).expect("a free slot");
            taken[free] = Some(server as usize);
        }
        Self { taken }
    }

    fn home(&self, slot: u64) -> usize {
        let slots = self.taken.len();
        (0..).find_map(|step| self.taken[(slot as usize + step) % slots]).expect("a server")
    }
}

fn assert_as_reference(n: u32, options: &Value, reference: &Reference, h: fn(u64) -> u64) {
    let (world, mut random, mut requests) = (servers(1..=n), fastrand::Rng::with_seed(23), Requests::seeded(23));
    let picker = picker(&world, options);
    for _ in 0..5_000 {
        let id = random.u64(0..1_000_000);
        let pick = requests.ask().key(id.to_string()).pick_backend(&picker).unwrap();
        assert_eq!(pick, reference.home(h(id)), "id {id} with {options} (seed 23)");
    }
}

#[test]
fn every_pick_is_that_of_a_plain_walk() {
    let sheet = |i: u64, j: u64| i * i + j * j + 2 * j + 25;
    for n in [1, 2, 3, 6, 20] {
        let linear = Reference::new(n, 9, 512, |step| step, sheet);
        assert_as_reference(n as u32, &json!({}), &linear, |i| i * i + 2 * i + 17);
        let quadratic = Reference::new(n, 9, 512, |step| step * step, sheet);
        assert_as_reference(n as u32, &json!({ "probing": "quadratic" }), &quadratic, |i| i * i + 2 * i + 17);
    }
    let published = Reference::new(3, 9, 512, |step| step, |i, j| 23 * i * i + 71 * j * j + 59 * j + 301);
    let options = json!({ "request": "11i^2+17i+23", "server": "23i^2 + 71j^2 + 59j + 301" });
    assert_as_reference(3, &options, &published, |i| 11 * i * i + 17 * i + 23);
    let published = Reference::new(3, 9, 512, |step| step, |i, j| i * i + j * j + 2 * i * j + 199);
    let options = json!({ "request": "i % 512", "server": "i^2+j^2+2ij+199" });
    assert_as_reference(3, &options, &published, |i| i % 512);
    let thirds = Reference::new(4, 7, 100, |step| step, |i, j| 13 * i + 31 * j);
    let options = json!({ "slots": 100, "virtual_servers": 7, "request": "i/3 + i^2%7", "server": "13i + 31j" });
    assert_as_reference(4, &options, &thirds, |i| i / 3 + i * i % 7);
}

#[test]
fn a_key_that_is_no_number_is_placed_by_its_hash() {
    let (world, mut requests) = (servers(1..=6), Requests::seeded(4));
    let picker = picker(&world, &json!({ "request": "i", "server": "83i + 7j" }));
    let as_number = |number: u32, requests: &mut Requests| requests.ask().key(number.to_string()).pick_backend(&picker);
    for name in ["alice", "bob", "12345678901", "4294967296", "1e3", ""] {
        let by_name = requests.ask().key(name).pick_backend(&picker).unwrap();
        assert_eq!(by_name, as_number(key_hash(name.as_bytes()) as u32, &mut requests).unwrap(), "{name:?}");
    }
    assert_eq!(requests.ask().key("000123").pick_backend(&picker), as_number(123, &mut requests));
    assert_eq!(requests.ask().without_key().pick(&picker), Decision::Refused(Refusal::Undecided));
}

#[test]
fn servers_are_numbered_by_their_names_end_or_by_their_position() {
    for (name, position, expected) in [
        ("Server 12", 0, 12),
        ("S5", 3, 5),
        ("b0", 2, 0),
        ("7", 0, 7),
        ("web", 0, 1),
        ("web", 4, 5),
        ("1a", 1, 2),
        ("x007", 0, 7),
    ] {
        assert_eq!(ring::number(name, position), expected, "{name} at {position}");
    }
    assert_eq!(ring::number(&"9".repeat(64), 0), 999_999_999_999_999_999);
}

#[test]
fn two_servers_of_the_same_number_both_get_slots_and_are_reported() {
    let world = World::named(["web-1", "api-1", "S2"]);
    let all = picker(&world, &json!({}));
    let words: Value = serde_json::from_str(&Requests::seeded(1).ask().explain(&all).unwrap()).unwrap();
    assert_eq!(words["clashes"], json!([["api-1", "web-1"]]));
    let reversed = world.clone().reversed();
    let mut backwards = shares(&reversed, &json!({}));
    backwards.reverse();
    assert_eq!(shares(&world, &json!({})), backwards, "the order of the list is irrelevant");
    let spread = shares(&world, &json!({ "request": "i" }));
    assert!(spread.iter().all(|share| *share > 0.0), "both have slots: {spread:?}");
}

#[test]
fn an_outage_sends_requests_on_clockwise_and_moves_no_other() {
    let world = servers(1..=4);
    let (all, fewer) = (picker(&world, &json!({})), picker(&world.clone().up(&[false, true, true, true]), &json!({})));
    let mut requests = Requests::seeded(9);
    let mut moved = 0;
    for _ in 0..2_000 {
        let ask = requests.ask();
        let (before, after) = (ask.pick_backend(&all).unwrap(), ask.pick_backend(&fewer).unwrap());
        let retry = ask.clone().tried(&[0]).pick_backend(&all).unwrap();
        assert_eq!(retry, after, "a retry goes where an outage sends it");
        assert!(before == 0 || before == after, "a request of {before} moved to {after}");
        moved += u32::from(before == 0);
    }
    assert!(moved > 1_500, "server 1 had most requests, {moved}");
}

#[test]
fn a_slow_start_moves_no_request() {
    let (all, one_starts) = (servers(1..=4), servers(1..=4).shares(&[1000, 100, 1000, 1000]));
    let homes = |world: &World| {
        let (picker, mut requests) = (picker(world, &json!({})), Requests::seeded(12));
        (0..2_000).map(|_| requests.ask().pick_backend(&picker).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(homes(&one_starts), homes(&all));
}

#[test]
fn the_ring_is_kept_while_only_health_changes() {
    let instance = AssignmentRing::new(Options::default(), Host::NONE).unwrap();
    let ring = |world: &World| instance.picker(&world.list().lend()).unwrap().0;
    let first = ring(&World::of(3));
    assert!(Arc::ptr_eq(&first, &ring(&World::of(3).up(&[true, false, true]))), "health");
    assert!(!Arc::ptr_eq(&first, &ring(&World::of(4))), "members");
}

#[test]
fn explain_names_slot_and_backend_of_the_pick() {
    let world = servers(1..=4).up(&[false, true, true, true]);
    let picker = picker(&world, &json!({}));
    // H(100000) = 100001² + 16 = 10000200017, and 10000200017 mod 512 is 337. That is after the last virtual server, so
    // the walk continues at server 1 in slot 26.
    let ask = Requests::seeded(11).ask().key("100000");
    let words: Value = serde_json::from_str(&ask.explain(&picker).unwrap()).unwrap();
    assert_eq!((&words["number"], &words["slot"]), (&json!(100_000), &json!(337)));
    assert_eq!(words["backend"], world.name(ask.pick_backend(&picker).unwrap()));
    assert_eq!(words["walked_over"], json!(["Server 1"]));
    let sum: f64 = words["shares"].as_object().unwrap().values().map(|share| share.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-12 && words["shares"]["Server 1"] == 0.0, "{words}");
    assert!(ask.without_key().explain(&picker).unwrap().contains("no key"));
}

#[test]
fn the_ring_from_explain_has_the_sheets_slots_and_the_exact_shares() {
    let words = Requests::seeded(1).ask().without_key().explain(&picker(&servers(1..=3), &json!({}))).unwrap();
    let words: Value = serde_json::from_str(&words).unwrap();
    let arcs: Vec<(f64, usize, f64)> = serde_json::from_value(words["ring"].clone()).unwrap();
    // Phi(1, 0) = 26 is the first slot that is taken, and an arc ends after its slot.
    assert_eq!((arcs.len(), arcs[0].0, arcs[0].1), (27, 27.0 / 512.0, 0));
    assert!(arcs.windows(2).all(|pair| pair[0].0 < pair[1].0) && arcs[26].0 == 115.0 / 512.0, "{arcs:?}");
    let share = |server: usize| arcs.iter().filter(|arc| arc.1 == server).map(|arc| arc.2).sum::<f64>();
    assert_percent(&[share(0), share(1), share(2)], &[84.37, 4.69, 10.94], "told arcs");
}

#[test]
fn a_ring_that_is_full_is_refused_with_the_remedy() {
    let instance = strategy(&TABLE, &json!({})).unwrap();
    assert!(servers(1..=56).picker(&instance).is_ok());
    let Err(error) = servers(1..=57).picker(&instance) else { panic!("513 virtual servers fit 512 slots") };
    assert!(error.contains("57 servers × 9") && error.contains("virtual_servers to 8 or less"), "{error}");
    for probing in ["linear", "quadratic"] {
        let full = strategy(&TABLE, &json!({ "slots": 36, "probing": probing })).unwrap();
        assert!(servers(1..=4).picker(&full).is_ok(), "{probing}: every slot is taken");
    }
}

#[test]
fn wrong_options_are_refused_with_name_and_position() {
    for (options, word) in [
        (json!({ "slots": 0 }), "slots is 0: it may be 1 to 1048576"),
        (json!({ "virtual_servers": 0 }), "virtual_servers is 0"),
        (json!({ "first_virtual_index": 2 }), "first_virtual_index is 2: it may be 0 to 1"),
        (json!({ "probing": "cubic" }), "cubic"),
        (json!({ "virtual_nodes": 9 }), "virtual_nodes"),
        (json!({ "request": "i^2 + j" }), "request \"i^2 + j\" at character 7"),
        (json!({ "server": "i^2 +" }), "server \"i^2 +\" at character 6"),
        (
            json!({ "request": "i^4/3" }),
            "request \"i^4/3\" may have a value of more than 127 bits for some i below 2^32",
        ),
        (json!({ "request": "1/i" }), "a division by 0"),
        (json!({ "request": "i^99" }), "has a value of more than 127 bits for some i below 512"),
        (json!({ "server": "i/j" }), "server: a division by 0 or less at i = 1, j = 0"),
    ] {
        let Err(error) = strategy(&TABLE, &options) else { panic!("{options} was taken") };
        assert!(error.contains(word), "{error}");
    }
    let late = strategy(&TABLE, &json!({ "server": "j/(3-i)" })).unwrap();
    let Err(error) = servers(1..=3).picker(&late) else { panic!("a division by 0") };
    assert!(error.contains("at i = 3, j = 0 for \"Server 3\""), "{error}");
}
