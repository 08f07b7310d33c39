//! Sections of pools and routes: a reload changes them without a restart and names them, or refuses them with the
//! reason.

use lb_test_support::{Client, closed_address, get, mock, send, wait_for};
use mock_server::{Change, Running};
use serde_json::json;

use crate::bench::{Bench, named};

/// A pool `api` behind `api.test`, with these sections of its own and of its route.
fn api(server: &Running, of_pool: &str, of_route: &str) -> String {
    let pool = "[pools.api.strategy]\nname = \"round_robin\"\n[[pools.api.backends]]\nid = \"a1\"\n";
    let route = "[[routes]]\nhost = \"api.test\"\npool = \"api\"\n";
    format!("{}{pool}address = \"{}\"\n{of_pool}{route}{of_route}", named("round_robin"), server.addr)
}

fn status_of(bench: &Bench, method: &str, path: &str, body: &str) -> u16 {
    send(bench.lb.proxy, method, path, &["host: api.test"], body).status
}

#[test]
fn a_reload_changes_time_outs_and_limits_of_a_pool_and_of_a_route() {
    const SHORT: &str = "response_head_ms = 250\n";
    let server = mock("4");
    let stall = |stall| server.change(&Change { stall: Some(stall), ..Change::default() }).unwrap();
    let bench = Bench::start(&api(&server, &format!("[pools.api.timeouts]\n{SHORT}"), ""));
    stall(true);
    assert_eq!(status_of(&bench, "GET", "/home", ""), 504, "by the time-out of the pool");

    let of_route = format!("[routes.timeouts]\n{SHORT}[routes.limits]\nbody_bytes = 3\n");
    let report = bench.change(&api(&server, "", &of_route));
    assert_eq!((&report["applied"], &report["needs_restart"]), (&json!(["routes", "pools.api.timeouts"]), &json!([])));
    assert_eq!(status_of(&bench, "GET", "/home", ""), 504, "by the time-out of the route");
    assert_eq!(status_of(&bench, "POST", "/upload", "long"), 413);

    // A request that the route's time-out would end is under way when the reload removes that.
    assert_eq!(bench.change(&api(&server, "", ""))["applied"], json!(["routes"]));
    let before = server.stats().requests;
    let mut patient = Client::connect(bench.lb.proxy);
    patient.send(b"POST /upload HTTP/1.1\r\nhost: api.test\r\ncontent-length: 4\r\n\r\nlong");
    wait_for("the request to be at the server", || (server.stats().requests > before).then_some(()));
    let report = bench.change(&api(&server, "[pools.api.limits]\nbody_bytes = 3\n", &of_route));
    assert_eq!(report["applied"], json!(["routes", "pools.api.limits"]));
    assert_eq!(status_of(&bench, "GET", "/home", ""), 504, "a later one has the new time-out");
    stall(false);
    assert_eq!(patient.answer().status(), 200, "it keeps the rules that it began with");
}

#[test]
fn a_reload_changes_the_checks_of_a_pool() {
    let server = mock("4");
    let quick = |path: &str| format!("[pools.api.health]\ninterval_ms = 10\ntimeout_ms = 60000\npath = {path:?}\n");
    let bench = Bench::start(&api(&server, &quick("/heartbeat"), ""));
    let rows = || get(bench.lb.admin, "/backends").json().as_array().unwrap().clone();
    let row = || rows().into_iter().find(|row| row["pool"] == "api").unwrap();
    assert_eq!(row()["healthy"], true);
    let report = bench.change(&api(&server, &quick("/status/503"), ""));
    assert_eq!(report["applied"], json!(["pools.api.health"]));
    let reason = wait_for("the backend to be down", || row()["reason"].as_str().map(str::to_owned));
    assert_eq!(reason, "/status/503 returned 503");
    assert_eq!(rows().iter().filter(|row| row["healthy"] == true).count(), 3, "the other pool has the global section");
    assert_eq!(bench.change(&api(&server, "", ""))["applied"], json!(["pools.api.health"]));
    assert_eq!(row()["healthy"], false, "the global interval is long, and one good check is not enough");
    bench.change(&api(&server, "[pools.api.health]\nenabled = false\n", ""));
    assert_eq!(row()["healthy"], true, "without checks it counts as healthy");
}

#[test]
fn a_backend_that_a_reload_adds_begins_in_the_state_that_its_pool_says() {
    let server = mock("4");
    let health = "[pools.api.health]\ninterval_ms = 86400000\ninitial = \"down\"\n";
    let bench = Bench::start(&api(&server, health, ""));
    let healthy = |id: &str| {
        let all = get(bench.lb.admin, "/backends").json();
        all.as_array().unwrap().iter().find(|row| row["id"] == id).unwrap()["healthy"] == true
    };
    wait_for("the first check", || healthy("a1").then_some(()));
    let more = format!("[[pools.api.backends]]\nid = \"a2\"\naddress = \"{}\"\n", closed_address());
    bench.change(&api(&server, &format!("{more}{health}"), ""));
    assert_eq!((healthy("a1"), healthy("a2")), (true, false), "one failed check would not be enough");
}

#[test]
fn a_reload_refuses_a_key_that_has_no_meaning_there() {
    let server = mock("4");
    let bench = Bench::start(&api(&server, "", ""));
    for (of_pool, of_route, says) in [
        ("[pools.api.timeouts]\nhead_ms = 5\n", "", "a head is read before its route is known: set it in [timeouts]"),
        ("", "[routes.health]\npath = \"/\"\n", "set it in [pools.NAME.health] or [health]"),
    ] {
        bench.write(&api(&server, of_pool, of_route));
        let answer = bench.reload();
        assert_eq!(answer.status, 422, "{}", answer.body);
        assert!(answer.json()["reason"].as_str().unwrap().contains(says), "{}", answer.body);
    }
}
