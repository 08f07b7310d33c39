//! Runs that are ended from outside: what was measured is written and marked, and nothing goes on.

use loadgen::model::EventKind;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Lab, ended, until_it_says};

const LONG: &str = "scenario = \"B\"\nbudget = \"5m\"\n[load]\nloop = \"open\"\nrate_rps = 100\n[blocks]\nsegment = \"500ms\"\n\
    wash_out = \"100ms\"\nprimary = \"latency_p50\"\n[[arms]]\nstrategy = \"round_robin\"\n\
    [[arms]]\nstrategy = \"least_connections\"";

#[test]
fn ctrl_c_writes_what_there_is_and_leaves_nothing_running() {
    let lab = Lab::new();
    let plan = lab.plan(LONG);
    let mut child =
        lab.command(&["experiment", "--plan", plan.to_str().expect("UTF-8")]).spawn().expect("loadgen starts");
    until_it_says(&mut child, "block 2 done");
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let ended = ended(child);
    assert_eq!(ended.code, Some(130), "{}", ended.out);
    let run = lab.stored();
    assert!(run.manifest.is_partial());
    assert!(run.results.comparison.is_some_and(|comparison| comparison.blocks >= 2));
    assert!(run.results.events.iter().any(|event| event.kind == EventKind::Interrupted));
    assert!(lab.out().join("report.html").exists());
    lab.nothing_is_left_running();
}

#[test]
fn a_loadgen_that_is_killed_leaves_nothing_running() {
    let lab = Lab::new();
    let plan = lab.plan(LONG);
    let mut child =
        lab.command(&["experiment", "--plan", plan.to_str().expect("UTF-8")]).spawn().expect("loadgen starts");
    until_it_says(&mut child, "block 1 done");
    child.kill().expect("it runs");
    child.wait().expect("it is ours");
    lab.nothing_is_left_running();
    let log = std::fs::read_to_string(lab.out().join("lb/lb.log")).expect("lb's log");
    assert!(log.contains("end of stdin") && log.contains("stopped"), "in order: {log}");
}

#[test]
fn a_balancer_that_dies_ends_the_run_with_its_reason() {
    let lab = Lab::new();
    let plan = lab.plan(LONG);
    let mut child =
        lab.command(&["experiment", "--plan", plan.to_str().expect("UTF-8")]).spawn().expect("loadgen starts");
    until_it_says(&mut child, "block 1 done");
    let log = std::fs::read_to_string(lab.out().join("lb/lb.log")).expect("lb's log");
    let pid = log.split(", process ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
    kill_process(Pid::from_raw(pid.expect("its pid")).expect("a pid"), Signal::KILL).expect("it runs");
    let ended = ended(child);
    assert_eq!(ended.code, Some(1), "{}", ended.out);
    assert!(lab.stored().manifest.is_partial());
    lab.nothing_is_left_running();
}
