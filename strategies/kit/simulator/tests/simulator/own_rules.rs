//! The simulator has no rule of its own: what decides around a strategy is in `lb-balance`, where the proxy finds it.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, found),
            false => found.push(path),
        }
    }
}

/// The types and functions that the rules' crate exports, by the names in its `lib.rs`.
fn exported(text: &str) -> Vec<&str> {
    let exports = text.split("pub use ").skip(1).filter_map(|rest| rest.split_once(';'));
    let words = exports.flat_map(|(list, _)| list.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words
        .filter(|word| word.starts_with(char::is_uppercase) || word.contains("_pick") || word.starts_with("to_"))
        .collect()
}

/// Where a source defines a type or a function with one of these names.
fn definitions<'a>(text: &'a str, names: &[&str]) -> Vec<&'a str> {
    let names_one = |line: &&str| {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_').skip_while(|word| word.is_empty());
        let is_definition = words.by_ref().any(|word| ["struct", "enum", "fn", "type", "trait"].contains(&word));
        is_definition && words.next().is_some_and(|name| names.contains(&name))
    };
    text.lines().filter(names_one).collect()
}

#[test]
fn no_source_defines_what_the_crate_of_the_rules_exports() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(here.join("../balance/src/lib.rs")).unwrap();
    let names = exported(&text);
    assert!(
        ["RetryPlan", "RetryBudget", "Queue", "Caps", "Outliers", "SlowStart", "Standing"]
            .iter()
            .all(|rule| names.contains(rule))
    );
    let mut files = Vec::new();
    sources(&here.join("src"), &mut files);
    assert!(files.len() > 10);
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        assert_eq!(definitions(&source, &names), [""; 0], "{}: use the one of lb-balance", file.display());
    }
}

#[test]
fn a_rule_of_its_own_would_be_found() {
    let names = ["RetryBudget", "fallback_pick"];
    assert_eq!(definitions("pub(crate) struct RetryBudget {\n", &names).len(), 1);
    assert_eq!(definitions("    fn fallback_pick(x: u8) {}\nlet x = RetryBudget::new();", &names).len(), 1);
}
