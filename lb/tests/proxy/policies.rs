//! Time-outs and limits of pools and routes: a request obeys those of its route, and keeps them to its end.
//!
//! Tests give a short limit to one place and long ones to all others. So a request that obeys the wrong place waits for
//! long or gets through.

use lb::config::{HostMatch, Policy, Route};
use lb_test_support::{Client, chunk, closed_address, mock, wait_until};
use mock_server::{Change, Running};

use crate::support::{Balancer, PoolSetup, Setup, backend, ms, policy};

/// The places of policies: of the two pools, and of the two routes that have their own.
const POOL_A: usize = 1;
const ROUTE_A: usize = 2;
const ROUTE_B: usize = 3;

/// Two pools in front of one server. `a.test` leads to pool `a`. So does `own.a.test`, with a policy of its own.
/// `own.b.test` leads to `default` with one, and all other hosts lead to it without. `change` gets all policies.
fn start(server: &Running, change: impl FnOnce(&mut [Policy; 4])) -> Balancer {
    let route = |host: &str, pool: usize, policy: usize| Route {
        host: HostMatch::Exact(host.into()),
        path_prefix: "/".into(),
        pool,
        policy,
    };
    let setup = Setup::of(&[server]).with(|setup| {
        setup.pools.push(PoolSetup::new("a", "round_robin", vec![backend("b1", server.addr)]));
        setup.routes =
            vec![route("a.test", 1, POOL_A), route("own.a.test", 1, ROUTE_A), route("own.b.test", 0, ROUTE_B)];
        let mut policies = std::array::from_fn(|_| policy(&setup.settings));
        change(&mut policies);
        setup.policies = policies.to_vec();
    });
    setup.start()
}

/// A client that has sent this request to `host`.
fn asked(lb: &Balancer, host: &str, line: &str, rest: &[u8]) -> Client {
    let mut client = lb.client();
    client.send(&[format!("{line} HTTP/1.1\r\nhost: {host}\r\n").as_bytes(), rest].concat());
    client
}

fn get(lb: &Balancer, host: &str) -> Client {
    asked(lb, host, "GET /home", b"\r\n")
}

fn set_stall(server: &Running, stall: bool) {
    server.change(&Change { stall: Some(stall), ..Change::default() }).unwrap();
}

#[test]
fn a_response_has_the_time_of_its_route_else_of_its_pool() {
    let server = mock("1");
    set_stall(&server, true);
    let lb = start(&server, |policies| {
        policies[POOL_A].timeouts.response_head = ms(250);
        policies[ROUTE_B].timeouts.response_head = ms(250);
    });
    let mut patient: Vec<Client> = ["own.a.test", "other.test"].map(|host| get(&lb, host)).into();
    for host in ["a.test", "own.b.test"] {
        get(&lb, host).answer().is_own(504, "timeout");
    }
    set_stall(&server, false);
    for client in &mut patient {
        assert_eq!(client.answer().status(), 200);
    }
    lb.comes_to_rest();
}

#[test]
fn a_body_has_the_limit_of_its_route() {
    let server = mock("1");
    let lb = start(&server, |policies| policies[ROUTE_B].limits.body_bytes = Some(10));
    for (host, status) in [("own.b.test", 413), ("other.test", 200), ("a.test", 200)] {
        let declared = asked(&lb, host, "POST /upload", b"content-length: 11\r\n\r\n12345678901").answer();
        let grown = [&b"transfer-encoding: chunked\r\n\r\n"[..], &chunk(b"12345678901"), &chunk(b"")].concat();
        let grown = asked(&lb, host, "POST /upload", &grown).answer();
        assert_eq!([declared.status(), grown.status()], [status; 2], "{host}");
    }
    assert_eq!(
        asked(&lb, "own.b.test", "POST /upload", b"content-length: 10\r\n\r\n1234567890").answer().status(),
        200
    );
    lb.comes_to_rest();
}

#[test]
fn a_client_that_stops_sending_or_reading_has_the_time_of_its_route() {
    let server = mock("1");
    let lb = start(&server, |policies| policies[ROUTE_B].timeouts.idle = ms(250));
    let stream = "GET /stream?bytes=1000000000&chunk=65536&length=1";
    let mut sends =
        ["own.b.test", "other.test"].map(|host| asked(&lb, host, "POST /upload", b"content-length: 2\r\n\r\na"));
    let reads = ["own.b.test", "other.test"].map(|host| {
        let mut client = asked(&lb, host, stream, b"\r\n");
        assert_eq!(client.head().unwrap().status, 200);
        client
    });
    sends[0].answer().is_own(408, "client_timeout");
    wait_until("the request that is not read to be aborted", || lb.ended_with(499) == 1);
    assert_eq!(lb.metrics.pool_totals("default").in_flight, 2, "the others still wait");
    sends[1].send(b"b");
    assert_eq!(sends[1].answer().status(), 200);
    drop(reads);
    lb.comes_to_rest();
}

#[test]
fn a_route_may_forbid_retries() {
    let server = mock("1");
    let lb = {
        let backends = vec![backend("closed", closed_address()), backend("b1", server.addr)];
        let setup = Setup::of(&[&server]).with(|setup| {
            setup.pools[0].backends = backends;
            setup.routes =
                vec![Route { host: HostMatch::Exact("once.test".into()), path_prefix: "/".into(), pool: 0, policy: 1 }];
            let mut once = policy(&setup.settings);
            once.retry.rules.attempts = 1;
            setup.policies = vec![policy(&setup.settings), once];
        });
        setup.start()
    };
    let mut statuses: Vec<u16> = (0..2).map(|_| get(&lb, "once.test").answer().status()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502], "one of two picks is the closed one");
    assert!((0..2).all(|_| get(&lb, "lb.test").answer().status() == 200));
    lb.comes_to_rest();
}

#[test]
fn a_pool_has_its_own_limits_of_its_backends() {
    let server = mock("1");
    let lb = start(&server, |policies| {
        for policy in [POOL_A, ROUTE_A] {
            policies[policy].limits.requests_in_flight_per_backend = Some(1);
            policies[policy].limits.upstream_idle_connections = 0;
        }
    });
    set_stall(&server, true);
    let mut first = ["a.test", "other.test", "other.test"].map(|host| get(&lb, host));
    wait_until("the requests to be at the backend", || server.stats().in_progress == 3);
    get(&lb, "own.a.test").answer().is_own(503, "overload");
    set_stall(&server, false);
    assert!(first.iter_mut().all(|client| client.answer().status() == 200));
    wait_until("the connection of pool a to be closed", || server.stats().open_connections == 2);
    assert_eq!(lb.metric("lb_backend_connections", &["pool=\"a\"", "state=\"idle\""]), 0.0);
    assert_eq!(lb.metric("lb_backend_connections", &["pool=\"default\"", "state=\"idle\""]), 2.0);
}

#[test]
fn idle_connections_are_closed_after_the_time_of_their_pool() {
    let server = mock("1");
    let lb = start(&server, |policies| {
        policies[POOL_A].timeouts.upstream_idle = ms(1);
    });
    assert!(["a.test", "other.test"].iter().all(|host| get(&lb, host).answer().status() == 200));
    wait_until("the connection of pool a to be closed", || server.stats().open_connections == 1);
    assert_eq!(lb.metric("lb_backend_connections", &["pool=\"default\"", "state=\"idle\""]), 1.0);
}

#[test]
fn a_request_in_flight_keeps_its_policy() {
    let server = mock("1");
    let lb = start(&server, |_| {});
    set_stall(&server, true);
    let mut running = get(&lb, "own.b.test");
    let mut uploading = asked(&lb, "own.a.test", "POST /upload", b"transfer-encoding: chunked\r\n\r\n");
    wait_until("both requests to be at the backend", || server.stats().in_progress == 2);
    let mut policies = lb.hall.current().policies.to_vec();
    for policy in &mut policies {
        policy.timeouts.response_head = ms(1);
        policy.limits.body_bytes = Some(1);
    }
    lb.publish_policies(policies);
    get(&lb, "own.b.test").answer().is_own(504, "timeout");
    uploading.send(&[chunk(b"more than one"), chunk(b"")].concat());
    set_stall(&server, false);
    assert_eq!((running.answer().status(), uploading.answer().status()), (200, 200));
    lb.comes_to_rest();
}

#[test]
fn a_tunnel_has_the_time_of_its_route() {
    let server = mock("1");
    let lb = start(&server, |policies| policies[ROUTE_B].timeouts.tunnel_idle = ms(250));
    let upgrade = b"connection: upgrade\r\nupgrade: echo\r\n\r\n";
    let mut tunnels = ["own.b.test", "other.test"].map(|host| asked(&lb, host, "GET /echo", upgrade));
    assert!(tunnels.iter_mut().all(|tunnel| tunnel.head().unwrap().status == 101));
    assert_eq!(tunnels[0].rest(), b"", "closed");
    tunnels[1].send(b"still open");
    assert_eq!(tunnels[1].raw(10), b"still open");
    drop(tunnels);
    lb.comes_to_rest();
}
