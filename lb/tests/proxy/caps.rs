//! The caps of a backend, over all workers: requests in flight, and connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use lb::config::KeySource;
use lb_test_support::{Client, Hostile, PATIENCE, mock, request, wait_until};
use mock_server::Change;

use crate::queue::{Gated, before, fill, send, waiting};
use crate::support::{Balancer, Setup, strategy};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A backend that counts its requests in progress; the second count is the most at once.
fn counting() -> (Hostile, Arc<AtomicUsize>) {
    let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let seen = most.clone();
    let server = Hostile::start(move |_, wire| {
        while wire.head().is_some() {
            seen.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            // Others get time to make a mistake.
            (0..3).for_each(|_| std::thread::yield_now());
            now.fetch_sub(1, SeqCst);
            wire.write(OK);
        }
    });
    (server, most)
}

/// Sends `each` requests by each of `clients` connections at once; all must be served.
fn load(lb: &Balancer, clients: usize, each: usize) {
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = lb.client();
                (0..each).for_each(|_| assert_eq!(client.get("/").status(), 200));
            });
        }
    });
}

#[test]
fn no_backend_ever_has_more_requests_than_its_cap_and_all_are_served() {
    for (workers, cap) in [(2, 1), (3, 2)] {
        let servers = [counting(), counting()];
        let lb = Setup::new(&[servers[0].0.addr, servers[1].0.addr])
            .limits(|limits| limits.requests_in_flight_per_backend = Some(cap))
            .queue(1_000)
            .with(|setup| setup.workers = workers)
            .start();
        load(&lb, 50, 40);
        lb.comes_to_rest();
        for (_, most) in &servers {
            assert!((1..=cap as usize).contains(&most.load(SeqCst)), "{most:?}, cap {cap}");
        }
        assert_eq!((lb.ended_with(200), waiting(&lb)), (2_000, 0.0));
        assert!(lb.metric("lb_queue_entries_total", &[]) > 0.0);
    }
}

#[test]
fn no_backend_ever_has_more_connections_than_its_cap_and_no_worker_starves() {
    for (workers, cap) in [(2, 1), (3, 2)] {
        let servers = [counting(), counting()];
        let lb = Setup::new(&[servers[0].0.addr, servers[1].0.addr])
            .limits(|limits| limits.connections_per_backend = Some(cap))
            .queue(1_000)
            .with(|setup| setup.workers = workers)
            .start();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                while !is_over.load(SeqCst) {
                    assert!(lb.backends.iter().all(|backend| backend.connections() <= cap));
                    std::thread::yield_now();
                }
            });
            load(&lb, 20, 30);
            is_over.store(true, SeqCst);
            watch.join().unwrap();
        });
        lb.comes_to_rest();
        // A connection carries one request at a time.
        assert!(servers.iter().all(|(_, most)| (1..=cap as usize).contains(&most.load(SeqCst))));
        assert_eq!((lb.ended_with(200), waiting(&lb)), (600, 0.0));
        let idle = lb.metric("lb_backend_connections", &["state=\"idle\""]) as u32;
        assert_eq!(lb.backends.iter().map(|backend| backend.connections()).sum::<u32>(), idle);
    }
}

#[test]
fn an_idle_connection_of_another_worker_blocks_no_request() {
    let (server, _) = counting();
    let lb = Setup::new(&[server.addr])
        .limits(|limits| limits.connections_per_backend = Some(1))
        .queue(100)
        .with(|setup| setup.workers = 2)
        .start();
    let mut clients: Vec<Client> = (0..6).map(|_| lb.client()).collect();
    for _ in 0..5 {
        for client in &mut clients {
            assert_eq!(client.get("/").status(), 200);
        }
    }
    assert!(server.accepted() > 1, "both workers had the connection");
    lb.comes_to_rest();
}

#[test]
fn requests_of_one_worker_get_all_idle_connections_of_another() {
    const CAP: usize = 5;
    let server = mock("1");
    let lb = Setup::of(&[&server])
        .limits(|limits| limits.connections_per_backend = Some(CAP as u32))
        .queue(100)
        .with(|setup| (setup.workers, setup.pools[0].queue.wait) = (2, PATIENCE))
        .start();
    let stall = |is_on| server.change(&Change { stall: Some(is_on), ..Change::default() }).unwrap();
    // A connection goes to the worker with the fewest.
    let mut clients: Vec<Client> = (0..2 * CAP).map(|_| lb.client()).collect();
    wait_until("all to be accepted", || lb.metric("lb_client_connections", &[]) == 2.0 * CAP as f64);
    for parity in [0, 1, 0] {
        stall(true);
        let own = || (0..2 * CAP).filter(move |number| number % 2 == parity);
        own().for_each(|number| clients[number].send(&request("GET", "/home", &[])));
        wait_until("each to be at the backend", || server.stats().in_progress == CAP as u64);
        assert_eq!((waiting(&lb), lb.backends[0].connections()), (0.0, CAP as u32));
        stall(false);
        own().for_each(|number| assert_eq!(clients[number].answer().status(), 200));
    }
    lb.comes_to_rest();
}

#[test]
fn connections_above_a_lowered_cap_are_closed_idle_or_when_they_finish() {
    let server = mock("1");
    let lb = Setup::of(&[&server])
        .limits(|limits| limits.connections_per_backend = Some(6))
        .queue(100)
        .with(|setup| setup.pools[0].queue.wait = PATIENCE)
        .start();
    let stall = |is_on| server.change(&Change { stall: Some(is_on), ..Change::default() }).unwrap();
    let lower = |cap| lb.publish_settings(|settings| settings.limits.connections_per_backend = Some(cap));
    let mut clients: Vec<Client> = (0..6).map(|_| lb.client()).collect();
    stall(true);
    clients.iter_mut().for_each(|client| client.send(&request("GET", "/home", &[])));
    wait_until("each to be at the backend", || server.stats().in_progress == 6);
    lower(4);
    assert_eq!((server.stats().in_progress, lb.backends[0].connections()), (6, 6), "no request ends");
    stall(false);
    assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
    wait_until("the surplus to be closed", || lb.backends[0].connections() <= 4);
    lower(1);
    assert!(lb.backends[0].connections() <= 1, "idle ones are closed at once");
    assert!(clients.iter_mut().all(|client| client.get("/home").status() == 200));
    lb.comes_to_rest();
    assert!(lb.backends[0].connections() <= 1);
}

#[test]
fn at_the_cap_of_connections_a_retry_replaces_an_idle_one() {
    let is_bad = Arc::new(AtomicBool::new(false));
    let servers = [(); 2].map(|()| {
        let bad = is_bad.clone();
        Hostile::start(move |_, wire| {
            while wire.head().is_some() {
                if bad.swap(false, SeqCst) {
                    // A byte of a response: the connection was not just closed for want of use.
                    return wire.write(b"HTTP/1.1 2");
                }
                wire.write(OK);
            }
        })
    });
    let lb = Setup::new(&servers.each_ref().map(|server| server.addr))
        .limits(|limits| limits.connections_per_backend = Some(1))
        .queue(100)
        .with(|setup| setup.workers = 1)
        .start();
    let mut client = lb.client();
    (0..2).for_each(|_| assert_eq!(client.get("/").status(), 200));
    lb.comes_to_rest();
    assert_eq!(servers.each_ref().map(Hostile::accepted), [1, 1], "each has an idle connection");
    is_bad.store(true, SeqCst);
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(lb.metric("lb_retries_total", &[]), 1.0);
    assert_eq!(servers.iter().map(Hostile::accepted).sum::<usize>(), 3, "the retry opened one");
    lb.comes_to_rest();
    assert!(lb.backends.iter().all(|backend| backend.connections() <= 1));
}

#[test]
fn a_key_whose_backend_is_full_always_goes_to_the_same_second_one() {
    let servers = [Gated::start(), Gated::start(), Gated::start()];
    let servers = servers.each_ref();
    let lb = before(&servers, 100).with(|setup| {
        let pool = &mut setup.pools[0];
        pool.strategy = strategy("consistent_hash");
        pool.hash_on = vec![KeySource::Header("x-key".parse().unwrap())];
    });
    let lb = lb.start();
    let seen = || servers.iter().map(|gated| gated.served().len()).collect::<Vec<_>>();
    let ask = |key: &str| {
        let before = seen();
        let mut client = lb.client();
        assert_eq!(client.ask("GET", "/", &[&format!("x-key: {key}")]).status(), 200);
        seen().iter().zip(before).position(|(now, before)| *now > before).unwrap()
    };
    let keys: Vec<String> = (0..12).map(|number| number.to_string()).collect();
    let owners: Vec<usize> = keys.iter().map(|key| ask(key)).collect();
    // One key's backend becomes full.
    let owner = owners[0];
    let mut held = lb.client();
    held.send(&request("GET", "/hold", &[&format!("x-key: {}", keys[0])]));
    wait_until("the backend to be full", || lb.backends.iter().any(|backend| backend.in_flight() == 1));
    let mut seconds = Vec::new();
    for (key, before) in keys.iter().zip(&owners) {
        let second = ask(key);
        assert_ne!(second, owner);
        assert!(*before == owner || second == *before, "the other keys stay");
        assert!((0..3).all(|_| ask(key) == second), "key {key}");
        seconds.push(second);
    }
    assert_eq!(waiting(&lb), 0.0);
    servers.iter().for_each(|gated| gated.open());
    held.answer();
    assert_eq!(keys.iter().map(|key| ask(key)).collect::<Vec<_>>(), owners, "and they come back");
    lb.comes_to_rest();
}

#[test]
fn a_full_backend_of_a_key_is_no_reason_to_wait_for_others() {
    let servers = [Gated::start(), Gated::start()];
    let servers = servers.each_ref();
    let lb = before(&servers, 100).start();
    let mut held = fill(&lb, &servers);
    let mut late = send(&lb, "/late");
    wait_until("the request to wait", || waiting(&lb) == 1.0);
    servers[1].open();
    assert_eq!(late.answer().status(), 200, "one place is enough");
    servers[0].open();
    held.iter_mut().for_each(|client| assert_eq!(client.answer().status(), 200));
    lb.comes_to_rest();
}

#[test]
fn a_full_queue_refuses_no_request_that_has_room_where_the_others_have_none() {
    let servers: Vec<Gated> = (0..6).map(|_| Gated::start()).collect();
    let lb = before(&servers.iter().collect::<Vec<_>>(), 1).with(|setup| {
        let pool = &mut setup.pools[0];
        pool.strategy = strategy("consistent_hash");
        pool.hash_on = vec![KeySource::Header("x-key".parse().unwrap())];
        (pool.queue.wait, setup.workers) = (PATIENCE, 1);
    });
    let lb = lb.start();
    let send = |path: &str| {
        let mut client = lb.client();
        client.send(&request("GET", path, &["x-key: k"]));
        client
    };
    let at_backends = || servers.iter().map(|gated| gated.server.heads().len()).sum::<usize>();
    // The four backends of the key become full, one after the other.
    let mut clients = Vec::new();
    for number in 1..=4 {
        clients.push(send("/hold"));
        wait_until("the request to be at its backend", || at_backends() == number);
    }
    clients.push(send("/late"));
    wait_until("the request to wait", || waiting(&lb) == 1.0);
    for _ in 0..5 {
        assert_eq!(lb.client().get("/").status(), 200, "two backends have room");
    }
    assert_eq!((waiting(&lb), lb.metric("lb_queue_refusals_total", &[])), (1.0, 0.0));
    servers.iter().for_each(Gated::open);
    assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
    lb.comes_to_rest();
}
