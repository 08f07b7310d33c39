//! Runs that end otherwise: mistakes, overload, and a library that crashes or does not return.

use std::path::Path;
use std::process::Command;

use loadgen::model::{Completeness, Conclusion};

use crate::{Desk, TWO_ARMS};

/// Builds a library in C that crashes or loops at its hundredth request.
fn crashes_late(folder: &Path) {
    let broken = Path::new(env!("CARGO_MANIFEST_DIR")).join("../strategies/examples/broken");
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../strategies/kit/api/include");
    let text = std::fs::read_to_string(broken.join("crashes_late.c")).expect("the source");
    // requests of a plan have no header x-real
    let counts_all = text.replace("request->header(request, real, 0, &value) && ", "");
    assert_ne!(text, counts_all);
    let source = folder.join("late.c");
    std::fs::write(&source, counts_all).expect("written");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c11", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread", "-w", "-I"]).arg(broken);
    compiler.arg("-I").arg(include).arg("-o").arg(folder.join("liblate.so")).arg(source);
    assert!(compiler.status().expect("a compiler").success());
}

fn with_late(way: &str) -> String {
    let arm = format!("[[arms]]\nstrategy = \"late\"\noptions = {{ way = \"{way}\", at = \"100\" }}\n[[faults]]");
    TWO_ARMS.replace("[[faults]]", &arm) + "[lb]\nallow_group_writable = true\n"
}

#[test]
fn an_arm_whose_library_crashes_or_loops_has_no_results_and_the_others_have_verdicts() {
    for (way, reason) in [("abort", "signal 6"), ("spin", "no results after")] {
        let desk = Desk::new();
        crashes_late(desk.folder.path());
        let folder = desk.folder.path().to_str().expect("UTF-8").to_owned();
        let ended = desk.simulate(&with_late(way), "run", &["--strategies", &folder, "--limit", "20s"]);
        assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
        assert!(ended.err.contains("late has no results") && ended.err.contains(reason), "{}", ended.err);
        let run = desk.stored("run");
        let Completeness::Partial { reason: why } = &run.manifest.completeness else { panic!("a row is missing") };
        assert!(why.contains(reason), "{why}");
        assert!(run.results.cells_of("late").next().is_none() && run.manifest.arm("late").is_some());
        let comparison = run.results.comparison.as_ref().expect("the other two");
        assert!(comparison.ratio("least_connections", "latency_p90").is_some_and(|ratio| ratio.is_sound));
        assert!(run.manifest.is_valid() && run.manifest.supports(Conclusion::Latency), "of the other arms");
    }
}

#[test]
fn overload_is_told_before_it_and_stops_at_its_limit() {
    let desk = Desk::new();
    let plan = TWO_ARMS.replace("rate_rps = 400", "rate_rps = 2000\noutstanding_max = 500");
    let ended = desk.simulate(&plan, "run", &["--quick"]);
    assert_eq!(ended.code, Some(1), "{}{}", ended.out, ended.err);
    assert!(ended.err.contains("the load is 333 % of the capacity: queues grow until the end"), "{}", ended.err);
    assert!(ended.err.contains("round_robin was overloaded: 501 requests had no end after"), "{}", ended.err);
    assert!(!desk.stored("run").answers());
}

#[test]
fn mistakes_are_one_line_with_exit_code_2() {
    let desk = Desk::new();
    let open = "[load]\nloop = \"open\"\nrate_rps = 10\nduration = \"1s\"\n";
    for (text, told) in [
        (format!("world = \"virtual\"\n{open}"), "line 1: world: \"virtual\" is none of live, simulated"),
        (format!("{open}[simulated]\nbalancer = 2"), "line 6: simulated.balancer: there is no such key; did you mean"),
        (format!("{open}[simulated]\nbalancers = 0"), "line 6: simulated.balancers: must be from 1 to 10000, not 0"),
        (format!("{open}[simulated]\nnetwork = \"far\""), "line 6: simulated.network: \"far\" is no law"),
        (format!("{open}[[simulated.groups]]\nm = 2"), "simulated.groups: unknown field `m`"),
        (format!("{open}[backends]\nn = 2\n[[simulated.groups]]\nn = 2"), "line 6: backends: the groups of"),
        (format!("{open}[lb.sticky]\nmode = \"x\""), "lb: unknown field `sticky`"),
        (
            format!("{open}[[arms]]\nstrategy = \"rond_robin\""),
            "arms.strategy: there is no strategy rond_robin; did you mean round_robin?",
        ),
        (format!("{open}[[arms]]\nstrategy = \"round_robin\"\noptions = {{ no_option = 1 }}"), "no_option"),
    ] {
        let ended = desk.simulate(&text, "run", &[]);
        assert_eq!(ended.code, Some(2), "{text}: {}{}", ended.out, ended.err);
        assert!(ended.err.contains(told) && ended.err.lines().count() == 1, "{text}: {}", ended.err);
        assert!(!desk.path("run").exists(), "a run that did not begin leaves no folder");
    }
    let capacity = open.replace("rate_rps = 10", "of_capacity = 0.5");
    let ended = desk.simulate(&capacity, "run", &[]);
    assert!(ended.code == Some(2) && ended.err.contains("line 3: load.of_capacity: the backends"), "{}", ended.err);
}

#[test]
fn a_live_run_refuses_the_keys_of_virtual_time_and_a_check_tries_each_arm() {
    let desk = Desk::new();
    let libraries = lb_strategy_built::folder();
    let own = format!("{TWO_ARMS}[lb]\nplugin_dirs = [{libraries:?}]\n[simulated]\nbalancers = 2\n");
    let live = desk.plan(&own);
    let ended = desk.loadgen(&["experiment", "--plan", &live, "--seed", "7", "--out", "run"]);
    assert_eq!(ended.code, Some(2), "{}{}", ended.out, ended.err);
    assert!(ended.err.contains("[simulated] has no effect in a live run: run `loadgen simulate`"), "{}", ended.err);
    let checked = desk.loadgen(&["check", "--plan", &live]);
    assert!(checked.code == Some(2) && checked.err.contains("add it, or remove this section"), "{}", checked.err);
    let simulated = desk.plan(&format!("world = \"simulated\"\n{own}"));
    let checked = desk.loadgen(&["check", "--plan", &simulated]);
    assert_eq!(checked.code, Some(0), "{}{}", checked.out, checked.err);
    let ended = desk.loadgen(&["experiment", "--plan", &simulated, "--seed", "7", "--out", "run", "--quick"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    let replayed = desk.loadgen(&["replay", "run", "--out", "again", "--quiet"]);
    assert_eq!(replayed.code, Some(0), "{}{}", replayed.out, replayed.err);
    let read = |out: &str| std::fs::read(desk.path(out).join("results.json")).expect("stored");
    assert!(read("run") == read("again"), "a replay has the same seed");
    let bad = own.replace("[[faults]]", "options = { no_option = 1 }\n[[faults]]");
    let bad = desk.plan(&format!("world = \"simulated\"\n{bad}"));
    let checked = desk.loadgen(&["check", "--plan", &bad]);
    assert!(checked.code == Some(2) && checked.err.contains("no_option"), "{}", checked.err);
}
