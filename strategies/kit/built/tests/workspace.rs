//! The strategies of this workspace: which are shipped, and which properties their libraries have.

use std::fs;
use std::path::Path;
use std::process::Command;

use lb_strategy_built::{folder, library, shipped};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap()
}

#[test]
fn shipped_are_the_folders_directly_below_strategies() {
    let entries = fs::read_dir(root().join("strategies")).unwrap().map(|entry| entry.unwrap().path());
    let folders = entries.filter(|path| path.join("Cargo.toml").is_file());
    let mut names: Vec<_> = folders.map(|path| path.file_name().unwrap().to_str().unwrap().replace('-', "_")).collect();
    names.sort();
    assert_eq!(shipped().collect::<Vec<_>>(), names);
}

#[test]
fn examples_and_fixtures_have_libraries_beside_the_shipped_ones() {
    let others = [
        "two_choices",
        "fastest_half",
        "prefix_affinity",
        "central_queue",
        "own_zone",
        "probed_latency",
        "by_cost",
        "moody",
        "reporter",
    ];
    for name in shipped().chain(others) {
        assert_eq!(library(name).parent(), Some(folder()));
        assert!(library(name).is_file(), "{name}");
    }
    assert!(!shipped().any(|name| others.contains(&name)));
}

/// `cargo new` writes the new folder into this list, where a pattern covers it already.
#[test]
fn the_workspace_names_strategies_by_patterns_only() {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let named: Vec<_> = text.split('"').skip(1).step_by(2).filter(|quoted| quoted.starts_with("strategies/")).collect();
    let is_single = |path: &&&str| !path.contains('*') && !path.starts_with("strategies/kit/");
    assert!(named.len() >= 7, "the test reads another format: {named:?}");
    assert_eq!(named.iter().filter(is_single).collect::<Vec<_>>(), Vec::<&&str>::new(), "a folder needs no entry");
}

/// Debug information would be nine tenths of an unoptimised library, and each load reads and hashes the file.
#[test]
fn no_library_has_debug_information() {
    for name in shipped() {
        let bytes = fs::read(library(name)).unwrap();
        // The section's name as it is in an ELF file.
        assert!(!bytes.windows(13).any(|found| found == b"\0.debug_info\0"), "{name}");
    }
}

#[test]
fn cargo_build_builds_no_broken_strategy() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let built =
        |key: &str| -> Vec<&str> { metadata[key].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect() };
    let is_broken = |id: &&str| id.contains("/examples/broken/");
    assert_eq!(built("workspace_default_members").into_iter().filter(is_broken).collect::<Vec<_>>(), [""; 0]);
    assert!(built("workspace_members").iter().any(is_broken), "ids are not written as they were");
    for name in shipped() {
        let folder = format!("/strategies/{}#", name.replace('_', "-"));
        assert!(built("workspace_default_members").iter().any(|id| id.contains(&folder)), "{name}");
    }
}
