//! An operator changes the pool during a run: the run continues, records the change, and compares no later count with a declaration.

use std::process::Child;

use lb_test_support::wait_until;
use loadgen::lab::{Admin, BackendState, Web};
use loadgen::model::{EventKind, Run, Severity};

use crate::support::{Lab, ended};

/// Two arms, one after the other, of some seconds each.
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
    let admin = Admin::at(&ready().expect("it is"), &Web::new());
    let is_loaded = |states: Vec<BackendState>| states.iter().any(|state| state.in_flight > 0);
    wait_until("requests are under way", || admin.backends().is_ok_and(is_loaded));
    admin
}

/// No band, no chance, and why.
fn is_not_judged(run: &Run, kind: EventKind) {
    for cell in &run.results.cells {
        assert_eq!(cell.chi_square_p, None, "{}", cell.arm);
        assert!(cell.backends.iter().all(|backend| backend.expected.is_none()), "{cell:?}");
    }
    let event = run.results.events.iter().find(|event| event.kind == kind);
    assert_eq!(event.and_then(|event| event.backend.as_deref()), Some("Server 2"), "{:?}", run.results.events);
}

#[test]
fn an_operators_drain_suspends_the_judgement_of_counts_from_then_on() {
    let lab = Lab::new();
    let child = start(&lab);
    let admin = admin_under_load(&lab);
    Web::new().post(&format!("{}/backends/Server%202/drain", admin.base()), "").expect("drained");
    let ended = ended(child);
    ended.was_carried_out();
    let run = lab.stored();
    is_not_judged(&run, EventKind::Operator);
    let counts: Vec<Vec<u64>> = run.results.cells.iter().map(|cell| cell.counts()).collect();
    assert!(counts[0][1] < counts[0][0] && counts[1][1] == 0, "it was drained while it was measured: {counts:?}");
    let lost = run.results.events.iter().filter(|event| event.kind == EventKind::Detected);
    assert_eq!(lost.count(), 0, "what is drained has not failed");
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
fn a_server_that_dies_by_no_fault_of_the_plan_suspends_it_for_the_time_of_its_arm() {
    let lab = Lab::new();
    let child = start(&lab);
    let admin = admin_under_load(&lab);
    let second = admin.backends().expect("they are told").remove(1);
    let pid = rustix::process::Pid::from_raw(second.pid.expect("launched").cast_signed()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
    ended(child);
    let mut run = lab.stored();
    let second = run.results.cells.pop().expect("the second arm");
    is_not_judged(&run, EventKind::Detected);
    assert!(second.backends.iter().all(|backend| backend.expected.is_some()), "its pool was whole: {second:?}");
    assert!(run.results.events.iter().all(|event| event.kind != EventKind::Operator), "{:?}", run.results.events);
}
