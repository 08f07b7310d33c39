//! A disturbed generator must not pass its own check, even with few requests.
//!
//! `load::pacing` tests in virtual time that an undisturbed generator passes. Here, another program may disturb it at
//! any moment.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lb_test_support::wait_until;
use mock_server::Options;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::mock;

/// Another program, which is killed when dropped.
struct Neighbour(Child);

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn report(mut child: Child) -> Value {
    let mut out = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
    child.wait().expect("it is our child");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

fn loadgen(before: &[&str], arguments: &[&str]) -> Child {
    let words = [before, &[env!("CARGO_BIN_EXE_loadgen"), "run", "--json"], arguments].concat();
    Command::new(words[0]).args(&words[1..]).stdout(Stdio::piped()).spawn().expect("loadgen starts")
}

fn does_not_pass(report: &Value) {
    let verdict = report["punctuality"].as_str().expect("the report has a verdict");
    let reason = report["punctuality_reason"].as_str().expect("the report has a reason");
    assert!(verdict == "late" || verdict == "not_judged", "{verdict}: {}", report["send_lag_ms"]);
    assert_eq!(report["valid"], verdict != "late", "{reason}");
}

#[test]
fn a_generator_that_is_stopped_for_250_ms_of_every_second_is_late() {
    let server = mock(Options::default());
    let child = loadgen(&[], &["-q", "100", "-n", "500", &format!("http://{}/home", server.addr)]);
    let pid = Pid::from_child(&child);
    for requests in [50, 150, 250, 350] {
        wait_until("requests until the next stop", || server.stats().served >= requests);
        kill_process(pid, Signal::STOP).expect("it runs");
        std::thread::sleep(Duration::from_millis(250)); // The disturbance itself, not a wait for an event.
        kill_process(pid, Signal::CONT).expect("it runs");
    }
    let report = report(child);
    assert_eq!((&report["punctuality"], &report["due"]), (&"late".into(), &500.into()), "{report}");
    does_not_pass(&report);
}

/// The kernel may prefer the generator, so that it is on time. Then its lags must be small.
#[test]
fn a_generator_with_a_busy_loop_on_its_core_passes_only_if_its_lags_are_small() {
    let server = mock(Options::default());
    let allowed = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let list =
        allowed.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("the line exists").trim();
    let core = list.split([',', '-']).next().expect("a core");
    let busy = Command::new("taskset").args(["-c", core, "sh", "-c", "while :; do :; done"]).spawn();
    let _neighbour = Neighbour(busy.expect("taskset (util-linux) starts"));
    let child = loadgen(&["taskset", "-c", core], &["-q", "100", "-n", "400", &format!("http://{}/home", server.addr)]);
    let report = report(child);
    if report["punctuality"] == "on_time" {
        let ms = |times: &str, of: &str| report[times][of].as_f64().expect("a number of milliseconds");
        // With fewer than 1,000 requests, no lag may exceed 0.2 ms or a tenth of the mean, whichever is larger.
        let allowed_ms = (ms("latency_ms", "mean") / 10.0).max(0.2);
        assert!(ms("send_lag_ms", "max") <= allowed_ms, "allowed are {allowed_ms} ms: {report}");
    } else {
        does_not_pass(&report);
    }
}

#[test]
fn a_closed_loop_and_too_few_requests_are_not_judged_and_the_reason_is_given() {
    let server = mock(Options::default());
    let url = format!("http://{}/home", server.addr);
    let closed = report(loadgen(&[], &["-n", "400", "-c", "2", &url]));
    assert_eq!(closed["punctuality"], "not_judged");
    assert_eq!(closed["punctuality_reason"], "a closed loop has no schedule");
    let few = report(loadgen(&[], &["-n", "20", "-q", "1000", &url]));
    does_not_pass(&few);
    if few["punctuality"] == "not_judged" {
        let reason = few["punctuality_reason"].as_str().expect("a reason");
        assert!(reason.starts_with("20 good responses are too few: only 299 on time exclude"), "{reason}");
    }
    let text =
        Command::new(env!("CARGO_BIN_EXE_loadgen")).args(["run", "-n", "50", &url]).output().expect("loadgen starts");
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(
        text.contains("not judged: whether the load generator was on time (a closed loop has no schedule)"),
        "{text}"
    );
}
