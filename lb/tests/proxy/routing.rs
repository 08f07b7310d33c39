//! Routing: from a request to a pool, and from a key to a backend.

use std::collections::{BTreeMap, BTreeSet};

use lb::config::{HostMatch, KeySource, Route};
use lb_test_support::{mock, request};
use mock_server::Running;

use crate::support::{Balancer, PoolSetup, Setup, backend, strategy};

fn route(host: HostMatch, path: &str, pool: usize) -> Route {
    Route { host, path_prefix: path.into(), pool, policy: pool }
}

#[test]
fn host_and_path_lead_to_their_pool() {
    let servers = ["default", "exact", "wild", "api", "deep"].map(mock);
    let pool =
        |name: &'static str, server: &Running| PoolSetup::new(name, "round_robin", vec![backend("b1", server.addr)]);
    // In matching order, as the configuration sorts them.
    let lb = Setup::of(&[&servers[0]])
        .with(|setup| {
            setup.pools.extend([
                pool("exact", &servers[1]),
                pool("wild", &servers[2]),
                pool("api", &servers[3]),
                pool("deep", &servers[4]),
            ]);
            setup.routes = vec![
                route(HostMatch::Exact("a.test".into()), "/", 1),
                route(HostMatch::Wildcard(".a.test".into()), "/", 2),
                route(HostMatch::Any, "/api/deep", 4),
                route(HostMatch::Any, "/api", 3),
            ];
        })
        .start();
    let mut client = lb.client();
    for (host, path, pool) in [
        ("a.test", "/home", "exact"),
        ("A.TEST:8080", "/api", "exact"),
        ("b.a.test", "/home", "wild"),
        ("c.B.a.Test:1", "/api/deep", "wild"),
        ("xa.test", "/home", "default"),
        (".a.test", "/home", "default"),
        ("other", "/home", "default"),
        ("other", "/api", "api"),
        ("other", "/api/", "api"),
        ("other", "/api?x=/api/deep", "api"),
        ("other", "/apis", "default"),
        ("other", "/api/deeper", "api"),
        ("other", "/api/deep/x", "deep"),
        ("other", "/API", "default"),
    ] {
        client.send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes());
        let answer = client.answer();
        assert_eq!(answer.field("x-server-id").as_deref(), Some(pool), "{host} {path}");
    }
    client.send(b"GET http://a.test/home HTTP/1.1\r\nhost: other\r\n\r\n");
    assert_eq!(
        client.answer().field("x-server-id").as_deref(),
        Some("exact"),
        "the authority of the target has precedence over Host"
    );
    client.send(b"GET /home HTTP/1.1\r\nhost: [::1]:80\r\n\r\n");
    assert_eq!(client.answer().field("x-server-id").as_deref(), Some("default"));
    lb.comes_to_rest();
    let counted = |pool| lb.metrics.pool_totals(pool).requests;
    assert_eq!(["default", "exact", "wild", "api", "deep"].map(counted), [6, 3, 2, 4, 1]);
}

fn ring(servers: &[Running], hash_on: Vec<KeySource>) -> Balancer {
    Setup::of(&servers.iter().collect::<Vec<_>>())
        .with(|setup| {
            setup.pools[0].strategy = strategy("consistent_hash");
            setup.pools[0].hash_on = hash_on;
        })
        .start()
}

fn header(name: &'static str) -> KeySource {
    KeySource::Header(http::HeaderName::from_static(name))
}

#[test]
fn a_key_stays_with_its_backend_over_connections_and_workers() {
    let servers: Vec<Running> = (1..=4).map(|n| mock(&n.to_string())).collect();
    let lb = ring(&servers, vec![header("x-key")]);
    let mut homes = BTreeMap::new();
    for _ in 0..6 {
        // Two connections are always on different workers: each goes to the worker with fewer.
        let (mut one, mut other) = (lb.client(), lb.client());
        for key in 0..40 {
            for client in [&mut one, &mut other] {
                let answer = client.ask("GET", "/home", &[&format!("x-key: user-{key}")]);
                let home = answer.field("x-server-id").unwrap();
                assert_eq!(*homes.entry(key).or_insert(home.clone()), home, "user-{key} moved");
            }
        }
    }
    assert_eq!(homes.values().collect::<BTreeSet<_>>().len(), 4, "every backend has some keys: {homes:?}");
    lb.comes_to_rest();
    assert_eq!(lb.metric("lb_strategy_fallbacks_total", &[]), 0.0);
}

#[test]
fn without_a_key_the_fallback_picks_with_reason_no_key() {
    let servers: Vec<Running> = (1..=3).map(|n| mock(&n.to_string())).collect();
    for hash_on in [vec![header("x-key")], Vec::new()] {
        let lb = ring(&servers, hash_on);
        lb.metrics.set_strategy("default", "consistent_hash", "1");
        let mut client = lb.client();
        for _ in 0..30 {
            assert_eq!(client.get("/home").status(), 200);
        }
        client.ask("GET", "/home", &["x-key:"]);
        lb.comes_to_rest();
        assert_eq!(lb.metric("lb_strategy_fallbacks_total", &["reason=\"no_key\""]), 31.0);
        assert_eq!(lb.metric("lb_strategy_fallbacks_total", &[]), 31.0);
    }
}

#[test]
fn the_first_source_that_a_request_has_gives_the_key() {
    let servers: Vec<Running> = (1..=8).map(|n| mock(&n.to_string())).collect();
    let sources = [header("x-key"), KeySource::Cookie("sid".into()), KeySource::Query("user".into()), KeySource::Path];
    let lb = ring(&servers, sources.to_vec());
    let mut client = lb.client();
    let mut home = |path: &str, fields: &[&str]| {
        client.send(&request("GET", path, fields));
        client.answer().field("x-server-id").unwrap()
    };
    // The same value gives the same key from every source. The first source found hides all later ones.
    let mut differ = 0;
    for n in 0..20 {
        let word = format!("word-{n}");
        let by_header = home("/home", &[&format!("x-key: {word}")]);
        assert_eq!(home("/x?user=other", &[&format!("x-key: {word}"), "cookie: sid=else"]), by_header);
        assert_eq!(home("/x?user=other", &[&format!("cookie: a=b; sid={word}")]), by_header);
        assert_eq!(home(&format!("/y?a=b&user={word}"), &["cookie: other=1"]), by_header);
        differ += u32::from(home(&format!("/{word}"), &[]) != by_header);
    }
    assert!(differ > 10, "the path gives another key");
    lb.comes_to_rest();
}

#[test]
fn keys_of_an_unhealthy_backend_move_and_come_back() {
    let servers: Vec<Running> = (1..=4).map(|n| mock(&n.to_string())).collect();
    let lb = ring(&servers, vec![header("x-key")]);
    let mut client = lb.client();
    let mut homes = || -> Vec<usize> {
        let mut home = |key: u32| client.ask("GET", "/home", &[&format!("x-key: {key}")]).field("x-server-id").unwrap();
        (0..60).map(|key| home(key).parse().unwrap()).collect()
    };
    let before = homes();
    lb.backends[0].set_eligibility(crate::support::DOWN);
    let during = homes();
    assert!(during.iter().all(|home| *home != 1));
    assert!(before.iter().zip(&during).all(|(before, during)| *before == 1 || before == during), "other keys stay");
    lb.backends[0].set_eligibility(crate::support::UP);
    assert_eq!(homes(), before);
    lb.comes_to_rest();
}
