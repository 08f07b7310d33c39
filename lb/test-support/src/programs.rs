//! The programs of the workspace, for tests that start them.
//!
//! Cargo builds the programs of a package for the tests of that package alone. Tests of `loadgen` start `lb` and
//! `mock-server`, so they call [`build_programs`]. A run of the whole workspace finds all programs up to date.
//! Invariant: a process builds at most once, with the profile of the test.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The programs that tests of other packages start. Each is a package and a program of the same name.
const PROGRAMS: [&str; 2] = ["lb", "mock-server"];
const REMEDY: &str = "run `cargo build -p lb -p mock-server` first";

/// The path of a program that cargo built for the test that asks.
///
/// # Panics
/// If the program is absent.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    let program = folder().unwrap_or_else(|error| panic!("{error}")).join(name);
    assert!(program.exists(), "{} is absent: {REMEDY}", program.display());
    program
}

/// Builds the programs that are absent or older than their sources, at first use.
///
/// # Panics
/// If the programs cannot be built.
#[track_caller]
pub fn build_programs() {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let folder = folder()?;
        if PROGRAMS.iter().all(|name| is_fresh(&folder, name)) { Ok(()) } else { build(&folder) }
    });
    built.as_ref().unwrap_or_else(|error| panic!("{error}"));
}

/// The folder with programs, from the path of a test: `…/target/debug/deps/test`.
fn folder() -> Result<PathBuf, String> {
    let test = std::env::current_exe().map_err(|error| format!("this test does not know its executable: {error}"))?;
    let folder = test.parent().filter(|folder| folder.ends_with("deps")).and_then(Path::parent);
    folder.map(Path::to_owned).ok_or_else(|| format!("{} is not in `deps` of a target directory", test.display()))
}

/// Whether the program is newer than every file that cargo lists beside it as its source.
fn is_fresh(folder: &Path, name: &str) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    let Some(built) = changed(&folder.join(name)) else { return false };
    let Ok(list) = std::fs::read_to_string(folder.join(format!("{name}.d"))) else { return false };
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources);
    // A path with a space is written with `\ `; its pieces are absent files, so the program counts as old.
    sources.split_whitespace().all(|source| changed(Path::new(source)).is_some_and(|time| time <= built))
}

fn build(folder: &Path) -> Result<(), String> {
    // The folder of the profile `dev` is the only one with another name.
    let profile = folder.file_name().filter(|name| *name != "debug").unwrap_or(OsStr::new("dev"));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    // `--locked`, because a test run writes nothing into the checkout.
    cargo.args(["build", "--locked", "--quiet", "--bins", "--profile"]).arg(profile);
    cargo.arg("--target-dir").args(folder.parent()).args(PROGRAMS.iter().flat_map(|name| ["--package", name]));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    let output = cargo.output().map_err(|error| format!("{REMEDY}; {cargo:?} does not start: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{REMEDY}; {cargo:?} says:\n{}", String::from_utf8_lossy(&output.stderr)))
}
