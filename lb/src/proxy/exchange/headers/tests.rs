//! Heads before and after the rules. A head is its request line and fields with `|` for each end of line.

use std::time::Duration;

use super::*;
use crate::config::IpNetwork;
use crate::generation::samples;
use crate::proxy::exchange::classes::tests::{ALIASES, CLASSED};

/// What lb adds for the host `a`.
const FORWARDED: &str = "x-forwarded-for: 127.0.0.1|x-forwarded-proto: http|x-forwarded-host: a|";

fn settings() -> Settings {
    let settings = samples::settings(Duration::from_secs(1));
    Settings { upgrades: vec!["websocket".to_owned(), "echo".to_owned()], ..settings }
}

fn trusting(network: &str) -> Settings {
    Settings { trusted_proxies: vec![network.parse::<IpNetwork>().unwrap()], ..settings() }
}

fn fields(text: &str) -> Fields {
    let lines = text.split('|').filter(|line| !line.is_empty());
    lines.map(|line| line.split_once(": ").or_else(|| line.split_once(':')).unwrap()).collect()
}

fn head(text: &str) -> RequestHead {
    let (line, text) = text.split_once('|').unwrap();
    let [method, target, version] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let mut head = RequestHead {
        method: method.parse().unwrap(),
        version: if version == "HTTP/1.0" { Version::HTTP_10 } else { Version::HTTP_11 },
        fields: fields(text),
        ..RequestHead::default()
    };
    head.target.set(target).unwrap();
    head
}

fn written(fields: &Fields) -> String {
    let mut out = Vec::new();
    fields.write(&mut out);
    String::from_utf8(out).unwrap().replace("\r\n", "|")
}

/// The fields that a backend gets, and the requested protocols.
fn forwarded_by(settings: &Settings, text: &str, has_body: bool) -> (String, Option<Vec<u8>>) {
    let mut head = head(text);
    let peer = Peer::new("127.0.0.1:9".parse().unwrap(), 0);
    let classes = Classes::of(&head.fields);
    let upgrade = forward_request(&mut head, classes, has_body, &peer, settings);
    (written(&head.fields), upgrade.map(|upgrade| upgrade.as_bytes().to_vec()))
}

/// The same for a request of an untrusted client, whose host is `a`: without the fields that lb adds.
fn forwarded(text: &str) -> String {
    let (fields, upgrade) = forwarded_by(&settings(), text, false);
    assert_eq!(upgrade, None, "{text}");
    let before = fields.strip_suffix(FORWARDED).unwrap_or_else(|| panic!("{text}: {fields}"));
    before.to_owned()
}

#[test]
fn heads_that_no_backend_may_see_are_refused() {
    for (text, part) in [
        ("GET home HTTP/1.1|host: a", "begins with neither"),
        ("GET a:443 HTTP/1.1|host: a", "begins with neither"),
        ("GET * HTTP/1.1|host: a", "only OPTIONS"),
        ("options * HTTP/1.1|host: a", "only OPTIONS"),
        ("GET / HTTP/1.1|x: y", "needs a Host"),
        ("OPTIONS * HTTP/1.1|x: y", "needs a Host"),
        ("GET / HTTP/1.1|host: a|host: b", "more than one Host"),
        ("GET / HTTP/1.0|host: a|Host: a", "more than one Host"),
        ("GET http://b/ HTTP/1.1|host: a|host: a", "more than one Host"),
        ("GET / HTTP/1.1|host: a b", "something else than a host"),
        ("GET / HTTP/1.0|host: u@a", "something else than a host"),
        ("GET http://b/ HTTP/1.1|host: a/b", "something else than a host"),
    ] {
        match check(&head(text), &settings()) {
            Err(Fault::BadRequest(sentence)) => assert!(sentence.contains(part), "{text}: {sentence}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    for target in ["a:443", "/x", "http://a/", "*"] {
        let head = head(&format!("CONNECT {target} HTTP/1.1|host: a"));
        assert_eq!(check(&head, &settings()), Err(Fault::Connect), "{target}");
    }
    for method in ["TRACE", "trace", "Trace"] {
        let head = head(&format!("{method} / HTTP/1.1|host: a"));
        assert_eq!(check(&head, &settings()), Err(Fault::MethodNotAllowed), "{method}");
        assert_eq!(check(&head, &Settings { allow_trace: true, ..settings() }), Ok(()), "{method}");
    }
}

#[test]
fn heads_that_every_backend_understands_pass() {
    for text in [
        "GET / HTTP/1.1|host: a",
        "GET / HTTP/1.1|host:",
        "PURGE /x HTTP/1.1|host: [::1]:80",
        "connect /x HTTP/1.1|host: a",
        "GET http://b/ HTTP/1.1|x: y",
        "GET http://b/ HTTP/1.1|host: a",
        "GET / HTTP/1.0|x: y",
        "OPTIONS * HTTP/1.1|host: a",
        "OPTIONS http://b HTTP/1.1|host: a",
    ] {
        assert_eq!(check(&head(text), &settings()), Ok(()), "{text}");
    }
}

#[test]
fn routes_are_matched_by_the_targets_host_before_the_field_and_by_the_paths_normal_form() {
    for (text, of_host, of_path) in [
        ("GET /a//b?c HTTP/1.1|host: a.test:80", "a.test", "/a/b"),
        ("GET /%61?/../ HTTP/1.1|host: [::1]:80", "[::1]", "/a"),
        ("GET http://u:p@b.test:81?q HTTP/1.1|host: a", "b.test", "/"),
        ("GET http://[::1]/x HTTP/1.1|host: a", "[::1]", "/x"),
        ("GET / HTTP/1.0|x: y", "", "/"),
        ("OPTIONS * HTTP/1.1|host: a", "a", "*"),
    ] {
        let head = head(text);
        assert_eq!((host(&head), path(&head).as_deref()), (of_host, Ok(of_path)), "{text}");
    }
    let mut odd = head("GET / HTTP/1.1|x: y");
    odd.fields.push(b"host", b"\xff");
    assert_eq!(host(&odd), "");
    for text in ["GET * HTTP/1.1|host: a", "GET /% HTTP/1.1|host: a", "GET /x/..%2fb HTTP/1.1|host: a"] {
        let refused = head(text);
        assert!(matches!(path(&refused), Err(Fault::BadRequest(_))), "{text}");
    }
}

#[test]
fn a_plain_request_gets_three_fields_and_keeps_its_order() {
    let plain = "host: a|user-agent: x|accept: */*|x-many: 1|x-other: 2|x-many: 3|my_field: 4|x-request-id: 5|";
    assert_eq!(forwarded(&format!("GET / HTTP/1.1|{plain}")), plain);
    assert_eq!(forwarded(&format!("GET / HTTP/1.0|{plain}")), plain);
    let (nameless, _) = forwarded_by(&settings(), "GET / HTTP/1.0|x: y", false);
    assert_eq!(nameless, "x: y|x-forwarded-for: 127.0.0.1|x-forwarded-proto: http|");
}

#[test]
fn every_name_of_every_class_ends_here_or_passes() {
    let classed = CLASSED.iter().flat_map(|(class, names)| names.iter().map(|name| (*class, *name)));
    for (class, name) in classed.chain(ALIASES.map(|name| (Classes::ALIAS, name))) {
        let fields = format!("host: a|{name}: 1|x: y|");
        let text = format!("GET / HTTP/1.1|{}", fields.to_uppercase().replace("HOST: A|", "host: a|"));
        let passes = class == Classes::COOKIE || class == Classes::CONTENT_LENGTH;
        let wanted = if passes { &*fields } else { "host: a|x: y|" };
        assert_eq!(forwarded(&text.replace("X: Y", "X: y")), wanted, "{name}");
        let (trusted, _) = forwarded_by(&trusting("127.0.0.0/8"), &text, false);
        let is_kept = trusted.contains(&format!("{name}: 1"));
        assert_eq!(is_kept, passes || class == Classes::CLAIM, "{name} of a trusted proxy: {trusted}");
    }
}

#[test]
fn fields_that_connection_names_end_here_unless_backends_rely_on_them() {
    assert_eq!(
        forwarded("GET / HTTP/1.1|host: a|connection: X-Hop, close, te|x-hop: 1|x: y|Connection: x-two|x-two: 2|"),
        "host: a|x: y|"
    );
    let relied_on =
        "host: a|cookie: a=b|authorization: z|content-type: t|origin: o|sec-websocket-key: k|x-request-id: 1|";
    let names = "host, COOKIE, authorization, content-type, origin, sec-websocket-key, x-request-id, x-forwarded-for";
    assert_eq!(forwarded(&format!("GET / HTTP/1.1|connection: {names}|{relied_on}")), relied_on);
    assert_eq!(forwarded("GET / HTTP/1.1|host: a|connection: (x), \"y\", z z|x: y|"), "host: a|x: y|");
    assert_eq!(forwarded("GET / HTTP/1.1|host: a|connection: keep-alive|x: y|"), "host: a|x: y|");
}

#[test]
fn origin_fields_of_clients_are_replaced_and_those_of_trusted_proxies_continued() {
    let claims = "x-forwarded-for: 6.6.6.6|x-forwarded-for: 7.7.7.7|x-forwarded-proto: https|x-forwarded-host: c|";
    let text = format!("GET / HTTP/1.1|host: a|{claims}forwarded: for=6.6.6.6|");
    assert_eq!(forwarded(&text), "host: a|");
    assert_eq!(forwarded_by(&trusting("10.0.0.0/8"), &text, false).0, format!("host: a|{FORWARDED}"));
    let continued =
        "host: a|x-forwarded-for: 6.6.6.6, 7.7.7.7, 127.0.0.1|x-forwarded-proto: https|x-forwarded-host: c|";
    let kept = format!("{continued}forwarded: for=6.6.6.6|");
    assert_eq!(forwarded_by(&trusting("127.0.0.0/8"), &text, false).0, kept);
    let named = format!("{text}connection: forwarded, x-forwarded-for|");
    assert_eq!(forwarded_by(&trusting("127.0.0.0/8"), &named, false).0, kept);
}

#[test]
fn the_absolute_forms_host_replaces_host_at_its_place() {
    let told = "x-forwarded-for: 127.0.0.1|x-forwarded-proto: http|x-forwarded-host: b:81|";
    for target in ["http://b:81/p?q", "HTTP://b:81", "http://user:secret@b:81/"] {
        let forwarded = |fields: &str| forwarded_by(&settings(), &format!("GET {target} HTTP/1.1|{fields}"), false).0;
        assert_eq!(forwarded("x: y|host: a|z: 1|"), format!("x: y|host: b:81|z: 1|{told}"), "{target}");
        assert_eq!(forwarded("x: y|"), format!("x: y|host: b:81|{told}"), "{target}");
    }
}

#[test]
fn a_length_passes_once_and_never_beside_chunks() {
    for (fields, wanted) in [
        ("content-length: 3|x: y|", "content-length: 3|x: y|"),
        ("content-length: 3|x: y|Content-Length: 3|content-length: 3|", "content-length: 3|x: y|"),
        ("content-length: 003|", "content-length: 003|"),
        ("content-length: 6|x: y|transfer-encoding: chunked|content-length: 6|", "x: y|"),
        ("connection: content-length|content-length: 4|Transfer-Encoding: chunked|", ""),
        ("connection: content-length|content-length: 4|", "content-length: 4|"),
        ("connection: transfer-encoding|transfer-encoding: chunked|", ""),
        ("content_length: 5|", ""),
    ] {
        let text = format!("POST / HTTP/1.1|host: a|{fields}");
        let (seen, _) = forwarded_by(&settings(), &text, true);
        assert_eq!(seen, format!("host: a|{wanted}{FORWARDED}"), "{fields}");
    }
}

#[test]
fn an_upgrade_passes_without_a_body_from_http_1_1_and_is_the_last_field() {
    let asks = "host: a|connection: Upgrade, HTTP2-Settings|upgrade: h2c, WebSocket|http2-settings: AA|x: y|";
    let (seen, upgrade) = forwarded_by(&settings(), &format!("GET / HTTP/1.1|{asks}"), false);
    assert_eq!(seen, format!("host: a|x: y|{FORWARDED}connection: upgrade|upgrade: WebSocket|"));
    assert_eq!(upgrade.as_deref(), Some(&b"WebSocket"[..]));
    assert_eq!(forwarded(&format!("GET / HTTP/1.0|{asks}")), "host: a|x: y|");
    assert_eq!(forwarded("GET / HTTP/1.1|host: a|upgrade: websocket|x: y|"), "host: a|x: y|");
    let none = forwarded_by(&Settings { upgrades: Vec::new(), ..settings() }, &format!("GET / HTTP/1.1|{asks}"), false);
    let with_body = forwarded_by(&settings(), &format!("POST / HTTP/1.1|{asks}"), true);
    for refused in [none, with_body] {
        assert_eq!(refused, (format!("host: a|x: y|{FORWARDED}"), None));
    }
}

#[test]
fn the_admin_pages_cookies_end_here() {
    let text = "GET / HTTP/1.1|host: a|cookie: lb_session_8081=f00; a=1|x: y|";
    assert_eq!(forwarded(text), "host: a|cookie: a=1|x: y|");
}

fn passed_on(status: u16, text: &str, forward: fn(&mut ResponseHead)) -> String {
    let status = StatusCode::from_u16(status).unwrap();
    let mut head = ResponseHead { status, fields: fields(text), ..ResponseHead::default() };
    forward(&mut head);
    written(&head.fields)
}

#[test]
fn a_response_loses_the_fields_of_the_backends_hop_and_keeps_its_order() {
    let hop = "connection: keep-alive, X-Private|x-private: 1|keep-alive: 5|proxy-connection: close|proxy-authenticate: b|\
               upgrade: h2c|te: trailers|transfer-encoding: chunked|";
    let kept = "set-cookie: a|x-forwarded-for: 1|set-cookie: b|server: s|proxy: p|content-length: 2|";
    for status in [200, 404] {
        assert_eq!(passed_on(status, kept, forward_response), kept);
        assert_eq!(passed_on(status, &format!("{kept}content-length: 2|"), forward_response), kept);
        let chunked = kept.replace("content-length: 2|", "");
        assert_eq!(passed_on(status, &format!("{hop}{kept}"), forward_response), chunked);
    }
}

#[test]
fn responses_that_name_protocols_name_them_for_the_next_hop() {
    let text = "connection: Upgrade, x-hop|upgrade: echo|x-hop: 1|x: y|";
    for status in [101, 426] {
        assert_eq!(passed_on(status, text, forward_response), "x: y|connection: upgrade|upgrade: echo|");
        assert_eq!(passed_on(status, "x: y|", forward_response), "x: y|");
    }
    assert_eq!(passed_on(200, text, forward_response), "x: y|");
}

#[test]
fn an_interim_response_has_no_framing() {
    let text =
        "link: </a>|connection: x-hop|x-hop: 1|content-length: 5|transfer-encoding: chunked|upgrade: echo|link: </b>|";
    for status in [102, 103] {
        assert_eq!(passed_on(status, text, forward_interim), "link: </a>|link: </b>|");
        assert_eq!(passed_on(status, "content-length: 5|", forward_interim), "");
    }
}
