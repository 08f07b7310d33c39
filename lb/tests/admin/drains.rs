//! Drains with a deadline: what happens to each kind of request, and what an operator sees.

use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lb_test_support::{
    Balancer, Client, Hostile, Reply, backends, finish, get, metrics, mock, request, send, wait_until,
};
use serde_json::Value;

/// No check decides during a test.
const CONFIG: &str = "[strategy]\nname = \"round_robin\"\n[health]\ninterval_ms = 86400000\n";
/// The timer of a connection rings after this time, and would find the cut without any wake-up.
const RING: Duration = Duration::from_secs(10);
const HOUR: &str = r#"{"deadline_ms":3600000}"#;

/// A backend that holds requests until it is told to respond, begins streams, and switches protocols.
fn holder(is_released: &Arc<AtomicBool>) -> Hostile {
    let is_released = is_released.clone();
    Hostile::start(move |_, wire| {
        while let Some(head) = wire.head() {
            match head.split(' ').nth(1) {
                Some("/part") => {
                    wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart");
                    return wire.hold();
                }
                Some("/endless") => {
                    wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n");
                    while wire.try_write(&[b'x'; 65_536]) {}
                    return;
                }
                Some("/tunnel") => {
                    wire.write(
                        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
                    );
                    return wire.hold();
                }
                Some("/home?held") => wait_until("the release of a request", || is_released.load(SeqCst)),
                _ => {}
            }
            wire.write(b"HTTP/1.1 200 OK\r\nx-server-id: holder\r\ncontent-length: 0\r\n\r\n");
        }
    })
}

fn backend(lb: &Balancer, id: &str) -> Value {
    let listed = get(lb.admin, "/backends").json();
    listed.as_array().unwrap().iter().find(|one| one["id"] == id).cloned().unwrap_or_default()
}

fn change(lb: &Balancer, id: &str, action: &str, body: &str) {
    let reply = send(lb.admin, "POST", &format!("/backends/{id}/{action}"), &[], body);
    assert_eq!(reply.status, 200, "{}", reply.body);
}

/// lb with the holder and another server, which gets nothing before [`Balancer`]'s other one is ready.
fn start(holder: &Hostile, other: &mock_server::Running) -> Balancer {
    let lb = Balancer::start(&(CONFIG.to_owned() + &backends(&[("holder", holder.addr), ("other", other.addr)])));
    change(&lb, "other", "drain", "");
    lb
}

/// Requests that the holder has.
fn held(lb: &Balancer, holder: &Hostile, methods: &'static [&'static str]) -> Vec<JoinHandle<Reply>> {
    let proxy = lb.proxy;
    let requests = methods.iter().map(|method| std::thread::spawn(move || send(proxy, method, "/home?held", &[], "")));
    let requests: Vec<_> = requests.collect();
    wait_until("the holder to have all requests", || {
        holder.heads().iter().filter(|head| head.contains(" /home?held ")).count() == methods.len()
    });
    requests
}

/// Runs a command of lb against `lb`.
fn lb_command(lb: &Balancer, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    command.env_clear().args(["--config", "none.toml", "--admin-listen", &lb.admin.to_string()]).args(arguments);
    finish(command)
}

#[test]
fn at_the_deadline_every_request_of_the_backend_ends_or_is_sent_elsewhere() {
    let is_released = Arc::default();
    let (holder, other) = (holder(&is_released), mock("other"));
    let lb = start(&holder, &other);
    let began = Instant::now();
    let mut requests = held(&lb, &holder, &["GET", "POST"]);
    let [mut part, mut endless, mut tunnel] = [(); 3].map(|()| Client::connect(lb.proxy));
    part.send(&request("GET", "/part", &[]));
    assert_eq!((part.head().unwrap().status, part.raw(4)), (200, b"part".to_vec()));
    // This client takes nothing after the head.
    endless.send(&request("GET", "/endless", &[]));
    assert_eq!(endless.head().unwrap().status, 200);
    tunnel.send(&request("GET", "/tunnel", &["connection: upgrade", "upgrade: websocket"]));
    assert_eq!(tunnel.head().unwrap().status, 101);
    assert_eq!(backend(&lb, "holder")["in_flight"], 5);

    change(&lb, "other", "ready", "");
    change(&lb, "holder", "drain", HOUR);
    let views = || metrics::value(&get(lb.admin, "/metrics").body, "lb_generation_take_up_seconds_count").unwrap();
    let views_before = views();
    change(&lb, "holder", "drain", r#"{"deadline_ms":50}"#);
    let [get_one, post] = [requests.remove(0), requests.remove(0)].map(|request| request.join().unwrap());
    assert_eq!((get_one.status, get_one.header("x-server-id")), (200, Some("other")), "it may be sent again");
    assert_eq!((post.status, post.header("x-lb-error")), (503, Some("drained")));
    assert_eq!((part.rest(), tunnel.rest()), (Vec::new(), Vec::new()), "both are closed without another byte");
    wait_until("all requests to end", || backend(&lb, "holder")["in_flight"] == 0);
    assert_eq!(views(), views_before, "a cut is no new view");
    assert!(began.elapsed() < RING, "the deadline did not wake their connections");
    let status = backend(&lb, "holder");
    assert_eq!((&status["drain"]["cut"], &status["drain"]["left_ms"]), (&5.into(), &0.into()));
    let page = get(lb.admin, "/metrics").body;
    let value = |series: &str| metrics::value(&page, series);
    assert_eq!(value(r#"lb_proxy_errors_total{pool="default",reason="drained"}"#), Some(4.0));
    assert_eq!(value(r#"lb_retries_total{pool="default",reason="drained"}"#), Some(1.0));
    assert_eq!(get(lb.proxy, "/home").header("x-server-id"), Some("other"));
    is_released.store(true, SeqCst);
    // The deadline is over, so a later request is not cut.
    change(&lb, "holder", "ready", "");
    assert!((0..4).all(|_| get(lb.proxy, "/home").status == 200));
}

#[test]
fn a_drain_without_a_deadline_waits_and_a_deadline_can_be_taken_back() {
    let is_released = Arc::default();
    let (holder, other) = (holder(&is_released), mock("other"));
    let lb = start(&holder, &other);
    let mut requests = held(&lb, &holder, &["POST"]);
    change(&lb, "holder", "drain", HOUR);
    assert!(backend(&lb, "holder")["drain"]["left_ms"].as_u64().unwrap() > 3_000_000);
    change(&lb, "holder", "drain", "");
    assert_eq!(backend(&lb, "holder")["drain"]["left_ms"], Value::Null);
    assert!(backend(&lb, "holder")["drain"]["for_ms"].is_u64());
    let page = String::from_utf8(lb_command(&lb, &["backends"]).stdout).unwrap();
    assert!(page.contains("draining for "), "{page}");
    is_released.store(true, SeqCst);
    assert_eq!(requests.remove(0).join().unwrap().header("x-server-id"), Some("holder"));
    change(&lb, "holder", "ready", "");
    assert_eq!(backend(&lb, "holder")["drain"], Value::Null);
}

#[test]
fn lb_drain_waits_for_the_last_request_and_says_whether_it_ended_by_itself() {
    let is_released = Arc::default();
    let (holder, other) = (holder(&is_released), mock("other"));
    let lb = start(&holder, &other);
    let drained = lb_command(&lb, &["drain", "other", "--wait"]);
    assert_eq!(drained.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&drained.stdout).starts_with("other is drained, "));

    let mut requests = held(&lb, &holder, &["POST"]);
    let page = std::thread::scope(|scope| {
        let waits = scope.spawn(|| lb_command(&lb, &["drain", "holder", "--wait"]));
        wait_until("the drain", || backend(&lb, "holder")["draining"] == true);
        is_released.store(true, SeqCst);
        let output = waits.join().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    });
    assert!(page.lines().last().unwrap().starts_with("holder is drained, "), "{page}");
    assert_eq!(requests.remove(0).join().unwrap().status, 200);

    assert_eq!(lb_command(&lb, &["ready", "holder"]).status.code(), Some(0));
    is_released.store(false, SeqCst);
    let mut requests = held_again(&lb, &holder);
    let cut = lb_command(&lb, &["drain", "holder", "--wait", "--deadline-ms", "50"]);
    assert_eq!(cut.status.code(), Some(1));
    assert_eq!(String::from_utf8(cut.stderr).unwrap(), "lb: holder: the deadline ended 1 request\n");
    assert_eq!(requests.remove(0).join().unwrap().header("x-lb-error"), Some("drained"));
    is_released.store(true, SeqCst);
    let unknown = lb_command(&lb, &["drain", "unknown"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", String::from_utf8_lossy(&unknown.stderr));
}

/// One more request that the holder has, after one.
fn held_again(lb: &Balancer, holder: &Hostile) -> Vec<JoinHandle<Reply>> {
    let proxy = lb.proxy;
    let request = std::thread::spawn(move || send(proxy, "POST", "/home?held", &[], ""));
    wait_until("the holder to have it", || {
        holder.heads().iter().filter(|head| head.contains(" /home?held ")).count() == 2
    });
    vec![request]
}

#[test]
fn a_removal_keeps_the_deadline_of_a_drain() {
    let is_released = Arc::default();
    let (holder, other) = (holder(&is_released), mock("other"));
    let lb = start(&holder, &other);
    let mut requests = held(&lb, &holder, &["POST"]);
    change(&lb, "other", "ready", "");
    change(&lb, "holder", "drain", r#"{"deadline_ms":1500}"#);
    assert_eq!(send(lb.admin, "DELETE", "/rm", &[], r#"{"n":1,"hostnames":["holder"]}"#).status, 200);
    assert_eq!(requests.remove(0).join().unwrap().header("x-lb-error"), Some("drained"));
    is_released.store(true, SeqCst);
}

#[test]
fn a_removal_may_have_a_deadline_too() {
    let is_released = Arc::default();
    let (holder, other) = (holder(&is_released), mock("other"));
    let lb = start(&holder, &other);
    let mut requests = held(&lb, &holder, &["POST"]);
    change(&lb, "other", "ready", "");
    let body = r#"{"n":1,"hostnames":["holder"],"deadline_ms":50}"#;
    assert_eq!(send(lb.admin, "DELETE", "/rm", &[], body).status, 200);
    let cut = requests.remove(0).join().unwrap();
    assert_eq!((cut.status, cut.header("x-lb-error")), (503, Some("drained")));
    is_released.store(true, SeqCst);
    wait_until("the log", || lb.printed("stderr").contains("the deadline of the drain has passed"));
}
