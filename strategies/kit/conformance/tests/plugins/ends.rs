//! Examples in Rust and in C that learn from the ends of probes and of attempts: twins pick alike after any of them.
//!
//! Why two worlds: each twin writes what it learns into the slots of its own list.

use std::sync::Arc;

use lb_strategy_conformance::{Ask, Picker, Requests, Strategy, World};
use lb_strategy_host::{Answered, Finish, Outcome, Probe, backend_id};
use serde_json::json;

use super::{loader, twins};

/// The pickers of twins, each for a world of its own that `prepare` makes.
fn pickers(twins: &[Arc<Strategy>; 2], prepare: impl Fn(&World)) -> [Picker; 2] {
    twins.each_ref().map(|strategy| {
        let world = World::of(4);
        prepare(&world);
        world.picker(strategy).unwrap()
    })
}

#[track_caller]
fn assert_pick_alike(pickers: &[Picker; 2], ask: &Ask) {
    let [rust, c] = pickers.each_ref().map(|picker| ask.pick(picker));
    assert_eq!(rust, c, "{ask:?}");
}

#[test]
fn the_probed_latency_examples_pick_alike_after_any_ends_of_probes() {
    let (directory, loader) = loader();
    let twins = twins(&directory, &loader, "probed_latency", &json!({}));
    assert!(twins.iter().all(|strategy| strategy.plugin().probe_ms() == 100));
    let (mut requests, mut random) = (Requests::seeded(53), fastrand::Rng::with_seed(53));
    let loads: [u32; 4] = std::array::from_fn(|_| random.u32(0..3));
    let pickers = pickers(&twins, |world| (0..4).for_each(|index| world.set_load(index, loads[index])));
    for _ in 0..500 {
        let outcomes = [Outcome::Ok, Outcome::Ok, Outcome::ConnectError, Outcome::Timeout, Outcome::Reset];
        let outcome = *random.choice(&outcomes).unwrap();
        let probe = Probe {
            worker: None,
            backend_id: backend_id(&pickers[0].backends().specs()[random.usize(0..4)].name),
            outcome,
            http_status: (outcome == Outcome::Ok).then(|| *random.choice(&[200, 404, 503]).unwrap()),
            latency_ns: random.u64(0..3_000_000),
            now_ns: 1,
            headers: &[],
            body: b"",
        };
        pickers.iter().for_each(|picker| picker.probe(&probe));
        let ask = requests.ask();
        assert_pick_alike(&pickers, &ask);
        let [rust, c] = pickers.each_ref().map(|picker| ask.explain(picker));
        assert_eq!(rust, c);
    }
}

#[test]
fn the_by_cost_examples_pick_alike_after_any_responses() {
    let (directory, loader) = loader();
    let twins = twins(&directory, &loader, "by_cost", &json!({}));
    assert!(twins.iter().all(|strategy| strategy.plugin().wants().answer));
    let (mut requests, mut random) = (Requests::seeded(54), fastrand::Rng::with_seed(54));
    let pickers = pickers(&twins, |world| world.set_load(2, 1));
    for turn in 0..500 {
        let told: [Option<&[u8]>; 7] =
            [None, Some(b""), Some(b"7"), Some(b"12"), Some(b"999999999"), Some(b"1234567890"), Some(b"-3")];
        let finish = Finish {
            backend_id: backend_id(&pickers[0].backends().specs()[random.usize(0..4)].name),
            now_ns: turn * 100_000_000,
            outcome: Outcome::Ok,
            http_status: Some(200),
            worker: Some(0),
            attempt: 0,
            own: true,
            upgraded: false,
            token: 0,
            time_to_head_ns: 1,
            total_ns: 2,
        };
        let headers = [*random.choice(&told).unwrap()];
        let answered = Answered {
            bytes_in: random.u64(0..9_000),
            bytes_out: random.u64(0..9_000),
            headers: &headers,
            ..Answered::default()
        };
        pickers.iter().for_each(|picker| picker.finish_with(&finish, &answered));
        assert_pick_alike(&pickers, &requests.ask().at(finish.now_ns));
    }
}
