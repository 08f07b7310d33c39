//! Labels in a running lb: a strategy in Rust and one in C read them, and follow their change by a reload under load.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::bench::{Bench, compiled_from, filed, named};

/// Rust by its name, and C by its file.
fn own_zone() -> [(&'static str, String, Vec<u8>); 2] {
    let c = compiled_from("examples/own_zone.c", &[]);
    [("Rust", named("own_zone"), Vec::new()), ("C", filed("c.so") + "name = \"own_zone\"\n", c)]
}

/// A strategy that prefers zone a, and servers with these labels.
fn config(bench: &Bench, strategy: &str, labels: [&str; 3]) -> String {
    let servers = bench.servers.iter().zip(["b1", "b2", "b3"]).zip(labels);
    let entry = |((server, id), labels): ((&mock_server::Running, &str), &str)| {
        format!("[[backends]]\nid = \"{id}\"\naddress = \"{}\"\nlabels = {{ {labels} }}\n", server.addr)
    };
    let options = "[strategy.config.own_zone]\nzone = \"a\"\n";
    let health = "[health]\ninterval_ms = 86400000\n";
    format!("{strategy}{options}{health}{}", servers.map(entry).collect::<String>())
}

/// The servers that respond to 60 requests.
fn servers(bench: &Bench) -> Vec<String> {
    (0..60).map(|_| bench.server()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn members_epoch(bench: &Bench) -> Value {
    bench.status()["pools"][0]["members_epoch"].clone()
}

fn write(bench: &Bench, text: &str) {
    std::fs::write(bench.lb.path("lb.toml"), text).unwrap();
}

#[test]
fn strategies_in_rust_and_in_c_follow_a_change_of_labels_without_a_lost_request() {
    for (language, strategy, library) in own_zone() {
        let bench = Bench::start_with(&named("round_robin"), &[("c.so", &library)]);
        write(&bench, &config(&bench, &strategy, ["", "zone = 'b'", "zone = 'c'"]));
        bench.reloaded();
        assert_eq!(servers(&bench), ["1", "2", "3"], "{language}: no server is in zone a");
        let before = bench.seen();
        let sent = bench.under_load(4, |more| {
            for labels in [["zone = 'a'", "", ""], ["", "zone = 'a', n = 1", "zone = 'a'"], ["zone = 'a'", "", ""]] {
                let old = members_epoch(&bench);
                write(&bench, &config(&bench, &strategy, labels));
                let report = bench.reloaded();
                assert_eq!(
                    (&report["result"], &report["applied"][0]),
                    (&"done".into(), &"backends".into()),
                    "{report}"
                );
                assert_ne!(members_epoch(&bench), old, "{language}");
                more();
            }
        });
        assert_eq!(bench.seen() - before, sent, "{language}: every request had one attempt");
        assert_eq!(servers(&bench), ["1"], "{language}");
        write(&bench, &config(&bench, &strategy, ["", "zone = 'a', n = 1", "zone = 'a'"]));
        bench.reloaded();
        let epoch = members_epoch(&bench);
        assert_eq!(servers(&bench), ["2", "3"], "{language}");
        bench.reloaded();
        assert_eq!(members_epoch(&bench), epoch, "{language}: the labels are the same");
        assert_eq!(bench.status()["pools"][0]["strategy"], "own_zone");
    }
}

#[test]
fn wrong_labels_are_refused_in_one_line_and_the_old_ones_stay() {
    let [(_, strategy, _), _] = own_zone();
    let bench = Bench::start(&named("round_robin"));
    write(&bench, &config(&bench, &strategy, ["zone = 'a'", "", ""]));
    bench.reloaded();
    for (labels, wanted) in [
        ("'my zone' = 'a'", "lb.toml:10:12: backends[0].labels.\"my zone\": a label's key has letters, digits"),
        ("zone = 1.5", "lb.toml:10:12: backends[0].labels.zone: a label is a whole number, a text, true or false"),
    ] {
        write(&bench, &config(&bench, &strategy, [labels, "", ""]));
        let answer = bench.reload();
        assert!(answer.status == 422 && answer.body.contains(&wanted.replace('"', "\\\"")), "{answer:?}");
        assert_eq!(servers(&bench), ["1"], "the old labels stay");
    }
}
