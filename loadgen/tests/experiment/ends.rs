//! Runs that are ended from outside: loadgen stores and marks the measured part, and leaves no process running.

use loadgen::model::{Completeness, EventKind};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Lab, ended, until_it_says};

const LONG: &str = "scenario = \"B\"\nbudget = \"5m\"\n[load]\nloop = \"open\"\nrate_rps = 100\n[blocks]\nsegment = \"500ms\"\n\
    wash_out = \"100ms\"\nverdicts = [\"latency_p50\"]\n[[arms]]\nstrategy = \"round_robin\"\n\
    [[arms]]\nstrategy = \"least_connections\"";

#[test]
fn ctrl_c_writes_partial_results_and_leaves_nothing_running() {
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
fn ctrl_c_before_the_end_of_a_block_writes_the_finished_segments() {
    let lab = Lab::new();
    let plan = lab.plan(LONG);
    let arguments = ["experiment", "--seed", "7", "--plan", plan.to_str().expect("UTF-8")];
    let mut child = lab.command(&arguments).spawn().expect("loadgen starts");
    // With this seed, least_connections is the second arm.
    until_it_says(&mut child, "least_connections takes over");
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let ended = ended(child);
    assert_eq!(ended.code, Some(130), "{}", ended.out);
    let run = lab.stored();
    assert!(run.manifest.is_partial() && run.results.comparison.is_none());
    assert_eq!(run.results.cells.len(), 1, "{:?}", run.results.events);
    lab.nothing_is_left_running();
}

#[test]
fn ctrl_c_between_faults_writes_partial_results_and_undoes_the_faults() {
    let lab = Lab::new();
    let plan = lab.plan(
        "scenario = \"A3\"\nbudget = \"5m\"\n[load]\nloop = \"open\"\nrate_rps = 100\nwarm_up = \"100ms\"\n\
         [[faults]]\nat = \"2s\"\nkind = \"stall\"\nbackend = 2\n[[faults]]\nat = \"4m\"\nkind = \"kill\"",
    );
    let mut child =
        lab.command(&["experiment", "--plan", plan.to_str().expect("UTF-8")]).spawn().expect("loadgen starts");
    until_it_says(&mut child, "  Server 2 stalled");
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let ended = ended(child);
    assert_eq!(ended.code, Some(130), "{}", ended.out);
    let run = lab.stored();
    assert!(run.manifest.is_partial() && run.results.cells[0].requests > 0);
    assert!(
        run.manifest.marks.iter().all(|mark| mark.check != "faults"),
        "the kill that did not happen has a reason, so there is no mark"
    );
    let stall =
        run.results.events.iter().find(|event| event.kind == EventKind::Stall).expect("the stall is in the events");
    assert!(stall.until_ms.is_some());
    assert!(lab.out().join("plots/timeline.svg").exists());
    lab.nothing_is_left_running();
}

/// Makes a file of the run a link to `/dev/full`, which behaves like a full disk.
fn no_room_for(lab: &Lab, file: &str) {
    let part = lab.out().join(format!("{file}.part"));
    std::fs::create_dir_all(part.parent().expect("a folder")).expect("made");
    std::os::unix::fs::symlink("/dev/full", part).expect("a link");
}

const SHORT: &str = "[load]\nloop = \"closed\"\nconnections = 2\nrequests = 200\n[backends]\nn = [1, 2]\n";

/// The last line on stderr. The lines before it show progress.
fn last_line(err: &str) -> &str {
    err.lines().last().expect("a line")
}

#[test]
fn a_disk_that_fills_up_ends_the_run_and_partial_results_are_written_and_marked() {
    let lab = Lab::new();
    no_room_for(&lab, "scrapes/after-round_robin__n___2-lb.txt");
    let ended = lab.run(SHORT);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let line = last_line(&ended.err);
    assert!(line.starts_with("loadgen: ended early: cannot write ") && line.contains("No space left"), "{line}");
    let run = lab.stored();
    assert!(run.manifest.is_partial());
    // Both cells are stored, but the accounting of the second is missing.
    let cells: Vec<_> = run.results.cells.iter().map(|cell| (cell.n, cell.requests, cell.retries)).collect();
    assert_eq!((cells, run.results.accounting.len()), (vec![(1, 200, Some(0)), (2, 200, None)], 1));
    assert!(lab.out().join("report.html").exists());
    lab.nothing_is_left_running();
}

#[test]
fn results_that_do_not_fit_on_the_disk_are_printed_and_the_folder_is_no_run() {
    let lab = Lab::new();
    no_room_for(&lab, "series.json");
    let ended = lab.run(SHORT);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let line = last_line(&ended.err);
    assert!(line.starts_with("loadgen: cannot write ") && line.contains("series.json: No space left"), "{line}");
    assert!(line.ends_with("printed above and are not stored") && ended.out.contains("200"), "{line}\n{}", ended.out);
    let error = loadgen::model::Folder::new(lab.out()).read().expect_err("the folder is incomplete").to_string();
    assert!(error.contains("is no run"), "{error}");
    lab.nothing_is_left_running();
}

#[test]
fn a_report_that_does_not_fit_on_the_disk_can_be_made_later() {
    let lab = Lab::new();
    no_room_for(&lab, "results.csv");
    let ended = lab.run(SHORT);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let line = last_line(&ended.err);
    let out = lab.out();
    let advice = format!("fix the cause, then run `loadgen report {}`", out.display());
    assert!(line.contains("results.csv: No space left") && line.ends_with(&advice), "{line}");
    let report = std::process::Command::new(env!("CARGO_BIN_EXE_loadgen")).arg("report").arg(&out).output();
    assert_eq!(report.expect("loadgen starts").status.code(), Some(0));
    assert!(out.join("results.csv").exists());
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
    child.wait().expect("it is our child");
    lab.nothing_is_left_running();
    let log = std::fs::read_to_string(lab.out().join("lb/lb.log")).expect("lb's log");
    assert!(log.contains("end of stdin") && log.contains("stopped"), "lb stopped cleanly: {log}");
}

/// Kills lb when loadgen has printed `text`, and waits for the end of loadgen.
fn lb_dies_after(lab: &Lab, plan: &str, text: &str) {
    let plan = lab.plan(plan);
    let arguments = ["experiment", "--plan", plan.to_str().expect("UTF-8")];
    let mut child = lab.command(&arguments).spawn().expect("loadgen starts");
    until_it_says(&mut child, text);
    let log = std::fs::read_to_string(lab.out().join("lb/lb.log")).expect("lb's log");
    let pid = log.split(", process ").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
    kill_process(Pid::from_raw(pid.expect("its pid")).expect("a pid"), Signal::KILL).expect("it runs");
    let ended = ended(child);
    assert_eq!(ended.code, Some(1), "{}", ended.out);
    lab.nothing_is_left_running();
}

#[test]
fn a_balancer_that_exits_ends_the_run_with_its_reason() {
    let lab = Lab::new();
    lb_dies_after(&lab, LONG, "block 1 done");
    assert!(lab.stored().manifest.is_partial());
}

#[test]
fn a_balancer_that_exits_leaves_partial_results_of_open_and_closed_loops() {
    let open = "[load]\nloop = \"open\"\nrate_rps = 100\nwarm_up = \"100ms\"\nduration = \"5m\"\n\
        [[faults]]\nat = \"4m\"\nkind = \"kill\"";
    let closed = "[load]\nloop = \"closed\"\nconnections = 2\nrequests = 1_000_000_000";
    for (plan, loop_) in [(open, "open"), (closed, "closed")] {
        let lab = Lab::new();
        lb_dies_after(&lab, plan, "round_robin, measuring: ");
        let run = lab.stored();
        let Completeness::Partial { reason } = &run.manifest.completeness else { panic!("{loop_}: not partial") };
        assert!(reason.starts_with("lb exited during the run (signal: 9"), "{loop_}: {reason}");
        let [cell] = run.results.cells.as_slice() else { panic!("{loop_}: {:?}", run.results.cells) };
        assert!(cell.requests > cell.errors, "{loop_}: {cell:?}");
        assert!(
            run.manifest.marks.iter().all(|mark| mark.check != "faults"),
            "{loop_}: the fault that did not happen has a reason, so there is no mark"
        );
        let report = std::fs::read_to_string(lab.out().join("report.md")).expect("a report");
        assert!(report.contains("lb exited during the run"), "{loop_}: {report}");
        assert!(lab.out().join("report.html").exists(), "{loop_}");
    }
}
