//! Ten thousand connections that end at random moments: every request ends once, and all descriptors are freed.
//!
//! Invariant: the test runs in its own process, because it counts the descriptors of the process and other tests have
//! some.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use lb::config::{HostMatch, Route};
use lb_test_support::{Client, Hostile, chunk, mock, request, request_with, wait_until};

use crate::support::{Balancer, PoolSetup, Setup, backend};

const CONNECTIONS: u64 = 10_000;
const THREADS: u64 = 4;
const SEED: u64 = 1012;
const CHILD: &str = "LB_CHURN_CHILD";
const STREAM: &str = "/stream?bytes=60000&chunk=5000";

#[test]
fn ten_thousand_connections_that_end_at_random_moments_leave_no_descriptor_open() {
    if std::env::var_os(CHILD).is_some() {
        return churn();
    }
    let name = "churn::ten_thousand_connections_that_end_at_random_moments_leave_no_descriptor_open";
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    println!("{said}");
    assert!(output.status.success() && said.contains("all is back"), "the child process failed; see above");
}

fn churn() {
    println!("seed {SEED}");
    let servers = [mock("1"), mock("2")];
    // Responds early and keeps reading.
    let early = Hostile::start(|_, wire| {
        if wire.head().is_some() {
            wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nearly");
            wire.hold();
        }
    });
    let setup = Setup::of(&servers.each_ref()).with(|setup| {
        let second =
            PoolSetup { name: "early", backends: vec![backend("early", early.addr)], ..setup.pools[0].clone() };
        setup.pools.push(second);
        setup.routes = vec![Route { host: HostMatch::Any, path_prefix: "/early".into(), pool: 1, policy: 1 }];
    });
    let pools = setup.pools.clone();
    let none: Vec<PoolSetup> = pools.iter().map(|pool| PoolSetup { backends: Vec::new(), ..pool.clone() }).collect();
    let lb = setup.start();
    assert_eq!(lb.client().get("/home").status(), 200);
    lets_go(&lb, &none, 1);
    let before = descriptors();
    settle(&lb, &pools);
    let (whole, begun) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (lb, whole, begun) = (&lb, &whole, &begun);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(SEED + thread);
                for _ in 0..CONNECTIONS / THREADS {
                    one(lb, &mut random, whole, begun);
                }
            });
        }
    });
    lets_go(&lb, &none, CONNECTIONS + 1);
    let (mut requests, mut ended) = (0, BTreeMap::<u16, u64>::new());
    for pool in ["default", "early"] {
        let totals = lb.metrics.pool_totals(pool);
        requests += totals.requests;
        totals.requests_by_code.iter().for_each(|(code, count)| *ended.entry(*code).or_default() += count);
    }
    let (whole, begun) = (whole.into_inner(), begun.into_inner());
    println!("{whole} whole, {begun} begun, {requests} counted, {ended:?}");
    assert_eq!(requests, ended.values().sum::<u64>(), "every request ended once");
    assert!((whole..=begun + 1).contains(&requests));
    assert!(ended.keys().copied().eq([200, 499]) && ended[&200] > whole && ended[&499] > 0);
    for server in &servers {
        wait_until("the mocks to have no request", || {
            server.stats().in_progress == 0 && server.stats().in_service == 0
        });
        wait_until("the mocks' connections to end", || server.stats().open_connections == 0);
    }
    wait_until("all descriptors to be closed", || descriptors() <= before);
    println!("all is back: {before} descriptors");
}

/// Waits until all `accepted` connections have ended and nothing is in flight, then closes connections to backends.
fn lets_go(lb: &Balancer, none: &[PoolSetup], accepted: u64) {
    wait_until("all connections to be accepted", || {
        lb.metric("lb_client_connections_accepted_total", &[]) == accepted as f64
    });
    wait_until("client connections to be closed", || lb.metric("lb_client_connections", &[]) == 0.0);
    lb.comes_to_rest();
    assert_eq!(lb.metrics.pool_totals("early").in_flight, 0);
    settle(lb, none);
}

fn settle(lb: &Balancer, pools: &[PoolSetup]) {
    let number = lb.publish(pools);
    wait_until("the workers to follow", || lb.hall.is_taken_up(number));
    drop(lb.hall.take_free());
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// One connection that ends at a random moment.
fn one(lb: &Balancer, random: &mut fastrand::Rng, whole: &AtomicU64, begun: &AtomicU64) {
    let mut client = lb.client();
    let begins = |count: u64| begun.fetch_add(count, SeqCst);
    match random.u8(..9) {
        // Before the first byte.
        0 => {}
        // In the head.
        1 => {
            let head = request("GET", STREAM, &["x-one: 1"]);
            client.send(&head[..random.usize(1..head.len())]);
        }
        // In the body.
        2 => {
            begins(1);
            let body = vec![b'x'; random.usize(..20_000)];
            client.send(&request("POST", ["/upload", "/early"][random.usize(..2)], &["content-length: 20000"]));
            let _ = client.try_send(&body);
        }
        3 => {
            begins(1);
            let body = chunk(&vec![b'x'; random.usize(1..5_000)]);
            client.send(&request("POST", ["/upload", "/early"][random.usize(..2)], &["transfer-encoding: chunked"]));
            let _ = client.try_send(&body[..random.usize(1..=body.len())]);
        }
        // While it waits for the response.
        4 => {
            begins(1);
            client.send(&request("GET", STREAM, &[]));
        }
        // In the response.
        5 => {
            begins(1);
            client.send(&request("GET", STREAM, &[]));
            read_some(&mut client, random.usize(1..60_000));
        }
        // With more requests in the pipeline.
        6 => {
            begins(3);
            client.send(&request("GET", "/home", &[]).repeat(3));
            read_some(&mut client, random.usize(1..300));
        }
        // With its sending half closed.
        7 => {
            begins(1);
            client.send(&request("GET", "/home", &[]));
            client.end_sending();
            read_some(&mut client, random.usize(1..300));
        }
        // After the response.
        _ => {
            begins(1);
            client.send(&request_with("POST", "/upload", &[], b"hello"));
            if client.answer_to("POST").is_ok() {
                whole.fetch_add(1, SeqCst);
            }
        }
    }
    if random.bool() {
        client.reset();
    }
}

/// Reads at most `most` bytes; the connection may end earlier.
fn read_some(client: &mut Client, most: usize) {
    let mut left = most;
    let mut block = [0; 4096];
    while left > 0 {
        let room = left.min(block.len());
        match client.stream.read(&mut block[..room]) {
            Ok(0) | Err(_) => return,
            Ok(bytes) => left -= bytes,
        }
    }
}
