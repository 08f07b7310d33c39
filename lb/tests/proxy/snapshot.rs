//! Each request has one set of settings: a request in flight during a publish keeps its settings until its end.

use std::io::Read;

use lb_test_support::{Hostile, PATIENCE, chunk, request, wait_until};

use crate::access_log::Log;
use crate::mirror::take;
use crate::support::{Setup, ms};

const CHUNKED: &str = "transfer-encoding: chunked";

/// A backend that reads each request completely and returns 404.
fn missing() -> Hostile {
    Hostile::start(|_, wire| {
        while take(wire).is_some() {
            wire.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nnone!");
        }
    })
}

#[test]
fn a_request_in_flight_keeps_its_settings() {
    let server = missing();
    let (old, new) = (Log::new(|_| {}), Log::new(|_| {}));
    let lb = old
        .start(Setup::new(&[server.addr]).with(|setup| setup.settings.missing_path = Some(lb::course::MISSING_PATH)));
    let mut client = lb.client();
    client.send(&request("GET", "/nope", &[CHUNKED, "x-lb-explain: 1"]));
    client.send(&chunk(b"first"));
    wait_until("the request to be at the backend", || server.heads().len() == 1);
    lb.publish_settings(|settings| {
        settings.missing_path = None;
        settings.limits.body_bytes = Some(10);
        settings.limits.head_bytes = 1000;
        settings.request_id = true;
        settings.explain_header = true;
        settings.access_log = Some(new.log.clone());
    });
    client.send(&[chunk(&[b'x'; 1000]), chunk(b"")].concat());
    let answer = client.answer();
    assert_eq!(answer.status(), 400, "its 404 becomes the 400 of the course");
    assert!(answer.text().contains("'/nope' endpoint does not exist"), "{}", answer.text());
    assert_eq!((answer.field("x-request-id"), answer.field("x-lb-explain")), (None, None));

    // The next requests on this connection use the new settings.
    let answer = client.ask("GET", "/nope", &["x-lb-explain: 1"]);
    assert_eq!((answer.status(), answer.text()), (404, "none!"));
    assert!(answer.field("x-request-id").is_some() && answer.field("x-lb-explain").is_some());
    client.send(&request("GET", "/nope", &[CHUNKED]));
    client.send(&chunk(&[b'x'; 1000]));
    client.answer().is_own(413, "body_too_large");
    let mut client = lb.client();
    client.send(&request("GET", "/nope", &[&format!("x: {}", "y".repeat(1000))]));
    client.answer().is_own(431, "bad_request");

    let [first] = old.objects(&lb).try_into().unwrap();
    assert_eq!((&first["status"], &first["bytes_in"]), (&400.into(), &1005.into()), "{first}");
    let statuses: Vec<_> = new.objects(&lb).iter().map(|line| line["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses.len(), 3);
    assert!([404, 413, 431].iter().all(|status| statuses.contains(status)), "{statuses:?}");
}

#[test]
fn a_removed_limit_still_holds_for_a_request_in_flight() {
    let server = missing();
    let lb = Setup::new(&[server.addr]).limits(|limits| limits.body_bytes = Some(10)).start();
    let mut client = lb.client();
    client.send(&request("POST", "/", &[CHUNKED]));
    client.send(&chunk(b"first"));
    wait_until("the request to be at the backend", || server.heads().len() == 1);
    lb.publish_settings(|settings| settings.limits.body_bytes = None);
    client.send(&chunk(b"second"));
    client.answer().is_own(413, "body_too_large");
    assert_eq!(lb.client().post("/", &[], &[b'x'; 100]).status(), 404, "new requests have no limit");
    lb.comes_to_rest();
}

#[test]
fn a_request_in_flight_keeps_its_time_outs() {
    let server = Hostile::start(|_, wire| {
        while let Some(seen) = take(wire) {
            if seen.head.starts_with("GET /silent ") {
                return wire.hold();
            }
            wire.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n");
            wire.read();
            wire.write(b"0\r\n\r\n");
        }
    });
    let lb = Setup::new(&[server.addr]).with(|setup| setup.workers = 1).start();
    // One request lacks the rest of its body, and the response of the other has stopped.
    let (mut uploading, mut reading) = (lb.client(), lb.client());
    reading.send(&request("GET", "/", &[]));
    assert_eq!((reading.head().unwrap().status, reading.raw(10).len()), (200, 10));
    uploading.send(&request("POST", "/", &["content-length: 2"]));
    uploading.send(b"a");
    wait_until("both requests to be at the backend", || server.heads().len() == 2);
    lb.publish_settings(|settings| {
        let timeouts = &mut settings.timeouts;
        (timeouts.idle, timeouts.response_head, timeouts.body_grace) = (ms(1), ms(1), ms(1));
        (timeouts.half_closed, timeouts.total) = (ms(1), Some(ms(1)));
    });
    // Longer than all new time-outs.
    reading.stream.set_read_timeout(Some(ms(100))).unwrap();
    assert!(reading.stream.read(&mut [0]).is_err(), "lb keeps the response open");
    reading.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    uploading.send(b"b");
    assert_eq!((uploading.head().unwrap().status, uploading.raw(10).len()), (200, 10));
    assert_eq!((lb.errors("timeout"), lb.errors("client_timeout")), (0, 0));
    // New requests use the new time-outs. Dropping the clients frees their connections to the backend.
    drop((uploading, reading));
    lb.client().get("/silent").is_own(504, "timeout");
    drop(server);
    lb.comes_to_rest();
    assert_eq!(lb.errors("timeout"), 1);
}
