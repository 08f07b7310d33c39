//! Start of lb, signals to it, and its end.

use std::process::Command;

use lb_test_support::{Balancer, Reply, backends, command, finish, folder, get, mock, send, wait_for};
use mock_server::{Change, Running};
use rustix::process::{Pid, Signal, kill_process};

const STRATEGY: &str = "[strategy]\nname = \"round_robin\"\n";

#[test]
fn sigterm_and_sigint_stop_lb_cleanly() {
    for signal in ["TERM", "INT"] {
        let server = mock("1");
        let mut balancer = Balancer::start(&(STRATEGY.to_owned() + &backends(&[("b1", server.addr)])));
        assert_eq!(get(balancer.proxy, "/home").status, 200);
        balancer.signal(signal);
        assert_eq!(balancer.end().code(), Some(0), "SIG{signal}: {}", balancer.printed("stderr"));
        assert!(!balancer.path("ready.json").exists(), "lb removes the ready file");
    }
}

#[test]
fn with_exit_with_parent_lb_ends_with_its_parent() {
    let server = mock("1");
    let folder = folder(&(STRATEGY.to_owned() + &backends(&[("b1", server.addr)])));
    let (theirs, ours) = std::io::pipe().unwrap();
    let mut balancer = Balancer::start_reading(theirs, folder, &["--exit-with-parent"]);
    assert_eq!(get(balancer.proxy, "/home").status, 200);
    drop(ours);
    assert_eq!(balancer.end().code(), Some(0), "{}", balancer.printed("stderr"));
    assert!(balancer.printed("stderr").contains("end of stdin"), "{}", balancer.printed("stderr"));
}

#[test]
fn a_request_in_flight_finishes_after_sigterm_while_new_connections_are_refused() {
    let server = mock("1");
    let mut balancer = Balancer::start(&(STRATEGY.to_owned() + &backends(&[("b1", server.addr)])));
    let request = held_request(&balancer, &server);
    // timeout(1) and some supervisors signal the process and then its group: lb gets SIGTERM twice.
    balancer.signal("TERM");
    balancer.signal("TERM");
    wait_for("readyz to return 503", || (get(balancer.admin, "/readyz").status == 503).then_some(()));
    wait_for("the port to close", || std::net::TcpStream::connect(balancer.proxy).is_err().then_some(()));
    assert_eq!(get(balancer.admin, "/healthz").status, 200, "the admin port responds while lb drains");

    server.change(&Change { stall: Some(false), ..Change::default() }).unwrap();
    let answer = request.join().unwrap();
    assert_eq!((answer.status, answer.header("x-server-id")), (200, Some("1")));
    assert_eq!(balancer.end().code(), Some(0), "{}", balancer.printed("stderr"));
}

#[test]
fn a_second_signal_ends_lb_at_once() {
    let server = mock("1");
    let mut balancer = Balancer::start(&(STRATEGY.to_owned() + &backends(&[("b1", server.addr)])));
    let request = held_request(&balancer, &server);
    balancer.signal("TERM");
    wait_for("readyz to return 503", || (get(balancer.admin, "/readyz").status == 503).then_some(()));
    // A signal that comes too soon counts as the first one, so the test sends it until lb ends.
    let status = wait_for("the end of lb", || {
        balancer.signal("INT");
        balancer.ended()
    });
    assert_eq!(status.code(), Some(1));
    assert!(balancer.printed("stderr").lines().last().unwrap().starts_with("lb: ended at once by a second signal"));
    assert!(!balancer.path("ready.json").exists());
    drop(request);
}

/// A request that `server` has received. It responds only when it is no longer stalled.
fn held_request(balancer: &Balancer, server: &Running) -> std::thread::JoinHandle<Reply> {
    server.change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    let proxy = balancer.proxy;
    let request = std::thread::spawn(move || get(proxy, "/home"));
    wait_for("a request in flight", || (get(balancer.admin, "/backends").json()[0]["in_flight"] == 1).then_some(()));
    request
}

#[test]
fn the_start_report_lists_addresses_strategy_backends_and_commands() {
    let server = mock("1");
    let balancer = Balancer::start(&(STRATEGY.to_owned() + &backends(&[("b1", server.addr)])));
    let report = balancer.printed("stdout");
    for part in [
        &format!("http://{}", balancer.proxy),
        &format!("http://{}", balancer.admin),
        "round_robin",
        "1 from the file: b1",
        &format!("curl http://{}/rep", balancer.admin),
        "lb.toml line 2",
        "ready",
    ] {
        assert!(report.contains(part), "{part} is not in\n{report}");
    }
}

#[test]
fn with_json_the_start_report_is_json() {
    let balancer = Balancer::start_with(STRATEGY, &["--json"]);
    let report: serde_json::Value = serde_json::from_str(&balancer.printed("stdout")).unwrap();
    assert_eq!(report["proxy"][0], balancer.proxy.to_string());
    assert_eq!(report["admin"], balancer.admin.to_string());
    assert_eq!(report["status"]["pools"][0]["strategy"], "round_robin");
}

#[test]
fn changes_survive_a_restart_until_a_fresh_start() {
    let server = mock("1");
    let config = STRATEGY.to_owned() + &backends(&[("b1", server.addr)]);
    let home = tempfile::tempdir().unwrap();
    let state = format!("state.dir={:?}", home.path().join("state"));
    let replicas = |balancer: &Balancer| get(balancer.admin, "/rep").json()["message"]["N"].as_u64().unwrap();

    let mut first = Balancer::start_with(&config, &["--set", &state]);
    let attach = format!(r#"{{"backends":[{{"id":"b2","address":"{}"}}]}}"#, server.addr);
    assert_eq!(send(first.admin, "POST", "/add", &[], &attach).status, 200);
    first.signal("TERM");
    assert_eq!(first.end().code(), Some(0));

    let mut second = Balancer::start_with(&config, &["--set", &state]);
    assert_eq!(replicas(&second), 2);
    assert!(second.printed("stdout").contains("1 added"), "{}", second.printed("stdout"));
    second.signal("TERM");
    assert_eq!(second.end().code(), Some(0));

    assert_eq!(replicas(&Balancer::start_with(&config, &["--set", &state, "--fresh"])), 1);
}

#[test]
fn a_second_lb_is_told_of_the_first_and_not_of_its_ports() {
    let home = tempfile::tempdir().unwrap();
    let state = format!("state.dir={:?}", home.path().join("state"));
    let first = Balancer::start_with(STRATEGY, &["--set", &state]);
    let folder = folder(STRATEGY);
    let mut second = Command::new(env!("CARGO_BIN_EXE_lb"));
    let (listen, admin) = (first.proxy.to_string(), first.admin.to_string());
    second.current_dir(folder.path()).args(["--config", "lb.toml", "--set", &state]);
    second.args(["--listen", &listen, "--admin-listen", &admin]);
    let output = finish(second);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("another lb (pid ") && !said.contains("in use by another process"), "{said}");
}

#[test]
fn a_ready_file_that_cannot_be_written_ends_the_start_before_anything_is_launched() {
    let launcher = "[launcher]\nkind = \"process\"\nreplicas = 1\nfirst_port = 0\ncommand = [\"/bin/sh\", \"-c\", \"echo > launched; sleep 60\"]\n";
    let folder = folder(&(STRATEGY.to_owned() + launcher));
    let output = finish(command(&folder, &["--ready-file", "missing/ready.json"]));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!folder.path().join("launched").exists() && output.stdout.is_empty());
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.lines().last().unwrap().starts_with("lb: --ready-file missing/ready.json cannot be written"),
        "{said}"
    );
}

/// No claim: the launcher of the next test runs this test in another process, so that no other program must be built.
#[test]
fn serves_as_a_replica_when_launched() {
    let (Ok(id), Ok(port)) = (std::env::var("REPLICA_ID"), std::env::var("REPLICA_PORT")) else { return };
    let home_id = std::env::var("REPLICA_NUMBER").ok();
    let options = mock_server::Options { id, home_id, port: port.parse().unwrap(), ..mock_server::Options::default() };
    let _server = mock_server::MockServer::start(options).unwrap();
    // lb holds the other end of stdin, which closes when lb ends.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}

/// A `[launcher]` section with `count` replicas of this executable.
fn launcher(count: usize) -> String {
    let executable = std::env::current_exe().unwrap();
    let script = r#"REPLICA_ID="$1" REPLICA_NUMBER="$2" REPLICA_PORT="$3" exec "$0" --exact lifecycle::serves_as_a_replica_when_launched"#;
    format!(
        "[launcher]\nkind = \"process\"\nreplicas = {count}\nfirst_port = 0\ncommand = [\"/bin/sh\", \"-c\", {script:?}, {executable:?}, \"{{name}}\", \"{{n}}\", \"{{port}}\"]\n"
    )
}

#[test]
fn launched_replicas_join_before_lb_is_ready_and_end_with_it() {
    let launcher = launcher(2);
    let mut balancer = Balancer::start(&(STRATEGY.to_owned() + &launcher));
    let ids = || ["/home"; 4].map(|path| get(balancer.proxy, path).header("x-server-id").unwrap().to_owned());
    assert_eq!(ids(), ["Server 1", "Server 2", "Server 1", "Server 2"]);
    assert!(balancer.printed("stdout").contains("ready: all 2 replicas have joined"), "{}", balancer.printed("stdout"));

    let third = send(balancer.admin, "POST", "/add", &[], r#"{"n":1,"hostnames":["S3"]}"#);
    assert_eq!(third.body, r#"{"message":{"N":3,"replicas":["Server 1","Server 2","S3"]},"status":"successful"}"#);
    // A name from the launcher's template becomes its number, as on the course sheet. A name from a user stays as it
    // is.
    let homes: Vec<_> = (0..3).map(|_| get(balancer.proxy, "/home")).collect();
    for (name, number) in [("Server 1", "1"), ("Server 2", "2"), ("S3", "S3")] {
        let home = homes.iter().find(|home| home.header("x-server-id") == Some(name)).unwrap();
        assert_eq!(home.body, format!(r#"{{"message":"Hello from Server: {number}","status":"successful"}}"#));
    }
    // A reload publishes each replica once, whatever the reload changes.
    let config = STRATEGY.to_owned() + &launcher + "[retry]\nattempts = 1\n";
    std::fs::write(balancer.path("lb.toml"), config).unwrap();
    let report = send(balancer.admin, "POST", "/reload", &[], "").json();
    assert_eq!(report["applied"], serde_json::json!(["retry"]), "{report}");
    assert_eq!(get(balancer.admin, "/explain").json()["eligible"], serde_json::json!(["Server 1", "Server 2", "S3"]));
    let addresses: Vec<std::net::SocketAddr> = get(balancer.admin, "/backends")
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["address"].as_str().unwrap().parse().unwrap())
        .collect();
    balancer.signal("TERM");
    assert_eq!(balancer.end().code(), Some(0), "{}", balancer.printed("stderr"));
    for address in addresses {
        assert!(std::net::TcpStream::connect(address).is_err(), "a replica at {address} outlived lb");
    }
}

#[test]
fn a_replica_that_checks_had_set_down_serves_again_after_a_reload_switched_checks_off() {
    let health = "[health]\ninterval_ms = 10\ntimeout_ms = 200\n";
    let balancer = Balancer::start(&(STRATEGY.to_owned() + &launcher(1) + health));
    let replica = || get(balancer.admin, "/backends").json()[0].clone();
    let pid = Pid::from_raw(replica()["pid"].as_i64().unwrap() as i32).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    wait_for("checks to set it down", || (replica()["healthy"] == false).then_some(()));
    let config = STRATEGY.to_owned() + &launcher(1) + "[health]\nenabled = false\n";
    std::fs::write(balancer.path("lb.toml"), config).unwrap();
    let report = send(balancer.admin, "POST", "/reload", &[], "").json();
    assert_eq!(report["applied"], serde_json::json!(["health"]), "{report}");
    assert_eq!(replica()["healthy"], false, "the process is stopped, so it has passed no check yet");
    kill_process(pid, Signal::CONT).unwrap();
    wait_for("it to serve", || (get(balancer.proxy, "/home").status == 200).then_some(()));
}
