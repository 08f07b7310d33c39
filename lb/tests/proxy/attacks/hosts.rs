//! Hosts: a request must have exactly one valid host.

use super::{Attack, passes, refused, run};

pub(super) fn attacks() -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (aim, host) in [
        ("a port", "a:8080"),
        ("a port that is empty", "a:"),
        ("an address of IPv6", "[::1]:80"),
        ("a dot at the end", "a.test."),
        ("capitals", "A.Test"),
        ("a comma, as names may have", "a,b"),
        ("an encoded slash in the host", "a%2fb"),
    ] {
        let seen = format!(
            "GET / HTTP/1.1\nhost: {host}\nx-forwarded-for: 127.0.0.1\nx-forwarded-proto: http\nx-forwarded-host: {host}\n\n"
        );
        attacks.push(passes(aim, &format!("GET / HTTP/1.1\nhost: {host}\n\n"), "200", &seen));
    }
    for (aim, fields) in [
        ("no host", "x: y"),
        ("two hosts", "host: a\nhost: b"),
        ("the same host twice", "host: a\nHost: a"),
        ("two hosts with a space", "host: a b"),
        ("a host and a path", "host: a/b"),
        ("a host after a name", "host: u@a"),
        ("a host after a name and password", "host: u:p@a"),
        ("a whole address", "host: http://a"),
        ("a port that is no number", "host: a:80x"),
        ("a port and a host", "host: a:80.evil.test"),
        ("two ports", "host: a:80:81"),
        ("an address of IPv6 without brackets", "host: ::1"),
        ("half a bracket", "host: [::1"),
        ("text after a bracket", "host: [::1]evil.test"),
        ("a bracket inside", "host: a[::1]"),
        ("a name in brackets", "host: [evil.test]"),
        ("a question mark", "host: a?b"),
        ("a hash", "host: a#b"),
        ("a backslash in the host", "host: a\\b"),
        ("a zero byte in the host", "host: a<NUL>"),
        ("a byte beyond ASCII", "host: a<FF>"),
        ("a host on a folded line", "host: a\n b"),
        ("a space after the name", "host : a"),
        ("a space before the name", " host: a"),
        ("a tab inside", "host: a\tb"),
    ] {
        attacks.push(refused(aim, &format!("GET / HTTP/1.1\n{fields}\n\n"), "400 end"));
    }
    // The host of the absolute form becomes Host.
    for (aim, authority) in [
        ("a name for a port in the absolute form", "a:b"),
        ("a port and a host in the absolute form", "a:80.evil.test"),
        ("a port and more in the absolute form", "a:80,b"),
        ("an address of IPv6 and more in the absolute form", "[::1,b]"),
        ("a name in brackets in the absolute form", "[evil.test]"),
        ("half a bracket in the absolute form", "[u@a]"),
    ] {
        attacks.push(refused(aim, &format!("GET http://{authority}/ HTTP/1.1\nhost: a\n\n"), "400 end"));
    }
    attacks.extend([
        passes(
            "a host that Connection names",
            "GET / HTTP/1.1\nhost: a\nconnection: host\n\n",
            "200",
            "GET / HTTP/1.1\nhost: a\n{fwd}\n",
        ),
        passes(
            "a forwarded host of the client's own",
            "GET / HTTP/1.1\nhost: a\nx-forwarded-host: evil.test\n\n",
            "200",
            "GET / HTTP/1.1\nhost: a\n{fwd}\n",
        ),
        refused("two hosts with the absolute form", "GET http://a/ HTTP/1.1\nhost: a\nhost: b\n\n", "400 end"),
    ]);
    attacks
}

#[test]
fn a_backend_gets_exactly_one_host() {
    run(attacks());
}
