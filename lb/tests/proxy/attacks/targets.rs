//! Targets and methods: the path that a backend gets, and targets that lb refuses because servers read them
//! differently.

use super::{Attack, passes, refused, run, run_with};
use lb::config::{HostMatch, Route};
use lb_test_support::mock;

use crate::support::{PoolSetup, Setup, backend};

pub(super) fn attacks() -> Vec<Attack> {
    let mut attacks = Vec::new();
    // Passes byte for byte, independent of the normal form.
    for (aim, target) in [
        ("a path that looks like a host", "//evil.test/x"),
        ("dots", "/x/../b"),
        ("encoded dots", "/x/%2e%2E/b"),
        ("dots above the root", "/../b"),
        ("dots encoded twice", "/x/%252e%252e/b"),
        ("an encoded slash", "/x%2fb"),
        ("a backslash", "/x\\b"),
        ("a parameter", "/x;p=1/b"),
        ("a triplet in the query that no path may have", "/x?%zz&%00&/../"),
        ("a colon in the first segment", "/http://b.test/"),
        ("a bare question mark", "/x?"),
        ("brackets and quotes", "/x\"{}|"),
    ] {
        let seen = format!("GET {target} HTTP/1.1\nhost: a\n{{fwd}}\n");
        attacks.push(passes(aim, &format!("GET {target} HTTP/1.1\nhost: a\n\n"), "200", &seen));
    }
    for (aim, line) in [
        ("a percent sign alone", "GET /100% HTTP/1.1"),
        ("half a triplet", "GET /%2 HTTP/1.1"),
        ("an invalid triplet", "GET /%zz HTTP/1.1"),
        ("a zero byte in the path", "GET /x%00.png HTTP/1.1"),
        ("dots after an encoded slash", "GET /x%2f../b HTTP/1.1"),
        ("dots before an encoded slash", "GET /x/..%2fb HTTP/1.1"),
        ("encoded dots before an encoded slash", "GET /x/%2e%2e%2Fb HTTP/1.1"),
        ("dots before a backslash", "GET /x/..\\b HTTP/1.1"),
        ("dots before an encoded backslash", "GET /x/..%5cb HTTP/1.1"),
        ("dots before a parameter", "GET /x/..;/b HTTP/1.1"),
        ("a path without a slash", "GET home HTTP/1.1"),
        ("a path that begins with a dot", "GET ../b HTTP/1.1"),
        ("a host and port", "GET a:80 HTTP/1.1"),
        ("a star without OPTIONS", "GET * HTTP/1.1"),
        ("a space in the path", "GET /x y HTTP/1.1"),
        ("no version", "GET /"),
        ("a version of two digits", "GET / HTTP/1.10"),
        ("a version in small letters", "GET / http/1.1"),
        ("a tab for a space", "GET\t/ HTTP/1.1"),
        ("two spaces", "GET  / HTTP/1.1"),
        ("a zero byte in the method", "G<NUL>T / HTTP/1.1"),
        ("a zero byte in the target", "GET /<NUL> HTTP/1.1"),
        ("a CR in the target", "GET /<CR>x HTTP/1.1"),
        ("a method with a colon", "GET: / HTTP/1.1"),
        ("no method", "/ HTTP/1.1"),
    ] {
        attacks.push(refused(aim, &format!("{line}\nhost: a\n\n"), "400 end"));
    }
    for (aim, line, answers) in [
        ("CONNECT", "CONNECT a:443 HTTP/1.1", "501 end"),
        ("CONNECT to a path", "CONNECT /x HTTP/1.1", "501 end"),
        ("HTTP/2 as a version", "GET / HTTP/2.0", "505 end"),
        ("HTTP/1.2", "GET / HTTP/1.2", "505 end"),
        ("HTTP/0.9 with its version", "GET / HTTP/0.9", "505 end"),
    ] {
        attacks.push(refused(aim, &format!("{line}\nhost: a\n\n"), answers));
    }
    for (aim, method) in [("TRACE", "TRACE"), ("trace in small letters", "trace")] {
        attacks.push(refused(aim, &format!("{method} / HTTP/1.1\nhost: a\n\n"), "405 end"));
    }
    attacks.push(refused(
        "a target of 70,000 bytes",
        &format!("GET /{} HTTP/1.1\nhost: a\n\n", "x".repeat(70_000)),
        "414 end",
    ));
    attacks.extend([
        passes(
            "the host of the absolute form has precedence over Host",
            "GET http://b/p?q HTTP/1.1\nhost: a\n\n",
            "200",
            "GET /p?q HTTP/1.1\nhost: b\nx-forwarded-for: 127.0.0.1\nx-forwarded-proto: http\nx-forwarded-host: b\n\n",
        ),
        passes(
            "a name and password in the absolute form are dropped",
            "GET http://u:p@a/ HTTP/1.1\nhost: b\n\n",
            "200",
            "GET / HTTP/1.1\nhost: a\n{fwd}\n",
        ),
        passes("a fragment is dropped", "GET /x#y HTTP/1.1\nhost: a\n\n", "200", "GET /x HTTP/1.1\nhost: a\n{fwd}\n"),
        passes("a star for OPTIONS", "OPTIONS * HTTP/1.1\nhost: a\n\n", "200", "OPTIONS * HTTP/1.1\nhost: a\n{fwd}\n"),
        passes("an unknown method", "PURGE /x HTTP/1.1\nhost: a\n\n", "200", "PURGE /x HTTP/1.1\nhost: a\n{fwd}\n"),
    ]);
    attacks
}

#[test]
fn a_target_passes_unchanged_or_is_refused() {
    run(attacks());
}

#[test]
fn trace_passes_if_it_is_allowed() {
    let trace = passes("TRACE", "TRACE / HTTP/1.1\nhost: a\n\n", "200", "TRACE / HTTP/1.1\nhost: a\n{fwd}\n");
    run_with(vec![trace], |setup| setup.with(|setup| setup.settings.allow_trace = true));
}

#[test]
fn a_refused_trace_is_counted_and_its_response_lists_allowed_methods() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let answer = lb.client().ask("TRACE", "/home", &[]);
    answer.is_own(405, "method_not_allowed");
    assert_eq!(answer.field("allow").as_deref(), Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    lb.comes_to_rest();
    assert_eq!((lb.errors("method_not_allowed"), lb.ended_with(405), server.stats().requests), (1, 1, 0));
}

#[test]
fn no_spelling_of_a_path_or_host_avoids_its_route() {
    let servers = ["default", "api", "host"].map(mock);
    let backends = |index: usize| vec![backend("b1", servers[index].addr)];
    let pool = |name: &'static str, index| PoolSetup::new(name, "round_robin", backends(index));
    let lb = Setup::of(&[&servers[0]])
        .with(|setup| {
            setup.pools.extend([pool("api", 1), pool("host", 2)]);
            setup.routes = vec![
                Route { host: HostMatch::Exact("h.test".into()), path_prefix: "/".into(), pool: 2, policy: 2 },
                Route { host: HostMatch::Any, path_prefix: "/api/v1".into(), pool: 1, policy: 1 },
            ];
        })
        .start();
    let mut client = lb.client();
    for (host, path, pool) in [
        ("a", "/api/v1", "api"),
        ("a", "//api/v1", "api"),
        ("a", "/api//v1/x", "api"),
        ("a", "/%61pi/v1", "api"),
        ("a", "/api/%76%31", "api"),
        ("a", "/./api/v1", "api"),
        ("a", "/api/./v1", "api"),
        ("a", "/x/../api/v1", "api"),
        ("a", "/x/%2e%2e/api/v1", "api"),
        ("a", "/x//../api/v1", "api"),
        ("a", "/../api/v1", "api"),
        ("a", "/api/v1/../v1", "api"),
        ("a", "/api/v1/..", "default"),
        ("a", "/api/v1/../../x", "default"),
        ("a", "/api/v1%2fx", "default"),
        ("a", "/api/v%31x", "default"),
        ("h.test", "/x", "host"),
        ("H.TEST", "/x", "host"),
        ("h.test.", "/x", "host"),
        ("h.test.:80", "/x", "host"),
        ("xh.test", "/x", "default"),
    ] {
        client.send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes());
        assert_eq!(client.answer().field("x-server-id").as_deref(), Some(pool), "{host} {path}");
    }
    lb.comes_to_rest();
}
