//! Invalid or refused requests: lb returns its own response, counts and logs the request, and closes the connection.

use lb_test_support::{chunk, request};

use crate::access_log::Log;
use crate::mirror::mirror;
use crate::support::{Balancer, Setup, ms};

const CHUNKED: &str = "transfer-encoding: chunked";

/// A balancer with every limit that a request can exceed.
fn strict(log: &Log, server: std::net::SocketAddr) -> Balancer {
    let setup = Setup::new(&[server])
        .timeouts(|timeouts| (timeouts.head, timeouts.idle) = (ms(250), ms(250)))
        .limits(|limits| (limits.body_bytes, limits.head_bytes, limits.headers) = (Some(100), 4000, 20));
    log.start(setup.with(|setup| setup.settings.request_id = true))
}

/// Refused bytes, with status, reason, and the method in the log.
fn refused() -> Vec<(Vec<u8>, u16, &'static str, &'static str)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let chunks = |data: &[u8]| [request("POST", "/", &[CHUNKED]), data.to_vec()].concat();
    let bad = "bad_request";
    vec![
        (text("\x16\x03\x01\x02hello"), 400, bad, "-"),
        (text("nonsense\r\n\r\n"), 400, bad, "-"),
        (text("GET home HTTP/1.1\r\nhost: a\r\n\r\n"), 400, bad, "-"),
        (text("GET / HTTP/1.1\nhost: a\n\n"), 400, bad, "-"),
        (text("GET / HTTP/1.1\r\nhost: a\r\nno field\r\n\r\n"), 400, bad, "-"),
        (text("GET / HTTP/1.1\r\n\r\n"), 400, bad, "GET"),
        (text("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n"), 400, bad, "GET"),
        (text("GET /%zz HTTP/1.1\r\nhost: a\r\n\r\n"), 400, bad, "GET"),
        (text("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"), 400, bad, "POST"),
        (text("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n"), 400, bad, "POST"),
        (text("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"), 400, bad, "POST"),
        (chunks(b"zz\r\n"), 400, bad, "POST"),
        (chunks(b"0\r\n\n"), 400, bad, "POST"),
        (chunks(b"2\r\nabc"), 400, bad, "POST"),
        (text("GET / HTTP/1.1\r\nhost"), 408, "client_timeout", "-"),
        (chunks(b"2\r\na"), 408, "client_timeout", "POST"),
        (request("POST", "/", &["content-length: 2"]), 408, "client_timeout", "POST"),
        (request("POST", "/", &["content-length: 101"]), 413, "body_too_large", "POST"),
        (chunks(&chunk(&[b'x'; 101])), 413, "body_too_large", "POST"),
        (text(&format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(4000))), 414, bad, "-"),
        (request("GET", "/", &[&format!("x: {}", "y".repeat(4000))]), 431, bad, "-"),
        (request("GET", "/", &["x: y"; 20]), 431, bad, "-"),
        (text("CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n"), 501, bad, "-"),
        (text("GET / HTTP/2.0\r\nhost: a\r\n\r\n"), 505, bad, "-"),
        (text("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505, bad, "-"),
    ]
}

#[test]
fn every_refusal_has_the_form_of_lb_is_counted_and_logged_and_ends_its_connection() {
    let server = mirror();
    let log = Log::new(|_| {});
    let lb = strict(&log, server.addr);
    let refused = refused();
    let mut ids = Vec::new();
    for (number, (bytes, status, reason, _)) in refused.iter().enumerate() {
        let shown = bytes[..bytes.len().min(80)].escape_ascii().to_string();
        // Alone, and after a request that is served.
        for behind in [false, true] {
            let mut client = lb.client();
            if behind {
                assert_eq!(client.get("/before").status(), 200);
            }
            client.send(bytes);
            let answer = client.answer_to("GET").unwrap_or_else(|broken| panic!("{shown}: {broken:?}"));
            answer.is_own(*status, reason);
            let field = |name: &str| answer.field(name).unwrap_or_else(|| panic!("{shown}: no {name}"));
            assert_eq!([field("connection"), field("content-type")], ["close", "application/json"], "{shown}");
            assert!(answer.head.field("date").is_some() && answer.head.version == "HTTP/1.1", "{shown}");
            ids.push((number, field("x-request-id")));
            assert_eq!(client.rest(), b"", "{shown}");
        }
    }
    let lines = log.objects(&lb);
    let lines: Vec<_> = lines.iter().filter(|line| line["path"] != "/before").collect();
    let count = 2 * refused.len() as u64;
    assert_eq!(lines.len() as u64, count);
    for (number, id) in &ids {
        let (bytes, status, reason, method) = &refused[*number];
        let line =
            lines.iter().find(|line| line["request_id"] == id.as_str()).expect("a line with the id of the response");
        let said = (line["status"].as_u64(), line["error"].as_str(), line["method"].as_str());
        let wanted = (Some(u64::from(*status)), Some(*reason), Some(*method));
        assert_eq!(said, wanted, "{}", bytes[..bytes.len().min(80)].escape_ascii());
    }
    let totals = lb.metrics.pool_totals("default");
    assert_eq!(totals.requests, 2 * count - refused.len() as u64, "served and refused requests");
    assert_eq!(totals.errors_by_reason.values().sum::<u64>(), count);
    for status in [400, 408, 413, 414, 431, 501, 505] {
        let own = refused.iter().filter(|refused| refused.1 == status).count() as u64;
        assert_eq!(lb.ended_with(status), 2 * own, "{status}");
    }
    assert!(lb.backends[0].stats.consecutive_errors.load(std::sync::atomic::Ordering::Relaxed) == 0);
}

#[test]
fn bytes_after_a_refused_request_are_not_read_as_a_request() {
    let server = mirror();
    let log = Log::new(|_| {});
    let lb = strict(&log, server.addr);
    for (bytes, status, _, _) in refused().into_iter().filter(|refused| refused.1 != 408) {
        let mut client = lb.client();
        client.send(&[bytes, b"0\r\n\r\n".to_vec(), request("GET", "/smuggled", &[])].concat());
        assert_eq!(client.answer().status(), status);
        assert_eq!(client.rest(), b"");
    }
    lb.comes_to_rest();
    assert!(server.heads().iter().all(|head| !head.contains("smuggled")), "{:?}", server.heads());
}
