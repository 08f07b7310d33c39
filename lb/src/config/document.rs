//! The file's text, parsed with places: from a key to its line, and from a parser's complaint to its key.
//!
//! The `config` crate, which layers the file with the other sources, does not keep places. So the text is first read
//! here, strictly, and mistakes in it are reported from here.
//!
//! Invariant: a `Document` exists only for text that is valid TOML and a valid [`file::File`].

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place, in_our_words};
use super::file;
use super::key_path::{KeyPath, Step};

#[derive(Debug)]
pub(super) struct Document<'t> {
    path: &'t Path,
    text: &'t str,
    root: DeTable<'t>,
}

/// The innermost part of the document around a complaint, during the search.
struct Innermost {
    around: Range<usize>,
    found: Option<(usize, KeyPath)>,
}

// === impl Document ===

impl<'t> Document<'t> {
    /// Reads `text`, the content of `path`.
    pub(super) fn parse(path: &'t Path, text: &'t str) -> Result<Self, ConfigError> {
        let root = match DeTable::parse(text) {
            Ok(root) => root.into_inner(),
            Err(error) => return Err(syntax(path, text, &error)),
        };
        match toml::from_str::<file::File>(text) {
            Ok(_) => Ok(Self { path, text, root }),
            Err(error) => {
                let key = error.span().map_or_else(KeyPath::default, |span| key_at(&root, span));
                let place = place(path, text, error.span());
                let what = in_our_words(error.message());
                Err(match key == KeyPath::default() {
                    true => ConfigError::Syntax { place, what },
                    false => ConfigError::Setting { place, key, what },
                })
            }
        }
    }

    pub(super) fn text(&self) -> &'t str {
        self.text
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

fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let there = error.span().and_then(|span| text.get(span)).unwrap_or_default();
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
        match Document::parse(Path::new("lb.toml"), text) {
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
            ("[mirror]", "lb.toml:1:2: mirror: unknown key `mirror`"),
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
