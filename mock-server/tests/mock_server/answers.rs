//! The response of each path.

use lb_test_support::Client;
use mock_server::{Options, Stats};

use crate::client::{control, get, send_get, start};

#[test]
fn home_is_byte_for_byte_as_the_course_has_it() {
    let server = start(Options { id: "Server 1".into(), ..Options::default() });
    let answer = get(server.addr, "/home");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text(), r#"{"message":"Hello from Server: Server 1","status":"successful"}"#);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let server = start(Options { id: "Server 3".into(), home_id: Some("3".into()), ..Options::default() });
    let answer = get(server.addr, "/home");
    assert_eq!(answer.text(), r#"{"message":"Hello from Server: 3","status":"successful"}"#);
    assert_eq!(answer.header("x-server-id"), Some("Server 3"), "the id by which requests are counted");
}

#[test]
fn a_heartbeat_is_200_and_empty_and_not_counted_as_a_request() {
    let server = start(Options::default());
    let answer = get(server.addr, "/heartbeat");
    assert_eq!((answer.status(), answer.header("content-length"), answer.text()), (200, Some("0"), ""));
    let stats = server.stats();
    assert_eq!((stats.heartbeats, stats.requests), (1, 0));
}

#[test]
fn head_gets_the_head_of_get_and_no_body() {
    let server = start(Options::default());
    let mut client = Client::connect(server.addr);
    for path in ["/home", "/stats", "/control", "/stream?bytes=70&length=1"] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes());
        let head = client.head().expect("a head");
        assert_eq!(head.status, 200, "{path}");
        assert_ne!(head.header("content-length"), Some("0"), "{path}");
    }
    // The next response begins where a body would have been.
    send_get(&mut client, "/heartbeat");
    assert_eq!(client.answer().status(), 200);
}

#[test]
fn what_does_not_exist_is_404_in_the_words_of_the_course() {
    let server = start(Options::default());
    let answer = get(server.addr, "/other");
    assert_eq!(answer.status(), 404);
    let expected = r#"{"message":"<Error> '/other' endpoint does not exist in server replicas","status":"failure"}"#;
    assert_eq!(answer.text(), expected);
    // A path may hold what JSON must escape.
    let body = get(server.addr, "/a\"b").body;
    let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(json["message"], "<Error> '/a\"b' endpoint does not exist in server replicas");
}

#[test]
fn a_wrong_method_is_405_and_told_the_right_ones() {
    let server = start(Options::default());
    for (path, allow) in [
        ("/home", "GET, HEAD"),
        ("/heartbeat", "GET, HEAD"),
        ("/stats", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
        ("/control", "GET, HEAD, POST"),
        ("/stream", "GET, HEAD"),
        ("/echo", "GET"),
    ] {
        let mut client = Client::connect(server.addr);
        client.send(format!("DELETE {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status(), answer.header("allow")), (405, Some(allow)), "{path}");
    }
}

#[test]
fn every_response_has_the_id_of_its_server() {
    let server = start(Options { id: "s:7".into(), failure_rate: 0.0, ..Options::default() });
    for (path, status) in [
        ("/home", 200),
        ("/heartbeat", 200),
        ("/stats", 200),
        ("/metrics", 200),
        ("/control", 200),
        ("/headers", 200),
        ("/close", 200),
        ("/stream?bytes=1", 200),
        ("/stream?bytes=x", 400),
        ("/nowhere", 404),
        ("/echo", 426),
        ("/status/204", 204),
        ("/status/503", 503),
        ("/status/999", 400),
        ("/status/100", 400),
        ("/status/", 400),
    ] {
        let answer = get(server.addr, path);
        assert_eq!((answer.status(), answer.header("x-server-id")), (status, Some("s:7")), "{path}");
    }
    control(server.addr, r#"{"failure_rate":1}"#);
    let failed = get(server.addr, "/home");
    assert_eq!((failed.status(), failed.header("x-server-id")), (500, Some("s:7")));
    assert_eq!(failed.header("x-mock-error"), Some("failure"));
}

#[test]
fn an_upload_is_drained_and_measured_whatever_its_framing_and_method() {
    let server = start(Options::default());
    let mut client = Client::connect(server.addr);
    let body = "x".repeat(300_000);
    client.send(format!("POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: 300000\r\n\r\n{body}").as_bytes());
    assert_eq!(client.answer().text(), r#"{"bytes":300000}"#);
    client.send(b"PUT /upload HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    assert_eq!(client.answer().text(), r#"{"bytes":5}"#);
    send_get(&mut client, "/upload");
    assert_eq!(client.answer().text(), r#"{"bytes":0}"#);
    assert_eq!(server.stats().body_bytes_received, 300_005);
}

#[test]
fn a_client_that_expects_100_continue_gets_it_before_the_body() {
    let server = start(Options::default());
    let mut client = Client::connect(server.addr);
    client.send(b"POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(client.head().expect("a head").status, 100);
    client.send(b"hi");
    assert_eq!(client.answer().text(), r#"{"bytes":2}"#);
}

#[test]
fn headers_come_back_as_they_arrived() {
    let server = start(Options::default());
    let mut client = Client::connect(server.addr);
    client.send(b"GET /headers HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.2.3.4\r\nX-A: 1\r\nX-A: 2\r\n\r\n");
    let expected = r#"[["host","h"],["x-forwarded-for","1.2.3.4"],["x-a","1"],["x-a","2"]]"#;
    assert_eq!(client.answer().text(), expected);
}

#[test]
fn close_announces_the_end_and_then_closes() {
    let server = start(Options::default());
    let mut client = Client::connect(server.addr);
    send_get(&mut client, "/close");
    let answer = client.answer();
    assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
    assert_eq!(client.rest_until_end(), b"");
}

#[test]
fn stats_and_metrics_have_the_same_numbers() {
    let server = start(Options { seed: Some(7), ..Options::default() });
    let mut client = Client::connect(server.addr);
    for path in ["/home", "/home", "/nowhere", "/heartbeat"] {
        send_get(&mut client, path);
        client.answer();
    }
    send_get(&mut client, "/stats");
    let stats: Stats = serde_json::from_slice(&client.answer().body).expect("stats");
    assert_eq!((stats.requests, stats.served, stats.refused, stats.heartbeats), (3, 2, 1, 1));
    assert_eq!((stats.connections, stats.open_connections, stats.seed), (1, 1, 7));
    assert_eq!((stats.by_path["/home"], stats.by_path["other"], stats.by_path["/stats"]), (2, 1, 1));
    send_get(&mut client, "/metrics");
    let answer = client.answer();
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4"));
    for line in [
        "mock_requests_total 3",
        "mock_answers_total{outcome=\"served\"} 2",
        "mock_path_requests_total{path=\"/home\"} 2",
        "mock_in_service 0",
        "mock_queued 0",
        "mock_service_time_error_seconds_count 0",
    ] {
        assert!(answer.text().lines().any(|other| other == line), "{line} in\n{}", answer.text());
    }
}
