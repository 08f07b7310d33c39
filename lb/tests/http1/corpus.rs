//! Runs the stored seeds of the fuzz targets. They include findings of the fuzzer, so each finding is a regression
//! test.

use std::path::Path;

use crate::checks;

#[track_caller]
fn run(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let seeds: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(seeds.len() >= 8, "only {} seeds in {}", seeds.len(), folder.display());
    for seed in seeds {
        println!("{}", seed.display());
        check(&std::fs::read(&seed).unwrap());
    }
}

#[test]
fn request_seeds_keep_the_invariants() {
    run("request", checks::request);
}

#[test]
fn response_seeds_keep_the_invariants() {
    run("response", checks::response);
}

#[test]
fn chunked_seeds_keep_the_invariants() {
    run("chunked", checks::chunked);
}

#[test]
fn differential_seeds_differ_only_for_listed_reasons() {
    run("differential", checks::differential);
    run("request", checks::differential);
}

#[test]
fn load_report_seeds_keep_the_invariants() {
    run("load_report", checks::load_report);
}
