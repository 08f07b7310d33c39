//! An override and the watcher: an edit from before the override does not undo it, and a later one does.

use lb_test_support::wait_for;
use serde_json::json;

use super::{EVENTS_ALONE, Watched, reload_section};
use crate::bench::{named, post};

/// The file's strategy with another setting.
fn edited(headers: u32) -> String {
    format!("{}[limits]\nheaders = {headers}\n", named("round_robin"))
}

/// Writes the same bytes again. Returns when they have settled, so the watcher has decided about all earlier content.
fn decided(watched: &Watched) {
    let (file, settled) = (watched.path("lb.toml"), watched.settled());
    std::fs::write(&file, std::fs::read(&file).unwrap()).unwrap();
    wait_for("the same bytes to settle", || (watched.settled() > settled).then_some(()));
}

/// The override of `strategy` is in force, and it was the only attempt.
fn is_in_force(watched: &Watched, strategy: &str) -> bool {
    let reload = watched.bench.status()["reload"].clone();
    let is_override = reload["overrides"][0]["strategy"]["name"] == strategy && watched.bench.strategy() == strategy;
    is_override && watched.attempts() == 1
}

#[test]
fn an_edit_from_before_an_override_does_not_undo_it_and_a_later_one_does() {
    // The edit must not settle before the override begins, also on a busy machine.
    let slow = reload_section(EVENTS_ALONE).replace("settle_ms = 400", "settle_ms = 2500");
    let watched = Watched::start_in(tempfile::tempdir().unwrap(), &slow, &named("round_robin"), &[]);
    let settled = watched.settled();
    watched.bench.write(&edited(70));
    let answer = post(watched.bench.lb.admin, "/reload", r#"{"strategy":{"name":"least_connections"}}"#);
    assert_eq!((answer.status, &answer.json()["applied"]), (200, &json!(["limits"])), "{}", answer.body);
    wait_for("the edit to settle", || (watched.settled() > settled).then_some(()));
    decided(&watched);
    assert!(is_in_force(&watched, "least_connections"), "{}", watched.bench.lb.printed("stderr"));
    watched.accepted_after(|| watched.bench.write(&edited(80)));
    assert_eq!(
        (watched.bench.strategy(), &watched.bench.status()["reload"]["overrides"]),
        (json!("round_robin"), &json!([]))
    );
    watched.end(2);
}

#[test]
fn an_edit_that_settles_during_an_override_does_not_undo_it() {
    let watched = Watched::start(&named("round_robin"), &[]);
    let settled = watched.settled();
    let gate = watched.path("gate");
    let config = json!({ "every": 9, "does": "panic", "waits_for": ["new", gate] });
    let body = json!({ "strategy": { "name": "moody", "config": config } }).to_string();
    std::thread::scope(|scope| {
        watched.bench.write(&edited(70));
        let reload = scope.spawn(|| post(watched.bench.lb.admin, "/reload", &body));
        wait_for("the edit to settle", || (watched.settled() > settled).then_some(()));
        std::fs::write(&gate, "").unwrap();
        let answer = reload.join().unwrap();
        assert_eq!((answer.status, &answer.json()["applied"]), (200, &json!(["limits"])), "{}", answer.body);
    });
    decided(&watched);
    assert!(is_in_force(&watched, "moody"), "{}", watched.bench.lb.printed("stderr"));
    watched.accepted_after(|| watched.bench.write(&edited(80)));
    watched.end(2);
}

#[test]
fn a_refused_override_leaves_the_edit_to_the_watcher() {
    let watched = Watched::start(&named("round_robin"), &[]);
    watched.bench.write(&named("least_connections"));
    let answer = post(watched.bench.lb.admin, "/reload", r#"{"pool":"nowhere","strategy":{"config":{}}}"#);
    assert_eq!(answer.status, 422, "{}", answer.body);
    wait_for("the edit", || (watched.bench.strategy() == "least_connections").then_some(()));
    watched.end(2);
}
