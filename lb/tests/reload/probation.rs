//! A strategy after a swap: it is proven after the probation, or rolled back after failures or by hand.

use lb_test_support::{Reply, finish, get, mock, send, wait_for};
use serde_json::json;

use crate::bench::{Bench, bare_admin_command, compiled, filed, named, post};

/// The configuration of a strategy that picks in turn and fails at every tenth request of [`provoke`].
pub(crate) fn moody(does: &str) -> String {
    format!("[strategy]\nname = \"moody\"\n[strategy.config.moody]\nevery = 10\ndoes = {does:?}\n")
}

/// Sends a request that can make the strategy fail. lb must serve it all the same.
fn provoke(bench: &Bench) -> Reply {
    let answer = send(bench.lb.proxy, "GET", "/home", &["x-mood: bad"], "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer
}

fn roll_back(bench: &Bench) -> Reply {
    post(bench.lb.admin, "/rollback", "")
}

fn standing(bench: &Bench) -> String {
    bench.status()["pools"][0]["strategy_standing"].as_str().unwrap().to_owned()
}

/// Sends requests until `strategy` is in force. Returns their number.
pub(crate) fn until(bench: &Bench, strategy: &str) -> u64 {
    let mut sent = 0;
    wait_for("the rollback", || {
        provoke(bench);
        sent += 1;
        (bench.strategy() == strategy).then_some(())
    });
    sent
}

fn series(bench: &Bench, name: &str) -> f64 {
    let page = get(bench.lb.admin, "/metrics").body;
    let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in\n{page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_strategy_that_panics_is_rolled_back_and_the_current_backends_stay() {
    let bench = Bench::start(&named("round_robin"));
    bench.change(&moody("panic"));
    assert_eq!(standing(&bench), "on_probation");
    let fourth = mock("4");
    let attach = json!({ "backends": [{ "id": "b4", "address": fourth.addr.to_string() }] }).to_string();
    assert_eq!(post(bench.lb.admin, "/add", &attach).status, 200);
    let sent = until(&bench, "round_robin");
    let status = bench.status();
    assert_eq!((&status["generation"], standing(&bench).as_str()), (&json!(4), "proven"), "{status}");
    let ids: Vec<_> = status["pools"][0]["backends"].as_array().unwrap().iter().map(|b| b["id"].clone()).collect();
    assert_eq!(ids, ["b1", "b2", "b3", "b4"], "changes of members during the probation stay");
    let (reload, last) = (&status["reload"], &status["reload"]["last"]);
    assert_eq!((&last["by"], &last["result"]), (&json!("probation"), &json!("rolled_back")));
    assert_eq!(reload["rolled_back"][0]["strategy"], "moody");
    let (reason, at) = (&reload["rolled_back"][0]["reason"], reload["rolled_back"][0]["at"].as_str().unwrap());
    assert!(reason.as_str().unwrap().starts_with("it panicked in ") && last["reason"] == *reason, "{reload}");
    let differs = format!("pool default: strategy moody was rolled back by generation 4 at {at}: ");
    assert!(at.ends_with('Z') && reload["differs"][0].as_str().unwrap().starts_with(&differs), "{reload}");
    let (own, admin) = (lb_test_support::folder(""), bench.lb.admin.to_string());
    let page = finish(bare_admin_command(&own, &["--admin-listen", &admin, "status"])).stdout;
    let page = String::from_utf8(page).unwrap();
    let lines = ["last reload         rolled back (triggered by probation): it panicked in ", &differs];
    assert!(lines.iter().all(|line| page.contains(line.trim_end_matches(": "))), "{page}");
    assert!(series(&bench, "lb_strategy_fallbacks_total{pool=\"default\",strategy=\"moody\",reason=\"panic\"}") > 3.0);
    assert_eq!(series(&bench, "lb_strategy_swaps_total{pool=\"default\",kind=\"rollback\"}"), 1.0);
    let good = "lb_reload_last_successful{kind=\"strategy\"}";
    assert_eq!(series(&bench, good), 0.0);
    for _ in 0..4 {
        bench.server();
    }
    assert_eq!(bench.seen() + fourth.stats().requests, sent + 4);
    assert!(fourth.stats().requests > 0, "the backend that was added during the probation gets requests");
    assert_eq!(bench.change(&named("round_robin"))["result"], "no_change", "the file names the running strategy again");
    assert_eq!((series(&bench, good), &bench.status()["reload"]["rolled_back"]), (1.0, &json!([])));
}

#[test]
fn unusable_picks_declined_requests_and_slow_picks_cause_a_rollback_too() {
    for does in ["point_nowhere", "decline", "dawdle"] {
        // lb times only some picks, so every pick must be slow.
        let moody = moody(does).replace("every = 10", "every = 1");
        let bench = Bench::start(&named("round_robin"));
        bench.change(&moody);
        until(&bench, "round_robin");
        assert_eq!(bench.status()["reload"]["last"]["result"], "rolled_back", "{does}");
    }
}

#[test]
fn a_strategy_that_lets_requests_wait_for_ever_is_rolled_back() {
    let queue = "[queue]\nwait_ms = 20\n";
    let bench = Bench::start(&format!("{}{queue}", named("round_robin")));
    bench.change(&format!("{}{queue}", moody("wait").replace("every = 10", "every = 1")));
    wait_for("the rollback", || {
        let answer = send(bench.lb.proxy, "GET", "/home", &["x-mood: bad"], "");
        assert!([200, 503].contains(&answer.status), "{}", answer.body);
        (bench.strategy() == "round_robin").then_some(())
    });
    let rolled_back = bench.status()["reload"]["rolled_back"][0].clone();
    let reason = rolled_back["reason"].as_str().unwrap();
    assert!(reason.ends_with("requests wait until their time was over, although a backend was idle"), "{reason}");
    assert!(series(&bench, "lb_queue_refusals_total{pool=\"default\",reason=\"held\"}") > 3.0);
}

#[test]
fn a_strategy_that_was_rolled_back_is_tried_again_on_request() {
    let bench = Bench::start(&named("round_robin"));
    bench.change(&moody("panic"));
    until(&bench, "round_robin");
    let report = bench.reloaded();
    assert_eq!((&report["result"], bench.strategy()), (&json!("done"), json!("moody")));
    assert!(report["warnings"][0].as_str().unwrap().contains("was rolled back before"), "{report}");
    assert_eq!(bench.status()["reload"]["rolled_back"], json!([]));
    until(&bench, "round_robin");
}

#[test]
fn a_strategy_without_traffic_stays_on_probation_and_is_proven_after_a_thousand_picks() {
    let short = "[reload]\nprobation_ms = 1\n";
    let bench = Bench::start(&format!("{}{short}", named("round_robin")));
    bench.change(&format!("{}{short}", moody("panic")));
    let picks = || {
        let pool = bench.status()["pools"][0].clone();
        assert_eq!((&pool["strategy_standing"], &pool["probation_picks_min"]), (&json!("on_probation"), &json!(1_000)));
        (pool["probation_left_ms"].as_u64().unwrap(), pool["probation_picks"].as_u64().unwrap())
    };
    wait_for("the end of its time", || (picks().0 == 0).then_some(()));
    for _ in 0..999 {
        bench.server();
    }
    // A look at probations happens ten times a second: some have passed since its time ended.
    assert_eq!(picks(), (0, 999));
    bench.server();
    wait_for("the end of the probation", || (standing(&bench) == "proven").then_some(()));
    for _ in 0..40 {
        provoke(&bench);
    }
    assert_eq!((bench.strategy(), bench.status()["generation"].clone()), (json!("moody"), json!(2)));
    let pool = bench.status()["pools"][0].clone();
    assert!(pool["rollback_to"].as_str().unwrap().starts_with("round_robin "), "{pool}");
    assert_eq!(roll_back(&bench).status, 200, "a proven strategy can be rolled back by hand");
    assert_eq!(bench.strategy(), "round_robin");
}

#[test]
fn another_reload_ends_a_probation_and_keeps_the_last_proven_strategy() {
    let bench = Bench::start(&named("round_robin"));
    bench.change(&moody("panic"));
    provoke(&bench);
    bench.change(&named("least_connections"));
    for _ in 0..40 {
        provoke(&bench);
    }
    assert_eq!(bench.strategy(), "least_connections");
    let answer = roll_back(&bench);
    let report = answer.json();
    assert_eq!(
        (answer.status, &report["result"], &report["pools"][0]["change"]),
        (200, &json!("rolled_back"), &json!("strategy"))
    );
    assert_eq!((bench.strategy(), standing(&bench).as_str()), (json!("round_robin"), "proven"));
}

#[test]
fn a_dry_rollback_names_the_strategy_that_comes_back_and_changes_nothing() {
    let bench = Bench::start(&format!("{}[reload]\nprobation_ms = 1\n", named("round_robin")));
    let (own, admin) = (lb_test_support::folder(""), bench.lb.admin.to_string());
    let roll_back = |arguments: &[&str]| {
        finish(bare_admin_command(&own, &[&["--admin-listen", &admin, "rollback"], arguments].concat()))
    };
    let dry = || roll_back(&["--dry-run"]);
    assert_eq!(dry().status.code(), Some(1), "there is nothing to go back to");
    let round_robin = bench.status()["pools"][0]["strategy_sha256"].as_str().unwrap()[..12].to_owned();
    bench.change(&format!("{}[reload]\nprobation_ms = 86400000\n", named("least_connections")));
    bench.change(&format!("{}[reload]\nprobation_ms = 86400000\n", named("consistent_hash")));
    let said = String::from_utf8(dry().stdout).unwrap();
    let first = format!("pool default: the rollback would restore round_robin 0.1.0 (sha256 {round_robin})\n");
    let unproven =
        "warning: pool default: no strategy was proven yet, so round_robin is the first one that was in charge\n";
    assert_eq!(said, format!("{first}{unproven}"), "least_connections was not proven, so it is skipped");
    assert_eq!((bench.strategy(), &bench.status()["generation"]), (json!("consistent_hash"), &json!(3)));
    let report = post(bench.lb.admin, "/rollback?dry_run=1&pool=default", "").json();
    assert_eq!((&report["result"], &report["dry_run"]), (&json!("would_work"), &json!(true)), "{report}");
    let said = String::from_utf8(roll_back(&[]).stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], first.trim_end().replace("would restore", "restores"));
    assert!(lines[2].starts_with("rolled back: generation 4") && lines.len() == 4, "{said}");
    assert_eq!((bench.strategy(), standing(&bench).as_str()), (json!("round_robin"), "proven"));
}

#[test]
fn a_rollback_by_hand_goes_back_one_step_only() {
    let bench = Bench::start(&named("round_robin"));
    let nothing = roll_back(&bench);
    assert_eq!((nothing.status, &nothing.json()["stage"]), (422, &json!("rollback")), "{}", nothing.body);
    bench.change(&named("least_connections"));
    assert_eq!(roll_back(&bench).status, 200);
    assert_eq!(roll_back(&bench).status, 422);
    assert_eq!(post(bench.lb.admin, "/rollback?pool=nobody", "").status, 422);
    assert_eq!(post(bench.lb.admin, "/rollback?x=1", "").status, 400);
    bench.server();
}

#[test]
fn an_override_that_is_rolled_back_is_dropped() {
    let bench = Bench::start(&named("round_robin"));
    let body = json!({ "strategy": { "name": "moody", "config": { "every": 10, "does": "panic" } } }).to_string();
    assert_eq!(post(bench.lb.admin, "/reload", &body).status, 200);
    until(&bench, "round_robin");
    assert_eq!(bench.status()["reload"]["overrides"], json!([]));
    assert_eq!(bench.reloaded()["result"], "no_change");
}

#[test]
fn the_first_strategy_is_not_rolled_back_as_there_is_none_before_it() {
    let bench = Bench::start(&moody("panic"));
    wait_for("the verdict", || {
        provoke(&bench);
        (standing(&bench) == "failed").then_some(())
    });
    assert_eq!((bench.strategy(), bench.status()["generation"].clone()), (json!("moody"), json!(1)));
    bench.change(&named("round_robin"));
    assert_eq!(roll_back(&bench).status, 422, "lb does not roll back to a failed strategy");
}

#[test]
fn a_rollback_does_not_wait_for_a_trial() {
    let bench = Bench::start_with(&named("round_robin"), &[("hostile.so", &compiled("hostile_process.c", &[]))]);
    bench.change(&named("least_connections"));
    bench.write(&format!("{}[strategy.config.hostile]\nway = \"spin\"\n", filed("hostile.so")));
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| bench.reload());
        wait_for("the trial to run", || (bench.status()["reload"]["running"] == true).then_some(()));
        let answer = roll_back(&bench);
        assert_eq!((answer.status, bench.strategy()), (200, json!("round_robin")), "{}", answer.body);
        let given_up = reload.join().unwrap();
        assert_eq!((given_up.status, &given_up.json()["stage"]), (422, &json!("vet")), "{}", given_up.body);
        assert!(given_up.body.contains("was given up"), "{}", given_up.body);
    });
    bench.change(&named("least_connections"));
}
