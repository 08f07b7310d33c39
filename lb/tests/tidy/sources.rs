//! The files of the workspace as text, and the offences that rules find in them.
//!
//! Invariant: paths are relative to the root of the workspace and use `/` on every system.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::lexer::{Blanked, blank};

/// One Rust file.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) blanked: Blanked,
}

/// Any other file.
pub(crate) struct Page {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// One line that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Offence {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) what: String,
}

pub(crate) fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("lb lies in the workspace");
    assert!(root.join("Cargo.toml").is_file(), "{} is not the workspace", root.display());
    root.to_owned()
}

/// Every Rust file of the workspace, tests and examples too. Read once.
pub(crate) fn sources() -> &'static [Source] {
    static FOUND: LazyLock<Vec<Source>> =
        LazyLock::new(|| pages("", "rs").into_iter().map(|page| Source::new(&page.path, &page.text)).collect());
    assert!(FOUND.len() > 50, "only {} Rust files found: is this the workspace?", FOUND.len());
    &FOUND
}

/// The files below `folder` with this extension.
pub(crate) fn pages(folder: &str, extension: &str) -> Vec<Page> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("the folder can be listed").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with('.') || ["target", "node_modules"].contains(&name) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(page(&root, &path));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// One file by its path from the root.
pub(crate) fn named(path: &str) -> Page {
    let root = root();
    page(&root, &root.join(path))
}

fn page(root: &Path, path: &Path) -> Page {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let relative = path.strip_prefix(root).expect("the path is below the root");
    Page { path: relative.to_string_lossy().replace('\\', "/"), text }
}

/// Fails with every offence, one a line.
#[track_caller]
pub(crate) fn assert_none(offences: &[Offence]) {
    let lines: Vec<_> =
        offences.iter().map(|Offence { path, line, what }| format!("  {path}:{line}: {what}")).collect();
    assert!(lines.is_empty(), "{} offences\n{}", lines.len(), lines.join("\n"));
}

/// The byte indexes of `word` in `text` as a whole word.
pub(crate) fn find_word<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| !is_part(text[..*at].chars().next_back()) && !is_part(text[at + word.len()..].chars().next()))
}

/// The line of a byte index, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The identifier that `text` begins with, perhaps empty.
pub(crate) fn leading_word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

// === impl Source ===

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), blanked: blank(text) }
    }

    /// The first line of test code: line 1 in a file of tests, else the line of the test module at the end.
    pub(crate) fn tests_from(&self) -> Option<usize> {
        let is_support = self.path.contains("/test-support/");
        if is_support || self.is_integration_test() || self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
        {
            return Some(1);
        }
        let lines: Vec<_> = self.blanked.code.lines().collect();
        let starts = |pair: &[&str]| pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod ");
        lines.windows(2).position(starts).map(|index| index + 1)
    }

    pub(crate) fn is_integration_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests") && !self.path.contains("/src/")
    }

    pub(crate) fn offence(&self, line: usize, what: impl Into<String>) -> Offence {
        Offence { path: self.path.clone(), line, what: what.into() }
    }
}

#[test]
fn the_first_line_of_test_code_is_found() {
    assert_eq!(Source::new("lb/tests/x.rs", "").tests_from(), Some(1));
    assert_eq!(Source::new("lb/src/config/tests.rs", "").tests_from(), Some(1));
    assert_eq!(Source::new("lb/test-support/src/x.rs", "").tests_from(), Some(1));
    assert_eq!(Source::new("lb/src/a.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n}").tests_from(), Some(2));
    assert_eq!(Source::new("lb/src/a.rs", "#[cfg(test)]\nfn f() {}").tests_from(), None);
}

#[test]
fn only_whole_words_are_found() {
    assert_eq!(find_word("unsafe unsafely is_unsafe (unsafe)", "unsafe").collect::<Vec<_>>(), [0, 27]);
}
