//! Swaps under load: no request is lost, and no old generation stays.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use lb_test_support::{backends, get, mock, send, wait_for};
use serde_json::json;

use crate::bench::{Bench, named, post};

const CLIENTS: usize = 8;
/// Requests between two swaps.
const BETWEEN: u64 = 200;

#[test]
fn swaps_under_load_lose_no_request_and_no_count() {
    let bench = Bench::start(&named("round_robin"));
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let keyed = "[strategy]\nname = \"consistent_hash\"\nhash_on = [\"random_id\"]\n";
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let answer = get(bench.lb.proxy, "/home");
                    if answer.status != 200 {
                        stop.store(true, Relaxed);
                        panic!("{answer:?}");
                    }
                    answered.fetch_add(1, Relaxed);
                }
            });
        }
        let more = || {
            let enough = answered.load(Relaxed) + BETWEEN;
            wait_for("more requests", || (answered.load(Relaxed) >= enough || stop.load(Relaxed)).then_some(()));
        };
        more();
        for strategy in [named("least_connections"), keyed.to_owned(), named("round_robin")] {
            let report = bench.change(&strategy);
            assert_eq!((&report["result"], &report["pools"][0]["change"]), (&"done".into(), &"strategy".into()));
            more();
        }
        stop.store(true, Relaxed);
    });
    assert_eq!(bench.seen(), answered.load(Relaxed));
    assert_eq!(bench.status()["generation"], 4);
    let in_flight = || bench.status()["pools"][0]["backends"].as_array().unwrap().iter().all(|b| b["in_flight"] == 0);
    wait_for("attempts to end", || in_flight().then_some(()));
}

#[test]
fn after_two_hundred_swaps_every_old_generation_is_freed() {
    let bench = Bench::start(&named("round_robin"));
    for swap in 1..=200 {
        let name = if swap % 2 == 1 { "least_connections" } else { "round_robin" };
        assert_eq!(bench.change(&named(name))["generation"], swap + 1);
        bench.server();
    }
    wait_for("old generations to be freed", || (bench.status()["retired_generations"] == 0).then_some(()));
    assert_eq!(bench.status()["images"], 2, "equal bytes share one image");
    assert_eq!(bench.seen(), 200);
}

#[test]
fn members_that_are_added_during_reloads_are_all_there_at_the_end() {
    let bench = Bench::start(&named("round_robin"));
    let (admin, extra) = (bench.lb.admin, mock("4"));
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            for n in 0..30 {
                let attach = json!({ "backends": [{ "id": format!("a{n}"), "address": extra.addr.to_string() }] });
                assert_eq!(post(admin, "/add", &attach.to_string()).status, 200);
                if n % 2 == 1 {
                    let remove = json!({ "n": 1, "hostnames": [format!("a{n}")] }).to_string();
                    assert_eq!(send(admin, "DELETE", "/rm", &[], &remove).status, 200);
                }
            }
        });
        while !changes.is_finished() {
            for name in ["least_connections", "round_robin"] {
                bench.change(&named(name));
            }
        }
    });
    let generation = bench.status()["pools"][0]["backends"].clone();
    let ids: Vec<_> = generation.as_array().unwrap().iter().map(|b| b["id"].as_str().unwrap().to_owned()).collect();
    let attached = (0..30).step_by(2).map(|n| format!("a{n}"));
    let wanted: Vec<String> = ["b1", "b2", "b3"].map(String::from).into_iter().chain(attached).collect();
    assert_eq!(ids, wanted);
    // Round robin picks each of the 18 members of the published list exactly once.
    for _ in 0..18 {
        bench.server();
    }
    let seen: Vec<u64> = bench.servers.iter().map(|server| server.stats().requests).collect();
    assert_eq!((seen, extra.stats().requests), (vec![1, 1, 1], 15));
}

#[test]
fn every_backend_of_a_pool_may_be_replaced_at_once() {
    let bench = Bench::start(&named("round_robin"));
    let others = [mock("4"), mock("5")];
    let text = |names: [&str; 2]| {
        let entries = names.iter().zip(&others).map(|(id, server)| (*id, server.addr)).collect::<Vec<_>>();
        let health = "[health]\ninterval_ms = 86400000\n";
        format!("{}{health}{}{}", named("round_robin"), bench.reload, backends(&entries))
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        let answer = get(bench.lb.proxy, "/home");
                        if answer.status != 200 {
                            stop.store(true, Relaxed);
                            panic!("{answer:?}");
                        }
                    }
                })
            })
            .collect();
        for turn in 0..40 {
            // Other names, then the same names with exchanged addresses.
            let names = [["c1", "c2"], ["c2", "c1"], ["d1", "d2"]][turn % 3];
            std::fs::write(bench.lb.path("lb.toml"), text(names)).unwrap();
            assert_eq!(bench.reloaded()["result"], "done");
        }
        stop.store(true, Relaxed);
        clients.into_iter().for_each(|client| client.join().expect("every response is 200"));
    });
}
