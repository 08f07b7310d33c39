//! A strict reader of the text exposition, for tests. It accepts only the format's description and what a scrape needs,
//! and panics with the wrong line. It is independent of the encoder, so that both must agree.

use std::collections::{BTreeMap, HashSet};

/// A whole exposition, read.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) families: BTreeMap<String, Family>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Family {
    pub(super) help: String,
    pub(super) kind: String,
    pub(super) samples: Vec<Sample>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

// === impl Text ===

impl Text {
    pub(super) fn parse(text: &str) -> Text {
        assert!(text.ends_with('\n'), "the last line must end");
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current = String::new();
        let mut help = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, words) = rest.split_once(' ').expect(line);
                assert!(!words.is_empty() && help.is_none(), "{line}");
                help = Some((name.to_owned(), words.to_owned()));
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect(line);
                let (of, help) = help.take().expect("HELP goes before TYPE");
                assert_eq!(of, name);
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                current = name.to_owned();
                let family = Family { help, kind: kind.to_owned(), samples: Vec::new() };
                assert!(families.insert(current.clone(), family).is_none(), "{name} comes twice");
            } else {
                assert!(help.is_none(), "HELP without TYPE before {line}");
                let sample = Sample::parse(line);
                let family = families.get_mut(&current).expect(line);
                family.accept(&current, &sample.name);
                family.samples.push(sample);
            }
        }
        families.iter().for_each(|(name, family)| family.check(name));
        Text { families }
    }

    /// The value of the one series with this name and these labels, if there is one.
    pub(super) fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: BTreeMap<String, String> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.samples().find(|sample| sample.name == name && sample.labels == wanted).map(|sample| sample.value)
    }

    /// As `find`, for a series that must exist.
    pub(super) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or_else(|| panic!("no series {name}{labels:?}"))
    }

    pub(super) fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.families.values().flat_map(|family| &family.samples)
    }
}

// === impl Family ===

impl Family {
    fn accept(&self, family: &str, sample: &str) {
        let suffix = sample.strip_prefix(family).expect(sample);
        let known: &[&str] = if self.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(known.contains(&suffix), "{sample} is not of the {} {family}", self.kind);
    }

    fn check(&self, name: &str) {
        assert!(!self.samples.is_empty(), "{name} has no series");
        assert_eq!(self.kind == "counter", name.ends_with("_total"), "{name} is a {}", self.kind);
        let mut seen = HashSet::new();
        assert!(self.samples.iter().all(|s| seen.insert((&s.name, &s.labels))), "{name} has a series twice");
        if self.kind == "histogram" {
            self.check_histogram(name);
        }
    }

    fn check_histogram(&self, name: &str) {
        let mut buckets: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
        for bucket in self.samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
            let mut labels = bucket.labels.clone();
            let bound = labels.remove("le").expect("a bucket has a bound");
            buckets.entry(labels).or_default().push((number(&bound), bucket.value));
        }
        let counts: Vec<_> = self.samples.iter().filter(|sample| sample.name.ends_with("_count")).collect();
        assert_eq!(counts.len(), buckets.len(), "{name}");
        for count in counts {
            let buckets = &buckets[&count.labels];
            assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name}: {buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, count.value)), "{name}");
        }
    }
}

// === impl Sample ===

impl Sample {
    fn parse(line: &str) -> Sample {
        let end = line.find(['{', ' ']).expect(line);
        let (name, mut rest) = line.split_at(end);
        check_name(name);
        let mut labels = BTreeMap::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            loop {
                let (label, value, after) = pair(rest);
                assert!(labels.insert(label, value).is_none(), "label twice in {line}");
                rest = &after[1..];
                match after.as_bytes()[0] {
                    b',' => {}
                    b'}' => break,
                    _ => panic!("{line}"),
                }
            }
        }
        let value = rest.strip_prefix(' ').expect(line);
        Sample { name: name.to_owned(), labels, value: number(value) }
    }
}

/// Reads `name="value"` and returns the rest.
fn pair(text: &str) -> (String, String, &str) {
    let (name, rest) = text.split_once("=\"").expect(text);
    check_name(name);
    let mut value = String::new();
    let mut characters = rest.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (name.to_owned(), value, &rest[at + 1..]),
            '\\' => value.push(match characters.next().expect(text).1 {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                other => panic!("\\{other} in {text}"),
            }),
            plain => value.push(plain),
        }
    }
    panic!("a value without end in {text}");
}

fn check_name(name: &str) {
    assert!(name.starts_with(|c: char| c.is_ascii_alphabetic()), "{name:?}");
    assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{name:?}");
}

fn number(text: &str) -> f64 {
    if text == "+Inf" {
        return f64::INFINITY;
    }
    let number: f64 = text.parse().expect(text);
    assert!(number.is_finite(), "{text}");
    number
}
