//! The safeguards of lb in experiments are off unless a plan sets them. They are read back from the running lb, and are
//! the same at the start of every arm.

use loadgen::lab::{Admin, Web};
use loadgen::model::{Cell, EventKind, Run, SAFEGUARDS, Severity, Verdict};

use crate::support::{Ended, Lab, ended, until_it_says};

/// Server 2 fails all requests of each segment. An ejection lasts far longer than the run, so without a reset an arm
/// would begin with that of the arm before it. All arms have the same budget for retries, so lb would keep a spent one.
const FAILING: &str = "title = \"x\"\nbudget = \"60s\"\n[load]\nloop = \"open\"\narrivals = \"constant\"\nrate_rps = 200\n\
    [blocks]\nsegment = \"800ms\"\nwash_out = \"100ms\"\nverdicts = [\"good_share\"]\nhalf_width = 0.5\nequivalence = 0.01\n\
    [[faults]]\nat = \"150ms\"\nkind = \"errors\"\nbackend = 2\n";
const ARMS: &str = "[[arms]]\nlabel = \"neither\"\nstrategy = \"round_robin\"\n\
    [[arms]]\nlabel = \"outlier\"\nstrategy = \"round_robin\"\n[arms.lb.outlier]\nenabled = true\neject_ms = 300000\n\
    [[arms]]\nlabel = \"retries\"\nstrategy = \"round_robin\"\n[arms.lb.retry]\nattempts = 2\non = [\"500\"]\n\
    [lb.retry]\nbudget_percent = 0\nbudget_reserve_per_s = 1\n";

fn cells<'a>(run: &'a Run, arm: &'a str) -> impl Iterator<Item = &'a Cell> {
    run.results.cells.iter().filter(move |cell| cell.arm == arm)
}

fn bad(cell: &Cell) -> u64 {
    cell.errors + cell.unsent
}

fn text(lab: &Lab, file: &str) -> String {
    std::fs::read_to_string(lab.out().join(file)).expect("a text")
}

#[test]
fn arms_with_other_safeguards_are_compared_and_none_inherits_an_ejection_or_a_spent_budget() {
    let lab = Lab::new();
    let ended = lab.run(&format!("{FAILING}{ARMS}"));
    ended.was_carried_out();
    let run = lab.stored();
    let blocks = run.results.comparison.as_ref().expect("compared").blocks;
    assert!(blocks >= 6, "{blocks}");
    for cell in cells(&run, "neither") {
        // Round robin: a third of the 130 requests after the fault, which may come 50 ms late.
        assert!((33..=60).contains(&bad(cell)), "without safeguards, in block {}: {}", cell.block, bad(cell));
    }
    for cell in cells(&run, "outlier") {
        // Five failures in a row eject it. Some may be of requests of the wash-out that waited. There is none if it is
        // ejected at the start.
        assert!((1..=25).contains(&bad(cell)), "with ejection, in block {}: {}", cell.block, bad(cell));
        assert!(cell.requests >= 100 && cell.retries == Some(0), "{cell:?}");
    }
    for cell in cells(&run, "retries") {
        // The reserve of a full budget: one a second for 10 s.
        assert_eq!(cell.retries, Some(10), "the budget is full at the start of block {}", cell.block);
    }
    let comparison = run.results.comparison.as_ref().expect("compared");
    let of = |arm: &str| comparison.ratio(arm, "good_share").expect("judged");
    assert_eq!((of("outlier").verdict, of("outlier").more_is_better), (Verdict::Better, true), "{:?}", of("outlier"));
    assert!(of("outlier").low > 1.1 && of("retries").ratio > 1.0, "{:?}", comparison.ratios);
    let typical = comparison.failures_of("neither").and_then(|it| it.in_a_block).expect("blocks");
    assert!(typical.is_sound && typical.low <= typical.share && typical.share <= typical.high, "{typical:?}");
    assert!((0.2..0.4).contains(&typical.share), "{typical:?}");
    let ejected = run.results.events.iter().filter(|event| event.text.starts_with("Server 2 is ejected: "));
    assert!(ejected.count() >= blocks as usize, "once in each segment of one arm");
    assert_eq!(run.results.accounting[0].mismatch, None);

    let report = text(&lab, "report.md");
    for said in
        ["safeguards of lb in each arm, as the running lb reported them", "attempts = 2", "share of good responses"]
    {
        assert!(report.contains(said), "{said}: {report}");
    }
    assert!(lab.out().join("plots/bad-responses.svg").exists());
}

#[test]
fn safeguards_are_off_unless_the_plan_sets_them_and_the_running_lb_says_so() {
    let lab = Lab::new();
    let ended = lab.run(
        "[load]\nloop = \"closed\"\nconnections = 4\nrequests = 200\n[[arms]]\nstrategy = \"round_robin\"\n\
        [[arms]]\nstrategy = \"least_connections\"",
    );
    ended.was_carried_out();
    let run = lab.stored();
    for arm in &run.manifest.arms {
        let found = arm.safeguards.as_ref().expect("lb reported them");
        assert!(found.on().is_empty(), "{}: {found:?}", arm.label);
        let sections: Vec<&str> = found.0.keys().map(String::as_str).collect();
        let mut known: Vec<&str> = SAFEGUARDS.iter().map(|safeguard| safeguard.section).collect();
        known.sort_unstable();
        assert_eq!(sections, known, "a safeguard that lb reports is one that experiments switch off");
    }
    let mark = run.manifest.marks.iter().find(|mark| mark.check == "safeguards").expect("a finding");
    assert_eq!(mark.severity, Severity::Passed, "{mark:?}");
    assert!(
        text(&lab, "report.md").contains("outlier detection, panic, slow start, retries and queue, all off"),
        "{}",
        text(&lab, "report.md")
    );
}

/// The test is the operator: it reloads lb with another configuration in the middle of the load.
#[test]
fn an_lb_with_other_safeguards_than_the_plan_ends_the_experiment() {
    let lab = Lab::new();
    let plan = lab.plan(
        "[load]\nloop = \"open\"\nrate_rps = 50\nduration = \"6s\"\nwarm_up = \"100ms\"\n\
        [[arms]]\nlabel = \"plain\"\nstrategy = \"round_robin\"",
    );
    let mut child =
        lab.command(&["experiment", "--plain", "--plan", plan.to_str().expect("UTF-8")]).spawn().expect("starts");
    until_it_says(&mut child, "lb ");
    let config = lab.out().join("lb/lb.toml");
    let text = std::fs::read_to_string(&config).expect("the configuration");
    let changed = text.replace("attempts = 1", "attempts = 3");
    assert_ne!(text, changed);
    std::fs::write(&config, changed).expect("written");
    let ready = std::fs::read_to_string(lab.out().join("lb/ready.json")).expect("a ready file");
    let ready: serde_json::Value = serde_json::from_str(&ready).expect("JSON");
    let admin = format!("http://{}", ready["admin"].as_str().expect("an address"));
    Admin::at(&admin, &Web::new()).reload().expect("reloaded");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    let run = lab.stored();
    let why = format!("{:?}", run.manifest.completeness);
    assert!(why.contains("the running lb has other safeguards than the plan gives to plain: "), "{why}");
    assert!(why.contains("retry.attempts is 3, not 1"), "{why}");
    assert!(run.results.events.iter().any(|event| event.kind == EventKind::Interrupted));
}

#[test]
fn arms_with_safeguards_need_an_lb_that_loadgen_configures() {
    let lab = Lab::new();
    let theirs = lab.running_balancer("round_robin", 2);
    let plan = lab.plan(&format!("[load]\nloop = \"closed\"\nrequests = 10\n{ARMS}"));
    let plan = plan.to_str().expect("UTF-8");
    let arguments = ["experiment", "--plan", plan, "--target", &theirs.target, "--admin", &theirs.admin];
    let Ended { code, err, .. } = ended(lab.command(&arguments).spawn().expect("loadgen starts"));
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("arm outlier: arms.lb needs an lb that loadgen starts: leave out --target"), "{err}");
    assert!(!lab.out().exists());
}

/// Two servers need 5 ms for a request, and four clients send. So `central_queue` lets most of them wait.
const WAITING: &str = "[load]\nloop = \"closed\"\nconnections = 4\nrequests = 200\n[backends]\nn = 2\nservice_time = \"constant:5ms\"\n\
    [[arms]]\nstrategy = \"central_queue\"\n";

#[test]
fn a_plan_that_keeps_the_queue_compares_strategies_that_let_requests_wait() {
    for (queue, is_kept) in [("", false), ("lb = { queue = { length = 64 } }\n", true)] {
        let lab = Lab::new();
        lab.run(&format!("{WAITING}{queue}")).was_carried_out();
        let run = lab.stored();
        let marks: Vec<_> = run.manifest.marks.iter().filter(|mark| mark.check == "queue").collect();
        let found = run.manifest.arms[0].safeguards.as_ref().expect("lb reported them");
        let on: Vec<_> = found.on().iter().map(|(it, _)| it.name).collect();
        let report = text(&lab, "report.md");
        if is_kept {
            assert_eq!((marks.len(), on), (0, vec!["queue"]), "{marks:?}");
            assert!(report.contains("length = 64"), "{report}");
        } else {
            assert_eq!((marks.len(), on.len(), marks[0].severity), (1, 0, Severity::Warning), "{marks:?}");
            let reason = &marks[0].reason;
            assert!(
                reason.contains("central_queue let a request wait in ") && reason.contains("[lb.queue]"),
                "{reason}"
            );
            assert!(report.contains("the queue is off: the fallback picked"), "{report}");
        }
        assert!(cells(&run, "central_queue").all(|cell| bad(cell) == 0), "{:?}", run.results.cells);
    }
}
