//! The file's text, parsed with places: from a key to its line, and from a parser's complaint to its key.
//!
//! The `config` crate, which layers the file with the other sources, does not keep places. So the text is first read
//! here, strictly, and mistakes in it are reported from here.
//!
//! Invariant: a `Document` exists only for text that is valid TOML and a valid [`file::File`].

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::{ConfigError, Place, in_our_words, replaced};
use super::file;
use super::key_path::{KeyPath, Step};
use super::numbers::{TooLarge, first_too_large};
use super::section::not_for_a_route;

#[derive(Debug)]
pub(super) struct Document<'t> {
    path: &'t Path,
    text: &'t str,
    /// Without the parts that [`Self::remove`] took out.
    root: DeTable<'t>,
    whole: DeTable<'t>,
    is_reduced: bool,
    /// The spans of array elements from which a key was removed. They may lack a required key now.
    incomplete: Vec<Range<usize>>,
}

/// The arrays at the top of the file.
const LISTS: [&str; 3] = ["backends", "plugin_dirs", "routes"];

/// The innermost part of the document around a complaint, during the search.
struct Innermost {
    around: Range<usize>,
    found: Option<(usize, KeyPath)>,
}

// === impl Document ===

impl<'t> Document<'t> {
    /// Reads `text`, the content of `path`. The error contains every line that is not TOML.
    pub(super) fn parse(path: &'t Path, text: &'t str) -> Result<Self, ConfigError> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let root = root.into_inner();
        let mistakes = errors.iter().map(|error| syntax(path, text, error)).collect();
        match ConfigError::all(mistakes) {
            Some(error) => Err(error),
            None => Ok(Self { path, text, whole: root.clone(), root, is_reduced: false, incomplete: Vec::new() }),
        }
    }

    /// Checks names and types of all keys.
    pub(super) fn check(&mut self) -> Result<(), ConfigError> {
        if let Some(TooLarge { key, span, what }) = first_too_large(&self.root) {
            return Err(ConfigError::Setting { place: place(self.path, self.text, Some(span)), key, what });
        }
        loop {
            let Err(error) = file::File::deserialize(toml::Deserializer::from(self.root())) else { return Ok(()) };
            let key = error.span().map_or_else(KeyPath::default, |span| key_at(&self.root, span));
            let place = place(self.path, self.text, error.span());
            let what = in_our_words(error.message());
            if key == KeyPath::default() {
                return Err(ConfigError::Syntax { place, what });
            }
            let is_incomplete = self.span_of(&key).is_some_and(|span| self.incomplete.contains(&span));
            if is_incomplete && error.message().starts_with("missing field") && self.remove(&key) {
                continue;
            }
            let unknown = error.message().starts_with("unknown field");
            let misplaced = || not_for_a_route(&key).filter(|_| unknown);
            let instead = replaced(&key).or_else(|| table_header(&key, error.message())).or_else(misplaced);
            let what = instead.unwrap_or(what);
            return Err(ConfigError::Setting { place, key, what });
        }
    }

    /// Removes the value of `key`, so that the rest can be checked. Places and names of the rest do not change.
    /// Returns `false` if `key` is not set.
    pub(super) fn remove(&mut self, key: &KeyPath) -> bool {
        let parent = key.parent();
        if matches!(parent.steps().last(), Some(Step::Index(_))) {
            self.incomplete.extend(self.span_of(&parent));
        }
        let removed = remove_from_table(&mut self.root, key.steps());
        self.is_reduced |= removed;
        removed
    }

    /// `key` as it is called in the whole document. An index after a removed element is smaller here.
    pub(super) fn name_of(&self, key: &KeyPath) -> KeyPath {
        let steps = key.steps();
        let set = (1..=steps.len()).rev().find_map(|count| {
            let prefix = KeyPath::from(&steps[..count]);
            self.span_of(&prefix).map(|span| (count, span))
        });
        let Some((count, span)) = set else { return key.clone() };
        steps[count..].iter().fold(key_at(&self.whole, span), |path, step| path.with(step.clone()))
    }

    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    /// TOML with the values of this document.
    pub(super) fn to_toml(&self) -> Cow<'t, str> {
        if !self.is_reduced {
            return Cow::Borrowed(self.text);
        }
        let table = toml::Table::deserialize(toml::Deserializer::from(self.root()));
        // It was read from TOML, so every value has a form in TOML.
        Cow::Owned(table.map(|table| table.to_string()).unwrap_or_default())
    }

    /// The line, from 1, on which `key` is set; `None` if it is not set.
    pub(super) fn line_of(&self, key: &KeyPath) -> Option<usize> {
        self.span_of(key).map(|span| line_column(self.text, span.start).0)
    }

    /// The place of a complaint about `key`: its own, or its section's if it is not set.
    pub(super) fn place_of(&self, key: &KeyPath) -> Place {
        let mut key = key.clone();
        while self.span_of(&key).is_none() && !key.steps().is_empty() {
            key = key.parent();
        }
        place(self.path, self.text, self.span_of(&key))
    }

    fn root(&self) -> Spanned<DeTable<'t>> {
        Spanned::new(0..self.text.len(), self.root.clone())
    }

    fn span_of(&self, key: &KeyPath) -> Option<Range<usize>> {
        let mut steps = key.steps().iter();
        let Some(Step::Key(first)) = steps.next() else { return None };
        let (name, mut value) = self.root.get_key_value(first.as_str())?;
        let mut span = name.span();
        for step in steps {
            match (step, value.get_ref()) {
                (Step::Key(key), DeValue::Table(table)) => {
                    let (name, inner) = table.get_key_value(key.as_str())?;
                    (span, value) = (name.span(), inner);
                }
                (Step::Index(index), DeValue::Array(array)) => {
                    value = array.get(*index)?;
                    span = value.span();
                }
                _ => return None,
            }
        }
        Some(span)
    }
}

fn remove_from_table(table: &mut DeTable<'_>, steps: &[Step]) -> bool {
    match steps {
        [Step::Key(key)] => table.remove(key.as_str()).is_some(),
        [Step::Key(key), rest @ ..] => {
            table.get_mut(key.as_str()).is_some_and(|value| remove_from_value(value.get_mut(), rest))
        }
        _ => false,
    }
}

fn remove_from_value(value: &mut DeValue<'_>, steps: &[Step]) -> bool {
    match (value, steps) {
        (DeValue::Table(table), steps) => remove_from_table(table, steps),
        (DeValue::Array(array), [Step::Index(index)]) if *index < array.len() => {
            let mut rest = DeArray::new();
            let others = array.iter().enumerate().filter(|(place, _)| place != index);
            others.for_each(|(_, element)| rest.push(element.clone()));
            *array = rest;
            true
        }
        (DeValue::Array(array), [Step::Index(index), rest @ ..]) => {
            array.get_mut(*index).is_some_and(|value| remove_from_value(value.get_mut(), rest))
        }
        _ => false,
    }
}

/// The path of the innermost key or value around `span`; empty when there is none.
fn key_at(root: &DeTable<'_>, span: Range<usize>) -> KeyPath {
    let mut innermost = Innermost { around: span, found: None };
    innermost.visit_table(root, &KeyPath::default());
    innermost.found.map(|(_, path)| path).unwrap_or_default()
}

/// Line and column, both from 1, of the byte at `offset`.
fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

fn place(path: &Path, text: &str, span: Option<Range<usize>>) -> Place {
    let line_column = span.map(|span| line_column(text, span.start));
    Place::File { path: path.to_owned(), line_column }
}

/// What to write instead, if `key` has `[…]` where it needs `[[…]]`, or the reverse.
fn table_header(key: &KeyPath, message: &str) -> Option<String> {
    match (message, key.steps().split_last()?) {
        ("invalid type: map, expected a sequence", _) => {
            Some(format!("there can be several, so each has two brackets; write [[{key}]]"))
        }
        // serde reads a sequence as the fields of a struct, so it complains of the first one.
        (_, (Step::Index(_), _)) if key.parent().steps().len() == 1 && !LISTS.contains(&&*key.parent().to_string()) => {
            Some(format!("there is only one, so it has single brackets; write [{}]", key.parent()))
        }
        _ => None,
    }
}

/// The value that begins before `at`, up to the end of the line or a comment, if it is one bare word.
fn bare_word(text: &str, at: usize) -> Option<(&str, &str)> {
    let line_start = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    let line = text[line_start..].lines().next()?;
    let (key, value) = line.split_once('=')?;
    let key = key.trim();
    let is_key = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let value = value.split('#').next()?.trim();
    let is_bare = !value.is_empty() && !value.contains(['"', '\'', '[', ']', '{', '}', ',', ' ']);
    (is_key && is_bare && value.parse::<toml::Value>().is_err()).then_some((key, value))
}

fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let there = error.span().and_then(|span| text.get(span)).unwrap_or_default();
    let at = error.span().map_or(0, |span| span.start);
    if let Some((key, value)) = bare_word(text, at) {
        let what = format!("not valid TOML: a text needs quotes; write {key} = \"{}\"", super::error::one_line(value));
        return ConfigError::Syntax { place: place(path, text, error.span()), what };
    }
    let what = match error.message() {
        "duplicate key" => format!("`{there}` is set twice"),
        // The parser's message if nothing, or a bare word, follows the equals sign.
        "string values must be quoted, expected literal string" if there.is_empty() => "a value is missing".to_owned(),
        message => message.to_owned(),
    };
    let what = format!("not valid TOML: {}", super::error::one_line(&what));
    ConfigError::Syntax { place: place(path, text, error.span()), what }
}

// === impl Innermost ===

impl Innermost {
    fn visit_table(&mut self, table: &DeTable<'_>, path: &KeyPath) {
        for (name, value) in table.iter() {
            let path = path.key(name.get_ref());
            self.consider(name.span(), &path);
            self.visit(value, &path);
        }
    }

    fn visit(&mut self, value: &Spanned<DeValue<'_>>, path: &KeyPath) {
        self.consider(value.span(), path);
        match value.get_ref() {
            DeValue::Table(table) => self.visit_table(table, path),
            DeValue::Array(array) => {
                for (index, element) in array.iter().enumerate() {
                    self.visit(element, &path.index(index));
                }
            }
            _ => {}
        }
    }

    /// Takes `path` if its span is around the complaint and no wider than the best so far. Of equal spans, the deeper
    /// one wins.
    fn consider(&mut self, span: Range<usize>, path: &KeyPath) {
        let around = span.start <= self.around.start && self.around.end <= span.end;
        if around && self.found.as_ref().is_none_or(|(width, _)| span.len() <= *width) {
            self.found = Some((span.len(), path.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The complaint about `text`.
    fn complaint(text: &str) -> String {
        match Document::parse(Path::new("lb.toml"), text).and_then(|mut document| document.check()) {
            Ok(_) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_complaint_names_line_column_and_key() {
        let cases = [
            ("[proxy]\nworkers = \"a\"", "lb.toml:2:11: proxy.workers: invalid type"),
            ("\n[proxy]\n lisen = 1", "lb.toml:3:2: proxy.lisen: unknown key `lisen`; did you"),
            ("[[backends]]\nid = \"a\"", "lb.toml:1:1: backends[0]: missing field `address`"),
            ("[pools.x.strategy]\nhash = \"md5\"", "lb.toml:2:8: pools.x.strategy.hash: unknown v"),
            ("proxy = 5", "lb.toml:1:9: proxy: invalid type: integer `5`, expected a table"),
            ("[proxy]\nlisten = 5", "lb.toml:2:10: proxy.listen: invalid type: integer `5`, exp"),
            ("[strategy.config]\nring = 5", "lb.toml:2:8: strategy.config.ring: invalid type: i"),
            ("[proxy]\n[proxy]", "lb.toml:2:2: not valid TOML: `proxy` is set twice"),
            ("[proxy]\nworkers =", "lb.toml:2:10: not valid TOML: a value is missing"),
            (
                "[retry]\nattempts = 99999999999999999999",
                "lb.toml:2:12: retry.attempts: 99999999999999999999 is too large: lb takes whole numbers from -92",
            ),
            (
                "[strategy.config.a]\nx = [1, { y = 0x1_0000_0000_0000_0000 }]",
                "lb.toml:2:15: strategy.config.a.x[1].y: 0x10000000000000000 is too large",
            ),
            ("[mirror]", "lb.toml:1:2: mirror: unknown key `mirror`"),
            ("[limits]\nretries = 1", "lb.toml:2:1: limits.retries: unknown key `retries`; write [retry] attempts"),
        ];
        for (text, expected) in cases {
            let said = complaint(text);
            assert!(said.starts_with(expected), "{text:?} says {said}, not {expected}");
            assert!(!said.contains('\n'));
        }
    }

    #[test]
    fn a_key_leads_to_its_line_and_a_missing_one_to_its_section() {
        let text = "[proxy]\nworkers = 1\n\n[[backends]]\nid = \"a\"\naddress = \"b:1\"\n\
                    [[backends]]\nid = \"c\"\naddress = \"b:1\"\n";
        let document = Document::parse(Path::new("lb.toml"), text).unwrap();
        let second = KeyPath::of(&["backends"]).index(1);
        assert_eq!(document.line_of(&KeyPath::of(&["proxy", "workers"])), Some(2));
        assert_eq!(document.line_of(&second.key("id")), Some(8));
        assert_eq!(document.line_of(&second.key("weight")), None);
        assert_eq!(document.place_of(&second.key("weight")).to_string(), "lb.toml:7:1");
        assert_eq!(document.place_of(&KeyPath::of(&["log", "level"])).to_string(), "lb.toml");
    }
}
