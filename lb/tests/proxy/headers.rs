//! Headers in a reverse proxy: hop-by-hop headers, headers that lb adds, and headers from clients that lb never trusts.

use lb_test_support::{Answer, Hostile, mock, request};

use crate::support::{Balancer, Setup};

/// Sends a head unchanged and returns the response of the backend's `/headers`.
fn seen(lb: &Balancer, head: &str) -> Answer {
    let mut client = lb.client();
    client.send(head.replace('\n', "\r\n").as_bytes());
    let answer = client.answer();
    assert_eq!(answer.status(), 200, "{head}: {}", answer.text());
    answer
}

#[test]
fn hop_by_hop_headers_of_a_request_are_dropped() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let answer = seen(
        &lb,
        "GET /headers HTTP/1.1\nhost: a.test\nconnection: keep-alive, X-Private, te\nconnection: X-Second\nx-private: 1\nx-second: 2\n\
         keep-alive: timeout=5\nproxy-connection: keep-alive\nte: trailers\nproxy-authorization: Basic eA==\nupgrade: h2c\n\
         x-kept: yes\n\n",
    );
    for gone in ["connection", "x-private", "x-second", "keep-alive", "proxy-connection", "te", "upgrade"] {
        assert_eq!(answer.seen(gone), None, "{gone}");
    }
    assert_eq!(answer.seen("proxy-authorization"), None);
    assert_eq!(answer.seen("x-kept").as_deref(), Some("yes"));
    lb.comes_to_rest();
}

#[test]
fn hop_by_hop_headers_of_a_response_are_dropped() {
    let server = Hostile::answering(
        b"HTTP/1.1 200 OK\r\nconnection: keep-alive, x-private\r\nx-private: 1\r\nkeep-alive: timeout=5\r\n\
          proxy-connection: keep-alive\r\nproxy-authenticate: Basic\r\nupgrade: h2c\r\nte: trailers\r\nx-kept: yes\r\n\
          transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    );
    let lb = Setup::new(&[server.addr]).start();
    let answer = lb.client().get("/");
    for gone in ["connection", "x-private", "keep-alive", "proxy-connection", "proxy-authenticate", "upgrade", "te"] {
        assert_eq!(answer.field(gone), None, "{gone}");
    }
    assert_eq!((answer.text(), answer.field("x-kept").as_deref()), ("ok", Some("yes")));
    lb.comes_to_rest();
}

#[test]
fn connection_cannot_remove_headers_that_the_backend_relies_on() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let answer = seen(
        &lb,
        "POST /headers HTTP/1.1\nhost: a.test\ncontent-length: 3\n\
         connection: host, content-length, x-forwarded-for, X-Forwarded-Proto, x-forwarded-host, transfer-encoding, close\n\nabc",
    );
    assert_eq!(answer.seen("host").as_deref(), Some("a.test"));
    assert_eq!(answer.seen("content-length").as_deref(), Some("3"));
    assert_eq!(answer.seen("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(answer.seen("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(answer.seen("x-forwarded-host").as_deref(), Some("a.test"));
    lb.comes_to_rest();
}

const LIES: &str = "GET /headers HTTP/1.1\nhost: a.test\nx-forwarded-for: 6.6.6.6\nx-forwarded-for: 7.7.7.7\n\
                    x-forwarded-proto: https\nx-forwarded-host: evil.test\n\n";

#[test]
fn forwarded_headers_of_an_untrusted_client_are_replaced() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let answer = seen(&lb, LIES);
    assert_eq!(answer.seen("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(answer.seen("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(answer.seen("x-forwarded-host").as_deref(), Some("a.test"));
    lb.comes_to_rest();
}

#[test]
fn forwarded_headers_of_a_trusted_proxy_are_kept_and_extended() {
    let server = mock("1");
    let trust = |network: &str| vec![network.parse().unwrap()];
    let lb = Setup::of(&[&server]).with(|setup| setup.settings.trusted_proxies = trust("127.0.0.0/8")).start();
    let answer = seen(&lb, LIES);
    assert_eq!(answer.seen("x-forwarded-for").as_deref(), Some("6.6.6.6, 7.7.7.7, 127.0.0.1"));
    assert_eq!(answer.seen("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(answer.seen("x-forwarded-host").as_deref(), Some("evil.test"));
    let silent = seen(&lb, "GET /headers HTTP/1.1\nhost: a.test\n\n");
    assert_eq!(silent.seen("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(silent.seen("x-forwarded-host").as_deref(), Some("a.test"));

    let other = Setup::of(&[&server]).with(|setup| setup.settings.trusted_proxies = trust("10.0.0.0/8")).start();
    assert_eq!(seen(&other, LIES).seen("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    lb.comes_to_rest();
}

#[test]
fn host_passes_unchanged() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    for host in ["a.test", "a.test:8080", "[::1]:80", ""] {
        assert_eq!(seen(&lb, &format!("GET /headers HTTP/1.1\nhost: {host}\n\n")).seen("host").as_deref(), Some(host));
    }
    // An HTTP/1.0 request may have no Host, but the HTTP/1.1 request to the backend must have one.
    let answer = seen(&lb, "GET /headers HTTP/1.0\n\n");
    assert_eq!(answer.seen("host"), Some(server.addr.to_string()));
    assert_eq!(answer.seen("x-forwarded-host"), None);
    lb.comes_to_rest();
}

#[test]
fn the_absolute_form_becomes_the_origin_form_and_its_authority_the_host() {
    let server = Hostile::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let lb = Setup::new(&[server.addr]).start();
    let mut expected = Vec::new();
    for (target, line, host) in [
        ("http://b.test/p?q=1", "/p?q=1", "b.test"),
        ("http://b.test:81/", "/", "b.test:81"),
        ("http://b.test", "/", "b.test"),
        ("http://b.test?q", "/?q", "b.test"),
        ("http://user:secret@b.test/p", "/p", "b.test"),
    ] {
        seen(&lb, &format!("GET {target} HTTP/1.1\nhost: a.test\n\n"));
        expected.push((format!("GET {line} HTTP/1.1"), format!("host: {host}")));
    }
    seen(&lb, "OPTIONS * HTTP/1.1\nhost: a.test\n\n");
    expected.push(("OPTIONS * HTTP/1.1".into(), "host: a.test".into()));
    lb.comes_to_rest();
    for (head, (line, host)) in server.heads().iter().zip(&expected) {
        assert_eq!(head.lines().next(), Some(line.as_str()));
        let hosts: Vec<_> = head.lines().filter(|field| field.to_ascii_lowercase().starts_with("host:")).collect();
        assert_eq!(hosts, [host.as_str()], "{head}");
    }
    assert_eq!(server.heads().len(), expected.len());
}

#[test]
fn invalid_heads_are_refused_by_lb_and_reach_no_backend() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    for bad in [
        "GET / HTTP/1.1\nhost: a\nhost: b\n\n",
        "GET / HTTP/1.1\nhost: a\nhost: a\n\n",
        "GET / HTTP/1.1\n\n",
        "GET home HTTP/1.1\nhost: a\n\n",
        "GET / HTTP/1.1\nhost: a b\n\n",
        "GET / HTTP/1.1\nhost: a/b\n\n",
        "POST / HTTP/1.1\nhost: a\ntransfer-encoding: gzip, chunked\n\n",
        "POST / HTTP/1.1\nhost: a\ntransfer-encoding: chunked, chunked\n\n",
    ] {
        let mut client = lb.client();
        client.send(bad.replace('\n', "\r\n").as_bytes());
        let answer = client.answer();
        answer.is_own(400, "bad_request");
        assert_eq!(answer.field("connection").as_deref(), Some("close"));
        assert_eq!(client.rest(), b"");
    }
    for bad in [
        "GET / HTTP/3.0\nhost: a\n\n",
        "GET /a b HTTP/1.1\nhost: a\n\n",
        "GET / HTTP/1.1\nhost : a\n\n",
        "GET / HTTP/1.1\nhost: a\nx: \u{0}\n\n",
        "\u{16}\u{3}\u{1}\u{2}\n\n",
    ] {
        let mut client = lb.client();
        client.send(bad.replace('\n', "\r\n").as_bytes());
        let answer = client.answer_to("GET").unwrap_or_else(|broken| panic!("{bad:?}: {broken:?}"));
        answer.is_own(if bad.contains("HTTP/3.0") { 505 } else { 400 }, "bad_request");
        assert_eq!((answer.field("connection").as_deref(), client.rest()), (Some("close"), Vec::new()), "{bad:?}");
    }
    let mut client = lb.client();
    client.send(b"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\n\r\n");
    client.answer().is_own(501, "bad_request");
    assert_eq!(client.rest(), b"");
    lb.comes_to_rest();
    let ended = [400, 501, 505].map(|code| lb.ended_with(code));
    assert_eq!((server.stats().requests, ended, lb.errors("bad_request")), (0, [12, 1, 1], 14));
}

#[test]
fn values_pass_byte_for_byte() {
    let server = Hostile::answering(b"HTTP/1.1 200 OK\r\nx-odd: \xe9\xff caf\xc3\xa9\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 0\r\n\r\n");
    let lb = Setup::new(&[server.addr]).start();
    let mut client = lb.client();
    client.send(&request("GET", "/%2e%2e//a/../b?x=%00&y", &["x-many: 1", "x-many: 2", "x-empty:"]));
    let text = client.raw_head();
    assert!(text.windows(13).any(|window| window == b"\xe9\xff caf\xc3\xa9\r\nset"), "{}", text.escape_ascii());
    let text = String::from_utf8_lossy(&text).into_owned();
    assert_eq!(text.matches("set-cookie: ").count(), 2, "{text}");
    lb.comes_to_rest();
    let head = &server.heads()[0];
    assert!(head.starts_with("GET /%2e%2e//a/../b?x=%00&y HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("x-many: 1\r\nx-many: 2\r\n") && head.contains("x-empty:"), "{head}");
}
