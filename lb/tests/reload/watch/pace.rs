//! Many changes at once, continuous changes, and reloads by other triggers.

use std::fs;
use std::time::Instant;

use lb_test_support::wait_for;

use super::{EVENTS_ALONE, SETTLE, Watched, reload_section};
use crate::bench::named;
use crate::probation::{moody, until};

/// Writes equivalent texts over and over, and at the end one that names another strategy. Returns how often a text had
/// time to settle, because a busy machine delayed the next write.
fn write_often(watched: &Watched, write: impl Fn(&str), is_enough: impl Fn(u32) -> bool) -> u64 {
    let (mut number, mut rests, mut written) = (0, 0, Instant::now());
    let mut put = |text: &str| {
        write(text);
        rests += u64::from(written.elapsed() >= SETTLE);
        written = Instant::now();
    };
    while !is_enough(number) {
        number += 1;
        put(&watched.bench.text(&format!("# {number}\n{}", named("round_robin"))));
    }
    put(&watched.bench.text(&named("least_connections")));
    rests
}

/// Waits until the last text is in force. Returns the number of attempts.
fn attempts_in_the_end(watched: &Watched) -> u64 {
    wait_for("the last text", || (watched.bench.strategy() == "least_connections").then_some(()));
    assert_eq!(watched.generation(), 2, "no other text changed the state");
    watched.attempts()
}

#[test]
fn fifty_changes_at_once_are_at_most_two_attempts_and_the_last_one_is_applied() {
    let watched = Watched::start(&named("round_robin"), &[]);
    let (file, new) = (watched.path("lb.toml"), watched.path("new.toml"));
    let replace = |text: &str| {
        fs::write(&new, text).unwrap();
        fs::rename(&new, &file).unwrap();
    };
    let rests = write_often(&watched, replace, |number| number == 49);
    let attempts = attempts_in_the_end(&watched);
    assert!((1..=2 + rests).contains(&attempts), "{attempts}");
    watched.end(attempts);
}

#[test]
fn a_file_that_changes_all_the_time_is_attempted_once_when_it_settles() {
    let watched = Watched::start(&named("round_robin"), &[]);
    let (file, began) = (watched.path("lb.toml"), Instant::now());
    let in_place = |text: &str| fs::write(&file, text).unwrap();
    let rests = write_often(&watched, in_place, |_| began.elapsed() >= SETTLE * 5);
    let attempts = attempts_in_the_end(&watched);
    assert!((1..=1 + rests).contains(&attempts), "{attempts} with {rests} rests");
    watched.end(attempts);
}

#[test]
fn fifty_hangup_signals_and_a_change_all_end_and_apply_the_change_once() {
    let watched = Watched::start(&named("round_robin"), &[]);
    watched.bench.write(&named("least_connections"));
    for _ in 0..50 {
        watched.bench.lb.signal("HUP");
    }
    wait_for("the swap", || (watched.bench.strategy() == "least_connections").then_some(()));
    wait_for("the last reload to end", || {
        let reload = watched.bench.status()["reload"].clone();
        (reload["running"] == false).then_some(())
    });
    let attempts = watched.attempts();
    assert!((1..=51).contains(&attempts), "{attempts}");
    assert_eq!(watched.generation(), 2, "only one of the reloads changed the state");
    watched.mark();
}

#[test]
fn the_watcher_does_not_try_a_strategy_that_was_rolled_back() {
    let on_probation = reload_section(EVENTS_ALONE).replace("probation_ms = 0", "probation_ms = 86400000");
    let mut watched = Watched::start_in(tempfile::tempdir().unwrap(), &on_probation, &named("round_robin"), &[]);
    // The client stops: its requests look like those of the test.
    watched.client.end();
    watched.accepted_after(|| watched.bench.write(&moody("panic")));
    until(&watched.bench, "round_robin");
    let attempts = watched.attempts();
    let settled = watched.settled();
    let file = watched.path("lb.toml");
    fs::write(&file, fs::read(&file).unwrap()).unwrap();
    wait_for("the change to settle", || (watched.settled() > settled).then_some(()));
    // The text differs, but it still has the strategy that was rolled back.
    let (stage, _) = watched.refused_after(|| {
        watched.bench.write(&format!("# mended?\n{}", moody("panic")));
    });
    assert_eq!((stage.as_str(), watched.attempts()), ("probation", attempts + 1));
    watched.accepted_after(|| watched.bench.write(&named("least_connections")));
    assert_eq!(watched.attempts(), attempts + 2);
}
