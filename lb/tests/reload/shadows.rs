//! Shadows in a running lb: they see the requests of the strategy in charge and change none of them.

use lb_test_support::{get, metrics, mock, send, wait_for, wait_until};
use serde_json::{Value, json};

use crate::bench::{Bench, bare_admin_command, bytes, compiled, named, post};
use crate::probation::moody;

/// Round robin in charge, with these shadows.
fn shaded(shadows: &str) -> String {
    format!("{}hash_on = [\"header:x-key\"]\n{shadows}", named("round_robin"))
}

fn shadow(name: &str, fields: &str) -> String {
    format!("[[strategy.shadow]]\nname = {name:?}\n{fields}")
}

/// Two shadows of other strategies.
fn two() -> String {
    shaded(&(shadow("least_connections", "") + &shadow("consistent_hash", "id = \"ring\"\n")))
}

/// The status of the shadow with this id.
fn status(bench: &Bench, id: &str) -> Value {
    let pool = bench.status()["pools"][0].clone();
    let shadows = pool["shadows"].as_array().cloned().unwrap_or_default();
    shadows.into_iter().find(|shadow| shadow["id"] == id).unwrap_or_else(|| panic!("no shadow {id} in {pool}"))
}

/// Waits until every worker has the shadow: its counts begin then.
fn begun(bench: &Bench, id: &str) {
    wait_for("the shadow to pick", || {
        bench.server();
        (status(bench, id)["picks"].as_u64() > Some(0)).then_some(())
    });
}

fn count(shadow: &Value, key: &str) -> u64 {
    shadow[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {shadow}"))
}

/// The sum of a metric of the shadow with this id.
fn series(bench: &Bench, name: &str, id: &str, more: &[&str]) -> f64 {
    let page = get(bench.lb.admin, "/metrics").body;
    let id = format!("shadow={id:?}");
    metrics::sum(&page, name, &[&["pool=\"default\"", id.as_str()], more].concat())
}

fn keyed(bench: &Bench, key: &str) -> String {
    let answer = send(bench.lb.proxy, "GET", "/home", &[&format!("x-key: {key}")], "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.header("x-server-id").unwrap().to_owned()
}

#[test]
fn shadows_change_no_request_and_their_counts_add_up() {
    const ROUNDS: u64 = 100;
    let bench = Bench::start(&two());
    let ids = ["least_connections", "ring"];
    let before = ids.map(|id| status(&bench, id));
    let got: Vec<String> = (0..3 * ROUNDS).map(|n| keyed(&bench, &format!("k{}", n % 7))).collect();
    assert!(got.chunks(3).all(|turn| turn == &got[..3]), "round robin alone decides");
    for (id, before) in ids.iter().zip(before) {
        let now = status(&bench, id);
        let of = |key: &str| count(&now, key) - count(&before, key);
        assert_eq!(of("picks"), 3 * ROUNDS, "{now}");
        assert_eq!(of("same") + of("other"), 3 * ROUNDS, "{now}");
        assert_eq!([of("undecided"), of("waits"), of("none"), of("faults")], [0; 4], "{now}");
        assert_eq!(series(&bench, "lb_shadow_picks_total", id, &[]), 300.0);
        assert_eq!(series(&bench, "lb_shadow_backend_picks_total", id, &[]), 300.0);
        assert!(series(&bench, "lb_shadow_pick_seconds_count", id, &[]) > 0.0);
        assert_eq!(series(&bench, "lb_shadow_off", id, &[]), 0.0);
        let by_backend: u64 = now["backends"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(by_backend, count(&now, "picks"), "{now}");
        assert!(now["agreement"].as_f64().unwrap() < 1.0 && now["imbalance"].as_f64().unwrap() >= 1.0, "{now}");
        let in_charge = now["imbalance_in_charge"].as_f64().unwrap();
        assert!((in_charge - 1.0).abs() < 0.01, "round robin is even: {now}");
    }
    assert_eq!(bench.seen(), 3 * ROUNDS);
    // The ring would send each key to one backend, so it is uneven; the metrics have its would-be shares.
    let ring = status(&bench, "ring");
    assert!(ring["imbalance"].as_f64() > Some(1.05), "{ring}");
    let page = get(bench.lb.admin, "/metrics").body;
    let fallbacks = metrics::sum(&page, "lb_strategy_fallbacks_total", &[]);
    let picks = metrics::sum(&page, "lb_strategy_picks_total", &["strategy=\"round_robin\""]);
    assert_eq!((fallbacks, picks), (0.0, 300.0), "shadows count for themselves only");
}

#[test]
fn a_shadow_of_the_strategy_in_charge_agrees_with_it() {
    // Round robin takes turns of its own from the same begin. Least connections must see the same requests in flight.
    for name in ["round_robin", "least_connections"] {
        let text = named(name) + &shadow(name, "id = \"twin\"\n");
        let bench = Bench::start_by("", &text, |text| {
            let folder = lb_test_support::folder(text);
            lb_test_support::Balancer::start_in(folder, &["--set", "reload.watch=false", "--set", "proxy.workers=1"])
        });
        (0..60).for_each(|_| drop(bench.server()));
        let twin = status(&bench, "twin");
        assert_eq!((count(&twin, "same"), &twin["agreement"]), (60, &json!(1.0)), "{name}: {twin}");
        assert_eq!(twin["imbalance"], twin["imbalance_in_charge"], "{name}");
    }
}

#[test]
fn a_shadow_is_asked_once_for_each_request_and_not_for_its_retries() {
    let mut bench = Bench::start(&two());
    begun(&bench, "ring");
    let before = status(&bench, "ring");
    (0..20).for_each(|_| drop(bench.server()));
    let now = status(&bench, "ring");
    assert_eq!(count(&now, "undecided") - count(&before, "undecided"), 20, "the requests have no key: {now}");
    drop(bench.servers.remove(0));
    let retries = || metrics::sum(&get(bench.lb.admin, "/metrics").body, "lb_retries_total", &[]);
    let asked = count(&status(&bench, "ring"), "picks");
    (0..9).for_each(|n| drop(keyed(&bench, &n.to_string())));
    assert_eq!(count(&status(&bench, "ring"), "picks") - asked, 9);
    assert!(retries() > 0.0, "the requests for the lost server were retried");
}

#[test]
fn a_reload_adds_swaps_and_removes_shadows_under_load_and_loses_nothing() {
    let bench = Bench::start(&named("round_robin"));
    let answered = bench.under_load(4, |more| {
        let added = bench.change(&two());
        assert_eq!(added["applied"], json!(["strategy.hash_on", "strategy.shadow"]));
        assert_eq!(added["pools"][0]["change"], "unchanged");
        more();
        begun(&bench, "least_connections");
        for _ in 0..10 {
            bench.change(&shaded(&shadow("consistent_hash", "id = \"least_connections\"\n")));
            assert_eq!(status(&bench, "least_connections")["strategy"], "consistent_hash");
            more();
            bench.change(&two());
            more();
        }
        assert_eq!(bench.reloaded()["result"], "no_change");
        bench.change(&named("round_robin"));
        assert_eq!(bench.status()["pools"][0]["shadows"], Value::Null);
        more();
    });
    assert!(bench.seen() >= answered);
    let page = get(bench.lb.admin, "/metrics").body;
    assert_eq!(metrics::sum(&page, "lb_shadow_info", &[]), 0.0, "no shadow is left");
    assert!(metrics::sum(&page, "lb_shadow_picks_total", &[]) > 0.0, "its last counts can be scraped");
    assert_eq!(metrics::sum(&page, "lb_strategy_swaps_total", &[]), 0.0, "the strategy in charge stayed");
    wait_for("old generations to be freed", || (bench.status()["retired_generations"] == 0).then_some(()));
}

#[test]
fn a_shadow_of_other_bytes_is_another_instance() {
    let file = "shadow.so";
    let of_file = shaded(&format!("[[strategy.shadow]]\npath = {file:?}\nid = \"s\"\n"));
    let bench = Bench::start_with(&of_file, &[(file, &bytes("least_connections", ""))]);
    begun(&bench, "s");
    std::fs::write(bench.lb.path(file), bytes("least_connections", "more")).unwrap();
    assert_eq!(bench.reloaded()["applied"], json!(["strategy.shadow"]));
    assert_eq!(count(&status(&bench, "s"), "picks"), 0, "its counts begin anew");
    begun(&bench, "s");
}

#[test]
fn a_shadow_that_cannot_be_loaded_refuses_the_reload_with_its_key() {
    let bench = Bench::start_with(&two(), &[("broken.so", b"no library")]);
    let generation = bench.status()["generation"].clone();
    for (shadow, stage, key) in [
        (shadow("no_such_strategy", ""), "find", "strategy.shadow[0].name"),
        ("[[strategy.shadow]]\npath = \"broken.so\"\n".to_owned(), "read", "strategy.shadow[0].path"),
        (shadow("round_robin", "config = { no_such_option = 1 }\n"), "new", "strategy.shadow[0].config"),
    ] {
        bench.write(&shaded(&shadow));
        let refused = bench.reload();
        assert_eq!(refused.status, 422, "{}", refused.body);
        assert!(refused.body.contains(key), "{stage}: {}", refused.body);
        assert_eq!(bench.status()["generation"], generation, "the running state stays");
        bench.server();
    }
    bench.write(&shaded(&shadow("round_robin", "").repeat(2)));
    assert!(bench.reload().body.contains("another shadow is called"));
}

#[test]
fn a_start_goes_on_without_a_shadow_that_fails_its_trial_and_a_reload_refuses_it() {
    let file = "refuses.so";
    let failing = format!("[[strategy.shadow]]\npath = {file:?}\nid = \"s\"\n");
    let of_file = shaded(&(failing + &shadow("least_connections", "")));
    let bench = Bench::start_with(&of_file, &[(file, &compiled("refuses_eligible.c", &[]))]);
    bench.server();
    let shadows = bench.status()["pools"][0]["shadows"].clone();
    assert_eq!((&shadows[0]["id"], shadows.as_array().unwrap().len()), (&json!("least_connections"), 1), "{shadows}");
    let said = bench.lb.printed("stderr");
    assert!(said.contains("a shadow is left out, because its trial failed"), "{said}");
    assert_eq!(bench.reload().status, 422, "the reload says what is wrong");
}

#[test]
fn another_strategy_in_charge_does_not_begin_a_shadow_anew_that_was_switched_off() {
    let moody = shadow("moody", "config = { every = 10, does = \"panic\" }\n");
    let bench = Bench::start(&shaded(&moody));
    begun(&bench, "moody");
    wait_for("the shadow to be switched off", || {
        send(bench.lb.proxy, "GET", "/home", &["x-mood: bad"], "");
        status(&bench, "moody")["off"].as_str().map(str::to_owned)
    });
    let put = post(bench.lb.admin, "/reload", &json!({ "strategy": { "name": "least_connections" } }).to_string());
    assert_eq!(put.status, 200, "{}", put.body);
    assert_eq!(bench.strategy(), json!("least_connections"));
    assert!(status(&bench, "moody")["off"].is_string(), "only a plain reload begins it anew");
}

#[test]
fn a_shadow_that_decides_by_probes_is_warned_of() {
    let path = lb_strategy_built::library("least_loaded_probed");
    let bench = Bench::start(&named("round_robin"));
    let probe = "[strategy.probe]\npath = \"/load\"\n";
    let change = bench.change(&format!("{}{probe}[[strategy.shadow]]\npath = {path:?}\n", named("round_robin")));
    let warnings = change["warnings"].to_string();
    assert!(
        warnings.contains("the shadow least_loaded_probed is least_loaded_probed, which decides by probes"),
        "{warnings}"
    );
}

#[test]
fn a_shadow_that_fails_is_switched_off_and_the_strategy_in_charge_stays() {
    for (does, reason) in [
        ("panic", "it panicked in"),
        ("point_nowhere", "it returned no usable backend"),
        ("decline", "it returned no usable backend"),
        ("panic_in_finish", "it panicked"),
        ("dawdle", "took longer than"),
    ] {
        let every = if does == "dawdle" { 1 } else { 10 };
        let moody = shadow("moody", &format!("config = {{ every = {every}, does = {does:?} }}\n"));
        let bench = Bench::start(&named("round_robin"));
        bench.change(&shaded(&(moody + &shadow("least_connections", ""))));
        begun(&bench, "moody");
        let provoke = || {
            let answer = send(bench.lb.proxy, "GET", "/home", &["x-mood: bad"], "");
            assert_eq!(answer.status, 200, "{does}: {}", answer.body);
        };
        let off = wait_for("the shadow to be switched off", || {
            provoke();
            status(&bench, "moody")["off"].as_str().map(str::to_owned)
        });
        assert!(off.contains(reason), "{does}: {off}");
        let lines = bench.lb.printed("stderr").matches("shadow is switched off").count();
        assert_eq!((lines, series(&bench, "lb_shadow_off", "moody", &[])), (1, 1.0), "{does}");
        // Without its picker, it is asked no more.
        wait_until("the list without it", || {
            let before = count(&status(&bench, "moody"), "picks");
            provoke();
            count(&status(&bench, "moody"), "picks") == before
        });
        assert_eq!(
            (bench.strategy(), status(&bench, "least_connections")["off"].clone()),
            (json!("round_robin"), json!(null))
        );
        let reload = &bench.status()["reload"];
        assert_eq!((&reload["rolled_back"], &reload["last"]["by"]), (&json!([]), &json!("admin")), "{does}");
        let page = get(bench.lb.admin, "/metrics").body;
        assert_eq!(metrics::sum(&page, "lb_strategy_fallbacks_total", &[]), 0.0, "{does}");
        // An operator's reload begins it anew.
        assert_eq!(bench.reloaded()["applied"], json!(["strategy.shadow"]), "{does}");
        assert_eq!(status(&bench, "moody")["off"], Value::Null, "{does}");
    }
}

#[test]
fn a_shadow_that_refuses_a_list_is_switched_off_and_the_list_is_in_force() {
    let file = "refuses.so";
    let of_file = shaded(&format!("[[strategy.shadow]]\npath = {file:?}\nid = \"s\"\n"));
    let bench = Bench::start_with(&of_file, &[(file, &compiled("refuses_labels.c", &[]))]);
    begun(&bench, "s");
    let extra = mock("4");
    let entry = json!({ "id": "b4", "address": extra.addr.to_string(), "labels": { "zone": "a" } });
    let added = post(bench.lb.admin, "/add", &json!({ "backends": [entry] }).to_string());
    assert_eq!(added.status, 200, "{}", added.body);
    let off = status(&bench, "s")["off"].as_str().unwrap().to_owned();
    assert!(off.contains("it refused a list"), "{off}");
    (0..4).for_each(|_| drop(bench.server()));
    assert_eq!(extra.stats().requests, 1, "the list is in force");
}

#[test]
fn a_rollback_of_the_strategy_in_charge_leaves_the_shadows() {
    let bench = Bench::start(&two());
    begun(&bench, "ring");
    bench.change(&(moody("panic") + &shadow("least_connections", "id = \"new\"\n")));
    begun(&bench, "new");
    crate::probation::until(&bench, "round_robin");
    let before = count(&status(&bench, "new"), "picks");
    begun(&bench, "new");
    assert!(count(&status(&bench, "new"), "picks") > before);
    assert_eq!(bench.status()["pools"][0]["shadows"].as_array().unwrap().len(), 1);
}

#[test]
fn lb_status_shows_shadows() {
    let bench = Bench::start(&two());
    begun(&bench, "least_connections");
    let folder = lb_test_support::folder("");
    let admin = bench.lb.admin.to_string();
    let output = bare_admin_command(&folder, &["--admin-listen", &admin, "status"]).output().unwrap();
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(page.contains("shadow ring: consistent_hash "), "{page}");
    assert!(page.contains("shadow least_connections: least_connections "), "{page}");
}
