//! Backends that fail the requests of clients although their health checks are good, and pools with too few backends.

use lb_test_support::{Balancer, Client, Hostile, backends, get, mock, request, send, wait_until};
use mock_server::{Change, Running};
use serde_json::Value;

/// Long enough that no ejection ends during a test.
const LONG: &str = "[outlier]\neject_ms = 300000\n";

fn strategy(name: &str) -> String {
    format!("[strategy]\nname = \"{name}\"\n")
}

fn three() -> Vec<Running> {
    ["b1", "b2", "b3"].into_iter().map(mock).collect()
}

fn start(config: &str, servers: &[Running]) -> Balancer {
    let ids: Vec<String> = (1..=servers.len()).map(|number| format!("b{number}")).collect();
    let list: Vec<_> = ids.iter().zip(servers).map(|(id, server)| (id.as_str(), server.addr)).collect();
    Balancer::start(&(config.to_owned() + &backends(&list)))
}

fn fail(server: &Running, rate: f64) {
    server.change(&Change { failure_rate: Some(rate), ..Change::default() }).unwrap();
}

fn backend(lb: &Balancer, id: &str) -> Value {
    let listed = get(lb.admin, "/backends").json();
    let all = listed.as_array().or_else(|| listed["backends"].as_array()).unwrap();
    all.iter().find(|one| one["id"] == id).cloned().unwrap()
}

fn metric(lb: &Balancer, series: &str) -> Option<String> {
    let text = get(lb.admin, "/metrics").body;
    text.lines().find_map(|line| Some(line.strip_prefix(series)?.trim().to_owned()))
}

/// The status of a request with its own key.
fn status(lb: &Balancer, number: usize) -> u16 {
    send(lb.proxy, "GET", "/home", &[&format!("x-key: {number}")], "").status
}

#[test]
fn a_backend_that_fails_all_but_its_checks_is_ejected_with_every_strategy() {
    for name in ["round_robin", "least_connections", "consistent_hash"] {
        let servers = three();
        let lb = start(&(strategy(name) + LONG), &servers);
        fail(&servers[2], 1.0);
        let mut failed = 0;
        for number in 0.. {
            failed += usize::from(status(&lb, number) == 500);
            if failed == 5 {
                break;
            }
            assert!(number < 500, "{name}: {failed} failures");
        }
        wait_until("the ejection", || backend(&lb, "b3")["eligible"] == false);
        let b3 = backend(&lb, "b3");
        assert_eq!((&b3["healthy"], &b3["ejection"]["reason"]), (&true.into(), &"5 server errors in a row".into()));
        assert!((0..100).all(|number| status(&lb, number) == 200), "{name}");
        let of = r#"{pool="default",backend="b3""#;
        assert_eq!(metric(&lb, &format!("lb_backend_ejected{of}}}")).as_deref(), Some("1"));
        let ejections = format!(r#"lb_backend_ejections_total{of},reason="server_errors"}}"#);
        assert_eq!(metric(&lb, &ejections).as_deref(), Some("1"));

        fail(&servers[2], 0.0);
        assert_eq!(send(lb.admin, "POST", "/backends/b3/ready", &[], "").status, 200, "an operator ends it");
        assert_eq!(backend(&lb, "b3")["eligible"], true);
        assert_eq!(backend(&lb, "b3")["ejection"], Value::Null);
    }
}

#[test]
fn a_backend_that_breaks_off_each_body_is_ejected() {
    let good = mock("b1");
    let breaks = Hostile::closing_after(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart");
    let list = [("b1", good.addr), ("b2", good.addr), ("b3", breaks.addr)];
    let checks = "[health]\nkind = \"tcp\"\n";
    let lb = Balancer::start(&(strategy("round_robin") + checks + LONG + &backends(&list)));
    let mut asked = 0;
    wait_until("the ejection", || {
        let mut client = Client::connect(lb.proxy);
        client.send(&request("GET", "/home", &[]));
        let _broken = client.answer_to("GET");
        asked += 1;
        backend(&lb, "b3")["eligible"] == false
    });
    assert_eq!(backend(&lb, "b3")["ejection"]["reason"], "5 gateway failures in a row", "after {asked} requests");
}

#[test]
fn an_ejection_ends_and_the_next_one_is_longer() {
    let servers = three();
    let lb = start(&(strategy("round_robin") + "[outlier]\neject_ms = 400\n"), &servers);
    fail(&servers[2], 1.0);
    let mut number = 0;
    let mut counts = Vec::new();
    wait_until("three ejections", || {
        status(&lb, number);
        number += 1;
        if let Some(count) = backend(&lb, "b3")["ejection"]["count"].as_u64()
            && counts.last() != Some(&count)
        {
            counts.push(count);
        }
        counts.len() == 3
    });
    assert_eq!(counts, [1, 2, 3]);
    fail(&servers[2], 0.0);
    wait_until("its return", || backend(&lb, "b3")["eligible"] == true);
    wait_until("the log of its return", || lb.printed("stderr").contains("the ejection of a backend is over"));
}

/// Sends requests until `b3`, which fails them, is ejected.
fn eject_b3(lb: &Balancer, servers: &[Running]) {
    fail(&servers[2], 1.0);
    let mut number = 0;
    wait_until("the ejection", || {
        status(lb, number);
        number += 1;
        backend(lb, "b3")["ejection"].is_object()
    });
    fail(&servers[2], 0.0);
}

#[test]
fn an_ejection_ends_when_checks_found_the_backend_down_and_up_again() {
    let servers = three();
    let health = "[health]\ninterval_ms = 20\nfast_interval_ms = 20\ntimeout_ms = 100\n";
    let lb = start(&(strategy("round_robin") + LONG + health), &servers);
    eject_b3(&lb, &servers);
    servers[2].change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    wait_until("b3 to be down", || backend(&lb, "b3")["healthy"] == false);
    servers[2].change(&Change { stall: Some(false), ..Change::default() }).unwrap();
    wait_until("b3 to get requests", || backend(&lb, "b3")["eligible"] == true);
    assert_eq!(backend(&lb, "b3")["ejection"], Value::Null);
}

#[test]
fn an_ejection_ends_when_a_reload_switches_outlier_detection_off_and_when_another_server_takes_the_id() {
    let servers = three();
    let lb = start(&(strategy("round_robin") + LONG), &servers);
    eject_b3(&lb, &servers);
    let file = lb.path("lb.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let fourth = mock("fourth");
    let moved = text.replace(&servers[2].addr.to_string(), &fourth.addr.to_string());
    std::fs::write(&file, &moved).unwrap();
    wait_until("the new server under the old id", || {
        (0..9).any(|_| get(lb.proxy, "/home").header("x-server-id") == Some("fourth"))
    });

    std::fs::write(&file, &text).unwrap();
    wait_until("the old server", || backend(&lb, "b3")["address"] == servers[2].addr.to_string());
    eject_b3(&lb, &servers);
    std::fs::write(&file, text.replace("[outlier]\n", "[outlier]\nenabled = false\n")).unwrap();
    wait_until("its return", || backend(&lb, "b3")["eligible"] == true);
}

#[test]
fn the_only_backend_stays_and_the_log_says_so() {
    let servers = vec![mock("b1")];
    let lb = start(&(strategy("round_robin") + LONG), &servers);
    fail(&servers[0], 1.0);
    assert!((0..5).all(|number| status(&lb, number) == 500));
    wait_until("the log", || lb.printed("stderr").contains("backend fails, but is not ejected"));
    assert_eq!(backend(&lb, "b1")["eligible"], true);
}

#[test]
fn a_backend_that_is_reset_in_every_request_is_ejected_for_gateway_failures() {
    let broken = Hostile::start(|_, wire| {
        while let Some(head) = wire.head() {
            if !head.starts_with("GET /heartbeat ") {
                return wire.reset();
            }
            wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let good = mock("good");
    let lb =
        Balancer::start(&(strategy("round_robin") + LONG + &backends(&[("broken", broken.addr), ("good", good.addr)])));
    let mut failed = 0;
    while failed < 5 {
        failed += usize::from(send(lb.proxy, "POST", "/home", &[], "").header("x-lb-error") == Some("reset"));
    }
    wait_until("the ejection", || backend(&lb, "broken")["eligible"] == false);
    assert_eq!(backend(&lb, "broken")["ejection"]["reason"], "5 gateway failures in a row");
}

#[test]
fn a_request_that_waits_for_a_backend_that_is_ejected_without_a_response_is_sent_elsewhere() {
    let broken = Hostile::start(|_, wire| {
        while let Some(head) = wire.head() {
            match head.split(' ').nth(1) {
                Some("/heartbeat") => wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
                Some("/home") => return wire.hold(),
                _ => return wire.reset(),
            }
        }
    });
    let good = mock("good");
    let config = strategy("round_robin") + "[outlier]\ngateway_failures = 3\neject_ms = 300000\n";
    let lb = Balancer::start(&(config + &backends(&[("broken", broken.addr), ("good", good.addr)])));
    let proxy = lb.proxy;
    let held: Vec<_> = (0..2).map(|_| std::thread::spawn(move || get(proxy, "/home"))).collect();
    wait_until("the broken one to have a request", || broken.heads().iter().any(|head| head.contains(" /home ")));
    wait_until("its ejection", || {
        send(lb.proxy, "POST", "/reset", &[], "");
        backend(&lb, "broken")["eligible"] == false
    });
    for request in held {
        let answer = request.join().unwrap();
        assert_eq!((answer.status, answer.header("x-server-id")), (200, Some("good")));
    }
}

#[test]
fn a_pool_in_panic_uses_backends_that_are_silent_but_none_that_refuses() {
    let mut servers: Vec<_> = ["b1", "b2", "b3", "b4"].into_iter().map(mock).collect();
    let health = "[health]\ninterval_ms = 20\nfast_interval_ms = 20\ntimeout_ms = 100\n";
    let lb = start(&(strategy("round_robin") + health), &servers);
    assert_eq!(metric(&lb, r#"lb_pool_panic{pool="default"}"#).as_deref(), Some("0"));
    drop(servers.pop());
    for server in &servers[1..] {
        server.change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    }
    let flags = |id| {
        let one = backend(&lb, id);
        (one["healthy"] == true, one["eligible"] == true)
    };
    wait_until("panic", || metric(&lb, r#"lb_pool_panic{pool="default"}"#).as_deref() == Some("1"));
    wait_until("all three to be down", || ["b2", "b3", "b4"].into_iter().all(|id| !flags(id).0));
    assert_eq!(["b1", "b2", "b3", "b4"].map(flags), [(true, true), (false, true), (false, true), (false, false)]);
}
