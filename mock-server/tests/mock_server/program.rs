//! The program: its ready line, its exit codes, its ends.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use lb_test_support::{Client, wait_until};

use crate::client::{get, send_get_for};

/// The program under test; killed when a test fails half-way.
struct Program {
    child: Child,
    addr: SocketAddr,
    stdin: Option<ChildStdin>,
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mock-server"));
    // Nothing of the environment the tests run in may reach it.
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(arguments: &[&str]) -> Output {
    command().args(arguments).output().expect("it runs")
}

// === impl Program ===

impl Program {
    /// Starts it and reads the ready line.
    fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
        let addr = line.trim_end().strip_prefix("listening on ").expect("the ready line");
        let addr = addr.parse().expect("an address");
        Self { stdin: child.stdin.take(), child, addr }
    }

    fn terminate(&self) {
        let id = i32::try_from(self.child.id()).expect("an id");
        kill_process(Pid::from_raw(id).expect("an id"), Signal::TERM).expect("a signal");
    }

    fn end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the program ends", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        status.expect("a status")
    }

    fn stderr(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut text).expect("text");
        text
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_ready_line_names_the_port_and_server_id_names_the_server() {
    let program = Program::start(command().args(["--port", "0"]).env("SERVER_ID", "7"));
    assert_ne!(program.addr.port(), 0);
    let answer = get(program.addr, "/home");
    assert_eq!(answer.text(), r#"{"message":"Hello from Server: 7","status":"successful"}"#);
    assert_eq!(answer.header("x-server-id"), Some("7"));
}

#[test]
fn options_come_from_the_environment_and_the_command_line_wins() {
    let environment = [("MOCK_SERVER_PORT", "0"), ("MOCK_SERVER_SEED", "5"), ("MOCK_SERVER_QUEUE", "9")];
    let program = Program::start(command().arg("--seed=6").envs(environment));
    let stats: mock_server::Stats = serde_json::from_slice(&get(program.addr, "/stats").body).expect("stats");
    assert_eq!((stats.seed, stats.queue), (6, 9));
}

#[test]
fn the_ready_file_holds_the_address() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ready");
    let program = Program::start(command().args(["--port", "0", "--ready-file"]).arg(&file));
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), format!("{}\n", program.addr));
}

#[test]
fn it_ends_when_its_parent_closes_the_pipe() {
    let mut program = Program::start(command().args(["--port", "0", "--exit-with-parent"]));
    assert_eq!(get(program.addr, "/home").status(), 200);
    drop(program.stdin.take());
    assert_eq!(program.end().code(), Some(0));
}

#[test]
fn without_exit_with_parent_a_closed_pipe_means_nothing() {
    let mut program = Program::start(command().args(["--port", "0"]));
    drop(program.stdin.take());
    assert_eq!(get(program.addr, "/home").status(), 200);
    assert!(program.child.try_wait().expect("a child").is_none());
}

#[test]
fn sigterm_finishes_what_is_in_progress_and_exits_0() {
    let mut program = Program::start(command().args(["--port", "0", "--seed", "3"]));
    let mut client = Client::connect(program.addr);
    send_get_for(&mut client, Duration::from_millis(200));
    wait_until("in service", || get(program.addr, "/stats").text().contains(r#""in_service":1"#));
    program.terminate();
    assert_eq!(client.answer().status(), 200);
    assert_eq!(program.end().code(), Some(0));
    let stderr = program.stderr();
    assert!(stderr.contains("seed 3"), "{stderr}");
}

#[test]
fn a_port_in_use_is_exit_2_and_one_line_that_names_it_and_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = output(&["--port", &port]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains(&port) && stderr.contains("--port"), "{stderr}");
    assert_eq!(output.stdout, b"");
}

#[test]
fn bad_usage_is_exit_2_and_says_what_was_wrong() {
    for (arguments, word) in [
        (&["--port", "x"][..], "--port"),
        (&["--port", "0", "--service-time", "uniform:5ms"], "lognormal:10ms,0.5"),
        (&["--port", "0", "--failure-rate", "2"], "failure rate 2"),
        (&["--port", "0", "--id", ""], "id"),
        (&["--port", "0", "--load-report", "xml"], "text, json or bin"),
        (&["--port", "0", "--load-report-trailer"], "--load-report"),
        (&["--port", "0", "--probe-path", "probe"], "/probe"),
        (&["--nonsense"], "--nonsense"),
    ] {
        let output = output(arguments);
        let stderr = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(word), "{arguments:?}: {stderr}");
    }
}

#[test]
fn completions_and_man_pages_are_printed_and_start_nothing() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = output(&["completions", shell]);
        assert!(script.status.success() && String::from_utf8_lossy(&script.stdout).contains("service-time"), "{shell}");
    }
    let page = String::from_utf8(output(&["man"]).stdout).expect("text");
    for part in [".SH ROUTES", ".SH SWITCHES", ".SH \"EXIT STATUS\"", "MOCK_SERVER_PORT"] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_str().expect("text");
    let paths = String::from_utf8(output(&["man", "--out", out]).stdout).expect("text");
    let names: Vec<_> = paths.lines().filter_map(|path| path.rsplit('/').next()).collect();
    assert_eq!(names, ["mock-server-completions.1", "mock-server-man.1", "mock-server.1"]);
}

#[test]
fn help_teaches_every_option_and_version_tells_the_version() {
    let help = String::from_utf8(output(&["--help"]).stdout).expect("text");
    for word in ["--service-time", "exponential:10ms", "x-service-time-us", "SERVER_ID", "/control", "/stream"] {
        assert!(help.contains(word), "{word} in\n{help}");
    }
    let version = String::from_utf8(output(&["--version"]).stdout).expect("text");
    // Behind it is the revision, if one is known.
    assert!(version.starts_with(concat!("mock-server ", env!("CARGO_PKG_VERSION"))), "{version}");
}
