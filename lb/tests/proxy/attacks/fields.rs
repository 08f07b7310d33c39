//! Fields that a client may not set, and fields that it may not remove.

use super::{Attack, passes, refused, run, run_with};

const PLAIN: &str = "GET / HTTP/1.1\nhost: a\n{fwd}\n";

/// Fields with the origin of a client that some servers believe.
const CLAIMS: [&str; 9] = [
    "x-forwarded-for: 6.6.6.6",
    "X-Forwarded-Proto: https",
    "x-forwarded-port: 443",
    "X-FORWARDED-PREFIX: /admin",
    "x-forwarded-ssl: on",
    "X-Real-IP: 6.6.6.6",
    "Forwarded: for=6.6.6.6;proto=https",
    "x-forwarded-host: evil.test",
    "x-forwarded-scheme: https",
];

/// Fields that lb always drops: backends that turn fields into variables (CGI) take them for others.
const ALIASES: [&str; 12] = [
    "x_forwarded_for: 6.6.6.6",
    "X_Forwarded-For: 6.6.6.6",
    "x-forwarded_proto: https",
    "x_forwarded_host: evil.test",
    "X_REAL_IP: 6.6.6.6",
    "x_request_id: 1",
    "content_length: 3",
    "X.Forwarded.For: 6.6.6.6",
    "x-forwarded!proto: https",
    "X~Real-IP: 6.6.6.6",
    "transfer'encoding: chunked",
    "Proxy: http://evil.test",
];

pub(super) fn attacks() -> Vec<Attack> {
    let one = |field: &&'static str| passes(field, &format!("GET / HTTP/1.1\nhost: a\n{field}\n\n"), "200", PLAIN);
    let mut attacks: Vec<Attack> = CLAIMS.iter().chain(&ALIASES).map(one).collect();
    // Connection names these fields, but backends rely on them.
    for field in [
        "cookie: a=b",
        "authorization: Basic eA==",
        "content-type: text/plain",
        "content-encoding: gzip",
        "origin: http://a",
        "sec-websocket-key: x",
    ] {
        let name = field.split(':').next().unwrap_or_default();
        attacks.push(passes(
            field,
            &format!("GET / HTTP/1.1\nhost: a\nconnection: close, {}\n{field}\n\n", name.to_uppercase()),
            "200 end",
            &format!("GET / HTTP/1.1\nhost: a\n{field}\n{{fwd}}\n"),
        ));
    }
    for (aim, fields) in [
        ("a hop-by-hop field", "connection: x-hop\nx-hop: 1"),
        (
            "all hop-by-hop fields",
            "keep-alive: 1\nproxy-connection: close\nte: trailers\nproxy-authorization: Basic eA==",
        ),
        (
            "Connection names the fields that lb adds",
            "connection: x-forwarded-for, x-forwarded-proto, x-forwarded-host",
        ),
        ("an invalid name in Connection", "connection: (x), \"y\", z z"),
    ] {
        attacks.push(passes(aim, &format!("GET / HTTP/1.1\nhost: a\n{fields}\n\n"), "200", PLAIN));
    }
    for (aim, field) in [
        ("a name with a space", "x y: z"),
        ("a name with a zero byte", "x<NUL>: z"),
        ("a name beyond ASCII", "x<FF>: z"),
        ("a field name in brackets", "(x): z"),
        ("a value with a zero byte", "x: <NUL>"),
        ("a value with a CR", "x: y<CR>z"),
        ("a field after a bare CR", "x: y<CR><CR>host: b"),
    ] {
        attacks.push(refused(aim, &format!("GET / HTTP/1.1\nhost: a\n{field}\n\n"), "400 end"));
    }
    attacks.push(passes(
        "a value beyond ASCII",
        "GET / HTTP/1.1\nhost: a\nx: <FF>\ty\n\n",
        "200",
        "GET / HTTP/1.1\nhost: a\nx: <FF>\ty\n{fwd}\n",
    ));
    attacks.push(refused("101 fields", &format!("GET / HTTP/1.1\nhost: a\n{}\n", "x: y\n".repeat(100)), "431 end"));
    attacks.push(refused(
        "a field of 70,000 bytes",
        &format!("GET / HTTP/1.1\nhost: a\nx: {}\n\n", "y".repeat(70_000)),
        "431 end",
    ));
    attacks
}

#[test]
fn a_backend_gets_the_fields_of_lb_and_not_those_of_the_client() {
    run(attacks());
}

#[test]
fn a_trusted_proxy_may_send_forwarded_fields_but_no_alias() {
    let mut rows: Vec<Attack> = CLAIMS[2..7]
        .iter()
        .map(|field| {
            let (name, value) = field.split_once(": ").unwrap();
            let seen = format!("GET / HTTP/1.1\nhost: a\n{}: {value}\n{{fwd}}\n", name.to_lowercase());
            passes(field, &format!("GET / HTTP/1.1\nhost: a\n{field}\n\n"), "200", &seen)
        })
        .collect();
    rows.push(passes(
        "a client of the proxy names the fields of the proxy in Connection",
        "GET / HTTP/1.1\nhost: a\nconnection: forwarded, x-real-ip\nforwarded: for=1.1.1.1\nx-real-ip: 1.1.1.1\n\n",
        "200",
        "GET / HTTP/1.1\nhost: a\nforwarded: for=1.1.1.1\nx-real-ip: 1.1.1.1\n{fwd}\n",
    ));
    rows.extend(
        ALIASES.iter().map(|field| passes(field, &format!("GET / HTTP/1.1\nhost: a\n{field}\n\n"), "200", PLAIN)),
    );
    run_with(rows, |setup| setup.with(|setup| setup.settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]));
}
