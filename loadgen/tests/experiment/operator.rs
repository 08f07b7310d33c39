//! An operator changes the pool during a run. The run continues and records the change. Later counts are not compared
//! with a declaration.

use std::process::Child;

use lb_test_support::wait_until;
use loadgen::lab::{Admin, BackendStatus, Web};
use loadgen::model::{EventKind, Run, Severity};

use crate::support::{Lab, ended};

/// Two arms, one after the other, each of some seconds.
const PLAN: &str = "[load]\nloop = \"closed\"\nconnections = 4\nrequests = 2_000\ncost = \"constant:4ms\"\n\
    [[arms]]\nlabel = \"first\"\nstrategy = \"round_robin\"\n[[arms]]\nlabel = \"second\"\nstrategy = \"round_robin\"";

fn start(lab: &Lab) -> Child {
    let plan = lab.plan(PLAN);
    let arguments = ["experiment", "--seed", "7", "--plan", plan.to_str().expect("UTF-8")];
    lab.command(&arguments).spawn().expect("loadgen starts")
}

/// The admin port of the run's lb, once its first load is in flight.
fn admin_under_load(lab: &Lab) -> Admin {
    let ready = || {
        let text = std::fs::read(lab.out().join("lb/ready.json")).ok()?;
        let ready: serde_json::Value = serde_json::from_slice(&text).ok()?;
        Some(format!("http://{}", ready["admin"].as_str()?))
    };
    wait_until("lb is ready", || ready().is_some());
    let admin = Admin::at(&ready().expect("lb is ready"), &Web::new());
    let is_loaded = |states: Vec<BackendStatus>| states.iter().any(|state| state.in_flight > 0);
    wait_until("requests are in flight", || admin.backends().is_ok_and(is_loaded));
    admin
}

/// Asserts that no count is judged, and that an event gives the reason.
fn is_not_judged(run: &Run, kind: EventKind) {
    for cell in &run.results.cells {
        assert_eq!(cell.chi_square_p, None, "{}", cell.arm);
        assert!(cell.backends.iter().all(|backend| backend.expected.is_none()), "{cell:?}");
    }
    let event = run.results.events.iter().find(|event| event.kind == kind);
    assert_eq!(event.and_then(|event| event.backend.as_deref()), Some("Server 2"), "{:?}", run.results.events);
}

#[test]
fn after_a_drain_by_an_operator_counts_are_not_judged() {
    let lab = Lab::new();
    let child = start(&lab);
    let admin = admin_under_load(&lab);
    Web::new().post(&format!("{}/backends/Server%202/drain", admin.base()), "").expect("drained");
    let ended = ended(child);
    ended.was_carried_out();
    let run = lab.stored();
    is_not_judged(&run, EventKind::Operator);
    let counts: Vec<Vec<u64>> = run.results.cells.iter().map(|cell| cell.counts()).collect();
    assert!(counts[0][1] < counts[0][0] && counts[1][1] == 0, "Server 2 was drained during the first arm: {counts:?}");
    let lost = run.results.events.iter().filter(|event| event.kind == EventKind::Detected);
    assert_eq!(lost.count(), 0, "a drained server has not failed");
    let mark = run.manifest.marks.iter().find(|mark| mark.check == "pool").expect("a mark");
    assert_eq!(mark.severity, Severity::Warning);
    assert!(mark.reason.starts_with("an operator drained Server 2 at "), "{}", mark.reason);
    if run.manifest.is_valid() {
        let told = ended.out.split_whitespace().collect::<Vec<_>>().join(" ");
        let sentence = "Not all counts were compared with the strategy's declaration: an operator drained Server 2 at ";
        assert!(
            told.contains(sentence) && !told.contains("This contradicts the strategy's declaration"),
            "{}",
            ended.out
        );
    }
}

#[test]
fn an_unplanned_crash_of_a_server_suspends_the_judgement_for_its_arm() {
    let lab = Lab::new();
    let child = start(&lab);
    let admin = admin_under_load(&lab);
    let second = admin.backends().expect("the admin port lists them").remove(1);
    let pid = rustix::process::Pid::from_raw(second.pid.expect("launched").cast_signed()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
    ended(child);
    let mut run = lab.stored();
    let second = run.results.cells.pop().expect("the second arm");
    is_not_judged(&run, EventKind::Detected);
    assert!(
        second.backends.iter().all(|backend| backend.expected.is_some()),
        "the pool of the second arm was complete: {second:?}"
    );
    assert!(run.results.events.iter().all(|event| event.kind != EventKind::Operator), "{:?}", run.results.events);
}
