//! Requests that wait for a backend which is marked down meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::thread::JoinHandle;

use lb_test_support::{Balancer, Hostile, Reply, backends, get, mock, send, wait_until};

/// The health checks of a [`holder`] get 200.
const WELL: u8 = 0;
/// They get 503, as before the end of a server that finishes its requests.
const LEAVING: u8 = 1;
/// They get no response.
const SILENT: u8 = 2;
/// Also the held requests get their response.
const RELEASED: u8 = 3;

const CONFIG: &str = "[strategy]\nname = \"round_robin\"\n\
    [health]\ninterval_ms = 20\nfast_interval_ms = 20\ntimeout_ms = 500\n";

/// A backend that holds every request.
fn holder(state: &Arc<AtomicU8>) -> Hostile {
    let state = state.clone();
    Hostile::start(move |_, wire| {
        while let Some(head) = wire.head() {
            let is_check = head.starts_with("GET /heartbeat ");
            if !is_check {
                wait_until("the release of a request", || state.load(SeqCst) != WELL);
            }
            match state.load(SeqCst) {
                SILENT => return wire.hold(),
                LEAVING if is_check => wire.write(b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n"),
                LEAVING => wait_until("the release of a request", || state.load(SeqCst) == RELEASED),
                _ => {}
            }
            if !is_check || state.load(SeqCst) == WELL {
                wire.write(b"HTTP/1.1 200 OK\r\nx-server-id: holder\r\ncontent-length: 0\r\n\r\n");
            }
        }
    })
}

/// Sends a request of this method until the holder has one; returns the request that it has.
fn held(lb: &Balancer, holder: &Hostile, method: &'static str) -> JoinHandle<Reply> {
    let start = format!("{method} /home ");
    let proxy = lb.proxy;
    let requests: Vec<_> = (0..2).map(|_| std::thread::spawn(move || send(proxy, method, "/home", &[], ""))).collect();
    wait_until("the holder to have one of them", || holder.heads().iter().any(|head| head.starts_with(&start)));
    wait_until("the other one to end", || requests.iter().any(JoinHandle::is_finished));
    requests.into_iter().find(|request| !request.is_finished()).expect("one of the two is held")
}

fn is_healthy(lb: &Balancer, id: &str) -> bool {
    let listed = get(lb.admin, "/backends").json();
    let all = listed["backends"].as_array().or_else(|| listed.as_array()).cloned().unwrap_or_default();
    all.iter().any(|one| one["id"] == id && one["healthy"] == true)
}

#[test]
fn a_request_that_waits_for_a_lost_backend_is_sent_elsewhere_or_ends() {
    let (state, other) = (Arc::new(AtomicU8::new(WELL)), mock("other"));
    let holder = holder(&state);
    let lb = Balancer::start(&(CONFIG.to_owned() + &backends(&[("holder", holder.addr), ("other", other.addr)])));
    let (safe, unsafe_one) = (held(&lb, &holder, "GET"), held(&lb, &holder, "POST"));
    state.store(SILENT, SeqCst);
    let safe = safe.join().unwrap();
    assert_eq!((safe.status, safe.header("x-server-id")), (200, Some("other")));
    let unsafe_one = unsafe_one.join().unwrap();
    assert_eq!((unsafe_one.status, unsafe_one.header("x-lb-error")), (502, Some("backend_down")));
    let metrics = get(lb.admin, "/metrics").body;
    assert!(metrics.contains("lb_retries_total{pool=\"default\",reason=\"backend_down\"} 1\n"), "{metrics}");
    assert!(!is_healthy(&lb, "holder"));
}

#[test]
fn a_backend_whose_checks_are_answered_badly_may_finish_its_requests() {
    let (state, other) = (Arc::new(AtomicU8::new(WELL)), mock("other"));
    let holder = holder(&state);
    let lb = Balancer::start(&(CONFIG.to_owned() + &backends(&[("holder", holder.addr), ("other", other.addr)])));
    let request = held(&lb, &holder, "POST");
    state.store(LEAVING, SeqCst);
    wait_until("the holder to be down", || !is_healthy(&lb, "holder"));
    state.store(RELEASED, SeqCst);
    let answer = request.join().unwrap();
    assert_eq!((answer.status, answer.header("x-server-id")), (200, Some("holder")));
}
