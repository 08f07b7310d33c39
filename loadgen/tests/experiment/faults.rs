//! Faults on real processes: each has its effect while it lasts, and the results record its times.
//!
//! The claims hold on any machine. For example, a slowed server is at least as slow as planned during the fault, and it
//! is faster in some window outside of it.

use loadgen::lab::Web;
use loadgen::model::{Cell, Completeness, Event, EventKind, Run, Window};

use crate::support::{Lab, ended};

/// A load of 100 requests per second with these faults.
fn run(lab: &Lab, more: &str, faults: &str) -> Run {
    let ended = lab.run(&format!(
        "[load]\nloop = \"open\"\narrivals = \"constant\"\nrate_rps = 100\nwarm_up = \"100ms\"\n{more}\n{faults}"
    ));
    ended.was_carried_out();
    let run = lab.stored();
    assert_eq!(run.results.accounting[0].mismatch, None);
    assert!(run.manifest.marks.iter().all(|mark| mark.check != "faults"), "{:?}", run.manifest.marks);
    run
}

fn event(run: &Run, kind: EventKind) -> &Event {
    let event = run.results.events.iter().find(|event| event.kind == kind);
    event.unwrap_or_else(|| panic!("no {kind:?} among {:?}", run.results.events))
}

fn cell(run: &Run) -> &Cell {
    &run.results.cells[0]
}

/// Windows whose requests were all scheduled between these moments of the run's clock.
fn windows(run: &Run, from_ms: u64, to_ms: u64) -> Vec<&Window> {
    let series = &run.series[0];
    let within = |window: &&Window| window.at_ms >= from_ms && window.at_ms + series.window_ms <= to_ms;
    let found: Vec<&Window> = series.windows.iter().filter(within).collect();
    assert!(!found.is_empty(), "no window from {from_ms} to {to_ms} ms");
    found
}

/// Windows in which the fault was certainly in effect. The event comes after the fault began, and the fault never ends
/// before its planned time.
fn in_force<'a>(run: &'a Run, event: &Event, planned_end_ms: u64) -> Vec<&'a Window> {
    windows(run, event.at_ms, cell(run).at_ms + planned_end_ms)
}

fn ms(ns: Option<u64>) -> f64 {
    ns.expect("a window with responses") as f64 / 1e6
}

fn least(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::INFINITY, f64::min)
}

/// Good responses of a backend in these windows.
fn answers(run: &Run, windows: &[&Window], id: &str) -> u64 {
    let place = run.series[0].backends.iter().position(|name| name == id).unwrap_or_else(|| panic!("no {id}"));
    windows.iter().map(|window| window.backends[place]).sum()
}

#[test]
fn a_slow_server_is_as_slow_as_planned_and_the_others_are_not() {
    let lab = Lab::new();
    let run = run(
        &lab,
        "duration = \"3s\"\ncost = \"constant:2ms\"",
        "[[faults]]\nat = \"200ms\"\nfor = \"1s\"\nkind = \"slow\"\nfactor = 100\nbackend = 2\n\
         [[faults]]\nat = \"1600ms\"\nfor = \"1s\"\nkind = \"delay\"\nextra = \"300ms\"\nbackend = 1",
    );
    let slow: Vec<&Event> = run.results.events.iter().filter(|event| event.kind == EventKind::Slow).collect();
    assert_eq!(slow.iter().map(|it| it.backend.as_deref()).collect::<Vec<_>>(), [Some("Server 2"), Some("Server 1")]);
    for (event, planned_end_ms, slow_ms) in [(slow[0], 1_200, 200.0), (slow[1], 2_600, 300.0)] {
        let windows = in_force(&run, event, planned_end_ms);
        // Windows store latencies with two digits.
        let fastest_p99 = least(windows.iter().map(|window| ms(window.p99_ns)));
        assert!(fastest_p99 > 0.98 * slow_ms, "{}: a window has a p99 of {fastest_p99} ms", event.text);
        assert!(least(windows.iter().map(|window| ms(window.p50_ns))) < slow_ms, "{}: all are slow", event.text);
        assert!(
            answers(&run, &windows, event.backend.as_deref().expect("one")) > 0,
            "round robin still picks the slow server"
        );
        let until = event.until_ms.expect("the fault was undone");
        assert!(until >= cell(&run).at_ms + planned_end_ms, "undone at {until} ms");
    }
    let all = run.series[0].windows.iter();
    assert!(least(all.map(|window| ms(window.p99_ns))) < 200.0, "the server is slow only for a while");
}

#[test]
fn requests_to_a_stalled_server_wait_until_it_continues() {
    let lab = Lab::new();
    let run = run(
        &lab,
        "duration = \"3s\"\ncost = \"constant:1ms\"",
        "[[faults]]\nat = \"400ms\"\nfor = \"1500ms\"\nkind = \"stall\"\nbackend = 3",
    );
    let stall = event(&run, EventKind::Stall);
    let windows = in_force(&run, stall, 1_900);
    let first = windows[0];
    let waited_ms = (cell(&run).at_ms + 1_900 - (first.at_ms + run.series[0].window_ms)) as f64;
    let p99_ms = ms(first.p99_ns);
    assert!(p99_ms > 0.98 * waited_ms, "{p99_ms} ms, but the server was silent for {waited_ms} ms after that window");
    assert!(ms(first.p50_ns) < waited_ms, "the other servers respond");
    assert!(answers(&run, &[first], "Server 3") > 0, "waiting requests get their response at the end");
    assert!(stall.until_ms.is_some() && event(&run, EventKind::Undone).text == "Server 3 is normal again");
    assert_eq!(cell(&run).errors, 0, "{:?}", cell(&run).error_kinds);
}

#[test]
fn a_server_fails_the_planned_share_and_serves_the_rest_as_before() {
    let lab = Lab::new();
    let run = run(
        &lab,
        "duration = \"4s\"\ncost = \"constant:50ms\"",
        "[backends]\nn = 1\n[[faults]]\nat = \"200ms\"\nfor = \"1800ms\"\nkind = \"errors\"\nrate = 0.5",
    );
    let (errors, windows) = (event(&run, EventKind::Errors), in_force(&run, event(&run, EventKind::Errors), 2_000));
    let (failed, all) = windows.iter().fold((0, 0), |(failed, all), it| (failed + it.errors, all + it.answered));
    // Of about 170 draws, the share is outside these limits with a probability of 1e-8.
    assert!((all * 3 / 10..=all * 7 / 10).contains(&failed), "{failed} of {all} failed");
    let quickest = least(windows.iter().filter_map(|window| window.p50_ns).map(|ns| ns as f64 / 1e6));
    assert!(quickest > 0.98 * 50.0, "a good response took {quickest} ms");
    assert!(cell(&run).error_kinds.keys().all(|kind| kind == "status 500"), "{:?}", cell(&run).error_kinds);
    let until = errors.until_ms.expect("the fault was undone");
    let after = self::windows(&run, until, u64::MAX);
    assert_eq!(after.iter().map(|window| window.errors).sum::<u64>(), 0, "there are no errors after the fault");
}

#[test]
fn a_killed_server_is_detected_replaced_and_counted_as_a_lower_bound() {
    let lab = Lab::new();
    let run = run(&lab, "duration = \"4s\"", "[[faults]]\nat = \"1s\"\nkind = \"kill\"\nbackend = 2");
    let (start, kill) = (cell(&run).at_ms, event(&run, EventKind::Kill));
    assert!(kill.at_ms >= start + 1_000, "killed at {} ms, the load began at {start} ms", kill.at_ms);
    assert_eq!((kill.until_ms, kill.backend.as_deref()), (None, Some("Server 2")));
    assert!(event(&run, EventKind::Recovered).at_ms >= kill.at_ms);
    let bounds: Vec<bool> = run.results.accounting[0].backends.iter().map(|backend| backend.is_lower_bound).collect();
    assert_eq!(bounds, [false, true, false]);
    let log = std::fs::read_to_string(lab.out().join("lb/lb.log")).expect("lb's log");
    assert!(log.contains("signal 9"), "{log}");
    assert_eq!(cell(&run).retries, Some(0), "a request that the killed server loses is a failure");
    assert_eq!(cell(&run).backends.len(), 3);
    assert!(cell(&run).backends[1].requests > 0 && cell(&run).backends[0].expected.is_none(), "no band with a fault");
    lab.nothing_is_left_running();
}

#[test]
fn servers_are_added_and_removed_at_the_planned_times() {
    let lab = Lab::new();
    let run = run(
        &lab,
        "duration = \"4s\"",
        "[[faults]]\nat = \"500ms\"\nkind = \"add\"\nn = 1\n[[faults]]\nat = \"2s\"\nkind = \"remove\"\nbackend = 3",
    );
    let (added, removed) = (event(&run, EventKind::Add), event(&run, EventKind::Remove));
    let end = run.series[0].windows.last().expect("windows").at_ms;
    let before = windows(&run, 0, cell(&run).at_ms + 500);
    assert_eq!(answers(&run, &before, "Server 4"), 0, "the server does not exist yet");
    assert!(answers(&run, &before, "Server 3") > 0);
    assert!(answers(&run, &windows(&run, added.at_ms, end), "Server 4") > 0);
    assert_eq!(answers(&run, &windows(&run, removed.at_ms, end), "Server 3"), 0, "the server is removed");
    assert_eq!((removed.backend.as_deref(), &added.backend), (Some("Server 3"), &None));
    assert_eq!(cell(&run).errors, 0, "a removed backend completes its requests: {:?}", cell(&run).error_kinds);
}

#[test]
fn a_hot_key_sends_its_share_to_one_server_for_a_while() {
    let lab = Lab::new();
    let run = run(
        &lab,
        "duration = \"3500ms\"",
        "[[arms]]\nstrategy = \"consistent_hash\"\n[[faults]]\nat = \"1s\"\nfor = \"1500ms\"\nkind = \"hot_key\"\nshare = 0.9",
    );
    let hot = event(&run, EventKind::HotKey);
    assert_eq!((hot.text.as_str(), &hot.backend), ("one key has 90 % of the requests", &None));
    assert!(hot.until_ms.is_some() && event(&run, EventKind::Undone).text == "keys are as before");
    let start = cell(&run).at_ms;
    let share_of_fullest = |windows: Vec<&Window>| {
        let counts: Vec<u64> = run.series[0].backends.iter().map(|id| answers(&run, &windows, id)).collect();
        let sum: u64 = counts.iter().sum();
        *counts.iter().max().expect("three") as f64 / sum as f64
    };
    let (before, during, after) = (
        windows(&run, start, start + 1_000),
        windows(&run, start + 1_000, start + 2_500),
        windows(&run, start + 2_500, u64::MAX),
    );
    for (windows, name) in [(before, "before"), (after, "after")] {
        let share = share_of_fullest(windows);
        assert!(share < 0.7, "{name}: {share}, seed 7");
    }
    let share = share_of_fullest(during);
    assert!(share > 0.8, "{share}, seed 7");
}

#[test]
fn a_fault_without_an_end_lasts_until_the_end_of_the_load() {
    let lab = Lab::new();
    // Without a duration, the budget determines the end of the load.
    let ended = lab.run(
        "budget = \"8s\"\n[load]\nloop = \"open\"\nrate_rps = 100\nwarm_up = \"0s\"\ntimeout = \"1s\"\n\
         [[faults]]\nat = \"200ms\"\nkind = \"stall\"\nbackend = 2",
    );
    ended.was_carried_out();
    let run = lab.stored();
    assert!(event(&run, EventKind::Stall).until_ms.is_some());
    // When its checks fail, too, lb ends the requests that wait for it: retries are off.
    let kinds = &cell(&run).error_kinds;
    let is_known = |kind: &String| ["timeout", "status 502"].contains(&kind.as_str());
    assert!(kinds.contains_key("timeout") && kinds.keys().all(is_known), "requests that wait for it: {kinds:?}");
}

#[test]
fn a_server_may_be_removed_or_killed_while_a_fault_is_in_effect() {
    let lab = Lab::new();
    let run = run(
        &lab,
        "duration = \"3s\"\ncost = \"constant:2ms\"",
        "[[faults]]\nat = \"200ms\"\nfor = \"2s\"\nkind = \"slow\"\nfactor = 4\nbackend = 2\n\
         [[faults]]\nat = \"300ms\"\nfor = \"500ms\"\nkind = \"errors\"\nrate = 0.1\nbackend = 1\n\
         [[faults]]\nat = \"700ms\"\nkind = \"kill\"\nbackend = 1\n\
         [[faults]]\nat = \"1s\"\nkind = \"remove\"\nbackend = 2",
    );
    assert!(!run.manifest.is_partial());
    for (fault, leaves) in [(EventKind::Slow, EventKind::Remove), (EventKind::Errors, EventKind::Kill)] {
        let (until, left) = (event(&run, fault).until_ms.expect("the fault ended"), event(&run, leaves).at_ms);
        // loadgen records an event right after the action.
        assert!(until <= left, "{fault:?} ended at {until} ms, {leaves:?} at {left} ms");
    }
    assert!(run.results.events.iter().all(|event| event.kind != EventKind::Undone), "{:?}", run.results.events);
}

#[test]
fn a_fault_that_fails_leaves_partial_results_and_the_pool_as_it_was() {
    let lab = Lab::new();
    let theirs = lab.running_balancer("round_robin", 2);
    let faults = "[[faults]]\nat = \"200ms\"\nkind = \"slow\"\nfactor = 4\nbackend = 1\n\
        [[faults]]\nat = \"400ms\"\nkind = \"remove\"\nbackend = 2\n\
        [[faults]]\nat = \"800ms\"\nkind = \"stall\"\nbackend = 2";
    let load = "[load]\nloop = \"open\"\nrate_rps = 100\nwarm_up = \"100ms\"\nduration = \"5m\"\n[backends]\nn = 2";
    let plan = lab.plan(&format!("{load}\n{faults}"));
    let plan = plan.to_str().expect("UTF-8");
    let arguments = ["experiment", "--target", &theirs.target, "--admin", &theirs.admin, "--plan", plan];
    let ended = ended(lab.command(&arguments).spawn().expect("loadgen starts"));
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let run = lab.stored();
    let Completeness::Partial { reason } = &run.manifest.completeness else { panic!("not partial") };
    assert_eq!(reason, "there is no backend \"Server 2\" for this fault");
    assert!(cell(&run).requests > 0);
    let first =
        theirs.status().backends.into_iter().find(|backend| backend.id == "Server 1").expect("the backend exists");
    let switches =
        Web::new().get(&format!("http://{}/control", first.address)).expect("the control settings of the server");
    let switches: serde_json::Value = serde_json::from_str(&switches).expect("JSON");
    assert_eq!(switches["slow"], 1.0, "{switches}");
}
