//! Many changes at once, changes without an end, and what happens beside the watcher.

use std::fs;
use std::time::Instant;

use lb_test_support::wait_for;

use super::{EVENTS_ALONE, SETTLE, Watched, reload_section};
use crate::bench::named;
use crate::probation::{moody, until};

/// Writes a text that means the same every time, over and over, and at last one that names another strategy. Answers
/// how often a text was left alone for so long, by a machine that had others to serve, that it could settle.
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

/// The last text is in force; answers after how many attempts.
fn attempts_in_the_end(watched: &Watched) -> u64 {
    wait_for("the last one", || (watched.bench.strategy() == "least_connections").then_some(()));
    assert_eq!(watched.generation(), 2, "no other has changed anything");
    watched.attempts()
}

#[test]
fn fifty_changes_at_once_are_at_most_two_attempts_and_the_last_one_counts() {
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
fn a_file_that_never_rests_is_not_attempted_and_once_when_it_does() {
    let watched = Watched::start(&named("round_robin"), &[]);
    let (file, began) = (watched.path("lb.toml"), Instant::now());
    let in_place = |text: &str| fs::write(&file, text).unwrap();
    let rests = write_often(&watched, in_place, |_| began.elapsed() >= SETTLE * 5);
    let attempts = attempts_in_the_end(&watched);
    assert!((1..=1 + rests).contains(&attempts), "{attempts} with {rests} rests");
    watched.end(attempts);
}

#[test]
fn fifty_hangups_and_a_change_are_few_attempts_and_none_blocks_another() {
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

#[test]
fn what_was_rolled_back_is_not_brought_back_by_itself() {
    let on_probation = reload_section(EVENTS_ALONE).replace("probation_ms = 0", "probation_ms = 86400000");
    let mut watched = Watched::start_in(tempfile::tempdir().unwrap(), &on_probation, &named("round_robin"), &[]);
    // Its requests cannot be told from those of the test.
    watched.client.end();
    watched.accepted_after(|| watched.bench.write(&moody("panic")));
    until(&watched.bench, "round_robin");
    let attempts = watched.attempts();
    let settled = watched.settled();
    let file = watched.path("lb.toml");
    fs::write(&file, fs::read(&file).unwrap()).unwrap();
    wait_for("it to settle", || (watched.settled() > settled).then_some(()));
    // Another text, but the strategy that was rolled back is still in it.
    let (stage, _) = watched.refused_after(|| {
        watched.bench.write(&format!("# mended?\n{}", moody("panic")));
    });
    assert_eq!((stage.as_str(), watched.attempts()), ("probation", attempts + 1));
    watched.accepted_after(|| watched.bench.write(&named("least_connections")));
    assert_eq!(watched.attempts(), attempts + 2);
}
