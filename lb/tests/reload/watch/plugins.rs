//! The plugin's file changes: copied over, cut short, linked anew by a compiler, gone, back.

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
fn a_library_copied_over_the_loaded_one_is_taken_up_once() {
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
    assert_eq!(last["result"], "no_change", "the bytes that run are back");
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
    // No marker in between: that would be another attempt on the same bytes.
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
fn a_library_linked_anew_as_cargo_does_is_taken_up_once() {
    let watched = start();
    let (file, deps) = (watched.path(FILE), watched.path("deps.so"));
    for version in 1..=3 {
        // The linker puts another file beside; what cargo has linked before is still the old one.
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
fn a_plugin_is_tried_and_taken_up_though_lbs_own_binary_was_replaced() {
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
    // A compiler unlinks the program that runs and puts another one there.
    fs::remove_file(watched.path("lb")).unwrap();
    fs::write(watched.path("lb"), "no program").unwrap();
    watched.accepted_after(|| fs::write(watched.path(FILE), bytes("round_robin", "new")).unwrap());
    watched.end(1);
}

#[test]
fn a_library_that_comes_into_an_earlier_folder_counts_and_again_when_it_goes() {
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
fn a_library_that_is_gone_is_told_once_and_nothing_is_attempted() {
    let watched = start();
    let file = watched.path(FILE);
    let good = fs::read(&file).unwrap();
    let settled = watched.settled();
    fs::remove_file(&file).unwrap();
    wait_for("it to be missed", || (watched.settled() > settled).then_some(()));
    let warnings = || watched.bench.lb.printed("stderr").matches("is gone, empty or unreadable").count();
    wait_for("a warning", || (warnings() == 1).then_some(()));
    // The same bytes are back: nothing to attempt either.
    fs::write(&file, good).unwrap();
    wait_for("it to be there again", || (watched.settled() > settled + 1).then_some(()));
    assert_eq!(warnings(), 1);
    watched.end(0);
}

#[test]
fn mending_the_broken_library_that_a_refused_text_names_is_noticed() {
    let watched = Watched::start(&named("round_robin"), &[("mine.so", b"not yet\n")]);
    let text = watched.bench.text(&filed("mine.so"));
    assert_eq!(watched.refused_after(|| fs::write(watched.path("lb.toml"), text).unwrap()).0, "elf");
    watched.accepted_after(|| fs::write(watched.path("mine.so"), bytes("least_connections", "")).unwrap());
    assert_eq!(watched.bench.strategy(), "least_connections");
    watched.end(2);
}
