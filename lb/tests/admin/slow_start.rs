//! Slow start: the share of a backend that returns or joins, over sockets.

use lb_test_support::{Balancer, backends, get, metrics, mock, send, wait_until};
use mock_server::{Change, Running};
use serde_json::Value;

/// No check decides during a test, and an ejection lasts until an operator ends it.
const QUIET: &str = "[health]\ninterval_ms = 86400000\n[outlier]\neject_ms = 300000\n";
/// No step of a ramp falls into a test.
const LONG: &str = "[slow_start]\nenabled = true\nwindow_ms = 86400000\n";

fn start(strategy: &str, servers: &[Running]) -> Balancer {
    let list: Vec<_> = ["b1", "b2", "b3"].into_iter().zip(servers).map(|(id, server)| (id, server.addr)).collect();
    Balancer::start(&format!("[strategy]\nname = \"{strategy}\"\n{QUIET}{LONG}{}", backends(&list)))
}

fn backend(lb: &Balancer, id: &str) -> Value {
    let listed = get(lb.admin, "/backends").json();
    listed.as_array().unwrap().iter().find(|one| one["id"] == id).cloned().unwrap_or_default()
}

/// The percents of the backends that start slowly.
fn starting(lb: &Balancer) -> Vec<(String, u64)> {
    let listed = get(lb.admin, "/backends").json();
    let starting = |one: &Value| Some((one["id"].as_str()?.to_owned(), one["slow_start"]["percent"].as_u64()?));
    listed.as_array().unwrap().iter().filter_map(starting).collect()
}

fn share(lb: &Balancer, id: &str) -> Option<f64> {
    metrics::value(&get(lb.admin, "/metrics").body, &format!(r#"lb_backend_share{{pool="default",backend="{id}"}}"#))
}

/// The backend that responds to the request with this key.
fn server(lb: &Balancer, key: usize) -> String {
    let reply = send(lb.proxy, "GET", "/home", &[&format!("x-key: {key}")], "");
    assert_eq!(reply.status, 200);
    reply.header("x-server-id").unwrap().to_owned()
}

/// How many of `requests` each of the three backends gets.
fn counts(lb: &Balancer, requests: usize) -> [usize; 3] {
    let servers: Vec<_> = (0..requests).map(|key| server(lb, key)).collect();
    ["b1", "b2", "b3"].map(|id| servers.iter().filter(|server| *server == id).count())
}

/// Has `b3` ejected. It could serve again.
fn eject_b3(lb: &Balancer, servers: &[Running]) {
    servers[2].change(&Change { failure_rate: Some(1.0), ..Change::default() }).unwrap();
    let mut key = 0;
    wait_until("the ejection", || {
        send(lb.proxy, "GET", "/home", &[&format!("x-key: {key}")], "");
        key += 1;
        backend(lb, "b3")["ejection"].is_object()
    });
    servers[2].change(&Change { failure_rate: Some(0.0), ..Change::default() }).unwrap();
}

fn eject_and_return_b3(lb: &Balancer, servers: &[Running]) {
    eject_b3(lb, servers);
    assert_eq!(send(lb.admin, "POST", "/backends/b3/ready", &[], "").status, 200);
}

#[test]
fn a_backend_that_returns_gets_a_tenth_of_its_turns_at_first_and_all_of_them_at_the_end() {
    let servers: Vec<_> = ["b1", "b2", "b3"].into_iter().map(mock).collect();
    let lb = start("round_robin", &servers);
    assert_eq!((starting(&lb), share(&lb, "b3")), (Vec::new(), Some(1.0)), "the initial set has no slow start");
    eject_and_return_b3(&lb, &servers);
    assert_eq!(starting(&lb), [("b3".to_owned(), 10)]);
    assert_eq!(counts(&lb, 210), [100, 100, 10]);
    assert_eq!((share(&lb, "b2"), share(&lb, "b3")), (Some(1.0), Some(0.1)));

    // Neither a swap of the strategy nor another weight begins it again or ends it.
    let other = r#"{"strategy":{"name":"least_connections"}}"#;
    assert_eq!(send(lb.admin, "POST", "/reload", &[], other).status, 200);
    assert_eq!(send(lb.admin, "POST", "/reload", &[], "").status, 200);
    let left = backend(&lb, "b3")["slow_start"]["left_ms"].as_u64().unwrap();
    assert_eq!(send(lb.admin, "POST", "/backends/b3/weight", &[], r#"{"weight":2}"#).status, 200);
    assert!(backend(&lb, "b3")["slow_start"]["left_ms"].as_u64().unwrap() <= left);
    assert_eq!(counts(&lb, 220), [100, 100, 20]);

    let file = lb.path("lb.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("window_ms = 86400000", "window_ms = 400")).unwrap();
    wait_until("the end of the slow start", || starting(&lb).is_empty());
    // The response comes when every worker has all changes.
    assert_eq!(send(lb.admin, "POST", "/backends/b3/weight", &[], r#"{"weight":2}"#).status, 200);
    assert_eq!(counts(&lb, 220), [55, 55, 110]);
    assert_eq!(share(&lb, "b3"), Some(1.0));
    wait_until("the log", || lb.printed("stderr").contains("backend has its full share"));
}

#[test]
fn a_backend_that_joins_by_a_reload_or_a_command_starts_slowly_and_one_that_drained_does_not() {
    let servers: Vec<_> = ["b1", "b2", "b3", "b4", "b5"].into_iter().map(mock).collect();
    let lb = start("round_robin", &servers);
    for action in ["drain", "ready"] {
        assert_eq!(send(lb.admin, "POST", &format!("/backends/b1/{action}"), &[], "").status, 200);
    }
    assert_eq!(starting(&lb), []);
    let file = lb.path("lb.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + &backends(&[("b4", servers[3].addr)])).unwrap();
    wait_until("b4", || backend(&lb, "b4").is_object());
    let attach = format!(r#"{{"backends":[{{"id":"b5","address":"{}"}}]}}"#, servers[4].addr);
    assert_eq!(send(lb.admin, "POST", "/add", &[], &attach).status, 200);
    assert_eq!(starting(&lb), [("b4".to_owned(), 10), ("b5".to_owned(), 10)]);
    assert_eq!(counts(&lb, 320), [100, 100, 100]);
}

#[test]
fn a_hash_strategy_sends_a_returning_backend_all_of_its_keys() {
    let servers: Vec<_> = ["b1", "b2", "b3"].into_iter().map(mock).collect();
    let lb = start("consistent_hash", &servers);
    let homes = |lb: &Balancer| (0..200).map(|key| server(lb, key)).collect::<Vec<_>>();
    let before = homes(&lb);
    eject_and_return_b3(&lb, &servers);
    assert_eq!(starting(&lb), [("b3".to_owned(), 10)]);
    assert_eq!(homes(&lb), before);
}

#[test]
fn a_strategy_that_refuses_the_share_of_a_slow_start_is_asked_once_and_not_without_end() {
    let servers: Vec<_> = ["b1", "b2", "b3"].into_iter().map(mock).collect();
    let list: Vec<_> = ["b1", "b2", "b3"].into_iter().zip(&servers).map(|(id, server)| (id, server.addr)).collect();
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libbroken.so");
    lb_test_support::compile("examples/broken/refuses_shares.c", &[], &library);
    let config = "[health]\ninterval_ms = 10\n[outlier]\neject_ms = 300000\n[reload]\nprobation_ms = 0\n";
    let lb = Balancer::start(&format!("[strategy]\npath = {library:?}\n{config}{LONG}{}", backends(&list)));
    eject_b3(&lb, &servers);
    assert_eq!(send(lb.admin, "POST", "/backends/b3/ready", &[], "").status, 500);
    let refusals = || lb.printed("stderr").matches("the strategy refused a list of backends").count();
    wait_until("the refusal", || refusals() > 0);
    // As many builds as checks would fit in here.
    let series = r#"lb_backend_health_checks_total{pool="default",backend="b1",result="ok"}"#;
    let checks = || metrics::value(&get(lb.admin, "/metrics").body, series).unwrap_or_default();
    let before = checks();
    wait_until("more checks", || checks() >= before + 50.0);
    assert!(refusals() <= 2, "{} refusals", refusals());
}
