//! Pools that a reload adds or removes: routes, members and checks change in one publish, and nothing of a removed pool
//! stays.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use lb_test_support::{Reply, get, mock, send, wait_for};
use mock_server::{Change, Running};
use serde_json::{Value, json};

use crate::bench::{Bench, fingerprint, named, post};
use crate::kept::{Ends, Kept};

/// A pool behind the host `<name>.test`, with these servers.
fn pool(name: &str, strategy: &str, servers: &[&Running]) -> String {
    let backend = |server: &&Running| {
        format!("[[pools.{name}.backends]]\nid = \"x{}\"\naddress = \"{}\"\n", server.id, server.addr)
    };
    let backends: String = servers.iter().map(backend).collect();
    format!("[pools.{name}.strategy]\n{strategy}\n{backends}{}", route(name))
}

fn route(name: &str) -> String {
    format!("[[routes]]\nhost = \"{name}.test\"\npool = \"{name}\"\n")
}

const ROUND_ROBIN: &str = "name = \"round_robin\"";

/// Round robin in `default`, and these pools; requests may switch to `echo`.
fn with(pools: &str) -> String {
    format!("[proxy]\nupgrades = [\"echo\"]\n{}{pools}", named("round_robin"))
}

/// The id of the server that responds for `<name>.test`.
fn server_of(bench: &Bench, name: &str) -> String {
    let answer = send(bench.lb.proxy, "GET", "/home", &[&format!("host: {name}.test")], "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.header("x-server-id").unwrap().to_owned()
}

fn names(bench: &Bench) -> Vec<String> {
    let pools = bench.status()["pools"].clone();
    pools.as_array().unwrap().iter().map(|pool| pool["name"].as_str().unwrap().to_owned()).collect()
}

/// The same file with checks in short intervals.
fn check_often(bench: &Bench, more: &str) -> Reply {
    let text = std::fs::read_to_string(bench.lb.path("lb.toml")).unwrap();
    let often = format!("interval_ms = 10\n{more}");
    std::fs::write(bench.lb.path("lb.toml"), text.replace("interval_ms = 86400000", &often)).unwrap();
    let answer = bench.reload();
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer
}

#[test]
fn adding_and_removing_a_pool_twenty_times_under_load_fails_no_request() {
    const CLIENTS: usize = 4;
    const ROUNDS: u64 = 20;
    let bench = Bench::start(&with(""));
    let extra = mock("4");
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let ends = Ends(&stop);
        for _ in 0..CLIENTS {
            for host in ["host: extra.test\r\n", "host: lb.test\r\n"] {
                let (stop, answered, bench) = (&stop, &answered, &bench);
                scope.spawn(move || {
                    let mut kept = Kept::connect(bench.lb.proxy).unwrap();
                    while !stop.load(Relaxed) {
                        kept.send("/home", host);
                        let (status, length) = kept.head();
                        let body = kept.body(length);
                        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
                        answered.fetch_add(1, Relaxed);
                    }
                });
            }
        }
        for round in 0..ROUNDS {
            let enough = answered.load(Relaxed) + 20;
            let report = bench.change(&with(&pool("extra", ROUND_ROBIN, &[&extra])));
            assert_eq!(report["applied"], json!(["routes", "pools.extra"]));
            assert_eq!(
                (&report["generation"], names(&bench)),
                (&json!(2 * round + 2), vec!["default".into(), "extra".into()])
            );
            assert_eq!(server_of(&bench, "extra"), "4");
            assert_eq!(bench.change(&with(""))["applied"], json!(["routes", "pools.extra"]));
            assert_ne!(server_of(&bench, "extra"), "4");
            wait_for("more requests", || (answered.load(Relaxed) >= enough).then_some(()));
        }
        drop(ends);
    });
    let (of_default, of_extra) = (bench.seen(), extra.stats().requests);
    assert_eq!(of_default + of_extra, answered.load(Relaxed) + 2 * ROUNDS);
    assert!(of_extra > ROUNDS, "clients also sent requests to the extra pool");
    assert_eq!((names(&bench), extra.stats().in_progress), (vec!["default".to_owned()], 0));
    wait_for("old generations to be freed", || (bench.status()["retired_generations"] == 0).then_some(()));
    wait_for("connections to the server of the pool to be closed", || {
        (extra.stats().open_connections == 0).then_some(())
    });
    let page = get(bench.lb.admin, "/metrics").body;
    let in_flight: Vec<&str> = page.lines().filter(|line| line.contains("_in_flight{")).collect();
    assert!(in_flight.len() > 4 && in_flight.iter().all(|line| line.ends_with(" 0")), "{in_flight:?}");
    assert!(page.contains("lb_backend_requests_total{pool=\"extra\""), "the counts of a removed pool stay for a while");
    for gone in ["lb_strategy_info{pool=\"extra\"", "lb_backend_up{pool=\"extra\""] {
        assert!(!page.contains(gone), "{gone} is in\n{page}");
    }
}

#[test]
fn the_checks_of_a_pool_begin_and_end_with_the_pool() {
    let extra = mock("4");
    let bench = Bench::start(&with(&pool("extra", ROUND_ROBIN, &[&extra])));
    check_often(&bench, "");
    let beats = |server: &Running, more: u64| {
        let enough = server.stats().heartbeats + more;
        wait_for("checks", || (server.stats().heartbeats >= enough).then_some(()));
    };
    beats(&extra, 5);
    bench.write(&with(""));
    check_often(&bench, "");
    // One check may still have been in flight.
    beats(&bench.servers[0], 3);
    let last = extra.stats().heartbeats;
    beats(&bench.servers[0], 20);
    assert_eq!(extra.stats().heartbeats, last, "lb sends no more checks");
    bench.write(&with(&pool("extra", ROUND_ROBIN, &[&extra])));
    check_often(&bench, "");
    beats(&extra, 5);
}

#[test]
fn a_check_in_flight_never_counts_for_another_pool() {
    let (silent, good) = (mock("4"), mock("4"));
    silent.change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    let bench = Bench::start(&with(&pool("a", ROUND_ROBIN, &[&silent])));
    check_often(&bench, "timeout_ms = 300\ndown_after = 1\n");
    wait_for("a check to be in flight", || (silent.stats().open_connections > 0).then_some(()));
    // The new pool has the same place in the list, and a backend of the same name.
    bench.write(&with(&pool("b", ROUND_ROBIN, &[&good])));
    check_often(&bench, "timeout_ms = 30000\ndown_after = 1\n");
    wait_for("that check to be aborted", || (silent.stats().open_connections == 0).then_some(()));
    let enough = good.stats().heartbeats + 50;
    wait_for("checks of the good server", || (good.stats().heartbeats >= enough).then_some(()));
    let page = get(bench.lb.admin, "/metrics").body;
    let down = "lb_backend_health_transitions_total{pool=\"b\",backend=\"x4\",to=\"down\"} 0";
    let told: Vec<&str> =
        page.lines().filter(|line| line.starts_with("lb_backend_health_transitions_total{")).collect();
    assert!(told.contains(&down), "{told:?}");
    assert_eq!(server_of(&bench, "b"), "4");
}

#[test]
fn requests_in_a_removed_pool_finish() {
    let extra = mock("4");
    let bench = Bench::start(&with(&pool("extra", ROUND_ROBIN, &[&extra])));
    let connect = || Kept::connect(bench.lb.proxy).unwrap();
    let (mut tunnel, mut waiting) = (connect(), connect());
    tunnel.send("/echo", "host: extra.test\r\nconnection: upgrade\r\nupgrade: echo\r\n");
    assert_eq!(tunnel.head().0, 101);
    extra.change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    waiting.send("/home", "host: extra.test\r\n");
    wait_for("the request to be at the server", || (extra.stats().in_progress >= 1).then_some(()));
    bench.change(&with(""));
    assert_ne!(server_of(&bench, "extra"), "4");
    wait_for("the strategy of the pool to be dropped", || (bench.status()["retired_generations"] == 0).then_some(()));
    extra.change(&Change { stall: Some(false), ..Change::default() }).unwrap();
    let (status, length) = waiting.head();
    waiting.body(length);
    assert_eq!(status, 200);
    tunnel.write(b"still here");
    assert_eq!(tunnel.body(10), b"still here");
    drop(tunnel);
    wait_for("connections to the server of the pool to be closed", || {
        (extra.stats().open_connections == 0).then_some(())
    });
}

#[test]
fn a_broken_new_pool_refuses_the_whole_reload() {
    let (one, two) = (mock("4"), mock("5"));
    let bench = Bench::start(&with(""));
    let both = |strategy: &str| with(&(pool("a", ROUND_ROBIN, &[&one]) + &pool("b", strategy, &[&two])));
    let before = fingerprint(&bench);
    let ring = "name = \"consistent_hash\"\n[pools.b.strategy.config.consistent_hash]\nvirtual_nodes = -1\n";
    for (strategy, stage) in [(ring, "new"), ("name = \"nobody_has_this\"", "find")] {
        bench.write(&both(strategy));
        let answer = bench.reload();
        assert_eq!((answer.status, &answer.json()["stage"]), (422, &json!(stage)), "{}", answer.body);
        assert!(answer.json()["reason"].as_str().unwrap().contains("\"b\""), "{}", answer.body);
        assert_eq!((names(&bench), fingerprint(&bench)), (vec!["default".to_owned()], before.clone()));
        assert_ne!(server_of(&bench, "a"), "4");
        assert_eq!(one.stats().heartbeats, 0, "the good pool is not there either");
    }
    bench.write(&both("name = \"consistent_hash\"\nhash_on = [\"path\"]"));
    let dry = post(bench.lb.admin, "/reload?dry_run=1", "");
    assert_eq!((dry.status, names(&bench).len()), (200, 1), "{}", dry.body);
    let report = bench.reloaded();
    let told = |pool: &Value| json!([pool["pool"], pool["change"], pool["state"]]);
    let told: Vec<Value> = report["pools"].as_array().unwrap().iter().map(told).collect();
    assert_eq!(
        told,
        [json!(["default", "unchanged", "kept"]), json!(["a", "new", "fresh"]), json!(["b", "new", "fresh"])]
    );
    assert_eq!(
        (server_of(&bench, "a"), server_of(&bench, "b"), &*server_of(&bench, "c") < "4"),
        ("4".into(), "5".into(), true)
    );
    assert_eq!(bench.reloaded()["result"], "no_change");
}

#[test]
fn a_pool_added_in_the_middle_of_the_list_leaves_routes_and_changes_of_other_pools() {
    let (one, two) = (mock("4"), mock("5"));
    let b = pool("b", ROUND_ROBIN, &[&two]);
    let bench = Bench::start(&with(&b));
    assert_eq!(post(bench.lb.admin, "/backends/x5/weight?pool=b", "{\"weight\":7}").status, 200);
    let weight = |name: &str| {
        let backends = get(bench.lb.admin, "/backends").json();
        let of_pool = backends.as_array().unwrap().iter().find(|backend| backend["pool"] == name).cloned();
        of_pool.map(|backend| backend["weight"].clone())
    };
    let report = bench.change(&with(&(pool("a", ROUND_ROBIN, &[&one]) + &b)));
    assert_eq!(report["applied"], json!(["routes", "pools.a"]));
    assert_eq!((server_of(&bench, "a"), server_of(&bench, "b"), weight("b")), ("4".into(), "5".into(), Some(json!(7))));
    // The strategy of b did not change, so there is nothing to roll back.
    assert_eq!(post(bench.lb.admin, "/rollback?pool=b", "").status, 422);
    bench.change(&with(&b));
    assert_eq!((server_of(&bench, "b"), weight("b")), ("5".into(), Some(json!(7))));
    assert!(&*server_of(&bench, "a") < "4");
    // Changes made at run time are dropped with their pool.
    let report = bench.change(&with(""));
    assert!(report["warnings"][0].as_str().unwrap().contains("lapsed"), "{report}");
    bench.change(&with(&b));
    assert_eq!(weight("b"), Some(json!(1)), "the weight in the file");
}

#[test]
fn an_override_neither_adds_nor_keeps_a_pool() {
    let extra = mock("4");
    let bench = Bench::start(&with(&pool("extra", ROUND_ROBIN, &[&extra])));
    let overriding = |pool: &str, name: &str| {
        let body = json!({ "pool": pool, "strategy": { "name": name } });
        post(bench.lb.admin, "/reload", &body.to_string())
    };
    assert_eq!(overriding("extra", "least_connections").status, 200);
    bench.write(&with(""));
    let refused = overriding("default", "least_connections");
    assert!(refused.status == 422 && refused.body.contains("there is no pool"), "{}", refused.body);
    assert_eq!(names(&bench), ["default", "extra"], "the whole reload is refused");
    bench.reloaded();
    assert_eq!(names(&bench), ["default"]);
    assert_eq!(overriding("default", "least_connections").status, 200);
}
