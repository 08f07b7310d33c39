//! Service times, workers, the queue, and the sums of the counts.

use std::time::{Duration, Instant};

use lb_test_support::{Client, wait_until};
use mock_server::{Options, ServiceTime, Stats};

use crate::client::{get, send_get, send_get_for, start};

const HOUR: Duration = Duration::from_secs(3600);

fn assert_counts_add_up(stats: &Stats) {
    let ended = stats.served + stats.failures + stats.rejected + stats.refused + stats.abandoned;
    assert_eq!(stats.requests, ended + stats.in_progress, "{stats:?}");
}

#[test]
fn a_request_takes_its_service_time_and_the_error_is_measured() {
    let service_time = ServiceTime::Constant(Duration::from_millis(3));
    let server = start(Options { service_time, ..Options::default() });
    let start_time = Instant::now();
    let mut client = Client::connect(server.addr);
    for _ in 0..10 {
        send_get(&mut client, "/home");
        client.answer();
    }
    assert!(start_time.elapsed() >= Duration::from_millis(30));
    let error = server.stats().service_time_error;
    assert_eq!(error.count, 10);
    assert!(error.calibration_us.is_some());
    // `within_limit` must state whether the median error is at most 0.2 ms.
    assert_eq!(error.within_limit, error.median_us.expect("a median") <= 200, "{error:?}");
}

#[test]
fn a_request_may_set_its_own_service_time() {
    let server = start(Options { service_time: ServiceTime::Constant(HOUR), ..Options::default() });
    let start_time = Instant::now();
    let mut client = Client::connect(server.addr);
    send_get_for(&mut client, Duration::from_millis(20));
    assert_eq!(client.answer().status(), 200);
    assert!(start_time.elapsed() >= Duration::from_millis(20));
    send_get_for(&mut client, Duration::ZERO);
    assert_eq!(client.answer().status(), 200);
}

#[test]
fn a_service_time_that_is_no_number_is_400_at_once() {
    let server = start(Options { service_time: ServiceTime::Constant(HOUR), ..Options::default() });
    for value in ["", "x", "-1", "1.5", "3600000001", "99999999999999999999"] {
        let mut client = Client::connect(server.addr);
        client.send(format!("GET /home HTTP/1.1\r\nhost: test\r\nx-service-time-us: {value}\r\n\r\n").as_bytes());
        assert_eq!(client.answer().status(), 400, "{value}");
    }
    assert_eq!(server.stats().refused, 6);
}

#[test]
fn a_request_waits_for_the_service_times_of_those_before_it() {
    let server = start(Options { concurrency: 1, ..Options::default() });
    let work = Duration::from_millis(20);
    let start_time = Instant::now();
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(server.addr)).collect();
    clients.iter_mut().for_each(|client| send_get_for(client, work));
    assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
    assert!(start_time.elapsed() >= 4 * work);
    let stats = server.stats();
    assert_eq!((stats.served, stats.max_queued, stats.queued), (4, 3, 0));
}

#[test]
fn no_more_are_in_service_than_there_are_workers_and_beyond_the_queue_is_503() {
    let server = start(Options { concurrency: 2, queue: 3, ..Options::default() });
    let mut held: Vec<Client> = (0..5).map(|_| Client::connect(server.addr)).collect();
    held.iter_mut().for_each(|client| send_get_for(client, HOUR));
    wait_until("all workers busy, the queue full", || server.stats().queued == 3);
    assert_eq!(server.stats().in_service, 2);
    let answer = get(server.addr, "/home");
    assert_eq!((answer.status(), answer.header("x-mock-error")), (503, Some("queue_full")));
    assert!(answer.header("x-server-id").is_some());
    // Heartbeats and stats do not queue.
    assert_eq!(get(server.addr, "/heartbeat").status(), 200);
    assert_eq!(get(server.addr, "/stats").status(), 200);
    let stats = server.stats();
    assert_eq!((stats.rejected, stats.in_progress, stats.max_queued), (1, 5, 3));
    assert_counts_add_up(&stats);
}

#[test]
fn a_client_that_goes_away_frees_its_place() {
    let server = start(Options { concurrency: 1, ..Options::default() });
    let mut in_service = Client::connect(server.addr);
    send_get_for(&mut in_service, HOUR);
    wait_until("in service", || server.stats().in_service == 1);
    let mut impatient = Client::connect(server.addr);
    send_get(&mut impatient, "/home");
    wait_until("queued", || server.stats().queued == 1);
    drop(impatient);
    wait_until("the place in the queue is free", || server.stats().queued == 0);
    let mut patient = Client::connect(server.addr);
    send_get(&mut patient, "/home");
    wait_until("queued", || server.stats().queued == 1);
    drop(in_service);
    assert_eq!(patient.answer().status(), 200);
    let stats = server.stats();
    assert_eq!((stats.abandoned, stats.served, stats.in_progress), (2, 1, 0));
    assert_counts_add_up(&stats);
}

#[test]
fn the_same_seed_fails_the_same_requests_and_another_seed_others() {
    let failures = |seed: u64| {
        let server = start(Options { seed: Some(seed), failure_rate: 0.3, ..Options::default() });
        let mut client = Client::connect(server.addr);
        let failed: Vec<bool> = (0..100)
            .map(|_| {
                send_get(&mut client, "/home");
                client.answer().status() == 500
            })
            .collect();
        let count = failed.iter().filter(|failed| **failed).count() as u64;
        let stats = server.stats();
        assert_eq!((stats.failures, stats.served), (count, 100 - count), "seed {seed}");
        assert!((10..=50).contains(&count), "seed {seed}: {count} of 100 failed at a rate of 0.3");
        failed
    };
    assert_eq!(failures(1), failures(1));
    assert_ne!(failures(1), failures(2));
}

#[test]
fn after_mixed_requests_each_one_is_counted_once() {
    let options = Options { concurrency: 2, queue: 4, failure_rate: 0.2, ..Options::default() };
    let server = start(Options { service_time: "exponential:200us".parse().expect("a law"), ..options });
    let addr = server.addr;
    let crowd: Vec<_> = (0..8)
        .map(|number| {
            std::thread::spawn(move || {
                let mut statuses = Vec::new();
                for round in 0..50 {
                    if (number + round) % 10 == 0 {
                        send_get(&mut Client::connect(addr), "/home"); // and gone
                    } else {
                        let path = ["/home", "/nowhere", "/stream?bytes=100", "/status/418"][round % 4];
                        statuses.push(get(addr, path).status());
                    }
                }
                statuses
            })
        })
        .collect();
    let statuses: Vec<u16> = crowd.into_iter().flat_map(|member| member.join().expect("a member")).collect();
    let with = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count() as u64;
    wait_until("nothing is in progress", || {
        let stats = server.stats();
        stats.in_progress == 0 && stats.open_connections == 0
    });
    let stats = server.stats();
    assert_counts_add_up(&stats);
    // Some requests of clients that left were still completed. Each client that stayed has exactly one response.
    let gone = stats.requests - statuses.len() as u64;
    assert!(gone <= 40, "{gone}");
    assert_eq!(with(404), stats.refused);
    for (seen, counted) in
        [(with(500), stats.failures), (with(503), stats.rejected), (with(200) + with(418), stats.served)]
    {
        assert!((seen..=seen + gone).contains(&counted), "{seen} seen, {counted} counted, {gone} gone");
    }
}
