//! `loadgen run` from the outside: its output, its streams and its exit codes.

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};

use lb_test_support::wait_until;
use mock_server::{Change, Options};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::mock;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.arg("run").args(arguments);
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command(arguments).output().expect("loadgen starts");
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Asserts that the run ended normally. On a busy machine, it may report an invalid result and exit with 1.
fn was_carried_out(code: Option<i32>, is_valid: bool, err: &str) {
    assert!(err.lines().all(|line| line.starts_with("loadgen: not to be believed: ")), "{err}");
    assert_eq!((code, err.is_empty()), (Some(i32::from(!is_valid)), is_valid), "{err}");
}

fn json(arguments: &[&str]) -> Value {
    let (code, out, err) = run(&[&["--json"], arguments].concat());
    let report: Value = serde_json::from_str(&out).expect("JSON alone");
    was_carried_out(code, report["valid"] == true, &err);
    report
}

#[test]
fn json_has_exact_counts() {
    let server = mock(Options { id: "s7".to_owned(), failure_rate: 0.25, seed: Some(3), ..Options::default() });
    let report = json(&["-n", "400", "-c", "4", &format!("http://{}/home", server.addr)]);
    let failures = server.stats().failures;
    assert!(failures > 50);
    for (field, expected) in
        [("due", 400), ("sent", 400), ("answered", 400), ("ok", 400 - failures), ("unsent", 0), ("unfinished", 0)]
    {
        assert_eq!(report[field], expected, "{field}");
    }
    assert_eq!((&report["statuses"]["500"], &report["backends"]["s7"]["failed"]), (&failures.into(), &failures.into()));
    assert_eq!((&report["schema"], &report["interrupted"]), (&"loadgen-run-2".into(), &false.into()));
    let times = &report["latency_ms"];
    assert_eq!(times["samples"], 400 - failures);
    assert!(times["percentiles"]["p95"].is_number() && times["percentiles"]["p99"].is_null(), "{times}");
    assert_eq!(report["latency_ms"], report["service_time_ms"], "a closed loop");
    assert!(times["deviation"].is_null() && times["intervals_95"].is_object(), "{times}");
    let told = |name: &str| times["intervals_95"][name].is_array() != times["without_interval"][name].is_string();
    assert!(["mean", "p50", "p75", "p90", "p95", "p99", "p99.9"].into_iter().all(told), "{times}");
    assert!(times["without_interval"]["p99"].as_str().is_some_and(|why| why.contains("needs")), "{times}");
    assert!(report["load"].as_str().unwrap().starts_with("closed loop, 4 clients"));
    assert!(report["windows"].as_array().is_some_and(|windows| !windows.is_empty()));
}

#[test]
fn the_text_report_names_the_loop_and_leaves_out_percentiles_of_few_samples() {
    let server = mock(Options { id: "Server 1".to_owned(), ..Options::default() });
    let url = format!("{}/home", server.addr);
    let (code, out, err) = run(&["-n", "100", &url]);
    was_carried_out(code, !out.contains("NOT VALID"), &err);
    for part in ["closed loop, 50 clients", "latency    service time", "needs 1,000 good responses, there are 100"] {
        assert!(out.contains(part), "{part:?} is missing\n{out}");
    }
    assert!(out.contains("backend Server 1") && out.contains("status 200"), "{out}");
    let (code, out, err) = run(&["-n", "100", "-q", "1000", "--poisson", &url]);
    was_carried_out(code, !out.contains("NOT VALID"), &err);
    assert!(
        out.contains("open loop, 1000 requests/s") && out.contains("latency is measured from the scheduled send time"),
        "{out}"
    );
}

#[test]
fn an_invalid_result_is_exit_code_1_also_without_a_threshold() {
    let server = mock(Options::default());
    // Fewer descriptors than clients make the result invalid on every machine.
    let script = "ulimit -n 24 && exec \"$0\" run -n 200 -c 50 \"$1\"";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_loadgen"), &format!("http://{}/home", server.addr)]);
    let Output { status, stdout, stderr } = command.output().expect("a shell starts");
    let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(out.contains("NOT VALID: ") && out.contains("responses"), "{out}{err}");
    assert_eq!(status.code(), Some(1), "{out}{err}");
    assert!(err.lines().any(|line| line.starts_with("loadgen: not to be believed: ") && line.contains("ulimit -n")));
}

#[test]
fn a_seed_is_random_and_printed_or_taken_from_the_command_line() {
    let server = mock(Options::default());
    let url = format!("http://{}/", server.addr);
    let fresh = || json(&["-n", "3", &url])["seed"].as_u64().expect("a seed");
    assert_ne!(fresh(), fresh());
    assert_eq!(json(&["-n", "3", "--seed", "7", &url])["seed"], 7);
    let (_, out, _) = run(&["-n", "3", "--seed", "7", &url]);
    assert!(out.contains("3 requests, closed loop, 50 clients") && out.contains(", seed 7\n"), "{out}");
}

#[test]
fn methods_bodies_headers_and_paths_are_sent_as_given() {
    let server = mock(Options::default());
    let folder = tempfile::tempdir().unwrap();
    let (body, paths) = (folder.path().join("body"), folder.path().join("paths"));
    std::fs::write(&body, vec![b'x'; 1000]).unwrap();
    std::fs::write(&paths, "/upload\n# no path\n/status/404\n").unwrap();
    let url = format!("http://{}/", server.addr);
    let arguments = ["-m", "POST", "-D", body.to_str().unwrap(), "--paths", paths.to_str().unwrap()];
    let report = json(&[&arguments[..], &["-H", "x-a: b", "-n", "20", &url]].concat());
    assert_eq!((&report["statuses"]["200"], &report["statuses"]["404"]), (&10.into(), &10.into()));
    assert_eq!(server.stats().body_bytes_received, 20 * 1000);
}

#[test]
fn a_missed_threshold_is_exit_code_99_and_the_measured_value_is_printed() {
    let server = mock(Options { failure_rate: 1.0, ..Options::default() });
    let url = format!("http://{}/home", server.addr);
    let (code, out, err) = run(&["-n", "50", "--threshold", "errors<1%,rps>=0", "--fail-if", "rps>1000000000", &url]);
    assert_eq!(code, Some(99), "{err}");
    assert_eq!(err, "loadgen: threshold missed: errors<1%: 100.000 %\n");
    assert!(out.contains("MISSED errors<1%") && out.contains("kept   rps>=0"), "{out}");
    let report = {
        let (code, out, _) = run(&["--json", "-n", "50", "--threshold", "p99<1h", &url]);
        assert_eq!(code, Some(99), "without a good response, there is no percentile");
        serde_json::from_str::<Value>(&out).unwrap()
    };
    assert_eq!((&report["thresholds"][0]["kept"], &report["thresholds"][0]["value"]), (&false.into(), &Value::Null));
}

#[test]
fn a_mistake_is_one_line_and_exit_code_2() {
    let gone = mock(Options::default()).addr; // Dropped at once, so the port is closed now.
    let gone = format!("http://{gone}/");
    for (arguments, word) in [
        (&[&*gone][..], "cannot connect to"),
        (&["https://127.0.0.1:1/"], "https is not supported"),
        (&["--threshold", "p99", &gone], "no threshold"),
        (&["-q", "0", &gone], "rate"),
        (&["-n", "5", "-z", "5s", &gone], "cannot be used with"),
        (&[], "<URL>"),
    ] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, &*out, err.lines().count()), (Some(2), "", 1), "{arguments:?}: {err}");
        assert!(err.starts_with("loadgen: ") && err.contains(word), "{arguments:?}: {err}");
    }
}

#[test]
fn a_server_without_responses_is_exit_code_1_with_the_reason() {
    let server = mock(Options::default());
    server.change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    let (code, out, err) = run(&["-n", "3", "-t", "50ms", &format!("http://{}/home", server.addr)]);
    let why = "no response within 50ms: waiting for the response head";
    assert_eq!((code, err), (Some(1), format!("loadgen: no response to any request: {why}\n")));
    let line = out.lines().find(|line| line.trim_start().starts_with("error timeout")).expect("a line of the report");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words.join(" "), "error timeout 3 no response within 0.05 s: 3 waiting for the response head", "{out}");
}

#[test]
fn ctrl_c_prints_the_partial_results_as_partial() {
    let server = mock(Options::default());
    let url = format!("http://{}/home", server.addr);
    let mut child: Child =
        command(&["-z", "1h", "-c", "2", &url]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("100 answers", || server.stats().served >= 100);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{err}");
    assert_eq!(err, "loadgen: interrupted: these are partial results\n");
    assert!(out.contains("INTERRUPTED") && out.contains("backend 1"), "{out}");
}

#[test]
fn help_explains_loops_and_exit_codes_and_exits_with_0() {
    let (code, out, err) = run(&["--help"]);
    assert_eq!((code, &*err), (Some(0), ""));
    let parts =
        ["Open or closed loop?", "Examples:", "--poisson", "exit code 99", "Exit codes:", "1  the result is NOT VALID"];
    for part in parts {
        assert!(out.contains(part), "{part:?} is missing\n{out}");
    }
}
