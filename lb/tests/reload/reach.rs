//! Addresses that a reload refuses as backends: addresses of lb itself, and link-local addresses.
//!
//! Why in addition to the tests of a start: a running lb knows its real port for a port of 0 in the file. It may have
//! added listeners and attached backends. Invariant: a refused reload changes nothing.

use std::net::SocketAddr;

use lb_test_support::{Balancer, folder, get, mock};
use serde_json::json;

use crate::bench::{Bench, fingerprint, named, post};

const ANY_PORT: &str = "[proxy]\nlisten = [\"127.0.0.1:0\"]\n";

/// Spellings of `address` that reach lb, if lb listens there.
fn spellings(address: SocketAddr) -> impl Iterator<Item = String> {
    let hosts = ["127.0.0.1", "127.0.0.2", "0.0.0.0", "[::ffff:127.0.0.1]", "[::1]", "localhost"];
    hosts.into_iter().map(move |host| format!("{host}:{}", address.port()))
}

fn backend(address: &str) -> String {
    format!("[[backends]]\nid = \"bad\"\naddress = {address:?}\n")
}

/// Three servers, and a file whose `listen` has port 0: only the running lb knows its own address.
fn start() -> Bench {
    let strategy = format!("{ANY_PORT}{}", named("round_robin"));
    let unwatched = "[reload]\nwatch = false\n";
    Bench::start_by(unwatched, &strategy, |text| Balancer::start_where_the_file_says(folder(text)))
}

/// Reloads this file. lb must refuse it at stage config with these words, and change nothing.
#[track_caller]
fn refused(bench: &Bench, text: &str, says: &[&str]) {
    let before = fingerprint(bench);
    bench.write(text);
    let answer = bench.reload();
    let body = answer.json();
    assert_eq!((answer.status, &body["stage"]), (422, &"config".into()), "{text}: {}", answer.body);
    let reason = body["reason"].as_str().unwrap();
    assert!(says.iter().all(|says| reason.contains(says)), "{text}: {reason}");
    assert_eq!(fingerprint(bench), before, "the running state is unchanged");
    bench.server();
}

#[test]
fn a_file_with_an_address_of_lb_as_backend_is_refused_in_every_spelling() {
    let bench = start();
    for (key, listens) in [("proxy.listen", bench.lb.proxy), ("admin.listen", bench.lb.admin)] {
        for address in spellings(listens) {
            let says = ["where lb itself listens", key, "\"bad\""];
            refused(&bench, &format!("{ANY_PORT}{}{}", named("round_robin"), backend(&address)), &says);
            let pool = format!(
                "[pools.other.strategy]\nname = \"round_robin\"\n[[pools.other.backends]]\nid = \"bad\"\naddress = {address:?}\n"
            );
            refused(&bench, &format!("{ANY_PORT}{}{pool}", named("round_robin")), &says);
        }
    }
}

#[test]
fn checks_that_would_go_to_lb_are_refused_in_a_file_and_for_an_attached_backend() {
    let bench = start();
    let lb = Balancer::start_in(folder(&named("round_robin")), &["--set", "reload.watch=false"]);
    let ports = |lb: &Balancer| [("proxy.listen", lb.proxy.port()), ("admin.listen", lb.admin.port())];
    for (key, port) in ports(&bench.lb) {
        let pool = format!(
            "[pools.other.health]\nport = {port}\n[[pools.other.backends]]\nid = \"bad\"\naddress = \"127.0.0.2:1\"\n"
        );
        let says = ["health.port", "where lb itself listens", key, "\"bad\""];
        refused(&bench, &format!("{ANY_PORT}{}{pool}", named("round_robin")), &says);
    }
    for (_, port) in ports(&lb) {
        std::fs::write(lb.path("lb.toml"), format!("{}[health]\nport = {port}\n", named("round_robin"))).unwrap();
        assert_eq!(post(lb.admin, "/reload", "").status, 200, "no backend is checked at this port");
        let answer = post(lb.admin, "/add", r#"{"backends":[{"id":"bad","address":"127.0.0.2:1"}]}"#);
        assert!(answer.status == 400 && answer.body.contains("health.port"), "{}", answer.body);
    }
}

#[test]
fn lb_does_not_listen_on_the_address_of_a_backend() {
    let bench = start();
    let server = mock("4");
    let add = format!(r#"{{"backends":[{{"id":"attached","address":"{}"}}]}}"#, server.addr);
    assert_eq!(post(bench.lb.admin, "/add", &add).status, 200);
    // The first backend is in the file, and the error names its line. The second was attached. The port is free on
    // 127.0.0.2.
    for (taken, says) in [(bench.servers[0].addr, "lb.toml:"), (server.addr, "\"attached\"")] {
        let listen = format!("[proxy]\nlisten = [\"127.0.0.1:0\", \"127.0.0.2:{}\"]\n", taken.port());
        refused(&bench, &format!("{listen}{}", named("round_robin")), &["where lb itself listens", says]);
    }
}

#[test]
fn a_link_local_address_in_a_file_is_accepted_only_with_the_option() {
    // Without health checks, the test sends nothing to such an address.
    let text =
        |leave: &str, more: &str| format!("[proxy]\n{leave}{}[health]\nenabled = false\n{more}", named("round_robin"));
    let leave = "allow_link_local = true\n";
    let lb = Balancer::start_in(folder(&text("", "")), &["--set", "reload.watch=false"]);
    let reload = |text: &str| {
        std::fs::write(lb.path("lb.toml"), text).unwrap();
        let answer = post(lb.admin, "/reload", "");
        (answer.status, answer.body)
    };
    let ids = || get(lb.admin, "/rep").json()["message"]["replicas"].clone();
    for address in ["169.254.169.254:80", "[fe80::1]:80", "[::ffff:169.254.169.254]:80"] {
        let (status, said) = reload(&text("", &backend(address)));
        assert_eq!(status, 422, "{address}: {said}");
        assert!(said.contains("lb.toml:") && said.contains("proxy.allow_link_local"), "{said}");
        assert_eq!(ids(), json!([]));
        assert_eq!((reload(&text(leave, &backend(address))).0, ids()), (200, json!(["bad"])));
        assert_eq!((reload(&text("", "")).0, ids()), (200, json!([])));
    }
    // The option is removed while an attached backend needs it.
    assert_eq!(reload(&text(leave, "")).0, 200);
    let add = r#"{"backends":[{"id":"metadata","address":"169.254.169.254:80"}]}"#;
    assert_eq!(post(lb.admin, "/add", add).status, 200);
    let (status, said) = reload(&text("", ""));
    assert!(status == 422 && said.contains("metadata") && said.contains("proxy.allow_link_local"), "{said}");
    assert_eq!(ids(), json!(["metadata"]));
}
