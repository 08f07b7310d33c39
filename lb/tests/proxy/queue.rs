//! The queue of a pool: order, bounds, wakes, and the ends of a wait.
//!
//! A backend holds the request for `/hold` until its gate opens, and serves all others at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use lb::config::{HostMatch, Policy, Route};
use lb_test_support::{Client, Hostile, PATIENCE, closed_address, request, wait_until};

use crate::support::{Balancer, DOWN, PoolSetup, Setup, UP, backend, ms, policy};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A backend with a gate.
pub(crate) struct Gated {
    pub(crate) server: Hostile,
    gate: Arc<AtomicBool>,
}

impl Gated {
    pub(crate) fn start() -> Self {
        let gate = Arc::new(AtomicBool::new(false));
        let is_open = gate.clone();
        let server = Hostile::start(move |_, wire| {
            while let Some(head) = wire.head() {
                if head.starts_with("GET /hold ") {
                    wait_until("the gate to open", || is_open.load(SeqCst));
                }
                wire.write(OK);
            }
        });
        Self { server, gate }
    }

    pub(crate) fn open(&self) {
        self.gate.store(true, SeqCst);
    }

    /// The paths of its requests, without those of held ones.
    pub(crate) fn served(&self) -> Vec<String> {
        let paths = self.server.heads().into_iter().map(|head| head.split(' ').nth(1).unwrap().to_owned());
        paths.filter(|path| path != "/hold").collect()
    }
}

impl Drop for Gated {
    fn drop(&mut self) {
        self.open();
    }
}

/// Backends with one place each.
pub(crate) fn before(servers: &[&Gated], length: usize) -> Setup {
    Setup::new(&servers.iter().map(|gated| gated.server.addr).collect::<Vec<_>>())
        .limits(|limits| limits.requests_in_flight_per_backend = Some(1))
        .queue(length)
}

/// Fills every backend with a request that is held.
pub(crate) fn fill(lb: &Balancer, servers: &[&Gated]) -> Vec<Client> {
    let hold = |_: &&Gated| send(lb, "/hold");
    let clients = servers.iter().map(hold).collect();
    wait_until("each backend to have a request", || servers.iter().all(|gated| gated.server.heads().len() == 1));
    clients
}

pub(crate) fn send(lb: &Balancer, path: &str) -> Client {
    let mut client = lb.client();
    client.send(&request("GET", path, &[]));
    client
}

pub(crate) fn waiting(lb: &Balancer) -> f64 {
    lb.metric("lb_queue_requests", &[])
}

pub(crate) fn refused(lb: &Balancer, reason: &str) -> f64 {
    lb.metric("lb_queue_refusals_total", &[&format!("reason={reason:?}")])
}

/// Sends a request that waits.
fn queued(lb: &Balancer, path: &str) -> Client {
    let before = waiting(lb);
    let client = send(lb, path);
    wait_until("the request to wait", || waiting(lb) == before + 1.0);
    client
}

fn comes_to_rest(lb: &Balancer) {
    lb.comes_to_rest();
    assert_eq!(waiting(lb), 0.0);
}

#[test]
fn requests_of_all_workers_are_served_in_the_order_of_their_arrival() {
    let gated = Gated::start();
    let lb = before(&[&gated], 100).start();
    let mut held = fill(&lb, &[&gated]);
    let paths: Vec<String> = (0..12).map(|number| format!("/{number}")).collect();
    let mut clients: Vec<Client> = paths.iter().map(|path| queued(&lb, path)).collect();
    gated.open();
    assert!(clients.iter_mut().chain(&mut held).all(|client| client.answer().status() == 200));
    assert_eq!(gated.served(), paths);
    comes_to_rest(&lb);
    assert_eq!(lb.metric("lb_queue_entries_total", &[]), 12.0);
    assert!(lb.metric("lb_queue_wait_seconds_total", &[]) > 0.0);
}

#[test]
fn a_burst_beyond_the_queue_gets_exactly_the_surplus_refused_at_once() {
    let servers = [Gated::start(), Gated::start()];
    let servers = servers.each_ref();
    let lb = before(&servers, 4).with(|setup| setup.workers = 1).start();
    let mut clients = fill(&lb, &servers);
    clients.extend((0..4).map(|_| queued(&lb, "/")));
    for _ in 0..5 {
        let answer = lb.client().get("/");
        answer.is_own(503, "overload");
        assert_eq!(answer.field("retry-after").as_deref(), Some("1"));
    }
    assert_eq!((refused(&lb, "full"), lb.metric("lb_queue_refusals_total", &[])), (5.0, 5.0));
    servers.iter().for_each(|gated| gated.open());
    assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
    comes_to_rest(&lb);
    assert_eq!((lb.ended_with(200), lb.ended_with(503)), (6, 5));
}

#[test]
fn a_wait_ends_after_its_time_or_the_total_time_with_503() {
    for is_total in [false, true] {
        let gated = Gated::start();
        let lb = before(&[&gated], 4).with(|setup| {
            let path_prefix = "/late".to_owned();
            setup.routes = vec![Route { host: HostMatch::Any, path_prefix, pool: 0, policy: 1 }];
            let pool = Policy { queue: setup.pools[0].queue, ..policy(&setup.settings) };
            let mut late = pool.clone();
            late.timeouts.total = is_total.then_some(ms(50));
            setup.policies = vec![pool, late];
            // Longer than any test waits.
            let wait = if is_total { ms(600_000) } else { ms(50) };
            setup.policies.iter_mut().for_each(|policy| policy.queue.wait = wait);
        });
        let lb = lb.start();
        let mut held = send(&lb, "/hold");
        wait_until("the backend to have a request", || gated.server.heads().len() == 1);
        send(&lb, "/late").answer().is_own(503, "overload");
        assert_eq!((refused(&lb, "expired"), gated.served().len()), (1.0, 0));
        gated.open();
        held.answer();
        assert_eq!(lb.client().get("/").status(), 200);
        comes_to_rest(&lb);
    }
}

#[test]
fn a_backend_that_recovers_serves_the_requests_that_wait() {
    for has_publish in [true, false] {
        let servers = [Gated::start(), Gated::start()];
        let lb = before(&servers.each_ref(), 100).start();
        lb.backends[1].set_eligibility(DOWN);
        let mut held = send(&lb, "/hold");
        wait_until("the backend to have a request", || servers[0].server.heads().len() == 1);
        let mut clients: Vec<Client> = (0..5).map(|_| queued(&lb, "/")).collect();
        lb.backends[1].set_eligibility(UP);
        if has_publish {
            lb.publish_settings(|_| {});
        }
        assert!(clients.iter_mut().all(|client| client.answer().status() == 200), "without: within a second");
        assert_eq!((servers[0].served().len(), servers[1].served().len()), (0, 5));
        servers[0].open();
        held.answer();
        comes_to_rest(&lb);
    }
}

#[test]
fn without_an_eligible_backend_a_wait_has_no_object() {
    let gated = Gated::start();
    let lb = before(&[&gated], 100).start();
    let mut held = fill(&lb, &[&gated]);
    let mut clients: Vec<Client> = (0..4).map(|_| queued(&lb, "/")).collect();
    lb.backends[0].set_eligibility(DOWN);
    lb.publish_settings(|_| {});
    clients.iter_mut().for_each(|client| client.answer().is_own(503, "no_backend"));
    gated.open();
    held[0].answer();
    comes_to_rest(&lb);
}

#[test]
fn a_client_that_leaves_frees_its_place_and_the_next_one_is_served() {
    let gated = Gated::start();
    let lb = before(&[&gated], 3).with(|setup| setup.workers = 1).start();
    let mut held = fill(&lb, &[&gated]);
    let leaver = queued(&lb, "/left");
    let mut second = queued(&lb, "/second");
    let other_leaver = queued(&lb, "/left");
    lb.client().get("/").is_own(503, "overload");
    leaver.reset();
    wait_until("a place to be free", || waiting(&lb) == 2.0);
    let mut third = queued(&lb, "/third");
    other_leaver.reset();
    gated.open();
    assert!([&mut held[0], &mut second, &mut third].into_iter().all(|client| client.answer().status() == 200));
    wait_until("the aborts to be counted", || lb.ended_with(499) == 2);
    assert_eq!(gated.served(), ["/second", "/third"]);
    comes_to_rest(&lb);
}

#[test]
fn a_removed_pool_ends_the_waits_for_it() {
    let gated = Gated::start();
    let lb = before(&[&gated], 100).start();
    let mut held = fill(&lb, &[&gated]);
    let mut clients: Vec<Client> = (0..4).map(|_| queued(&lb, "/")).collect();
    lb.publish(&[PoolSetup::new("other", "round_robin", vec![backend("b1", gated.server.addr)])]);
    clients.iter_mut().for_each(|client| client.answer().is_own(503, "no_backend"));
    assert_eq!(lb.client().get("/").status(), 200, "the other pool");
    gated.open();
    assert_eq!(held[0].answer().status(), 200);
    comes_to_rest(&lb);
}

#[test]
fn a_reload_that_raises_the_cap_serves_waits_and_one_that_lowers_it_ends_none() {
    let gated = Gated::start();
    let lb = before(&[&gated], 100).start();
    let mut held = fill(&lb, &[&gated]);
    let mut clients: Vec<Client> = (0..4).map(|_| queued(&lb, "/hold")).collect();
    lb.publish_settings(|settings| settings.limits.requests_in_flight_per_backend = Some(3));
    wait_until("two more to be at the backend", || gated.server.heads().len() == 3);
    assert_eq!((waiting(&lb), lb.backends[0].in_flight()), (2.0, 3));
    lb.publish_settings(|settings| settings.limits.requests_in_flight_per_backend = Some(1));
    assert_eq!((waiting(&lb), gated.server.heads().len()), (2.0, 3));
    gated.open();
    assert!(clients.iter_mut().chain(&mut held).all(|client| client.answer().status() == 200));
    comes_to_rest(&lb);
    // Without a cap all are served.
    let gated = Gated::start();
    let lb = before(&[&gated], 100).start();
    let mut held = fill(&lb, &[&gated]);
    let mut clients: Vec<Client> = (0..4).map(|_| queued(&lb, "/")).collect();
    lb.publish_settings(|settings| settings.limits.requests_in_flight_per_backend = None);
    assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
    gated.open();
    held[0].answer();
    comes_to_rest(&lb);
}

#[test]
fn a_retry_waits_for_the_backend_that_is_left() {
    let gated = Gated::start();
    let lb = before(&[&gated], 100).with(|setup| setup.pools[0].backends.push(backend("closed", closed_address())));
    let lb = lb.attempts(3).start();
    let mut held = send(&lb, "/hold");
    wait_until("the backend to have a request", || gated.server.heads().len() == 1);
    // While one of them tries the other backend, it does not wait. So the number of waits is stable only at the end.
    let tries = || lb.metric("lb_backend_errors_total", &["reason=\"connect\""]);
    let before = tries();
    let mut clients: Vec<Client> = (0..4).map(|_| send(&lb, "/")).collect();
    wait_until("all to have tried the other backend", || tries() == before + 4.0);
    wait_until("all to wait", || waiting(&lb) == 4.0);
    assert_eq!(gated.served().len(), 0);
    gated.open();
    assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
    held.answer();
    comes_to_rest(&lb);
    assert!(lb.metric("lb_retries_total", &["reason=\"not_sent\""]) >= 4.0);
}

#[test]
fn a_low_priority_is_refused_first_and_waits_behind_a_high_one() {
    let gated = Gated::start();
    let host = |host: &str| HostMatch::Exact(host.to_owned());
    let lb = before(&[&gated], 4).with(|setup| {
        setup.workers = 1;
        let low = Route { host: host("low.test"), path_prefix: "/".into(), pool: 0, policy: 1 };
        setup.routes = vec![low];
        let pool = Policy { queue: setup.pools[0].queue, ..policy(&setup.settings) };
        setup.policies = vec![pool.clone(), Policy { priority: 10, ..pool }];
    });
    let lb = lb.start();
    let mut held = fill(&lb, &[&gated]);
    let low = |path: &str| {
        let mut client = lb.client();
        client.send(format!("GET {path} HTTP/1.1\r\nhost: low.test\r\n\r\n").as_bytes());
        client
    };
    let mut clients: Vec<Client> = ["/low1", "/low2"].map(low).into();
    wait_until("both to wait", || waiting(&lb) == 2.0);
    low("/low3").answer().is_own(503, "overload");
    assert_eq!(refused(&lb, "shed"), 1.0);
    clients.extend(["/high1", "/high2"].map(|path| queued(&lb, path)));
    lb.client().get("/high3").is_own(503, "overload");
    assert_eq!(refused(&lb, "full"), 1.0);
    gated.open();
    assert!(clients.iter_mut().chain(&mut held).all(|client| client.answer().status() == 200));
    let served = gated.served();
    assert_eq!(served[..2], ["/high1", "/high2"]);
    assert!(served[2..].iter().all(|path| path.starts_with("/low")), "{served:?}");
    comes_to_rest(&lb);
}

#[test]
fn a_request_that_waited_says_so() {
    let gated = Gated::start();
    let lb = before(&[&gated], 4).with(|setup| setup.settings.explain_header = true).start();
    let mut held = fill(&lb, &[&gated]);
    let mut client = lb.client();
    client.send(&request("GET", "/", &["x-lb-explain: 1"]));
    wait_until("the request to wait", || waiting(&lb) == 1.0);
    gated.open();
    let explained = client.answer().field("x-lb-explain").unwrap();
    assert!(explained.contains("backend=b1") && explained.contains("; queue_ms="), "{explained}");
    held[0].answer();
    assert!(!lb.client().ask("GET", "/", &["x-lb-explain: 1"]).field("x-lb-explain").unwrap().contains("queue_ms"));
    comes_to_rest(&lb);
}

#[test]
fn the_adaptive_limit_begins_at_20_and_further_requests_wait() {
    for workers in [1, 2] {
        let gated = Gated::start();
        let lb = before(&[&gated], 100).limits(|limits| limits.requests_in_flight_per_backend = None).with(|setup| {
            setup.pools[0].queue.adaptive = true;
            setup.workers = workers;
        });
        let lb = lb.start();
        let mut clients: Vec<Client> = (0..50).map(|_| send(&lb, "/hold")).collect();
        wait_until("the others to wait", || waiting(&lb) == 30.0);
        wait_until("20 to be at the backend", || gated.server.heads().len() == 20);
        gated.open();
        assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
        comes_to_rest(&lb);
        // With a cap, too: both limits hold, and no request is stuck.
        lb.publish_settings(|settings| settings.limits.requests_in_flight_per_backend = Some(3));
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| (0..20).for_each(|_| assert_eq!(lb.client().get("/").status(), 200)));
            }
        });
        comes_to_rest(&lb);
    }
}

#[test]
fn clients_that_leave_at_any_moment_lose_no_wake() {
    let servers = [Gated::start(), Gated::start()];
    let lb = before(&servers.each_ref(), 1_000).with(|setup| setup.pools[0].queue.wait = PATIENCE).start();
    std::thread::scope(|scope| {
        for seed in 0..24 {
            let lb = &lb;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..60 {
                    let mut client = send(lb, "/");
                    match random.u8(..3) {
                        0 => client.reset(),
                        1 => {
                            std::thread::yield_now();
                            client.reset();
                        }
                        _ => assert_eq!(client.answer().status(), 200),
                    }
                }
            });
        }
    });
    comes_to_rest(&lb);
    assert_eq!(lb.ended_with(503), 0);
    assert_eq!(lb.client().get("/").status(), 200);
}
