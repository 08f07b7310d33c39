//! An operator edits lb.toml: in place, by replacing the file, or through a link, sometimes with a manual reload.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::symlink;
use std::time::SystemTime;

use lb_test_support::wait_for;
use serde_json::json;

use super::{EVENTS_ALONE, Watched, reload_section, shell};
use crate::bench::{bytes, filed, named, post};

const SED: &str = "sed -i s/round_robin/least_connections/ \"$1\"";

fn start() -> Watched {
    Watched::start(&named("round_robin"), &[])
}

#[test]
fn a_file_written_in_place_is_applied_once() {
    let watched = start();
    watched.accepted_after(|| watched.bench.write(&named("least_connections")));
    assert_eq!(watched.bench.strategy(), "least_connections");
    watched.end(1);
}

#[test]
fn a_file_replaced_by_sed_is_applied_once_every_time() {
    let watched = start();
    watched.accepted_after(|| shell(SED, &[&watched.path("lb.toml")]));
    assert_eq!(watched.bench.strategy(), "least_connections");
    watched.accepted_after(|| shell("sed -i s/least_connections/round_robin/ \"$1\"", &[&watched.path("lb.toml")]));
    assert_eq!(watched.bench.strategy(), "round_robin");
    watched.end(2);
}

#[test]
fn a_file_saved_by_vim_is_applied_once_every_time() {
    let watched = start();
    let (file, backup) = (watched.path("lb.toml"), watched.path("lb.toml~"));
    for name in ["least_connections", "round_robin"] {
        watched.accepted_after(|| {
            // vim tests whether it can write to the folder, moves the old file away, writes the new one, and removes
            // the old.
            fs::write(watched.path("4913"), "").unwrap();
            fs::remove_file(watched.path("4913")).unwrap();
            fs::rename(&file, &backup).unwrap();
            watched.bench.write(&named(name));
            fs::remove_file(&backup).unwrap();
        });
        assert_eq!(watched.bench.strategy(), name);
    }
    watched.end(2);
}

#[test]
fn a_wrong_text_is_refused_once_with_its_line_and_the_next_save_is_applied() {
    let watched = start();
    let (stage, reason) = watched.refused_after(|| watched.bench.write("[strategy\n"));
    assert!(stage == "config" && reason.contains("lb.toml:1"), "{stage}: {reason}");
    watched.accepted_after(|| watched.bench.write(&named("least_connections")));
    let log = watched.bench.lb.printed("stderr");
    let lines = |what: &str| log.lines().filter(|line| line.contains(what)).collect::<Vec<_>>();
    let refused = lines("reload refused: the running state stays");
    assert!(refused.len() == 1 && refused[0].contains("by=\"watcher\" stage=\"config\""), "{log}");
    let done = lines("reload: done");
    assert!(done.len() == 1 && done[0].contains("by=\"watcher\" generation=2"), "{log}");
    assert!(done[0].contains("swaps=\"default: least_connections"), "{log}");
    watched.end(2);
}

#[test]
fn a_touched_file_without_new_content_causes_no_attempt() {
    let watched = start();
    watched.nothing_after(|| {
        let file = File::options().write(true).open(watched.path("lb.toml")).unwrap();
        file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)).unwrap();
    });
    watched.end(1);
}

#[test]
fn a_removed_or_empty_file_is_one_warning_and_is_applied_when_it_is_back() {
    let watched = start();
    let file = watched.path("lb.toml");
    let settled = watched.settled();
    fs::remove_file(&file).unwrap();
    wait_for("the watcher to notice the change", || (watched.settled() > settled).then_some(()));
    let warnings = || watched.bench.lb.printed("stderr").matches("is gone, empty or unreadable").count();
    wait_for("a warning", || (warnings() == 1).then_some(()));
    let missing = || watched.bench.status()["watch"]["missing"].as_array().unwrap().len();
    wait_for("the status to name the file", || (missing() == 1).then_some(()));
    watched.accepted_after(|| watched.bench.write(&named("least_connections")));
    assert_eq!(warnings(), 1);
    wait_for("the status to name no file", || (missing() == 0).then_some(()));
    // A full disk can leave an empty file. lb does not apply it, although it would be valid.
    let settled = watched.settled();
    shell(": > \"$1\"", &[&file]);
    wait_for("the watcher to notice the change", || (watched.settled() > settled).then_some(()));
    wait_for("a warning", || (warnings() == 2).then_some(()));
    assert_eq!(watched.bench.strategy(), "least_connections");
    watched.accepted_after(|| watched.bench.write(&named("round_robin")));
    watched.end(2);
}

#[test]
fn content_that_another_reload_applied_is_not_attempted_again() {
    // The settle time is long, so that a manual reload comes first.
    let patient = "[reload]\nsettle_ms = 2500\npoll_ms = 86400000\n";
    let watched = Watched::start_in(tempfile::tempdir().unwrap(), patient, &named("round_robin"), &[]);
    let texts = [named("round_robin") + "[limits]\nheaders = 99\n", named("least_connections")];
    for (attempts, text) in (1..).zip(&texts) {
        let settled = watched.settled();
        assert_eq!(watched.bench.change(text)["result"], "done", "the file had not settled yet");
        wait_for("the change to settle", || (watched.settled() > settled).then_some(()));
        assert_eq!((watched.attempts(), &watched.bench.status()["reload"]["last"]["by"]), (attempts, &json!("admin")));
    }
    watched.end(2);
}

#[test]
fn a_dry_run_does_not_count_as_an_attempt() {
    let watched = start();
    watched.accepted_after(|| {
        watched.bench.write(&named("least_connections"));
        assert_eq!(post(watched.bench.lb.admin, "/reload?dry_run=1", "").status, 200);
    });
    watched.end(1);
}

#[test]
fn an_override_stays_until_a_file_changes() {
    let watched = start();
    let ring = json!({ "strategy": { "name": "consistent_hash" } }).to_string();
    assert_eq!(post(watched.bench.lb.admin, "/reload", &ring).status, 200);
    let settled = watched.settled();
    let file = watched.path("lb.toml");
    let same = || fs::write(&file, fs::read(&file).unwrap()).unwrap();
    same();
    wait_for("the change to settle", || (watched.settled() > settled).then_some(()));
    assert_eq!((watched.attempts(), watched.bench.strategy()), (1, json!("consistent_hash")));
    watched.mark();
    assert_eq!(watched.bench.strategy(), "round_robin", "the strategy in the file");
    watched.end(2);
}

#[test]
fn the_plugin_of_the_file_stays_watched_during_an_override() {
    let file = "mine.so";
    let watched = Watched::start(&filed(file), &[(file, &bytes("round_robin", ""))]);
    let ring = json!({ "strategy": { "name": "consistent_hash" } }).to_string();
    assert_eq!(post(watched.bench.lb.admin, "/reload", &ring).status, 200);
    watched.accepted_after(|| fs::write(watched.path(file), bytes("round_robin", "new")).unwrap());
    assert_eq!(watched.bench.strategy(), "round_robin", "a changed file ends an override, as a plain reload does");
    watched.end(2);
}

#[test]
fn the_file_can_switch_watching_off_and_on() {
    let mut watched = start();
    let on = std::mem::replace(&mut watched.bench.reload, "[reload]\nwatch = false\n".to_owned());
    watched.accepted_after(|| watched.bench.write(&named("round_robin")));
    wait_for("the watcher to stop", || watched.bench.status()["watch"].is_null().then_some(()));
    // A manual reload applies the file and starts the watcher again. The watcher then makes no attempt of its own.
    watched.bench.reload = on;
    let report = watched.bench.change(&named("round_robin"));
    assert_eq!((&report["result"], &report["applied"]), (&json!("done"), &json!(["reload"])));
    watched.end(2);
}

#[test]
fn a_link_to_the_file_is_followed_also_after_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("elsewhere")).unwrap();
    fs::write(folder.path().join("elsewhere/lb.toml"), "").unwrap();
    symlink("elsewhere/lb.toml", folder.path().join("lb.toml")).unwrap();
    let watched = Watched::start_in(folder, &reload_section(EVENTS_ALONE), &named("round_robin"), &[]);
    watched.accepted_after(|| shell(SED, &[&watched.path("elsewhere/lb.toml")]));
    assert_eq!(watched.bench.strategy(), "least_connections");
    fs::write(watched.path("other.toml"), watched.bench.text(&named("round_robin"))).unwrap();
    watched.accepted_after(|| shell("ln -sfn other.toml \"$1\"", &[&watched.path("lb.toml")]));
    assert_eq!(watched.bench.strategy(), "round_robin");
    watched.end(2);
}
