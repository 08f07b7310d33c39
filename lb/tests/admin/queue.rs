//! The queue as operators see it: in `/status`, `/events`, `/explain`, `/metrics` and the commands.

use std::process::Command;

use lb_test_support::{Balancer, Client, backends, finish, get, metrics, mock, wait_until};
use mock_server::{Change, Running};
use serde_json::{Value, json};

use crate::live::Events;

/// No check decides during a test, and requests wait for as long as it takes.
const QUIET: &str = "[health]\ninterval_ms = 86400000\n[proxy]\nworkers = 1\n";
const PATIENT: &str = "[queue]\nwait_ms = 600000\n";
const KEYED: &str = "[strategy]\nname = \"consistent_hash\"\nhash_on = [\"header:x-key\"]\n";

fn start(config: &str, server: &Running) -> Balancer {
    Balancer::start(&format!("{KEYED}{QUIET}{config}{}", backends(&[("b1", server.addr)])))
}

fn stall(server: &Running, is_on: bool) {
    server.change(&Change { stall: Some(is_on), ..Change::default() }).unwrap();
}

/// Sends requests to a server that does not respond: `served` reach it, and `waiting` wait.
fn fill(lb: &Balancer, server: &Running, served: usize, waiting: u64) -> Vec<Client> {
    stall(server, true);
    let mut clients: Vec<_> = (0..served + waiting as usize).map(|_| Client::connect(lb.proxy)).collect();
    let before = queue(lb)["waiting"].as_u64().unwrap();
    let (first, last) = clients.split_at_mut(served);
    first.iter_mut().for_each(|client| client.send(b"GET /home HTTP/1.1\r\nhost: a\r\n\r\n"));
    if served > 0 {
        wait_until("the requests to be at the server", || server.stats().in_progress == served as u64);
    }
    last.iter_mut().for_each(|client| client.send(b"GET /home HTTP/1.1\r\nhost: a\r\n\r\n"));
    wait_until("the others to wait", || queue(lb)["waiting"] == before + waiting);
    clients
}

fn explained(lb: &Balancer, query: &str) -> Value {
    get(lb.admin, &format!("/explain?{query}")).json()
}

/// The queue of the pool `default` in `/status`.
fn queue(lb: &Balancer) -> Value {
    get(lb.admin, "/status").json()["pools"][0]["queue"].clone()
}

/// Stdout of a command.
fn says(lb: &Balancer, command: &[&str]) -> String {
    let mut lb_command = Command::new(env!("CARGO_BIN_EXE_lb"));
    lb_command.args(command).args(["--admin-listen", &lb.admin.to_string()]);
    let output = finish(lb_command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn waiting_requests_are_shown_with_their_number_by_all_views() {
    let server = mock("1");
    let lb = start(&format!("{PATIENT}[limits]\nrequests_in_flight_per_backend = 1\n"), &server);
    assert_eq!((queue(&lb), &explained(&lb, "")["backend"]), (json!({ "waiting": 0 }), &"b1".into()));
    let mut events = Events::open(lb.admin, &[]);
    let mut clients = fill(&lb, &server, 1, 2);
    assert_eq!(queue(&lb), json!({ "waiting": 2 }));
    events.until("the waiting requests", |event| event["pools"][0]["queue"] == json!({ "waiting": 2 }));
    let line = "2 requests wait for a backend with room";
    for command in ["status", "backends"] {
        assert!(says(&lb, &[command]).contains(line), "{}", says(&lb, &[command]));
    }
    assert!(get(lb.admin, "/backends").json().is_array(), "programs get the list as before");
    let answer = explained(&lb, "key=a");
    let wanted = json!({ "cause": "full", "waiting": 2, "at_most_ms": 600_000 });
    assert_eq!((&answer["backend"], &answer["reason"], &answer["wait"]), (&Value::Null, &"overload".into(), &wanted));
    let said = says(&lb, &["explain"]);
    assert!(said.starts_with("a request would wait: no backend that may serve has room; 2 wait now"), "{said}");
    stall(&server, false);
    assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
    assert_eq!((queue(&lb), &explained(&lb, "")["wait"]), (json!({ "waiting": 0 }), &Value::Null));
}

#[test]
fn a_request_without_a_key_waits_behind_others_and_a_full_queue_refuses_it() {
    let server = mock("1");
    // The dry pick does not look at connections, so it finds room.
    let lb = start("[queue]\nlength = 3\nwait_ms = 600000\n[limits]\nconnections_per_backend = 1\n", &server);
    let mut clients = fill(&lb, &server, 1, 2);
    assert_eq!(explained(&lb, "")["wait"]["cause"], "behind");
    assert_eq!(explained(&lb, "key=a")["backend"], "b1", "with a key it may overtake them");
    clients.extend(fill(&lb, &server, 0, 1));
    let answer = explained(&lb, "");
    assert_eq!((&answer["reason"], &answer["wait"]), (&"overload".into(), &Value::Null), "the queue is full");
    assert!(says(&lb, &["explain"]).starts_with("a request would get 503 overload: "));
    stall(&server, false);
    assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
}

#[test]
fn the_adaptive_limit_is_shown_while_it_is_on() {
    let limit =
        |lb: &Balancer| metrics::value(&get(lb.admin, "/metrics").body, "lb_queue_adaptive_limit{pool=\"default\"}");
    let server = mock("1");
    let lb = start(&format!("{PATIENT}adaptive = true\n"), &server);
    assert_eq!((limit(&lb), queue(&lb)), (Some(20.0), json!({ "waiting": 0, "adaptive_limit": 20 })));
    assert_eq!(get(lb.admin, "/status").json()["pools"][0]["safeguards"]["queue"]["length"], 128);
    let mut clients = fill(&lb, &server, 20, 3);
    let answer = explained(&lb, "key=a");
    let wanted = json!({ "cause": "limit", "waiting": 3, "at_most_ms": 600_000 });
    assert_eq!((&answer["backend"], &answer["wait"]), (&Value::Null, &wanted));
    let backends = says(&lb, &["backends"]);
    assert!(
        backends.ends_with("pool default: 3 requests wait for a backend with room, adaptive limit 20\n"),
        "{backends}"
    );
    stall(&server, false);
    assert!(clients.iter_mut().all(|client| client.answer().status() == 200));

    let file = lb.path("lb.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("adaptive = true", "adaptive = false")).unwrap();
    wait_until("the reload", || queue(&lb) == Value::Null);
    wait_until("the workers to follow", || limit(&lb).is_none());
    assert!(!says(&lb, &["status"]).contains("wait for a backend"));
    Events::open(lb.admin, &[]).until("no queue", |event| event["pools"][0]["queue"] == Value::Null);
}

#[test]
fn a_strategy_that_lets_requests_wait_is_shown_as_the_cause() {
    let server = mock("1");
    let central = format!("[strategy]\nname = \"central_queue\"\n{QUIET}{PATIENT}");
    let lb = Balancer::start(&format!("{central}{}", backends(&[("b1", server.addr)])));
    assert_eq!((queue(&lb), &explained(&lb, "")["picked_by"]), (Value::Null, &"strategy".into()));
    stall(&server, true);
    let mut clients: Vec<_> = (0..3).map(|_| Client::connect(lb.proxy)).collect();
    clients[0].send(b"GET /home HTTP/1.1\r\nhost: a\r\n\r\n");
    wait_until("the request to be at the server", || server.stats().in_progress == 1);
    let wanted = |waiting: u64| json!({ "cause": "strategy", "waiting": waiting, "at_most_ms": 600_000 });
    let answer = explained(&lb, "");
    assert_eq!(
        (&answer["backend"], &answer["reason"], &answer["wait"]),
        (&Value::Null, &"overload".into(), &wanted(0))
    );
    clients[1..].iter_mut().for_each(|client| client.send(b"GET /home HTTP/1.1\r\nhost: a\r\n\r\n"));
    wait_until("the others to wait", || queue(&lb) == json!({ "waiting": 2, "held": 1 }));
    assert_eq!(explained(&lb, "")["wait"], wanted(2));
    let said = says(&lb, &["explain"]);
    assert!(said.starts_with("a request would wait: the strategy lets it wait; 2 wait now"), "{said}");
    assert!(says(&lb, &["status"]).contains("2 requests wait until the strategy picks a backend"));
    // Without a queue the fallback picks, also for those that wait.
    let file = lb.path("lb.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("wait_ms = 600000", "length = 0")).unwrap();
    wait_until("the reload", || explained(&lb, "")["picked_by"] == "fallback");
    assert_eq!(explained(&lb, "")["reason"], "no_queue");
    stall(&server, false);
    assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
    wait_until("no request to wait", || queue(&lb) == Value::Null);
}
