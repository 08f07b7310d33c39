//! The course's options on the proxy port: its routes go to control, and a 404 of a backend becomes a 400.

use std::time::Instant;

use bytes::Bytes;
use http::{Method, StatusCode};
use lb::course::{MISSING_PATH, own_routes};
use lb::generation::{Call, CallAnswer};
use lb_test_support::{Hostile, PATIENCE, chunk, mock, request};
use tokio::sync::mpsc;

use crate::support::{Balancer, Setup, ms};

/// The calls that arrived at control.
type Calls = std::thread::JoinHandle<Vec<(Method, String, Bytes)>>;

/// A balancer whose course routes return the result of `answer`.
fn with_course(setup: Setup, answer: fn(&Call) -> CallAnswer) -> (Balancer, Calls) {
    let (sender, mut receiver) = mpsc::channel::<Call>(4);
    let control = std::thread::spawn(move || {
        let mut calls = Vec::new();
        while let Some(call) = receiver.blocking_recv() {
            assert!(call.peer.ip().is_loopback());
            calls.push((call.head.method.clone(), call.head.uri.path().to_owned(), call.body.clone()));
            let answer = answer(&call);
            let _ = call.answer.send(answer);
        }
        calls
    });
    (setup.with(|setup| setup.own_routes = Some(own_routes(sender))).start(), control)
}

/// Unusual bytes, which show that lb passes them unchanged.
fn words(call: &Call) -> CallAnswer {
    let body = Bytes::from_static(br#"{"message":{"N":1,"replicas":["Server 1"]}, "status" :"successful"}"#);
    match call.head.uri.path() {
        "/rep" => CallAnswer { status: StatusCode::OK, body, allow: None },
        "/add" => CallAnswer { status: StatusCode::BAD_REQUEST, body: call.body.clone(), allow: None },
        _ => CallAnswer { status: StatusCode::METHOD_NOT_ALLOWED, body, allow: Some("DELETE") },
    }
}

#[test]
fn course_routes_reach_control_and_its_responses_come_back_byte_for_byte() {
    let server = mock("1");
    let (lb, control) = with_course(Setup::of(&[&server]), words);
    let mut client = lb.client();
    let answer = client.get("/rep?x=1");
    assert_eq!(
        (answer.status(), answer.text()),
        (200, r#"{"message":{"N":1,"replicas":["Server 1"]}, "status" :"successful"}"#)
    );
    assert_eq!(answer.field("content-type").as_deref(), Some("application/json"));
    let odd = b"{\"n\": 2 ,\r\n\"hostnames\":[\"\xc3\xa9\"]}";
    let answer = client.post("/add", &[], odd);
    assert_eq!((answer.status(), answer.body.as_slice()), (400, &odd[..]));
    client.send(
        &[request("POST", "/add", &["transfer-encoding: chunked"]), chunk(b"{\"n\""), chunk(b":1}"), chunk(b"")]
            .concat(),
    );
    assert_eq!(client.answer().text(), r#"{"n":1}"#);
    let answer = client.get("/rm");
    assert_eq!((answer.status(), answer.field("allow").as_deref()), (405, Some("DELETE")));
    let answer = client.ask("HEAD", "/rep", &[]);
    assert_eq!((answer.status(), answer.field("content-length").as_deref()), (200, Some("67")));

    // All other paths are ordinary requests.
    assert_eq!(client.get("/home").status(), 200);
    assert_eq!(client.get("/reps").status(), 404);
    assert_eq!(client.get("/rep/").status(), 404);
    lb.comes_to_rest();
    assert_eq!(
        (lb.metrics.pool_totals("default").requests, server.stats().requests),
        (3, 3),
        "course calls are not counted"
    );
    drop((client, lb));
    let calls = control.join().unwrap();
    let calls: Vec<_> = calls.iter().map(|(method, path, body)| (method.as_str(), path.as_str(), &body[..])).collect();
    let expected: [(&str, &str, &[u8]); 5] = [
        ("GET", "/rep", b""),
        ("POST", "/add", odd),
        ("POST", "/add", br#"{"n":1}"#),
        ("GET", "/rm", b""),
        ("HEAD", "/rep", b""),
    ];
    assert_eq!(calls, expected);
}

#[test]
fn a_change_with_an_incomplete_body_is_408_and_changes_nothing() {
    let setup = Setup::new(&[]).timeouts(|timeouts| timeouts.body_grace = ms(250));
    let (lb, control) = with_course(setup, words);
    for (field, crumb) in [("content-length: 1000000", &b" "[..]), ("transfer-encoding: chunked", b"1\r\n \r\n")] {
        let (mut client, started) = (lb.client(), Instant::now());
        client.send(&request("POST", "/add", &[field]));
        // Each byte comes long before the idle time-out.
        client.stream.set_read_timeout(Some(ms(20))).unwrap();
        let is_patient = || started.elapsed() < PATIENCE;
        while is_patient() && client.try_send(crumb).is_ok() && client.stream.peek(&mut [0]).is_err() {}
        assert!(is_patient(), "lb reads the slow body without a limit");
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(client.answer().status(), 408);
        client.rest();
    }
    lb.comes_to_rest();
    drop(lb);
    assert_eq!(control.join().unwrap().len(), 0);
}

#[test]
fn a_course_body_that_is_too_long_or_incomplete_is_not_passed_on() {
    let server = mock("1");
    let (lb, control) = with_course(Setup::of(&[&server]), words);
    let mut client = lb.client();
    let _ = client.try_send(&request("POST", "/add", &["content-length: 2000000"]));
    let _ = client.try_send(&vec![b' '; 2_000_000]);
    assert_eq!(client.answer().status(), 413);
    client.rest();
    let mut client = lb.client();
    client.send(&request("POST", "/add", &["content-length: 100"]));
    client.send(b"{");
    client.end_sending();
    client.rest();
    drop((client, lb));
    assert!(control.join().unwrap().is_empty());
}

#[test]
fn without_control_the_course_routes_return_503() {
    let server = mock("1");
    let (sender, receiver) = mpsc::channel::<Call>(1);
    drop(receiver);
    let lb = Setup::of(&[&server]).with(|setup| setup.own_routes = Some(own_routes(sender))).start();
    let answer = lb.client().get("/rep");
    assert_eq!(
        (answer.status(), answer.text()),
        (503, r#"{"message":"<Error> the load balancer is stopping","status":"failure"}"#)
    );
}

#[test]
fn without_the_option_the_course_paths_go_to_the_backends() {
    let server = Hostile::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nbackend");
    let lb = Setup::new(&[server.addr]).start();
    let mut client = lb.client();
    for path in ["/rep", "/add", "/rm"] {
        assert_eq!(client.get(path).text(), "backend");
    }
    lb.comes_to_rest();
    assert_eq!((server.heads().len(), lb.ended_with(200)), (3, 3));
}

#[test]
fn with_the_option_a_missing_path_is_400_with_the_text_of_the_course_sheet() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).with(|setup| setup.settings.missing_path = Some(MISSING_PATH)).start();
    let mut client = lb.client();
    for _ in 0..3 {
        let answer = client.get("/other?x=1");
        let words = r#"{"message":"<Error> '/other' endpoint does not exist in server replicas","status":"failure"}"#;
        assert_eq!((answer.status(), answer.text()), (400, words));
        assert_eq!(answer.field("x-lb-error"), None, "nothing failed in lb");
    }
    let answer = client.get("/%22quoted%22/%C3%A9");
    assert_eq!(lb_test_support::parse(&answer.body)["status"], "failure", "{}", answer.text());
    assert_eq!(client.post("/other", &[], b"").status(), 404, "only the 404 of a GET becomes a 400");
    assert_eq!(client.ask("HEAD", "/other", &[]).status(), 404);
    assert_eq!(client.get("/home").status(), 200);
    lb.comes_to_rest();
    assert_eq!(server.stats().connections, 1, "the backend's connection is used again");
    assert_eq!((lb.ended_with(400), lb.ended_with(404), lb.ended_with(200)), (4, 2, 1));
    assert_eq!(
        lb.metric("lb_backend_requests_total", &["code=\"404\""]),
        6.0,
        "the metrics of the backend have its own status"
    );
    drop(lb);

    let lb = Setup::of(&[&server]).start();
    assert_eq!(lb.client().get("/other").status(), 404);
}

#[test]
fn a_missing_path_with_an_endless_body_is_400_as_well() {
    let server = Hostile::start(|_, wire| {
        wire.head();
        wire.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 100000000\r\n\r\n");
        (0..40).for_each(|_| wire.write(&[b'x'; 65_536]));
        wire.hold();
    });
    let lb = Setup::new(&[server.addr]).with(|setup| setup.settings.missing_path = Some(MISSING_PATH)).start();
    let mut client = lb.client();
    assert_eq!(client.get("/other").status(), 400);
    assert_eq!(client.get("/other").status(), 400);
    lb.comes_to_rest();
    assert_eq!(server.accepted(), 2);
}

#[test]
fn a_backend_that_breaks_off_in_a_replaced_404_does_not_affect_the_client() {
    let server = Hostile::start(|_, wire| {
        wire.head();
        wire.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 100\r\n\r\nonly a part");
    });
    let lb = Setup::new(&[server.addr]).with(|setup| setup.settings.missing_path = Some(MISSING_PATH)).start();
    let mut client = lb.client();
    let received: usize = (0..3)
        .map(|_| {
            let answer = client.get("/other");
            assert_eq!(answer.status(), 400);
            answer.body.len()
        })
        .sum();
    lb.comes_to_rest();
    assert_eq!((lb.ended_with(400), lb.errors("reset")), (3, 0), "the request succeeded");
    let counted = lb.metric("lb_response_bytes_total", &[]);
    assert_eq!(counted, received as f64, "only bytes that the client got are counted");
    let failed = lb.backends[0].stats.consecutive_errors.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(failed, 1, "the attempt failed; an arrived head would set this to 0");
}
