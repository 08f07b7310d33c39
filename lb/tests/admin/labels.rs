//! Labels over sockets and on the command line: where they are shown, and how wrong ones are refused.

use lb_test_support::{Balancer, bare_command, finish, folder, get, mock, send};
use serde_json::{Value, json};

use std::process::Command;

const QUIET: &str = "[health]\ninterval_ms = 86400000\n";

/// lb with one backend in the pool `default` and one in the pool `api`, both with labels.
fn start(address: &str) -> Balancer {
    let backend = |pool: &str, id: &str, labels: &str| {
        format!("[[{pool}backends]]\nid = \"{id}\"\naddress = \"{address}\"\nlabels = {{ {labels} }}\n")
    };
    let [one, other] = [backend("", "b1", "zone = \"a\", n = 1"), backend("pools.api.", "api1", "spot = true")];
    Balancer::start(&format!("{QUIET}{one}{other}"))
}

fn add(lb: &Balancer, labels: &Value, address: &str) -> lb_test_support::Reply {
    let body = json!({ "backends": [{ "id": "a1", "address": address, "labels": labels }] });
    send(lb.admin, "POST", "/add", &[], &body.to_string())
}

fn labels_of(lb: &Balancer) -> Vec<(String, Value)> {
    let listed = get(lb.admin, "/backends").json();
    let one = |backend: &Value| (backend["id"].as_str().unwrap().to_owned(), backend["labels"].clone());
    listed.as_array().unwrap().iter().map(one).collect()
}

#[test]
fn labels_are_shown_by_the_admin_port_the_command_line_and_the_metrics() {
    let server = mock("b1");
    let address = server.addr.to_string();
    let lb = start(&address);
    assert_eq!(add(&lb, &json!({ "zone": "b \"x\"" }), &address).status, 200);
    assert_eq!(add_without(&lb, "a2", &address).status, 200);
    let wanted = [
        ("b1", json!({ "n": 1, "zone": "a" })),
        ("a1", json!({ "zone": "b \"x\"" })),
        ("a2", json!({})),
        ("api1", json!({ "spot": true })),
    ];
    assert_eq!(labels_of(&lb), wanted.map(|(id, labels)| (id.to_owned(), labels)));
    let status = get(lb.admin, "/status").json();
    assert_eq!(status["pools"][1]["backends"][0]["labels"], json!({ "spot": true }));
    let metrics = get(lb.admin, "/metrics").body;
    for series in [
        format!(r#"backend="b1",address="{address}",origin="file",labels="{{\"n\":1,\"zone\":\"a\"}}"#),
        format!(r#"backend="a1",address="{address}",origin="attached",labels="{{\"zone\":\"b \\\"x\\\"\"}}"#),
        format!(r#"backend="a2",address="{address}",origin="attached",labels=""#),
    ] {
        let line = format!("lb_backend_info{{pool=\"default\",{series}\"}} 1\n");
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
    let shown = backends(&lb, &["--labels"]);
    let row = |id: &str| shown.lines().find(|line| line.contains(id)).unwrap_or_else(|| panic!("no {id} in {shown}"));
    assert!(row("b1").ends_with("  n=1 zone=a") && row("a1").ends_with(r#"  zone="b \"x\"""#), "{shown}");
    assert!(row("a2").ends_with("  0") && row("api1").ends_with("  spot=true"), "{shown}");
    assert!(!backends(&lb, &[]).contains("zone"), "only if asked for");
}

#[test]
fn wrong_labels_of_an_attached_server_are_refused_in_one_sentence() {
    let server = mock("b1");
    let address = server.addr.to_string();
    let lb = start(&address);
    let many: serde_json::Map<String, Value> = (0..65).map(|n| (format!("k{n}"), n.into())).collect();
    for (labels, wanted) in [
        (json!({ "a b": 1 }), "labels.\"a b\": a label's key has letters"),
        (json!({ "zone": 1.5 }), "labels.\"zone\": a label is a whole number"),
        (json!({ "zone": 1.0 }), "write 1.0 with quotes"),
        (json!({ "zone": ["a"] }), "not a list"),
        (json!("zone"), "labels must be an object, not a string"),
        (json!({ "k": "x".repeat(4096) }), "at most 4096 bytes as JSON, these 4104"),
        (many.into(), "at most 64 labels, this one 65"),
    ] {
        let reply = add(&lb, &labels, &address);
        let said = reply.json()["message"].as_str().unwrap().to_owned();
        assert_eq!(reply.status, 400, "{said}");
        assert!(said.contains("backends[0].labels") && said.contains(wanted), "{said}");
    }
    let body = format!(r#"{{"backends":[{{"id":"a2","address":"{address}","labels":{{"zone":"a","zone":"b"}}}}]}}"#);
    let twice = send(lb.admin, "POST", "/add", &[], &body);
    assert_eq!(twice.status, 400, "{}", twice.body);
    assert!(twice.body.contains("key \\\"zone\\\" is set twice"), "{}", twice.body);
    assert_eq!(labels_of(&lb).len(), 2);
}

#[test]
fn lb_check_names_the_place_of_each_wrong_label_and_of_a_mistyped_key() {
    let text = "[[backends]]\nid = \"a\"\naddress = \"127.0.0.1:1\"\nlabels = { \"a b\" = 1, c = [], d = 1 }\n\
                [[backends]]\nid = \"b\"\naddress = \"127.0.0.1:1\"\nlabel = { zone = \"a\" }\n\
                [launcher]\nlabels = { zone = 1.5 }\n";
    let folder = folder(text);
    let output = finish(bare_command(&folder, &["check"]));
    let said = String::from_utf8(output.stderr).unwrap();
    for line in [
        "lb.toml:4:12: backends[0].labels.\"a b\": a label's key has letters, digits, _ . and -",
        "lb.toml:4:23: backends[0].labels.c: a label is a text, a whole number, true or false, not an array",
        "lb.toml:8:1: backends[1].label: unknown key `label`; did you mean `labels`?",
        "lb.toml:10:12: launcher.labels.zone: a label is a whole number",
    ] {
        assert!(said.contains(line), "{line} is not in {said}");
    }
    assert_eq!(output.status.code(), Some(2), "{said}");
}

fn add_without(lb: &Balancer, id: &str, address: &str) -> lb_test_support::Reply {
    let body = json!({ "backends": [{ "id": id, "address": address }] });
    send(lb.admin, "POST", "/add", &[], &body.to_string())
}

/// The output of `lb backends`.
fn backends(lb: &Balancer, flags: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    command
        .env_clear()
        .args(["--config", "none.toml", "--admin-listen", &lb.admin.to_string(), "backends"])
        .args(flags);
    let output = finish(command);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
