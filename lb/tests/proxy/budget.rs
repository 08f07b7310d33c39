//! The budget of a pool's retries. One worker, so that it has the whole budget and the numbers are exact.

use lb::config::{HostMatch, RetryPolicy, Route};
use lb_test_support::{Hostile, closed_address, request, wait_until};

use crate::support::{Setup, backend, policy};

#[test]
fn two_thousand_failing_requests_get_a_fifth_of_retries_and_the_reserve() {
    let lb = Setup::new(&[closed_address(), closed_address()]).with(|setup| setup.workers = 1).start();
    let mut client = lb.client();
    for _ in 0..2_000 {
        client.get("/").is_own(502, "connect");
    }
    lb.comes_to_rest();
    let retries = lb.metric("lb_retries_total", &["reason=\"not_sent\""]);
    assert_eq!((retries, lb.metric("lb_retries_denied_total", &[])), (0.2 * 2_000.0 + 100.0, 1_500.0));
    assert_eq!(lb.metric("lb_backend_errors_total", &["reason=\"connect\""]), 2_000.0 + retries);
}

#[test]
fn a_retry_for_which_no_backend_is_free_stays_in_the_budget() {
    let server = Hostile::start(|_, wire| wire.hold());
    let setup = Setup::new(&[closed_address(), server.addr]).with(|setup| setup.workers = 1);
    let few = |retry: &mut RetryPolicy| (retry.budget.percent, retry.budget.reserve_per_s) = (0, 1);
    let lb = setup.retry(few).limits(|limits| limits.requests_in_flight_per_backend = Some(1)).start();
    let mut waiting = lb.client();
    waiting.send(&request("GET", "/", &[]));
    wait_until("a request to be in flight", || lb.backends[1].in_flight() == 1);
    for _ in 0..20 {
        lb.client().get("/").is_own(502, "connect");
    }
    waiting.reset();
    lb.comes_to_rest();
    assert_eq!(lb.metric("lb_retries_denied_total", &[]), 0.0, "the reserve is 10 retries");
}

#[test]
fn other_rules_begin_with_a_new_budget() {
    let none = |retry: &mut RetryPolicy| (retry.budget.percent, retry.budget.reserve_per_s) = (0, 0);
    let setup = Setup::new(&[closed_address(), closed_address()]).with(|setup| setup.workers = 1).retry(none);
    let mut pools = setup.pools.clone();
    let lb = setup.start();
    let denied = || lb.metric("lb_retries_denied_total", &[]);
    lb.client().get("/").is_own(502, "connect");
    assert_eq!((denied(), lb.metric("lb_retries_total", &[])), (1.0, 0.0));
    pools[0].retry = RetryPolicy::default();
    let number = lb.publish(&pools);
    wait_until("the worker to follow", || lb.hall.is_taken_up(number));
    for _ in 0..50 {
        lb.client().get("/").is_own(502, "connect");
    }
    assert_eq!((denied(), lb.metric("lb_retries_total", &[])), (1.0, 50.0));
    // The same rules again: what was spent stays spent.
    pools[0].backends.push(backend("b3", closed_address()));
    let number = lb.publish(&pools);
    wait_until("the worker to follow", || lb.hall.is_taken_up(number));
    for _ in 0..100 {
        lb.client().get("/").is_own(502, "connect");
    }
    lb.comes_to_rest();
    assert_eq!(lb.metric("lb_retries_total", &[]), 0.2 * 150.0 + 100.0);
}

#[test]
fn the_routes_of_a_pool_share_its_budget() {
    let setup = Setup::new(&[closed_address(), closed_address()]).with(|setup| {
        setup.workers = 1;
        let host = HostMatch::Exact("own.test".into());
        setup.routes = vec![Route { host, path_prefix: "/".into(), pool: 0, policy: 1 }];
        let mut few = policy(&setup.settings);
        (few.retry.budget.percent, few.retry.budget.reserve_per_s) = (0, 1);
        setup.policies = vec![few.clone(), few];
    });
    let lb = setup.start();
    let ask = |host: &str| {
        let mut client = lb.client();
        client.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes());
        client.answer().is_own(502, "connect");
        (lb.metric("lb_retries_total", &[]), lb.metric("lb_retries_denied_total", &[]))
    };
    (1..=10).for_each(|n| assert_eq!(ask("own.test"), (f64::from(n), 0.0)));
    assert_eq!(ask("lb.test"), (10.0, 1.0), "the route took all that there was");
}
