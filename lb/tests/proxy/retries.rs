//! Retries by the policy of a pool: which failure of which method, and where the next attempt goes.
//!
//! Two backends share a script that knows how many attempts came before, so a test needs not know which backend is
//! first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use lb::config::RetryPolicy;
use lb_test_support::{Hostile, PATIENCE, Wire, closed_address, request, request_with, wait_until};

use crate::support::{Balancer, Setup, ms};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";
const METHODS: [&str; 8] = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH", "PURGE"];
/// More time than a backend needs on a busy machine.
const ATTEMPT: Duration = ms(1_000);

fn is_idempotent(method: &str) -> bool {
    ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"].contains(&method)
}

/// Two backends. `script` gets the number of the connection to either of them, from 0.
fn pair(script: impl Fn(usize, &mut Wire) + Send + Sync + 'static) -> [Hostile; 2] {
    let (script, accepted) = (Arc::new(script), Arc::new(AtomicUsize::new(0)));
    [(); 2].map(|()| {
        let (script, accepted) = (script.clone(), accepted.clone());
        Hostile::start(move |_, wire| script(accepted.fetch_add(1, SeqCst), wire))
    })
}

/// Serves requests without a body.
fn serve(wire: &mut Wire) {
    while wire.head().is_some() {
        wire.write(OK);
    }
}

fn heads(servers: &[Hostile]) -> usize {
    servers.iter().map(|server| server.heads().len()).sum()
}

fn before(servers: &[Hostile]) -> Setup {
    Setup::new(&servers.iter().map(|server| server.addr).collect::<Vec<_>>()).with(|setup| setup.workers = 1)
}

fn retries(lb: &Balancer, reason: &str) -> f64 {
    let retries = lb.metric("lb_retries_total", &[&format!("reason={reason:?}")]);
    assert_eq!(retries, lb.metric("lb_retries_total", &[]), "all are {reason}");
    retries
}

/// Sends a request without a body to two new backends of which the first attempt fails. Returns the status.
fn ask(method: &str, fails: fn(&mut Wire), change: impl FnOnce(&mut RetryPolicy), reason: &str) -> (u16, f64) {
    let servers = pair(move |number, wire| match number {
        0 => fails(wire),
        _ => serve(wire),
    });
    // Only the time of an attempt can end a wait.
    let lb = before(&servers).retry(change).timeouts(|timeouts| timeouts.response_head = PATIENCE * 10).start();
    let mut client = lb.client();
    client.send(&request(method, "/", &[]));
    let status = client.answer_to(method).unwrap().status();
    lb.comes_to_rest();
    (status, retries(&lb, reason))
}

fn reset(wire: &mut Wire) {
    wire.head();
    wire.reset();
}

fn busy(wire: &mut Wire) {
    while wire.head().is_some() {
        wire.write(BUSY);
    }
}

fn hold(wire: &mut Wire) {
    wire.head();
    wire.hold();
}

#[test]
fn a_reset_or_a_status_is_retried_for_idempotent_methods_only() {
    for method in METHODS {
        let retried = is_idempotent(method);
        let wanted = |failed| if retried { (200, 1.0) } else { (failed, 0.0) };
        assert_eq!(ask(method, reset, |_| {}, "reset"), wanted(502), "{method}");
        assert_eq!(ask(method, busy, |_| {}, "status"), wanted(503), "{method}");
    }
}

#[test]
fn a_slow_response_head_is_retried_after_the_time_of_an_attempt() {
    let limit = |retry: &mut RetryPolicy| retry.rules.per_attempt_ns = Some(ATTEMPT.as_nanos() as u64);
    assert_eq!(ask("GET", hold, limit, "timeout"), (200, 1.0));
    assert_eq!(ask("PUT", hold, limit, "timeout"), (200, 1.0));
    assert_eq!(ask("POST", hold, limit, "timeout"), (504, 0.0));
}

#[test]
fn a_refused_connection_is_retried_for_every_method() {
    let server = Hostile::start(|_, wire| serve(wire));
    let lb = Setup::new(&[closed_address(), server.addr]).start();
    let mut client = lb.client();
    for method in METHODS.into_iter().cycle().take(32) {
        client.send(&request(method, "/", &[]));
        assert_eq!(client.answer_to(method).unwrap().status(), 200, "{method}");
    }
    lb.comes_to_rest();
    assert!(retries(&lb, "not_sent") >= 8.0);
}

#[test]
fn a_failure_that_is_not_listed_is_not_retried() {
    assert_eq!(ask("GET", reset, |retry| retry.rules.on.reset = false, "reset"), (502, 0.0));
    assert_eq!(
        ask("GET", busy, |retry| retry.rules.on.statuses = [502, 504].into_iter().collect(), "status"),
        (503, 0.0)
    );
    let limit = |retry: &mut RetryPolicy| {
        (retry.rules.per_attempt_ns, retry.rules.on.timeout) = (Some(100_000_000), false);
    };
    assert_eq!(ask("GET", hold, limit, "timeout"), (504, 0.0));
    assert_eq!(ask("GET", reset, |retry| retry.rules.attempts = 1, "reset"), (502, 0.0));
    let lb = Setup::new(&[closed_address(), closed_address()]).retry(|retry| retry.rules.on.connect = false).start();
    lb.client().get("/").is_own(502, "connect");
    assert_eq!(lb.metric("lb_retries_total", &[]), 0.0);
}

#[test]
fn a_post_is_repeated_only_with_a_key_and_where_keys_are_configured() {
    let key: &[&str] = &["Idempotency-Key: 7"];
    for (is_configured, fields, is_repeated) in [
        (true, key, true),
        (true, &[], false),
        (false, key, false),
        (true, &["Idempotency-Key:"], false),
        (true, &["Idempotency-Key: 7", "Connection: idempotency-key"], false),
    ] {
        let servers = pair(|number, wire| {
            wire.head();
            match number {
                0 => wire.reset(),
                _ => {
                    assert_eq!(wire.raw(3).unwrap(), b"abc");
                    wire.write(OK);
                }
            }
        });
        let lb = before(&servers).retry(|retry| retry.rules.idempotency_key = is_configured).start();
        let status = lb.client().post("/", fields, b"abc").status();
        assert_eq!(status, if is_repeated { 200 } else { 502 }, "{fields:?}");
        lb.comes_to_rest();
        assert_eq!(heads(&servers), if is_repeated { 2 } else { 1 });
    }
}

#[test]
fn every_backend_is_tried_once_before_any_is_tried_again() {
    for attempts in 2..=5 {
        let servers = [(); 3].map(|()| Hostile::start(|_, wire| reset(wire)));
        let lb = before(&servers).attempts(attempts).start();
        lb.client().get("/").is_own(502, "reset");
        lb.comes_to_rest();
        let mut tries = servers.each_ref().map(|server| server.heads().len());
        tries.sort_unstable();
        let wanted = [[0, 1, 1], [1, 1, 1], [1, 1, 2], [1, 2, 2]];
        assert_eq!(tries, wanted[attempts as usize - 2], "{attempts} attempts");
        assert_eq!(retries(&lb, "reset"), f64::from(attempts) - 1.0);
    }
}

#[test]
fn a_single_backend_is_tried_again_after_a_pause() {
    let server = [Hostile::start(|number, wire| match number {
        0 | 1 => reset(wire),
        _ => serve(wire),
    })];
    let lb = before(&server).attempts(3).start();
    assert_eq!(lb.client().get("/").status(), 200);
    lb.comes_to_rest();
    assert_eq!((heads(&server), retries(&lb, "reset")), (3, 2.0));
}

/// A pause without an end.
fn long_pause(retry: &mut RetryPolicy) {
    (retry.rules.back_off.base_ns, retry.rules.back_off.cap_ns) = (u64::MAX >> 4, u64::MAX >> 4);
}

#[test]
fn a_pause_ends_when_the_client_leaves_and_its_retry_stays_in_the_budget() {
    let server = [Hostile::start(|_, wire| reset(wire))];
    let few = |retry: &mut RetryPolicy| (retry.budget.percent, retry.budget.reserve_per_s) = (0, 1);
    let lb = before(&server).retry(long_pause).retry(few).start();
    let failed = || lb.metric("lb_backend_errors_total", &["reason=\"reset\""]);
    // The reserve is 10 retries.
    for number in 1..=12 {
        let mut client = lb.client();
        client.send(&request("GET", "/", &[]));
        wait_until("the first attempt to fail", || failed() == f64::from(number));
        client.reset();
        lb.comes_to_rest();
    }
    assert_eq!((lb.ended_with(499), heads(&server), lb.metric("lb_retries_total", &[])), (12, 12, 0.0));
    assert_eq!(lb.metric("lb_retries_denied_total", &[]), 0.0);
}

#[test]
fn a_pause_that_is_longer_than_the_total_time_is_not_begun() {
    let server = [Hostile::start(|_, wire| reset(wire))];
    let lb = before(&server).retry(long_pause).timeouts(|timeouts| timeouts.total = Some(timeouts.idle)).start();
    lb.client().get("/").is_own(502, "reset");
    lb.comes_to_rest();
    assert_eq!((heads(&server), lb.metric("lb_retries_denied_total", &[])), (1, 0.0));
}

#[test]
fn a_response_is_replaced_by_that_of_another_backend_and_both_connections_stay() {
    let servers = pair(|number, wire| match number {
        0 => busy(wire),
        _ => serve(wire),
    });
    let lb = before(&servers).start();
    let answer = lb.client().get("/");
    assert_eq!((answer.status(), answer.text()), (200, "ok"));
    lb.comes_to_rest();
    assert_eq!(lb.metric("lb_backend_connections", &["state=\"idle\""]), 2.0);
    assert_eq!(lb.metric("lb_backend_requests_total", &["code=\"503\""]), 1.0, "the backend has answered");
    assert_eq!(lb.metric("lb_backend_errors_total", &[]), 0.0);
    assert_eq!((lb.ended_with(200), lb.ended_with(503)), (1, 0));
}

#[test]
fn a_response_stays_if_no_other_backend_or_no_budget_is_there() {
    let alone = [Hostile::start(|_, wire| busy(wire))];
    let none = |retry: &mut RetryPolicy| (retry.budget.percent, retry.budget.reserve_per_s) = (0, 0);
    let lb = before(&alone).attempts(5).retry(none).start();
    let answer = lb.client().get("/");
    assert_eq!((answer.status(), answer.text()), (503, "busy"));
    lb.comes_to_rest();
    assert_eq!((heads(&alone), lb.metric("lb_retries_denied_total", &[])), (1, 0.0), "no budget was asked for");

    let servers = pair(|_, wire| busy(wire));
    let lb = before(&servers).retry(none).start();
    let answer = lb.client().get("/");
    assert_eq!((answer.status(), answer.text()), (503, "busy"));
    lb.comes_to_rest();
    assert_eq!((heads(&servers), lb.metric("lb_retries_denied_total", &[])), (1, 1.0));

    // The other one is at its limit: its only request has no response yet.
    let servers = pair(|number, wire| match number {
        0 => hold(wire),
        _ => busy(wire),
    });
    let lb = before(&servers).limits(|limits| limits.requests_in_flight_per_backend = Some(1)).start();
    let mut waiting = lb.client();
    waiting.send(&request("GET", "/", &[]));
    wait_until("a request to be in flight", || heads(&servers) == 1);
    let answer = lb.client().get("/");
    assert_eq!((answer.status(), answer.text()), (503, "busy"));
    waiting.reset();
    lb.comes_to_rest();
    assert_eq!((heads(&servers), lb.metric("lb_retries_total", &[])), (2, 0.0));
}

#[test]
fn after_a_closed_connection_the_same_backend_serves_if_the_other_one_is_at_its_limit() {
    let servers = [
        Hostile::start(|number, wire| {
            if number == 0 {
                wire.head();
                wire.write(OK);
                return reset(wire);
            }
            serve(wire);
        }),
        Hostile::start(|_, wire| hold(wire)),
    ];
    let lb = before(&servers).limits(|limits| limits.requests_in_flight_per_backend = Some(1)).start();
    let mut clients = [lb.client(), lb.client()];
    clients.iter_mut().for_each(|client| client.send(&request("GET", "/", &[])));
    wait_until("each backend to have one", || servers.iter().all(|server| server.heads().len() == 1));
    wait_until("one response", || lb.ended_with(200) == 1);
    assert_eq!(lb.client().get("/").status(), 200);
    assert_eq!(retries(&lb, "reused_connection"), 1.0);
    drop(clients);
    drop(servers);
    lb.comes_to_rest();
}

#[test]
fn the_last_attempt_decides_the_response() {
    let servers = pair(|number, wire| match number {
        0 => busy(wire),
        _ => reset(wire),
    });
    let lb = before(&servers).start();
    lb.client().get("/").is_own(502, "reset");
    lb.comes_to_rest();
    drop(lb);
    let servers = pair(|number, wire| {
        wire.head();
        wire.write(format!("HTTP/1.1 503 Busy\r\ncontent-length: 1\r\n\r\n{number}").as_bytes());
    });
    let lb = before(&servers).start();
    assert_eq!(lb.client().get("/").text(), "1");
    lb.comes_to_rest();
}

#[test]
fn a_connection_with_a_long_rest_of_a_replaced_response_is_closed() {
    let servers = pair(|number, wire| match number {
        0 => {
            wire.head();
            wire.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 1000\r\n\r\nbegin");
            wire.hold();
        }
        _ => serve(wire),
    });
    let lb = before(&servers).start();
    assert_eq!(lb.client().get("/").status(), 200, "without a wait for the rest");
    lb.comes_to_rest();
    assert_eq!(lb.metric("lb_backend_connections", &["state=\"idle\""]), 1.0);
}

/// A backend ends a POST at each point of its exchange, on a new connection and on one that was in use before.
#[test]
fn no_post_reaches_two_backends_wherever_the_first_one_ends_it() {
    const TRIES: usize = 5_004;
    const POINTS: [&str; 6] = ["accept", "head", "body", "continue", "partial head", "close"];
    let point = Arc::new(AtomicUsize::new(0));
    for is_kept in [false, true] {
        let now = point.clone();
        let servers = pair(move |_, wire| {
            let is_at_accept = || POINTS[now.load(SeqCst)] == "accept";
            if !is_kept && is_at_accept() {
                return wire.reset();
            }
            while wire.head().is_some_and(|head| head.starts_with("GET")) {
                wire.write(OK);
                if is_at_accept() {
                    return wire.reset();
                }
            }
            let point = POINTS[now.load(SeqCst)];
            match point {
                "body" => drop(wire.raw(2)),
                "continue" => wire.write(b"HTTP/1.1 100 Continue\r\n\r\n"),
                "partial head" => wire.write(b"HTTP/1.1 200 OK\r\nconte"),
                _ => {}
            }
            if point != "close" {
                wire.reset();
            }
        });
        let lb = before(&servers).attempts(5).start();
        let mut client = lb.client();
        for number in 0..TRIES {
            point.store(number % POINTS.len(), SeqCst);
            for _ in 0..if is_kept { 2 } else { 0 } {
                assert_eq!(client.get("/warm").status(), 200);
            }
            // A body that is not kept prevents a retry, too. So every second one has none.
            let body: &[u8] = if number % 12 < 6 || POINTS[number % 6] == "body" { b"abcd" } else { b"" };
            client.send(&request_with("POST", &format!("/post/{number}"), &[], body));
            assert_eq!(client.answer().status(), 502);
        }
        lb.comes_to_rest();
        let mut posts: Vec<_> =
            servers.iter().flat_map(Hostile::heads).filter(|head| head.starts_with("POST")).collect();
        let all = posts.len();
        assert!(all >= TRIES / 6 * 5, "{all} were read: those of all points but accept");
        posts.sort_unstable();
        posts.dedup_by_key(|head| head.lines().next().unwrap().to_owned());
        assert_eq!(posts.len(), all, "kept {is_kept}");
    }
}
