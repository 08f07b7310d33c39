//! The other routes of the admin port.

use std::io::Write;
use std::net::TcpListener;

use lb_test_support::{Balancer, backends, get, mock, send, wait_for};

const STRATEGY: &str = "[strategy]\nname = \"round_robin\"\n";

#[test]
fn metrics_come_with_the_content_type_that_prometheus_wants() {
    let server = mock("1");
    let balancer = Balancer::start(&(STRATEGY.to_owned() + &backends(&[("b1", server.addr)])));
    assert_eq!(get(balancer.proxy, "/home").status, 200);
    let metrics = get(balancer.admin, "/metrics");
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4"));
    assert!(metrics.body.lines().any(|line| line.starts_with("lb_generation ")), "{}", metrics.body);
}

#[test]
fn an_attached_backend_is_unchecked_until_its_first_check_has_ended() {
    // It accepts, but does not respond before the test does so.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let server = mock("1");
    let health = "[health]\ninterval_ms = 600000\ntimeout_ms = 600000\n";
    let balancer = Balancer::start(&(STRATEGY.to_owned() + &backends(&[("b1", server.addr)]) + health));
    let attach = format!(r#"{{"backends":[{{"id":"b2","address":"{address}"}}]}}"#);
    assert_eq!(send(balancer.admin, "POST", "/add", &[], &attach).status, 200);
    let attached = || get(balancer.admin, "/backends").json()[1].clone();
    assert_eq!((&attached()["checked"], &attached()["healthy"]), (&false.into(), &true.into()));
    assert!(get(balancer.admin, "/metrics").body.contains("lb_backend_up{pool=\"default\",backend=\"b2\"} 1"));

    let (mut check, _) = silent.accept().unwrap();
    check.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    wait_for("the first check", || (attached()["checked"] == true).then_some(()));
    assert_eq!(attached()["healthy"], true);
}

#[test]
fn a_start_is_not_ready_before_the_first_check_of_each_backend_that_waits() {
    // It accepts, but does not respond before the test does so.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = mock("1");
    let health = "[health]\ninterval_ms = 600000\ntimeout_ms = 600000\ninitial = \"wait\"\n";
    let both = backends(&[("b1", server.addr), ("b2", silent.local_addr().unwrap())]);
    let balancer = Balancer::start(&(STRATEGY.to_owned() + &both + health));
    let eligible = |index: usize| get(balancer.admin, "/backends").json()[index]["eligible"] == true;
    // The flag of the backend goes ahead of the list that picks use.
    wait_for("the first backend to serve", || (get(balancer.proxy, "/home").status == 200).then_some(()));
    assert!(eligible(0));
    let not_ready = get(balancer.admin, "/readyz");
    assert_eq!(not_ready.status, 503);
    assert_eq!(not_ready.json()["message"], "<Error> backends that wait for their first health check: 1");

    let (mut check, _) = silent.accept().unwrap();
    check.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    wait_for("lb to be ready", || (get(balancer.admin, "/readyz").status == 200).then_some(()));
    assert!(eligible(1));
}

#[test]
fn healthz_and_readyz_differ_when_every_backend_drains() {
    let server = mock("1");
    let config = STRATEGY.to_owned() + &backends(&[("Server 1", server.addr)]);
    let balancer = Balancer::start(&config);
    for path in ["/healthz", "/readyz"] {
        let answer = get(balancer.admin, path);
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{path}");
    }

    let drained = send(balancer.admin, "POST", "/backends/Server%201/drain", &[], "");
    assert_eq!(drained.status, 200, "{}", drained.body);
    assert_eq!((&drained.json()["id"], &drained.json()["draining"]), (&"Server 1".into(), &true.into()));
    let not_ready = get(balancer.admin, "/readyz");
    assert_eq!(not_ready.status, 503);
    assert_eq!(not_ready.json()["pools"], serde_json::json!(["default"]));
    assert_eq!(get(balancer.admin, "/healthz").status, 200, "a restart would not help");

    let ready = send(balancer.admin, "POST", "/backends/Server%201/ready?pool=default", &[], "");
    assert_eq!(ready.json()["draining"], false);
    assert_eq!(get(balancer.admin, "/readyz").status, 200);
}

#[test]
fn backends_and_status_are_json() {
    let server = mock("1");
    let balancer = Balancer::start(&(STRATEGY.to_owned() + &backends(&[("b1", server.addr)])));
    let weight = send(balancer.admin, "POST", "/backends/b1/weight", &[], r#"{"weight":7}"#);
    assert_eq!((weight.status, &weight.json()["weight"]), (200, &7.into()));

    let listed = get(balancer.admin, "/backends");
    assert_eq!(listed.header("content-type"), Some("application/json"));
    let listed = listed.json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!((&listed[0]["id"], &listed[0]["weight"]), (&"b1".into(), &7.into()));
    assert_eq!(listed[0]["address"], server.addr.to_string());

    let status = get(balancer.admin, "/status").json();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["pools"][0]["strategy"], "round_robin");
    assert_eq!(status["overlay"]["changed"], 1);
    assert_eq!(status["workers"], 1);
}

#[test]
fn an_invalid_change_is_refused_with_its_reason() {
    let server = mock("1");
    let balancer = Balancer::start(&(STRATEGY.to_owned() + &backends(&[("b1", server.addr)])));
    let post = |path: &str, body: &str| send(balancer.admin, "POST", path, &[], body);
    for (path, body, status, word) in [
        ("/backends/b2/drain", "", 404, "b2"),
        ("/backends/b1/drain?pool=api", "", 404, "api"),
        ("/backends/b1/drain?pol=default", "", 400, "pol"),
        ("/backends/b1/weight", "", 400, "no body: send {\"weight\":N}"),
        ("/add?pool=api", r#"{"n":1}"#, 400, "/add takes no query"),
        ("/metrics", "", 405, "/metrics takes GET, HEAD"),
        ("/backends/b1/weight", r#"{"weight":257}"#, 400, "257"),
        ("/backends/b1/stop", "", 404, "/backends/b1/stop"),
        ("/nothing", "", 404, "/nothing"),
    ] {
        let answer = post(path, body);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("<Error> ") && message.contains(word), "{path}: {message}");
    }
    assert_eq!(get(balancer.admin, "/rep?pool=api").status, 400);
    let removed = send(balancer.admin, "DELETE", "/rm?pool=api", &[], r#"{"n":1}"#);
    assert_eq!(removed.status, 400, "{}", removed.body);
    assert_eq!(get(balancer.admin, "/rep").json()["message"]["replicas"], serde_json::json!(["b1"]), "nothing changed");
    let index = get(balancer.admin, "/");
    assert_eq!((index.status, index.header("content-type")), (200, Some("text/plain; charset=utf-8")));
    assert!(index.body.contains("/backends/{id}/drain"));
}

#[test]
fn a_body_over_a_mebibyte_is_too_large() {
    let balancer = Balancer::start(STRATEGY);
    let answer = send(balancer.admin, "POST", "/add", &[], &" ".repeat((1 << 20) + 1));
    assert_eq!((answer.status, &answer.json()["status"]), (413, &"failure".into()));
    let answer = send(balancer.admin, "POST", "/add", &[], &" ".repeat(1 << 20));
    assert_eq!(answer.status, 400, "the size is allowed, but the body is empty");
}
