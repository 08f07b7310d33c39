//! Positions in an experiment file: from a parser's error to its key, and from a key to its line.
//!
//! A [`Plan`](super::Plan) has no positions. For errors that are found later, by lb or with flags of the command line,
//! the text is searched again.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One key of the text with its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// For example `arms[1].strategy`.
    pub(super) path: String,
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
    /// The content of a value in quotes.
    pub(super) text: Option<String>,
    pub(super) is_table: bool,
}

/// All keys, parents first; empty if the text is not TOML.
pub(super) fn entries(text: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    if let Ok(root) = DeTable::parse(text) {
        visit(root.get_ref(), "", &mut found);
    }
    found
}

/// The line, from 1, of the byte at `offset`.
pub(super) fn line(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}

/// A path in the form of error messages, for example `arms.strategy`.
pub(super) fn without_indexes(path: &str) -> String {
    let mut is_index = false;
    let keep = |char: &char| {
        is_index = (is_index || *char == '[') && *char != ']';
        !is_index && *char != ']'
    };
    path.chars().filter(keep).collect()
}

/// The index of the innermost key around an error.
pub(super) fn around(entries: &[Entry], span: &Range<usize>) -> Option<usize> {
    let width = |range: &Range<usize>| (range.start <= span.start && span.end <= range.end).then_some(range.len());
    let narrowest = |entry: &Entry| width(&entry.key).into_iter().chain(width(&entry.value)).min();
    let found = entries.iter().enumerate().rev().filter_map(|(at, entry)| Some((narrowest(entry)?, at)));
    found.min_by_key(|(width, _)| *width).map(|(_, at)| at)
}

/// The line of a key of the file at `path`, such as `budget`; `None` if the file does not have it.
pub fn line_of(path: &Path, key: &str) -> Option<usize> {
    let text = std::fs::read_to_string(path).ok()?;
    entries(&text).iter().find(|entry| entry.path == key).map(|entry| line(&text, entry.key.start))
}

/// The line of the arm with this label in the file at `path`, and the key. It is an option or a key of lb that
/// `complaint` names, else the strategy.
pub fn line_of_arm(path: &Path, label: &str, complaint: &str) -> Option<(usize, String)> {
    let text = std::fs::read_to_string(path).ok()?;
    let entries = entries(&text);
    let of = |arm: &str, key: &str| entries.iter().find(|entry| entry.path == format!("{arm}.{key}"));
    // the label of an arm defaults to its strategy
    let is_meant = |arm: &&Entry| {
        let name = of(&arm.path, "label").or_else(|| of(&arm.path, "strategy"));
        arm.path.starts_with("arms[") && arm.is_table && name.is_some_and(|name| name.text.as_deref() == Some(label))
    };
    let arm = entries.iter().find(is_meant)?;
    let options = format!("{}.options.", arm.path);
    let is_named = |entry: &&Entry| {
        let name = entry.path.strip_prefix(&options);
        name.is_some_and(|name| complaint.split(|char: char| !is_of_name(char)).any(|word| word == name))
    };
    let of_lb = key_below(&entries, &format!("{}.lb.", arm.path), complaint);
    let entry = of_lb.or_else(|| entries.iter().find(is_named)).or_else(|| of(&arm.path, "strategy"))?;
    Some((line(&text, entry.key.start), without_indexes(&entry.path)))
}

/// The line on which the file at `path` first names this strategy.
pub fn line_of_strategy(path: &Path, name: &str) -> Option<(usize, String)> {
    let text = std::fs::read_to_string(path).ok()?;
    let entries = entries(&text);
    let is_named =
        |entry: &&Entry| without_indexes(&entry.path) == "arms.strategy" && entry.text.as_deref() == Some(name);
    let entry = entries.iter().find(is_named)?;
    Some((line(&text, entry.key.start), "arms.strategy".to_owned()))
}

/// The line of a key below `[lb]` in the file at `path` that `complaint` names by its whole path, such as
/// `retry.attempts`.
pub fn line_of_lb_key(path: &Path, complaint: &str) -> Option<(usize, String)> {
    let text = std::fs::read_to_string(path).ok()?;
    let entries = entries(&text);
    let entry = key_below(&entries, "lb.", complaint)?;
    Some((line(&text, entry.key.start), without_indexes(&entry.path)))
}

/// The key below `prefix` that `complaint` names by its path from there.
fn key_below<'e>(entries: &'e [Entry], prefix: &str, complaint: &str) -> Option<&'e Entry> {
    let words: Vec<&str> = complaint.split(|char: char| !is_of_name(char) && char != '.').collect();
    let is_named = |entry: &&Entry| {
        let key = entry.path.strip_prefix(prefix);
        key.is_some_and(|key| words.iter().any(|word| word.trim_end_matches('.') == key))
    };
    entries.iter().rev().find(is_named)
}

fn is_of_name(char: char) -> bool {
    char.is_alphanumeric() || char == '_' || char == '-'
}

fn visit(table: &DeTable<'_>, path: &str, found: &mut Vec<Entry>) {
    for (name, value) in table.iter() {
        let key = name.get_ref();
        let path = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        add(value, path, name.span(), found);
    }
}

fn add(value: &Spanned<DeValue<'_>>, path: String, key: Range<usize>, found: &mut Vec<Entry>) {
    let text = value.get_ref().as_str().map(str::to_owned);
    let is_table = matches!(value.get_ref(), DeValue::Table(_));
    found.push(Entry { path: path.clone(), key, value: value.span(), text, is_table });
    match value.get_ref() {
        DeValue::Table(table) => visit(table, &path, found),
        DeValue::Array(array) => {
            for (index, element) in array.iter().enumerate() {
                add(element, format!("{path}[{index}]"), element.span(), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "budget = \"1m\"\n[[arms]]\nstrategy = \"a\"\n[[arms]]\nlabel = \"b\"\nstrategy = \"a\"\n\
        options = { points = 9 }\n[lb.retry]\nattempts = 9\n";

    #[test]
    fn errors_of_lb_and_of_flags_get_the_line_of_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.toml");
        std::fs::write(&path, TEXT).expect("written");
        assert_eq!((line_of(&path, "budget"), line_of(&path, "title")), (Some(1), None));
        let arm = |label: &str, complaint: &str| line_of_arm(&path, label, complaint);
        assert_eq!(arm("a", "points is 9"), Some((3, "arms.strategy".to_owned())));
        assert_eq!(arm("b", "strategy.config.a: points is 9: no"), Some((7, "arms.options.points".to_owned())));
        assert_eq!(arm("b", "it has no pointsman"), Some((6, "arms.strategy".to_owned())));
        assert_eq!(arm("typed", "points"), None);
        assert_eq!(line_of_strategy(&path, "a"), Some((3, "arms.strategy".to_owned())));
        let key = |complaint: &str| line_of_lb_key(&path, complaint);
        assert_eq!(key("lb.toml:9:1: retry.attempts: must be"), Some((9, "lb.retry.attempts".to_owned())));
        assert_eq!(key("attempts"), None);
    }

    #[test]
    fn an_error_gets_the_innermost_key_around_it() {
        let entries = entries(TEXT);
        let at = TEXT.find('9').expect("it is there");
        let found = &entries[around(&entries, &(at..at + 1)).expect("one")];
        assert_eq!(without_indexes(&found.path), "arms.options.points");
        assert_eq!(around(&entries, &(0..TEXT.len())), None);
    }
}
