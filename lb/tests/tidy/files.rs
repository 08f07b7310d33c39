//! Rules about complete files: they begin with their purpose, and they are short enough to be read.

use crate::sources::{Offence, Source, assert_none, sources};

const LINES_MAX: usize = 400;

/// Longer files, each with the reason.
const LONG: &[(&str, &str)] = &[];

fn without_purpose(sources: &[Source]) -> Vec<Offence> {
    let silent = sources.iter().filter(|source| !source.text.starts_with("//! "));
    silent.map(|source| source.offence(1, "the first line must be `//! ` and what the file is for")).collect()
}

fn too_long(sources: &[Source], allowed: &[(&str, &str)]) -> Vec<Offence> {
    let lines = |source: &Source| source.text.lines().count();
    let long = sources.iter().filter(|source| lines(source) > LINES_MAX);
    let unexplained =
        long.filter(|source| !allowed.iter().any(|(path, reason)| *path == source.path && !reason.is_empty()));
    let mut offences: Vec<_> = unexplained
        .map(|source| {
            source.offence(lines(source), format!("over {LINES_MAX} lines: divide it, or say why here in LONG"))
        })
        .collect();
    for (path, _) in allowed {
        if !sources.iter().any(|source| source.path == *path && lines(source) > LINES_MAX) {
            offences.push(Offence {
                path: (*path).to_owned(),
                line: 1,
                what: "needs no place in LONG any more".to_owned(),
            });
        }
    }
    offences
}

#[test]
fn every_file_begins_with_its_purpose() {
    assert_none(&without_purpose(sources()));
}

#[test]
fn every_file_over_400_lines_has_a_reason() {
    assert_none(&too_long(sources(), LONG));
}

#[test]
fn a_file_without_purpose_is_caught() {
    let bad = ["", "fn f() {}\n", "// plain\n", "\n//! late\n"].map(|text| Source::new("lb/src/a.rs", text));
    assert_eq!(without_purpose(&bad).len(), bad.len());
    assert_eq!(without_purpose(&[Source::new("lb/src/a.rs", "//! good\n")]), []);
}

#[test]
fn a_long_file_and_a_stale_reason_are_caught() {
    let sources = [Source::new("long.rs", &"\n".repeat(401)), Source::new("short.rs", &"\n".repeat(400))];
    assert_eq!(too_long(&sources, &[]).len(), 1);
    assert_eq!(too_long(&sources, &[("long.rs", "")]).len(), 1);
    assert_eq!(too_long(&sources, &[("long.rs", "a table")]), []);
    assert_eq!(too_long(&sources, &[("long.rs", "a table"), ("short.rs", "was long")]).len(), 1);
}
