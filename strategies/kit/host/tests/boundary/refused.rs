//! Files that are no plugins: each is refused at the stage that checks for it, with a reason that names the remedy.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use lb_strategy_host::{LoadError, Loader, Stage, Wanted, find};

use crate::fixture::{Bench, source};

#[track_caller]
fn assert_refused(error: &LoadError, stage: Stage, words: &[&str]) {
    assert_eq!(error.stage, stage, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is missing in: {error}");
    }
}

fn refusal(bench: &Bench, path: &Path) -> LoadError {
    match bench.load(path) {
        Ok(plugin) => panic!("{} was taken as {}", path.display(), plugin.name()),
        Err(error) => error,
    }
}

#[test]
fn a_broken_table_is_refused_at_stage_version_with_what_is_wrong() {
    let bench = Bench::new();
    for (fixture, words) in [
        ("wrong_major", ["major version 2", "this lb 1"]),
        ("short_table", ["a table of 136 bytes", "needs 144"]),
        ("tiny_table", ["a table of 4 bytes", "needs 144"]),
        ("missing_hook", ["lacks the required hook", "picker_free"]),
        ("refuses_host", ["refuses this host", "1.1"]),
        ("needs_newer_host", ["1.99 or newer", "update lb"]),
        ("greedy_body", ["65537 bytes of each body (body_bytes)", "at most 65536"]),
    ] {
        let path = bench.compile(&format!("broken/{fixture}"));
        assert_refused(&refusal(&bench, &path), Stage::Version, &words);
        assert_refused(&refusal(&bench, &path), Stage::Version, &words);
    }
}

#[test]
fn too_many_response_headers_and_names_that_are_none_are_refused() {
    let bench = Bench::new();
    let build = |flags: &[&str]| bench.build("cc", &source("examples/broken/asks_headers.c"), "libasks.so", flags);
    for (flags, words) in [
        (&["-DCOUNT=9"][..], ["9 response headers", "8 is the limit"]),
        (&["-DNAME=\"a b\""], ["\"a b\"", "no header name"]),
        (&["-DNAME=\"\""], ["\"\"", "no header name"]),
        (&["-DFLAGS=.flags=LB_F_WANTS_FINISH"], ["names response headers", "LB_F_WANTS_ANSWER"]),
    ] {
        assert_refused(&refusal(&bench, &build(flags)), Stage::Version, &words);
    }
    assert_eq!(bench.load(&build(&["-DNAME=\"X-Load\""])).unwrap().response_headers()[0][..], b"x-load"[..]);
}

#[test]
fn a_library_that_is_no_strategy_is_refused_before_any_of_it_runs() {
    let bench = Bench::new();
    let error = refusal(&bench, &bench.compile("broken/not_a_strategy"));
    assert_refused(&error, Stage::Elf, &["not a strategy", "lb_strategy_entry_v1"]);
    assert_eq!(bench.loader.images(), 0);
}

#[test]
fn a_missing_symbol_is_refused_at_load_and_not_at_the_first_pick() {
    let bench = Bench::new();
    let error = refusal(&bench, &bench.compile("broken/missing_symbol"));
    assert_refused(&error, Stage::Open, &["defined_nowhere"]);
}

#[test]
fn a_name_that_differs_from_the_wanted_one_is_refused() {
    let bench = Bench::new();
    let path = bench.compile("first_eligible");
    let wanted = Wanted { path: &path, name: Some("round_robin"), sha256: None };
    let Err(error) = bench.loader.load(&wanted) else { panic!("it was taken") };
    assert_refused(&error, Stage::Name, &["first_eligible", "round_robin"]);
}

#[test]
fn a_wrong_pin_is_refused_and_the_right_one_is_accepted() {
    let bench = Bench::new();
    let path = bench.compile("first_eligible");
    let Err(error) = bench.loader.load(&Wanted { path: &path, name: None, sha256: Some([0xab; 32]) }) else {
        panic!("it was taken")
    };
    assert_refused(&error, Stage::Pin, &["abababab", "sha256"]);
    let output = Command::new("sha256sum").arg(&path).output().expect("sha256sum runs");
    let hex = String::from_utf8(output.stdout).expect("digits")[..64].to_owned();
    let pin: [u8; 32] = std::array::from_fn(|byte| u8::from_str_radix(&hex[2 * byte..][..2], 16).expect("digits"));
    let plugin = bench.loader.load(&Wanted { path: &path, name: Some("first_eligible"), sha256: Some(pin) });
    assert_eq!(plugin.unwrap().sha256_hex(), Some(hex));
}

#[test]
fn a_path_that_is_no_regular_file_is_refused_at_stage_read_without_waiting() {
    let bench = Bench::new();
    assert_refused(&refusal(&bench, &bench.path("missing.so")), Stage::Read, &["missing.so", "No such file"]);
    assert_refused(&refusal(&bench, bench.directory.path()), Stage::Read, &["not a regular file"]);
    let pipe = bench.path("pipe.so");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    assert_refused(&refusal(&bench, &pipe), Stage::Read, &["not a regular file"]);
}

#[test]
fn a_file_that_is_no_shared_library_for_this_machine_is_refused_at_stage_elf() {
    let bench = Bench::new();
    let file = bench.path("libx.so");
    let good = fs::read(bench.compile("first_eligible")).unwrap();
    let mut other_machine = good.clone();
    other_machine[18] = 0xF7; // EM_BPF
    let mut executable = good.clone();
    executable[16] = 2; // ET_EXEC
    let mut class_32 = good;
    class_32[4] = 1;
    for (bytes, word) in [
        (&b""[..], "no ELF header"),
        (b"[strategy]\nname = \"round_robin\"\n", "no ELF header"),
        (b"\x7fELF", "damaged or cut short"),
        (&[0; 5000], "no ELF header"),
        (&other_machine, "another machine"),
        (&executable, "not a shared library"),
        (&class_32, "damaged or cut short"),
    ] {
        fs::write(&file, bytes).unwrap();
        assert_refused(&refusal(&bench, &file), Stage::Elf, &["libx.so", word]);
    }
}

#[test]
fn a_segment_or_section_that_ends_past_the_file_is_refused() {
    let bench = Bench::new();
    let good = fs::read(bench.compile("first_eligible")).unwrap();
    let word = |at: usize| u64::from_le_bytes(good[at..at + 8].try_into().unwrap()) as usize;
    let (program_headers, section_headers) = (word(0x20), word(0x28));
    let file = bench.path("libx.so");
    for (at, what) in [(program_headers + 0x20, "a segment"), (section_headers + 64 + 0x20, "a section")] {
        for size in [good.len() as u64 + 1, u64::MAX] {
            let mut bytes = good.clone();
            bytes[at..at + 8].copy_from_slice(&size.to_le_bytes());
            fs::write(&file, bytes).unwrap();
            assert_refused(&refusal(&bench, &file), Stage::Elf, &[what, "outside the file"]);
        }
    }
}

#[test]
fn every_truncation_is_refused_before_it_can_be_mapped() {
    let bench = Bench::new();
    let good = fs::read(bench.compile("first_eligible")).unwrap();
    let file = bench.path("libcut.so");
    let lengths = (0..200).chain((200..good.len()).step_by(37)).chain([good.len() - 1]);
    for length in lengths {
        fs::write(&file, &good[..length]).unwrap();
        assert_refused(&refusal(&bench, &file), Stage::Elf, &[]);
    }
    fs::write(&file, &good).unwrap();
    assert_eq!(bench.load(&file).unwrap().name(), "first_eligible");
}

#[test]
fn a_file_that_all_users_may_write_or_replace_is_refused() {
    let bench = Bench::new();
    let built = bench.compile("first_eligible");
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let (outer, inner) = (bench.path("outer"), bench.path("outer/inner"));
    fs::create_dir_all(&inner).unwrap();
    let path = inner.join("libx.so");
    fs::copy(&built, &path).unwrap();
    mode(&path, 0o757);
    assert_refused(&refusal(&bench, &path), Stage::Permissions, &["is writable by all users: run `chmod o-w` on it"]);
    mode(&path, 0o755);
    // A link in a good folder leads to the bad folder too.
    let link = bench.path("liblink.so");
    symlink(&path, &link).unwrap();
    for folder in [&inner, &outer] {
        mode(folder, 0o777);
        let told = format!("lies in {}, which is writable by all users", folder.canonicalize().unwrap().display());
        for path in [&path, &link] {
            assert_refused(&refusal(&bench, path), Stage::Permissions, &[&told, "chmod o-w"]);
        }
        // As in /tmp, where only the owner of a file may replace it.
        mode(folder, 0o1777);
        assert!(bench.load(&link).is_ok());
        mode(folder, 0o755);
    }
}

#[test]
fn a_file_that_a_group_may_write_or_replace_is_refused_unless_that_is_allowed() {
    let bench = Bench::new();
    let built = bench.compile("first_eligible");
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    // A group that no system has. Only root can give a file to it.
    let shared = |path: &Path| chown(path, None, Some(54321));
    let folder = bench.path("folder");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("libx.so");
    fs::copy(&built, &path).unwrap();
    if let Err(error) = shared(&path).and_then(|()| shared(&folder)) {
        return println!("not shown here: only root can give a file to another group ({error})");
    }
    mode(&path, 0o775);
    let words = ["is writable by its group 54321: run `chmod g-w` on it", "allow_group_writable"];
    assert_refused(&refusal(&bench, &path), Stage::Permissions, &words);
    mode(&path, 0o755);
    mode(&folder, 0o775);
    let lies = format!("lies in {}, which is writable by its group 54321", folder.canonicalize().unwrap().display());
    assert_refused(&refusal(&bench, &path), Stage::Permissions, &[&lies, "chmod g-w", "allow_group_writable"]);
    // As in /tmp, where only the owner of a file may replace it.
    mode(&folder, 0o1775);
    assert!(bench.load(&path).is_ok());
    mode(&folder, 0o775);
    mode(&path, 0o775);
    let lenient = Loader::new(bench.path("lenient"), 1).with_group_writable(true);
    assert!(lenient.load(&Wanted { path: &path, name: None, sha256: None }).is_ok());
    mode(&path, 0o777);
    let error = lenient.load(&Wanted { path: &path, name: None, sha256: None }).err().expect("refused");
    assert_refused(&error, Stage::Permissions, &["is writable by all users"]);
}

#[test]
fn a_file_of_another_user_is_refused() {
    let bench = Bench::new();
    let path = bench.compile("first_eligible");
    if let Err(error) = chown(&path, Some(12345), None) {
        return println!("not shown here: only root can give a file away ({error})");
    }
    let words = ["belongs to user 12345: it must belong to root or to the user that runs lb"];
    assert_refused(&refusal(&bench, &path), Stage::Permissions, &words);
}

#[test]
fn the_first_file_found_counts_even_if_it_is_broken() {
    let bench = Bench::new();
    let (first, second) = (bench.path("first"), bench.path("second"));
    fs::create_dir(&first).unwrap();
    fs::create_dir(&second).unwrap();
    let good = bench.compile("first_eligible");
    fs::copy(&good, second.join("libmine.so")).unwrap();
    let directories = [first.clone(), second.clone()];
    assert_eq!(find("mine", &directories).unwrap(), second.join("libmine.so"));
    fs::write(first.join("libmine.so"), "broken").unwrap();
    assert_eq!(find("mine", &directories).unwrap(), first.join("libmine.so"));
    let error = find("other", &directories).unwrap_err();
    assert_refused(&error, Stage::Find, &["other", "first", "second", "plugin_dirs"]);
}
