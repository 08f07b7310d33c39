//! Backups: the backends that serve when others drain, fail, are down or come back.

use lb_test_support::{Balancer, get, mock, send, wait_until};
use mock_server::{Change, Running};
use serde_json::Value;

/// No check decides during a test, and an ejection lasts until an operator ends it.
const QUIET: &str = "[health]\ninterval_ms = 86400000\n[outlier]\neject_ms = 300000\n";
const IDS: [&str; 4] = ["b1", "b2", "s1", "s2"];

/// lb with the primaries b1 and b2 and the backups s1 and s2.
fn start(strategy: &str, config: &str, servers: &[Running]) -> Balancer {
    let entry = |(id, server): (&str, &Running)| {
        let backup = id.starts_with('s');
        format!("[[backends]]\nid = \"{id}\"\naddress = \"{}\"\nbackup = {backup}\n", server.addr)
    };
    let list: String = IDS.into_iter().zip(servers).map(entry).collect();
    Balancer::start(&format!("[strategy]\nname = \"{strategy}\"\n{config}{list}"))
}

fn backend(lb: &Balancer, id: &str) -> Value {
    let listed = get(lb.admin, "/backends").json();
    listed.as_array().unwrap().iter().find(|one| one["id"] == id).cloned().unwrap_or_default()
}

fn eligible(lb: &Balancer) -> Vec<&'static str> {
    IDS.into_iter().filter(|id| backend(lb, id)["eligible"] == true).collect()
}

/// The backends that respond to 40 requests with different keys.
fn servers(lb: &Balancer) -> Vec<&'static str> {
    let replies: Vec<_> = (0..40).map(|key| send(lb.proxy, "GET", "/home", &[&format!("x-key: {key}")], "")).collect();
    assert!(replies.iter().all(|reply| reply.status == 200));
    IDS.into_iter().filter(|id| replies.iter().any(|reply| reply.header("x-server-id") == Some(id))).collect()
}

fn change(lb: &Balancer, id: &str, action: &str) {
    assert_eq!(send(lb.admin, "POST", &format!("/backends/{id}/{action}"), &[], "").status, 200);
}

#[test]
fn backups_serve_only_while_no_primary_can_and_then_all_of_them_do_with_every_strategy() {
    let all: Vec<_> = IDS.into_iter().map(mock).collect();
    for strategy in ["round_robin", "least_connections", "consistent_hash"] {
        let lb = start(strategy, QUIET, &all);
        assert_eq!((servers(&lb), eligible(&lb)), (vec!["b1", "b2"], vec!["b1", "b2"]), "{strategy}");
        change(&lb, "b1", "drain");
        assert_eq!(servers(&lb), ["b2"], "{strategy}");
        change(&lb, "b2", "drain");
        assert_eq!((servers(&lb), eligible(&lb)), (vec!["s1", "s2"], vec!["s1", "s2"]), "{strategy}");
        assert_eq!(backend(&lb, "s1")["backup"], true);
        assert_eq!(get(lb.admin, "/readyz").status, 200);
        change(&lb, "s2", "drain");
        assert_eq!(servers(&lb), ["s1"], "{strategy}");
        change(&lb, "b1", "ready");
        assert_eq!(servers(&lb), ["b1"], "{strategy}");
        wait_until("the log", || {
            let log = lb.printed("stderr");
            log.contains("the backups of the pool get requests") && log.contains("stand by again")
        });
    }
}

#[test]
fn a_primary_that_fails_is_ejected_although_it_is_the_last_because_backups_take_over() {
    let all: Vec<_> = IDS.into_iter().map(mock).collect();
    let lb = start("round_robin", QUIET, &all);
    change(&lb, "b2", "drain");
    all[0].change(&Change { failure_rate: Some(1.0), ..Change::default() }).unwrap();
    wait_until("the ejection", || {
        get(lb.proxy, "/home");
        backend(&lb, "b1")["ejection"].is_object()
    });
    assert_eq!(eligible(&lb), ["s1", "s2"]);
    // The backups are drained, so the ejection gives way.
    change(&lb, "s1", "drain");
    change(&lb, "s2", "drain");
    assert_eq!(eligible(&lb), ["b1"]);
}

#[test]
fn backups_take_over_from_primaries_that_are_down_and_give_back_to_the_first_that_returns() {
    let all: Vec<_> = IDS.into_iter().map(mock).collect();
    let health = "[health]\ninterval_ms = 20\nfast_interval_ms = 20\ntimeout_ms = 500\n";
    let lb = start("round_robin", health, &all);
    let stall = |server: &Running, on| server.change(&Change { stall: Some(on), ..Change::default() }).unwrap();
    all[..2].iter().for_each(|server| stall(server, true));
    wait_until("the take-over", || eligible(&lb) == ["s1", "s2"]);
    stall(&all[1], false);
    wait_until("the return", || eligible(&lb) == ["b2"]);
}

#[test]
fn a_server_may_be_attached_as_a_backup() {
    let all: Vec<_> = IDS.into_iter().map(mock).collect();
    let lb = start("round_robin", QUIET, &all[..1]);
    let attach = format!(r#"{{"backends":[{{"id":"s1","address":"{}","backup":true}}]}}"#, all[2].addr);
    assert_eq!(send(lb.admin, "POST", "/add", &[], &attach).status, 200);
    assert_eq!((eligible(&lb), &backend(&lb, "s1")["backup"]), (vec!["b1"], &true.into()));
    change(&lb, "b1", "drain");
    assert_eq!(servers(&lb), ["s1"]);
}
