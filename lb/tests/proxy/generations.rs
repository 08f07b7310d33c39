//! New generations under load: strategies, backends and routes change, and no request fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use lb::generation::Generation;
use lb::pool::Backend;
use lb_test_support::{mock, request, wait_until};
use mock_server::{Change, Running};

use crate::support::{Balancer, PoolSetup, Setup, backend, strategy};

/// The generations that the builder would drop now. Asserts that nothing else holds them.
fn free(lb: &Balancer) -> Vec<Arc<Generation>> {
    let free = lb.hall.take_free();
    for generation in &free {
        assert_eq!(Arc::strong_count(generation), 1, "generation {} is still held", generation.number);
        for pool in &generation.pools {
            assert_eq!(Arc::strong_count(pool), 1, "pool {} of {} is still held", pool.name, generation.number);
        }
    }
    free
}

#[test]
fn two_hundred_generations_under_load_fail_no_request() {
    const SEED: u64 = 11;
    println!("seed {SEED}");
    let servers: Vec<Running> = (1..=4).map(|n| mock(&format!("b{n}"))).collect();
    let all: Vec<Arc<Backend>> = servers.iter().map(|server| backend(&server.id, server.addr)).collect();
    let mut setup = Setup::of(&servers.iter().collect::<Vec<_>>());
    setup.pools[0].backends.clone_from(&all);
    let lb = setup.start();
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = lb.client();
                while !stop.load(SeqCst) {
                    let answer = client.get("/home");
                    assert_eq!(answer.status(), 200, "{}", answer.text());
                    done.fetch_add(1, SeqCst);
                }
            });
        }
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut freed = 0;
        for round in 0..200 {
            let name = ["round_robin", "least_connections", "consistent_hash"][round % 3];
            let mut backends = all.clone();
            random.shuffle(&mut backends);
            backends.truncate(random.usize(1..=4));
            let pool = PoolSetup::new("default", name, backends);
            let before = done.load(SeqCst);
            let number = lb.publish(&[pool]);
            wait_until("both workers to follow", || lb.hall.is_taken_up(number));
            wait_until("some requests to pass", || done.load(SeqCst) > before + 8);
            freed += free(&lb).len();
        }
        stop.store(true, SeqCst);
        assert_eq!(freed, 200, "every old generation is free as soon as all workers have a newer one");
    });
    lb.comes_to_rest();
    let requests = done.load(SeqCst);
    let totals = lb.metrics.pool_totals("default");
    assert_eq!((totals.requests, lb.ended_with(200), totals.errors_by_reason.len()), (requests, requests, 0));
    let backends = lb.metrics.backend_totals("default");
    assert_eq!(backends.iter().map(|backend| backend.responses).sum::<u64>(), requests, "{backends:?}");
    assert_eq!(servers.iter().map(|server| server.stats().requests).sum::<u64>(), requests);
    assert!(all.iter().all(|backend| backend.in_flight() == 0));
}

#[test]
fn idle_workers_take_up_new_generations_and_free_old_ones() {
    let server = mock("1");
    let setup = Setup::of(&[&server]);
    let pools = setup.pools.clone();
    let lb = setup.start();
    wait_until("the workers to have taken up the first", || lb.hall.is_taken_up(1));
    let number = lb.publish(&pools);
    wait_until("idle workers to follow", || lb.hall.is_taken_up(number));
    let free = free(&lb);
    assert_eq!(free.iter().map(|generation| generation.number).collect::<Vec<_>>(), [1]);
    assert!(lb.hall.take_free().is_empty());
}

#[test]
fn a_removed_backend_loses_its_idle_connections_and_keeps_its_running_request() {
    let servers = [mock("b1"), mock("b2")];
    let setup = Setup::of(&servers.each_ref());
    let mut pool = setup.pools[0].clone();
    let lb = setup.start();
    let mut clients: Vec<_> = (0..8).map(|_| lb.client()).collect();
    for client in &mut clients {
        assert_eq!([client.get("/home").status(), client.get("/home").status()], [200; 2]);
    }
    assert!(servers[0].stats().open_connections > 0);
    servers[0].change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    // Of two requests in a row, one goes to b1.
    clients[0].send(&request("GET", "/home", &[]));
    clients[1].send(&request("GET", "/home", &[]));
    wait_until("one request to wait at the first backend", || servers[0].stats().in_progress == 1);

    pool.backends.remove(0);
    let number = lb.publish(&[pool]);
    wait_until("the workers to follow", || lb.hall.is_taken_up(number));
    wait_until("only the running request's connection to be left", || servers[0].stats().open_connections == 1);
    let requests = servers[0].stats().requests;
    for client in &mut clients[2..] {
        assert_eq!(client.get("/home").field("x-server-id").as_deref(), Some("b2"));
    }
    assert_eq!(servers[0].stats().requests, requests, "no new request goes there");
    assert_eq!(free(&lb).len(), 1, "a running request holds no generation");
    servers[0].change(&Change { stall: Some(false), ..Change::default() }).unwrap();
    assert_eq!([clients[0].answer().status(), clients[1].answer().status()], [200; 2]);
    wait_until("the connection to the removed backend to be closed", || servers[0].stats().open_connections == 0);
    lb.comes_to_rest();
    assert_eq!(lb.metric("lb_backend_connections", &["backend=\"b1\""]), 0.0);
}

#[test]
fn a_removed_and_an_added_pool_do_not_affect_a_running_request() {
    let servers = [mock("b1"), mock("b2")];
    let setup = Setup::of(&[&servers[0]]);
    let default = setup.pools[0].clone();
    let other = PoolSetup::new("other", "least_connections", vec![backend("b2", servers[1].addr)]);
    let host = lb::config::HostMatch::Exact("lb.test".into());
    let route = lb::config::Route { host, path_prefix: "/".into(), pool: 1, policy: 1 };
    let lb = setup
        .with(|setup| {
            setup.pools.push(other.clone());
            setup.routes.push(route);
        })
        .start();
    let mut client = lb.client();
    assert_eq!(client.get("/home").field("x-server-id").as_deref(), Some("b2"));
    servers[1].change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    client.send(&request("GET", "/home", &[]));
    wait_until("the request to be at the backend", || servers[1].stats().in_progress == 1);
    lb.hall.publish(Generation {
        number: 2,
        pools: vec![crate::support::pool(&default)],
        routes: Vec::new(),
        policies: lb.hall.current().policies.clone(),
        awaited: 0,
        listeners: lb.hall.current().listeners.clone(),
        settings: lb.settings.clone(),
        own_routes: None,
    });
    wait_until("the workers to follow", || lb.hall.is_taken_up(2));
    assert_eq!(free(&lb).len(), 1);
    assert_eq!(lb.client().get("/home").field("x-server-id").as_deref(), Some("b1"));
    servers[1].change(&Change { stall: Some(false), ..Change::default() }).unwrap();
    assert_eq!(client.answer().field("x-server-id").as_deref(), Some("b2"), "the request finishes at its backend");
    wait_until("the connection to the removed backend to be closed", || servers[1].stats().open_connections == 0);
    wait_until("its pool to have nothing in flight", || lb.metrics.pool_totals("other").in_flight == 0);
    assert_eq!(lb.metrics.pool_totals("other").requests, 2);
    lb.comes_to_rest();
}

#[test]
fn counts_in_flight_outlive_the_strategy_that_picked() {
    let servers = [mock("b1"), mock("b2"), mock("b3")];
    let setup = Setup::of(&servers.each_ref()).with(|setup| setup.pools[0].strategy = strategy("least_connections"));
    let pool = setup.pools[0].clone();
    let lb = setup.start();
    let mut clients: Vec<_> = (0..9).map(|_| lb.client()).collect();
    servers.iter().for_each(|server| server.change(&Change { stall: Some(true), ..Change::default() }).unwrap());
    for (sent, client) in clients.iter_mut().enumerate() {
        client.send(&request("GET", "/home", &[]));
        wait_until("the request to be in flight", || {
            lb.backends.iter().map(|b| b.in_flight()).sum::<u32>() == sent as u32 + 1
        });
        // In the middle, another instance takes over. The host keeps the counts in flight, so they continue.
        if sent == 4 {
            let number = lb.publish(&[PoolSetup { strategy: strategy("least_connections"), ..pool.clone() }]);
            wait_until("the workers to follow", || lb.hall.is_taken_up(number));
        }
    }
    assert_eq!(lb.backends.iter().map(|backend| backend.in_flight()).collect::<Vec<_>>(), [3, 3, 3]);
    servers.iter().for_each(|server| server.change(&Change { stall: Some(false), ..Change::default() }).unwrap());
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().status(), 200));
    lb.comes_to_rest();
}
