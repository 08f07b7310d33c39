//! The reader of the log may be a full disk, may be gone, or may not read: lb still serves and stops normally.

use std::io::Read;
use std::process::Stdio;

use lb_test_support::{Balancer, bare_command, folder, get, send, wait_for};

const STRATEGY: &str = "[strategy]\nname = \"round_robin\"\n";

/// Makes lb log more lines than a pipe and the queue before it hold.
fn fill_the_log(balancer: &Balancer) {
    let path = format!("/{}", "x".repeat(6000));
    for _ in 0..250 {
        assert!(send(balancer.admin, "POST", &path, &[], "").status >= 400);
    }
}

fn serves_and_ends(stderr: impl Into<Stdio>) {
    let mut balancer = Balancer::start_logging_to(stderr, folder(STRATEGY), &[]);
    fill_the_log(&balancer);
    assert_eq!(get(balancer.admin, "/healthz").status, 200);
    assert_eq!(get(balancer.proxy, "/home").status, 503, "there is no backend");
    balancer.signal("TERM");
    assert_eq!(balancer.end().code(), Some(0));
}

#[test]
fn a_full_disk_does_not_disturb_lb() {
    serves_and_ends(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
}

#[test]
fn a_closed_reader_of_the_log_does_not_disturb_lb() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    serves_and_ends(writer);
}

#[test]
fn a_reader_of_the_log_that_does_not_read_does_not_disturb_lb() {
    let (reader, writer) = std::io::pipe().unwrap();
    serves_and_ends(writer);
    drop(reader);
}

#[test]
fn a_reader_that_reads_late_gets_the_number_of_dropped_lines_and_the_last_line() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut balancer = Balancer::start_logging_to(writer, folder(STRATEGY), &[]);
    fill_the_log(&balancer);
    let read = std::thread::spawn(move || {
        let mut said = String::new();
        reader.read_to_string(&mut said).map(|_| said)
    });
    balancer.signal("TERM");
    assert_eq!(balancer.end().code(), Some(0));
    let said = read.join().unwrap().unwrap();
    assert!(said.contains(" lines of the log were dropped here"));
    assert!(said.lines().last().unwrap().ends_with("stopped"), "{:?}", said.lines().last());
}

#[test]
fn a_closed_stdout_does_not_disturb_lb() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let folder = folder(STRATEGY);
    let mut command = bare_command(
        &folder,
        &["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ready-file", "ready.json"],
    );
    let mut child = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the ready file", || folder.path().join("ready.json").exists().then_some(()));
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(wait_for("the end of lb", || child.try_wait().unwrap()).code(), Some(0));
}
