//! Changes of the plugin's file: overwritten by a copy, truncated, linked again by a compiler, removed, put back.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use lb_test_support::{Balancer, command, folder, wait_for};

use super::{EVENTS_ALONE, Watched, reload_section, shell};
use crate::bench::{Bench, bytes, filed, named};

const FILE: &str = "libround_robin.so";

fn start() -> Watched {
    Watched::start(&filed(FILE), &[(FILE, &bytes("round_robin", ""))])
}

#[test]
fn a_library_copied_over_the_loaded_one_is_applied_once() {
    let watched = start();
    fs::write(watched.path("new.so"), bytes("round_robin", "new")).unwrap();
    let before = watched.sha256();
    watched.accepted_after(|| shell("cp \"$1\" \"$2\"", &[&watched.path("new.so"), &watched.path(FILE)]));
    assert_ne!(watched.sha256(), before);
    let files = ["lb.toml", FILE].map(|name| watched.path(name));
    assert_eq!(watched.bench.status()["watch"]["files"], serde_json::json!(files));
    watched.end(1);
}

#[test]
fn an_emptied_or_cut_library_is_refused_once_and_never_mapped() {
    let watched = start();
    let (file, good) = (watched.path(FILE), bytes("round_robin", ""));
    let (stage, _) = watched.refused_after(|| shell(": > \"$1\"", &[&file]));
    assert_eq!(stage, "elf");
    let (stage, _) = watched.refused_after(|| fs::write(&file, &good[..good.len() / 2]).unwrap());
    assert_eq!(stage, "elf");
    let (stage, _) = watched.refused_after(|| OpenOptions::new().write(true).open(&file).unwrap().set_len(99).unwrap());
    assert_eq!(stage, "elf");
    let last = watched.attempt_after(|| fs::write(&file, &good).unwrap());
    assert_eq!(last["result"], "no_change", "the file has the loaded bytes again");
    watched.end(4);
}

#[test]
fn refused_bytes_are_not_tried_again_until_they_change() {
    let watched = start();
    let file = watched.path(FILE);
    assert_eq!(watched.refused_after(|| fs::write(&file, "a poem\n").unwrap()).0, "elf");
    let settled = watched.settled();
    let touch = || {
        let touched = File::options().write(true).open(&file).unwrap();
        touched.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)).unwrap();
    };
    // No marker here: it would cause another attempt on the same bytes.
    let rest = |what: &str, settled: u64| {
        wait_for(what, || (watched.settled() > settled).then_some(()));
        assert_eq!(watched.attempts(), 1, "{what}");
        settled + 1
    };
    touch();
    let settled = rest("a touched file", settled);
    fs::write(watched.path("same"), "a poem\n").unwrap();
    fs::rename(watched.path("same"), &file).unwrap();
    rest("another file with the same bytes", settled);
    watched.accepted_after(|| fs::write(&file, bytes("round_robin", "mended")).unwrap());
    watched.end(2);
}

#[test]
fn a_library_linked_again_by_cargo_is_applied_once() {
    let watched = start();
    let (file, deps) = (watched.path(FILE), watched.path("deps.so"));
    for version in 1..=3 {
        // The linker writes another file. The hard link that cargo made before still leads to the old file.
        let _ = fs::remove_file(&deps);
        fs::write(&deps, bytes("round_robin", &format!("version {version}"))).unwrap();
        watched.accepted_after(|| {
            fs::remove_file(&file).unwrap();
            fs::hard_link(&deps, &file).unwrap();
        });
    }
    watched.end(3);
}

#[test]
fn a_plugin_is_tried_and_applied_although_the_binary_of_lb_was_replaced() {
    let watched = Watched::of(Bench::start_by(&reload_section(EVENTS_ALONE), &filed(FILE), |text| {
        let folder = folder(text);
        let own = folder.path().join("lb");
        // By another process: a child that another test forks would inherit the open file, and the kernel starts no
        // program that is open for writing.
        shell("cp \"$1\" \"$2\"", &[Path::new(env!("CARGO_BIN_EXE_lb")), &own]);
        fs::write(folder.path().join(FILE), bytes("round_robin", "")).unwrap();
        let usual = command(&folder, &[]);
        let mut command = Command::new(own);
        command.args(usual.get_args()).env_clear().env("HOME", folder.path()).current_dir(folder.path());
        let stderr = File::create(folder.path().join("stderr")).unwrap();
        Balancer::start_command(command, stderr, folder)
    }));
    // A compiler unlinks the running program and writes another file there.
    fs::remove_file(watched.path("lb")).unwrap();
    fs::write(watched.path("lb"), "no program").unwrap();
    watched.accepted_after(|| fs::write(watched.path(FILE), bytes("round_robin", "new")).unwrap());
    watched.end(1);
}

#[test]
fn a_library_in_an_earlier_folder_is_applied_when_it_appears_and_dropped_when_it_is_removed() {
    let watched = Watched::of(Bench::start_by(&reload_section(EVENTS_ALONE), &named("round_robin"), |text| {
        let folder = folder(text);
        let dirs = [folder.path().join("not/there/yet"), lb_strategy_built::folder().to_owned()];
        Balancer::start_in(folder, &["--set", &format!("plugin_dirs={dirs:?}")])
    }));
    let before = watched.sha256();
    let earlier = watched.path("not/there/yet");
    watched.accepted_after(|| {
        fs::create_dir_all(&earlier).unwrap();
        fs::write(earlier.join(FILE), bytes("round_robin", "earlier")).unwrap();
    });
    assert_ne!(watched.sha256(), before);
    watched.accepted_after(|| fs::remove_dir_all(&earlier).unwrap());
    assert_eq!(watched.sha256(), before);
    watched.end(2);
}

#[test]
fn a_removed_library_is_one_warning_and_no_attempt() {
    let watched = start();
    let file = watched.path(FILE);
    let good = fs::read(&file).unwrap();
    let settled = watched.settled();
    fs::remove_file(&file).unwrap();
    wait_for("the watcher to notice the removal", || (watched.settled() > settled).then_some(()));
    let warnings = || watched.bench.lb.printed("stderr").matches("is gone, empty or unreadable").count();
    wait_for("a warning", || (warnings() == 1).then_some(()));
    // The same bytes come back, which causes no attempt either.
    fs::write(&file, good).unwrap();
    wait_for("the file to settle again", || (watched.settled() > settled + 1).then_some(()));
    assert_eq!(warnings(), 1);
    watched.end(0);
}

#[test]
fn the_watcher_tries_again_when_the_library_of_a_refused_text_is_corrected() {
    let watched = Watched::start(&named("round_robin"), &[("mine.so", b"not yet\n")]);
    let text = watched.bench.text(&filed("mine.so"));
    assert_eq!(watched.refused_after(|| fs::write(watched.path("lb.toml"), text).unwrap()).0, "elf");
    watched.accepted_after(|| fs::write(watched.path("mine.so"), bytes("least_connections", "")).unwrap());
    assert_eq!(watched.bench.strategy(), "least_connections");
    watched.end(2);
}
