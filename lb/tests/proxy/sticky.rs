//! Sticky sessions: the requests of a cookie reach one backend while it may get requests.

use std::sync::Arc;

use lb::config::{HostMatch, Policy, Route, Secret, StickySessions};
use lb_test_support::{closed_address, mock};
use mock_server::Running;

use crate::support::{Balancer, DOWN, PoolSetup, Setup, UP, backend, policy};

pub(crate) fn sticky(setup: &Setup) -> Policy {
    let secret = Secret::new("b9c1f6b2d34f0a7e5c8890712de4ab63".to_owned());
    let rules = StickySessions { cookie: "lb".to_owned(), secret, max_age_s: 0, secure: false };
    Policy { sticky: Some(Arc::new(rules)), ..policy(&setup.settings) }
}

fn start(servers: &[Running], strategy: &str) -> Balancer {
    let setup = Setup::of(&servers.iter().collect::<Vec<_>>()).with(|setup| {
        setup.pools[0] = PoolSetup::new("default", strategy, setup.pools[0].backends.clone());
        setup.policies = vec![sticky(setup)];
    });
    setup.start()
}

fn servers() -> Vec<Running> {
    (1..=3).map(|number| mock(&number.to_string())).collect()
}

/// The server that a request reached, and the cookie of its response, from a connection of its own.
fn ask(lb: &Balancer, cookie: Option<&str>) -> (usize, Option<String>) {
    let field = cookie.map(|cookie| format!("cookie: a=b; {cookie}"));
    let answer = lb.client().ask("GET", "/home", &field.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(answer.status(), 200);
    let cookie = answer.header("set-cookie").map(|cookie| cookie.split(';').next().unwrap().to_owned());
    (answer.field("x-server-id").unwrap().parse().unwrap(), cookie)
}

/// A new session: its server and its cookie.
fn begin(lb: &Balancer) -> (usize, String) {
    let (server, cookie) = ask(lb, None);
    (server, cookie.expect("a new session gets a cookie"))
}

#[test]
fn a_session_stays_on_its_backend_with_any_strategy() {
    for strategy in ["round_robin", "least_connections", "two_choices"] {
        let servers = servers();
        let lb = start(&servers, strategy);
        let sessions: Vec<_> = (0..12).map(|_| begin(&lb)).collect();
        for _ in 0..5 {
            for (server, cookie) in &sessions {
                assert_eq!(ask(&lb, Some(cookie)), (*server, None), "{strategy}: no new cookie");
            }
        }
        lb.comes_to_rest();
        let count = |result: &str| lb.metric("lb_sessions_total", &[&format!("result=\"{result}\"")]);
        assert_eq!(["new", "kept", "moved"].map(count), [12.0, 60.0, 0.0]);
    }
}

#[test]
fn a_session_moves_when_its_backend_may_not_serve_and_then_stays_there() {
    let servers = servers();
    let lb = start(&servers, "round_robin");
    let (server, cookie) = begin(&lb);
    lb.backends[server - 1].set_eligibility(DOWN);
    let (next, moved) = ask(&lb, Some(&cookie));
    assert_ne!(next, server);
    let moved = moved.expect("the cookie of the next backend");
    lb.backends[server - 1].set_eligibility(UP);
    assert_eq!(ask(&lb, Some(&moved)), (next, None), "it does not go back");
    assert_eq!(ask(&lb, Some(&cookie)), (server, None), "the old cookie is valid still");
    lb.comes_to_rest();
    assert_eq!(lb.metric("lb_sessions_total", &["result=\"moved\""]), 1.0);
}

#[test]
fn a_retry_moves_the_session() {
    let server = mock("2");
    let setup = Setup::new(&[closed_address(), server.addr]).with(|setup| {
        setup.policies = vec![sticky(setup)];
    });
    let lb = setup.start();
    let both: Vec<_> = (0..4).map(|_| begin(&lb)).collect();
    assert!(both.iter().all(|(server, cookie)| (*server, cookie) == (2, &both[0].1)), "of the backend that served");
    // The cookie of b1, from a balancer whose b1 responds.
    let elsewhere = mock("1");
    let other = Setup::new(&[elsewhere.addr]).with(|setup| setup.policies = vec![sticky(setup)]).start();
    let (_, cookie) = begin(&other);
    assert_eq!(ask(&lb, Some(&cookie)), (2, Some(both[0].1.clone())));
    lb.comes_to_rest();
}

#[test]
fn a_cookie_that_lb_did_not_make_begins_a_new_session() {
    let servers = servers();
    let lb = start(&servers, "round_robin");
    let (_, cookie) = begin(&lb);
    let (name, value) = cookie.split_once('=').unwrap();
    let changed = format!("{name}={}{}", if value.starts_with('0') { "1" } else { "0" }, &value[1..]);
    for made_up in [&*changed, "lb=b1", "lb=1", "lb=", "lb=10.0.0.1"] {
        let (_, cookie) = ask(&lb, Some(made_up));
        assert!(cookie.is_some(), "{made_up}");
    }
    lb.comes_to_rest();
    assert_eq!(lb.metric("lb_sessions_total", &["result=\"new\""]), 6.0);
}

#[test]
fn a_pool_has_cookies_of_its_own_and_a_pool_without_sessions_has_none() {
    let server = mock("1");
    let route = |host: &str, pool: usize| Route {
        host: HostMatch::Exact(host.into()),
        path_prefix: "/".into(),
        pool,
        policy: pool,
    };
    let setup = Setup::of(&[&server]).with(|setup| {
        for name in ["a", "plain"] {
            setup.pools.push(PoolSetup::new(name, "round_robin", vec![backend("b1", server.addr)]));
        }
        setup.routes = vec![route("a.test", 1), route("plain.test", 2)];
        setup.policies = vec![sticky(setup), sticky(setup), policy(&setup.settings)];
    });
    let lb = setup.start();
    let cookie = |host: &str, cookie: &str| {
        let mut client = lb.client();
        client.send(format!("GET /home HTTP/1.1\r\nhost: {host}\r\ncookie: {cookie}\r\n\r\n").as_bytes());
        client.answer().header("set-cookie").map(|cookie| cookie.split(';').next().unwrap().to_owned())
    };
    let (of_default, of_a) = (cookie("x.test", "").unwrap(), cookie("a.test", "").unwrap());
    assert_ne!(of_default, of_a);
    assert_eq!(cookie("a.test", &of_default), Some(of_a.clone()), "a cookie of another pool is none");
    assert_eq!((cookie("a.test", &of_a), cookie("x.test", &of_default)), (None, None));
    assert_eq!(cookie("plain.test", ""), None);
    lb.comes_to_rest();
}

#[test]
fn sessions_stay_when_backends_come_and_go() {
    let servers = servers();
    let lb = start(&servers, "round_robin");
    let sessions: Vec<_> = (0..6).map(|_| begin(&lb)).collect();
    let current = lb.hall.current();
    let mut backends = lb.backends.clone();
    backends.remove(0);
    backends.reverse();
    backends.push(backend("b4", servers[0].addr));
    lb.publish_with(&[PoolSetup::new("default", "round_robin", backends)], current.policies.to_vec());
    for (server, cookie) in &sessions {
        let (now, moved) = ask(&lb, Some(cookie));
        assert_eq!(moved.is_some(), *server == 1, "only sessions of the removed backend move");
        assert!(*server == 1 || now == *server, "from {server} to {now}");
    }
    lb.comes_to_rest();
}

#[test]
fn a_response_that_lb_puts_in_place_of_a_404_has_the_cookie() {
    let server = mock("1");
    let setup = Setup::of(&[&server]).with(|setup| {
        setup.settings.missing_path = Some(lb::course::MISSING_PATH);
        setup.policies = vec![sticky(setup)];
    });
    let lb = setup.start();
    let answer = lb.client().get("/other");
    assert!(answer.status() == 400 && answer.header("set-cookie").is_some(), "{}", answer.text());
    lb.comes_to_rest();
}
