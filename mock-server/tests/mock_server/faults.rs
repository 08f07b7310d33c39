//! The switches, and connections that end unexpectedly.

use std::time::{Duration, Instant};

use lb_test_support::{Client, wait_until};
use mock_server::{Change, Options, ServiceTime, State};

use crate::client::{control, get, send_get, send_get_for, start};

const NORMAL: State = State { slow: 1.0, extra_ms: 0.0, stall: false, failure_rate: 0.0, fail_at_once: false };

#[test]
fn control_returns_the_new_state_and_get_shows_it() {
    let server = start(Options::default());
    let answer = control(server.addr, r#"{"slow":3.0,"failure_rate":0.25}"#);
    assert_eq!(answer.status(), 200);
    let expected = State { slow: 3.0, failure_rate: 0.25, ..NORMAL };
    assert_eq!(serde_json::from_slice::<State>(&answer.body).expect("a state"), expected);
    let shown = get(server.addr, "/control").body;
    assert_eq!(serde_json::from_slice::<State>(&shown).expect("a state"), expected);
    let stats = server.stats();
    assert_eq!((stats.switches, stats.requests), (expected, 0));
}

#[test]
fn a_change_that_is_wrong_in_one_place_changes_nothing() {
    let server = start(Options::default());
    for json in [
        r#"{"slow":3,"speed":1}"#,
        r#"{"slow":3,"failure_rate":2}"#,
        r#"{"slow":3,"extra_ms":-1}"#,
        r#"{"slow":"3"}"#,
        r#"{"stall":1}"#,
        "slow=3",
        "",
    ] {
        let answer = control(server.addr, json);
        assert_eq!(answer.status(), 400, "{json}");
        assert!(answer.text().contains("<Error> "), "{}", answer.text());
        assert_eq!(server.stats().switches, NORMAL, "{json}");
    }
}

#[test]
fn slow_multiplies_and_extra_adds_but_heartbeats_stay_quick() {
    let server = start(Options::default());
    control(server.addr, r#"{"slow":4,"extra_ms":10}"#);
    let start_time = Instant::now();
    let mut client = Client::connect(server.addr);
    send_get_for(&mut client, Duration::from_millis(10));
    client.answer();
    assert!(start_time.elapsed() >= Duration::from_millis(50));
    assert_eq!(get(server.addr, "/heartbeat").status(), 200);
    assert_eq!(server.stats().service_time_error.count, 1, "the heartbeat had a service time");
}

#[test]
fn failing_at_once_takes_no_worker_and_no_time_and_others_take_theirs() {
    let server = start(Options { concurrency: 1, queue: 1, ..Options::default() });
    let mut busy = Client::connect(server.addr);
    send_get_for(&mut busy, Duration::from_secs(3_600));
    wait_until("the only worker is busy", || server.stats().in_service == 1);
    control(server.addr, r#"{"failure_rate":1,"fail_at_once":true}"#);
    let mut client = Client::connect(server.addr);
    send_get_for(&mut client, Duration::from_secs(3_600));
    assert_eq!(client.answer().status(), 500);
    let stats = server.stats();
    assert_eq!((stats.failures, stats.in_service, stats.queued), (1, 1, 0));
    control(server.addr, r#"{"failure_rate":1,"fail_at_once":false}"#);
    send_get_for(&mut client, Duration::from_secs(3_600));
    wait_until("a request that fails after its service time waits for its turn", || server.stats().queued == 1);
}

#[test]
fn a_stalled_server_reads_but_does_not_respond_until_it_is_released() {
    let server = start(Options::default());
    control(server.addr, r#"{"stall":true}"#);
    let mut request = Client::connect(server.addr);
    request.send(b"POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\nhi");
    let mut heartbeat = Client::connect(server.addr);
    send_get(&mut heartbeat, "/heartbeat");
    wait_until("both were read", || {
        let stats = server.stats();
        stats.body_bytes_received == 2 && stats.heartbeats == 1
    });
    // This response was sent after both requests were read. Without the stall, their responses would have come earlier.
    assert_eq!(get(server.addr, "/control").status(), 200);
    assert_eq!(get(server.addr, "/stats").status(), 200);
    assert!(request.is_silent() && heartbeat.is_silent());
    control(server.addr, r#"{"stall":false}"#);
    assert_eq!(request.answer().text(), r#"{"bytes":2}"#);
    assert_eq!(heartbeat.answer().status(), 200);
}

#[test]
fn a_stall_also_stops_requests_in_service_and_bodies_that_are_being_sent() {
    const MS: u64 = 100;
    let server = start(Options::default());
    let start_time = Instant::now();
    let mut stream = Client::connect(server.addr);
    send_get(&mut stream, &format!("/stream?bytes=40&chunk=20&interval_ms={MS}&length=1"));
    stream.head().expect("a head");
    stream.raw(20);
    let mut in_service = Client::connect(server.addr);
    send_get_for(&mut in_service, Duration::from_millis(MS));
    wait_until("both are in service", || server.stats().in_service == 2);
    server.change(&Change { stall: Some(true), ..Change::default() }).expect("a change");
    let was_stalled_in_time = start_time.elapsed() < Duration::from_millis(MS);
    // The stream's second half was due before.
    wait_until("the service time is over", || server.stats().service_time_error.count == 1);
    assert_eq!(get(server.addr, "/stats").status(), 200);
    // If a slow machine set the switch too late, nothing is claimed.
    if was_stalled_in_time {
        assert!(in_service.is_silent() && stream.is_silent());
    }
    server.change(&Change { stall: Some(false), ..Change::default() }).expect("a change");
    assert_eq!(in_service.answer().status(), 200);
    assert_eq!(stream.raw(20), b"uvwxyzabcdefghijklmn");
}

#[test]
fn a_client_that_leaves_a_stalled_server_is_abandoned() {
    let server = start(Options::default());
    server.change(&Change { stall: Some(true), ..Change::default() }).expect("a change");
    let mut client = Client::connect(server.addr);
    send_get(&mut client, "/home");
    wait_until("it arrived", || server.stats().in_progress == 1);
    drop(client);
    wait_until("it is abandoned", || server.stats().abandoned == 1);
    assert_eq!(server.stats().in_progress, 0);
}

#[test]
fn a_reset_begins_the_counts_again_and_keeps_the_switches() {
    let server =
        start(Options { service_time: ServiceTime::Constant(Duration::from_micros(100)), ..Options::default() });
    get(server.addr, "/home");
    get(server.addr, "/heartbeat");
    control(server.addr, r#"{"slow":2,"reset_counters":true}"#);
    let stats = server.stats();
    assert_eq!((stats.requests, stats.served, stats.heartbeats, stats.connections), (0, 0, 0, 0));
    assert_eq!((stats.service_time_error.count, stats.switches.slow), (0, 2.0));
    get(server.addr, "/home");
    assert_eq!((server.stats().requests, server.stats().served), (1, 1));
}

#[test]
fn a_connection_ends_unannounced_after_its_number_of_answers() {
    let server = start(Options { keep_alive_requests: 3, ..Options::default() });
    let mut client = Client::connect(server.addr);
    for path in ["/home", "/heartbeat", "/stream?bytes=100000"] {
        send_get(&mut client, path);
        let answer = client.answer();
        assert_eq!((answer.status(), answer.header("connection")), (200, None), "{path}");
    }
    assert_eq!(client.rest_until_end(), b"");
    wait_until("the connection's end", || server.stats().open_connections == 0);
    // The last response arrives whole, whatever it is.
    for path in ["/home", "/heartbeat", "/nowhere", "/status/204", "/stream?bytes=70&length=1"] {
        let mut client = Client::connect(server.addr);
        for _ in 0..2 {
            send_get(&mut client, "/home");
            client.answer();
        }
        send_get(&mut client, path);
        client.answer();
        assert_eq!(client.rest_until_end(), b"", "{path}");
    }
}
