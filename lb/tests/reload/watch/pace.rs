//! Many changes at once, changes without an end, and triggers beside the watcher.

use std::fs;
use std::time::Instant;

use super::{SETTLE, Watched};
use crate::bench::named;
use crate::harness::wait_for;

/// A text that differs from those of other numbers and means the same.
fn numbered(watched: &Watched, strategy: &str, number: u32) -> String {
    watched.bench.text(&format!("# {number}\n{}", named(strategy)))
}

#[test]
fn fifty_changes_at_once_are_at_most_two_attempts_and_the_last_one_counts() {
    let watched = Watched::start(&named("round_robin"), &[]);
    let (file, new) = (watched.path("lb.toml"), watched.path("new.toml"));
    for number in 0..50 {
        let strategy = if number % 2 == 0 { "round_robin" } else { "least_connections" };
        fs::write(&new, numbered(&watched, strategy, number)).unwrap();
        fs::rename(&new, &file).unwrap();
    }
    wait_for("the last one", || (watched.bench.strategy() == "least_connections").then_some(()));
    let attempts = watched.attempts();
    assert!((1..=2).contains(&attempts), "{attempts}");
    watched.end(attempts);
}

#[test]
fn a_file_that_never_rests_is_not_attempted_and_once_when_it_does() {
    let watched = Watched::start(&named("round_robin"), &[]);
    let (file, began) = (watched.path("lb.toml"), Instant::now());
    let mut number = 0;
    while began.elapsed() < SETTLE * 5 {
        number += 1;
        fs::write(&file, numbered(&watched, "least_connections", number)).unwrap();
    }
    assert_eq!(watched.attempts(), 0, "after {number} changes");
    wait_for("the last one", || (watched.bench.strategy() == "least_connections").then_some(()));
    watched.end(1);
}

#[test]
fn fifty_hangups_and_a_change_are_few_attempts_and_nobody_is_in_anybodys_way() {
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
    assert_eq!(watched.generation(), 2, "of all of them one has changed anything");
    watched.mark();
}
