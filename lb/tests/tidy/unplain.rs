//! The list of files that break the rules of `plain`: `unplain.txt` has their numbers of offences, which may only fall.
//!
//! `UPDATE_UNPLAIN=1 cargo test -p lb --test tidy plain` writes the smaller numbers to the list. It adds no file and
//! raises no number: if a file moves, change its path in the list by hand. An empty list is written completely, which
//! helps after merges of branches that each moved many files.

use std::collections::BTreeMap;

use crate::plain;
use crate::sources::{Offence, named, root, sources};

const LIST: &str = "lb/tests/tidy/unplain.txt";
const UPDATE: &str = "UPDATE_UNPLAIN";
const REMEDY: &str = "run UPDATE_UNPLAIN=1 cargo test -p lb --test tidy plain";
const HEADER: &str = "\
# Files that offend against plain.rs, and how often. A number may only fall.
# UPDATE_UNPLAIN=1 cargo test -p lb --test tidy plain
";

/// Numbers of offences by path. A file without offences is left out.
type Counts = BTreeMap<String, usize>;

/// All offences of the workspace, by path.
fn found() -> BTreeMap<String, Vec<Offence>> {
    let all = sources().iter().map(|source| (source.path.clone(), plain::offences(source)));
    all.filter(|(_, offences)| !offences.is_empty()).collect()
}

fn parse(list: &str) -> Counts {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let parsed = line.split_once(' ').and_then(|(count, path)| Some((path.to_owned(), count.parse().ok()?)));
            parsed.unwrap_or_else(|| panic!("{LIST}: `{line}` is not a number, a space and a path"))
        })
        .collect()
}

fn write(counts: &Counts) -> String {
    let lines: String = counts.iter().map(|(path, count)| format!("{count} {path}\n")).collect();
    format!("{HEADER}{lines}")
}

/// The list with the numbers that fell. A number that rose stays as listed, so that the test still fails.
fn tightened(listed: &Counts, found: &Counts) -> Counts {
    if listed.is_empty() {
        return found.clone();
    }
    let better = listed.iter().map(|(path, count)| (path.clone(), *found.get(path).unwrap_or(&0).min(count)));
    better.filter(|(_, count)| *count > 0).collect()
}

/// Paths whose number differs from the list, with the listed and the found number.
fn differing(listed: &Counts, found: &Counts) -> Vec<(String, usize, usize)> {
    let paths: std::collections::BTreeSet<_> = listed.keys().chain(found.keys()).collect();
    let count = |counts: &Counts, path: &String| counts.get(path).copied().unwrap_or(0);
    let all = paths.into_iter().map(|path| (path.clone(), count(listed, path), count(found, path)));
    all.filter(|(_, listed, found)| listed != found).collect()
}

#[test]
fn no_file_has_more_offences_than_the_list_allows() {
    let found = found();
    let counts: Counts = found.iter().map(|(path, offences)| (path.clone(), offences.len())).collect();
    let mut listed = parse(&named(LIST).text);
    if std::env::var_os(UPDATE).is_some() {
        listed = tightened(&listed, &counts);
        std::fs::write(root().join(LIST), write(&listed)).expect("the list can be written");
    }
    let mut report = String::new();
    for (path, listed, found_now) in differing(&listed, &counts) {
        if found_now < listed {
            report += &format!("  {path}: {found_now} offences, listed with {listed}: {REMEDY}\n");
            continue;
        }
        report += &format!("  {path}: {found_now} offences, listed with {listed}: mend the new ones\n");
        for Offence { line, what, .. } in &found[&path] {
            report += &format!("    {path}:{line}: {what}\n");
        }
    }
    assert!(report.is_empty(), "files differ from {LIST}:\n{report}");
}

#[test]
fn plain_list_may_only_shrink() {
    let counts = |pairs: &[(&str, usize)]| -> Counts { pairs.iter().map(|(p, n)| ((*p).to_owned(), *n)).collect() };
    let listed = counts(&[("better.rs", 3), ("clean.rs", 1), ("gone.rs", 2), ("same.rs", 1), ("worse.rs", 1)]);
    let found = counts(&[("better.rs", 2), ("new.rs", 1), ("same.rs", 1), ("worse.rs", 2)]);
    let differing_of = |listed: &Counts| -> Vec<_> { differing(listed, &found).into_iter().map(|row| row.0).collect() };
    assert_eq!(differing_of(&listed), ["better.rs", "clean.rs", "gone.rs", "new.rs", "worse.rs"]);
    let tight = tightened(&listed, &found);
    assert_eq!(tight, counts(&[("better.rs", 2), ("same.rs", 1), ("worse.rs", 1)]));
    assert_eq!(differing_of(&tight), ["new.rs", "worse.rs"], "an update hides no new offence");
    assert_eq!(tightened(&Counts::new(), &found), found);
    assert_eq!(parse(&write(&tight)), tight);
}
