//! The access log of a running `lb`: a reload switches it on and off, a signal rotates it, a stop writes the last line.

use std::process::Command;

use lb_test_support::{Balancer, backends, bare_command, command, finish, folder, get, mock, run, send, wait_for};
use serde_json::Value;

fn config(server: std::net::SocketAddr, log: &str) -> String {
    format!("[strategy]\nname = \"round_robin\"\n{}[reload]\nwatch = false\n{log}", backends(&[("b1", server)]))
}

fn lines(balancer: &Balancer, name: &str) -> Vec<Value> {
    balancer.printed(name).lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

fn paths(balancer: &Balancer, name: &str) -> Vec<String> {
    lines(balancer, name).iter().map(|line| line["path"].as_str().unwrap().to_owned()).collect()
}

fn wait_for_lines(balancer: &Balancer, name: &str, count: usize) {
    wait_for(&format!("{count} lines in {name}"), || (balancer.printed(name).lines().count() == count).then_some(()));
}

fn reload(balancer: &Balancer) -> Value {
    let answer = send(balancer.admin, "POST", "/reload", &[], "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

#[test]
fn a_reload_switches_the_log_on_moves_it_and_switches_it_off() {
    let server = mock("1");
    let balancer = Balancer::start(&config(server.addr, ""));
    let write = |log: &str| std::fs::write(balancer.path("lb.toml"), config(server.addr, log)).unwrap();
    get(balancer.proxy, "/home?none");
    write("[access_log]\nenabled = true\npath = \"one.log\"\n");
    let report = reload(&balancer);
    assert_eq!(
        (&report["applied"], &report["needs_restart"]),
        (&serde_json::json!(["access_log"]), &serde_json::json!([]))
    );
    get(balancer.proxy, "/home?one");
    wait_for_lines(&balancer, "one.log", 1);
    write("[access_log]\nenabled = true\npath = \"two.log\"\nquery = false\n");
    assert_eq!(reload(&balancer)["applied"], serde_json::json!(["access_log"]));
    get(balancer.proxy, "/home?two");
    wait_for_lines(&balancer, "two.log", 1);
    // The reload refuses a path that cannot be written, and the running log continues.
    write("[access_log]\nenabled = true\npath = \"none/three.log\"\n");
    let refused = send(balancer.admin, "POST", "/reload", &[], "");
    assert_eq!((refused.status, refused.json()["stage"].as_str()), (422, Some("access_log")), "{}", refused.body);
    get(balancer.proxy, "/home");
    wait_for_lines(&balancer, "two.log", 2);
    let told = || get(balancer.admin, "/status").json()["access_log"].clone();
    let told = wait_for("three lines in the status", || Some(told()).filter(|log| log["written"] == 3));
    assert!(told["path"].as_str().unwrap().ends_with("two.log") && told["dropped"] == 0, "{told}");
    write("");
    assert_eq!(reload(&balancer)["applied"], serde_json::json!(["access_log"]));
    assert_eq!(get(balancer.admin, "/status").json()["access_log"], Value::Null);
    get(balancer.proxy, "/home");
    assert_eq!(paths(&balancer, "one.log"), ["/home?one"]);
    assert_eq!(paths(&balancer, "two.log"), ["/home", "/home"]);
    assert!(lines(&balancer, "two.log")[1]["generation"].as_u64() >= Some(2));
    let metrics = get(balancer.admin, "/metrics").body;
    assert!(metrics.contains("lb_access_log_lines_total 3\n"), "the counter covers all files: {metrics}");
}

#[test]
fn a_signal_or_a_reload_creates_a_file_that_was_moved_away_again() {
    let server = mock("1");
    let balancer = Balancer::start(&config(server.addr, "[access_log]\nenabled = true\npath = \"access.log\"\n"));
    let rotate = |to: &str| std::fs::rename(balancer.path("access.log"), balancer.path(to)).unwrap();
    let is_there = || wait_for("the file", || balancer.path("access.log").exists().then_some(()));
    get(balancer.proxy, "/1");
    wait_for_lines(&balancer, "access.log", 1);
    rotate("access.log.1");
    balancer.signal("USR1");
    is_there();
    get(balancer.proxy, "/2");
    wait_for_lines(&balancer, "access.log", 1);
    rotate("access.log.2");
    assert_eq!(reload(&balancer)["result"], "no_change");
    is_there();
    get(balancer.proxy, "/3");
    wait_for_lines(&balancer, "access.log", 1);
    let found = ["access.log.1", "access.log.2", "access.log"].map(|name| paths(&balancer, name));
    assert_eq!(found, [["/1"], ["/2"], ["/3"]]);
}

#[test]
fn without_an_access_log_the_signal_does_not_stop_lb() {
    let server = mock("1");
    let balancer = Balancer::start(&config(server.addr, ""));
    balancer.signal("USR1");
    wait_for("the log line about the signal", || {
        balancer.printed("stderr").contains("no access log to reopen").then_some(())
    });
    assert_eq!(get(balancer.proxy, "/home").status, 200);
}

#[test]
fn a_stop_writes_all_lines_of_the_access_log() {
    let server = mock("1");
    let mut balancer = Balancer::start(&config(server.addr, "[access_log]\nenabled = true\n"));
    for number in 0..50 {
        assert_eq!(get(balancer.proxy, &format!("/home?{number}")).status, 200);
    }
    balancer.signal("TERM");
    assert_eq!(balancer.end().code(), Some(0));
    let printed = balancer.printed("stdout");
    let logged = printed.lines().filter(|line| line.starts_with('{')).count();
    assert_eq!(logged, 50, "{printed}");
}

#[test]
fn a_reader_that_does_not_read_does_not_delay_the_stop() {
    let server = mock("1");
    let folder = folder(&config(server.addr, "[access_log]\nenabled = true\npath = \"pipe\"\n"));
    assert!(Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap().success());
    let mut balancer = Balancer::start_in(folder, &[]);
    let path = format!("/{}", "x".repeat(500));
    for _ in 0..200 {
        assert_eq!(get(balancer.proxy, &path).status, 404);
    }
    balancer.signal("TERM");
    assert_eq!(balancer.end().code(), Some(0));
    assert!(balancer.printed("stderr").contains("the access log could not be written to its end in time"));
}

#[test]
fn a_path_that_cannot_be_written_is_refused_by_start_and_check() {
    let config = "[strategy]\nname = \"round_robin\"\n[access_log]\nenabled = true\npath = \"none/access.log\"\n";
    let started = run(config, &[]);
    assert_eq!(started.status.code(), Some(2));
    let said = String::from_utf8(started.stderr).unwrap();
    assert!(said.contains("access_log.path") && said.contains("none/access.log cannot be written"), "{said}");
    let folder = folder(config);
    let checked = finish(command(&folder, &["check"]));
    assert_eq!(checked.status.code(), Some(2), "{checked:?}");
    assert!(String::from_utf8(checked.stderr).unwrap().contains("none/access.log cannot be written"));
    let wrong = finish(bare_command(&folder, &["--set", "access_log.sample=2", "check"]));
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("access_log.sample: must be from 0 to 1"));
}
