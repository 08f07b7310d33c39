//! One page of a strategy's own metrics: the lines of JSON that its hook `metrics` wrote, checked.
//!
//! Why so strict: a plugin may write any bytes, and the exposition must stay valid and small. Why here: `lb`, its trial
//! of a plugin and the score card must read the same lines. Invariants: a page has at most [`FAMILIES_MAX`] names and
//! [`SERIES_MAX`] samples, all finite. A line that breaks a rule is dropped and counted; the others stay.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The largest number of names of one instance.
pub const FAMILIES_MAX: usize = 64;
/// The largest number of samples of one instance.
pub const SERIES_MAX: usize = 1_000;
const NAME_MAX_BYTES: usize = 64;
/// A longer line is dropped unread. It also bounds help texts and ids of backends.
const LINE_MAX_BYTES: usize = 4_096;

/// The metrics of one instance at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PluginPage {
    families: BTreeMap<Box<str>, Family>,
    samples: usize,
    dropped: u64,
    first: Option<BadPage>,
}

/// All samples of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    pub is_counter: bool,
    pub help: Box<str>,
    /// By backend; `None`: of the whole strategy.
    pub series: BTreeMap<Option<Box<str>>, f64>,
}

/// The first line that was dropped.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("line {line} of its metrics is not valid: {reason}")]
pub struct BadPage {
    /// From 1.
    pub line: usize,
    pub reason: BadLine,
}

/// Why a line was dropped.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadLine {
    #[error("it is longer than {LINE_MAX_BYTES} bytes")]
    Long,
    #[error("it needs to be a JSON object with name, type, help and value, and perhaps backend: {0}")]
    Form(String),
    #[error("the name {0:?} is not 1 to {NAME_MAX_BYTES} bytes of [a-z0-9_] that begin with a letter")]
    Name(String),
    #[error("{0} has an empty help text: describe it in one sentence")]
    Help(String),
    #[error("the value of {0} is not a finite number")]
    Value(String),
    #[error("the counter {0} is negative: use a gauge for a value that can fall")]
    Negative(String),
    #[error("{0:?} is not the id of a backend")]
    Backend(String),
    #[error("{0} has the type of an earlier line, and another one here")]
    Kind(String),
    #[error("{0} has two samples with the same labels")]
    Twice(String),
    #[error("it is the name number {n}, and {FAMILIES_MAX} are allowed", n = FAMILIES_MAX + 1)]
    Families,
    #[error("it is the sample number {n}, and {SERIES_MAX} are allowed", n = SERIES_MAX + 1)]
    Series,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    #[serde(rename = "type")]
    kind: Kind,
    help: String,
    /// JSON has no infinities. Writers put null in their place.
    value: Option<f64>,
    #[serde(default)]
    backend: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Counter,
    Gauge,
}

// === impl PluginPage ===

impl PluginPage {
    /// Reads the text that the hook wrote. Empty lines mean nothing.
    pub fn read(text: &[u8]) -> Self {
        let mut page = Self::default();
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            if !line.is_empty()
                && let Err(reason) = page.take(line)
            {
                page.dropped += 1;
                page.first.get_or_insert(BadPage { line: number, reason });
            }
        }
        page
    }

    /// The number of lines that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The first line that was dropped, and why.
    pub fn first_dropped(&self) -> Option<&BadPage> {
        self.first.as_ref()
    }

    /// The names with their samples, sorted by name.
    pub fn families(&self) -> impl Iterator<Item = (&str, &Family)> {
        self.families.iter().map(|(name, family)| (&**name, family))
    }

    fn take(&mut self, line: &[u8]) -> Result<(), BadLine> {
        if self.samples == SERIES_MAX {
            return Err(BadLine::Series);
        }
        if line.len() > LINE_MAX_BYTES {
            return Err(BadLine::Long);
        }
        let line: Line = serde_json::from_slice(line).map_err(|error| BadLine::Form(error.to_string()))?;
        let Line { name, kind, help, backend, .. } = &line;
        let value = line.check()?;
        let is_new = !self.families.contains_key(&**name);
        if is_new && self.families.len() == FAMILIES_MAX {
            return Err(BadLine::Families);
        }
        let family = self.families.entry(name.as_str().into()).or_insert_with(|| Family {
            is_counter: *kind == Kind::Counter,
            help: help.trim().into(),
            series: BTreeMap::new(),
        });
        if family.is_counter != (*kind == Kind::Counter) {
            return Err(BadLine::Kind(name.clone()));
        }
        let backend = backend.as_deref().map(Box::from);
        if family.series.contains_key(&backend) {
            return Err(BadLine::Twice(name.clone()));
        }
        family.series.insert(backend, value);
        self.samples += 1;
        Ok(())
    }
}

// === impl Line ===

impl Line {
    /// The rules for one line alone. Returns the value.
    fn check(&self) -> Result<f64, BadLine> {
        let Self { name, kind, help, value, backend } = self;
        if !is_name(name) {
            return Err(BadLine::Name(name.clone()));
        }
        if help.trim().is_empty() {
            return Err(BadLine::Help(name.clone()));
        }
        if let Some(backend) = backend.as_ref().filter(|backend| !is_id(backend)) {
            return Err(BadLine::Backend(backend.clone()));
        }
        match value.filter(|value| value.is_finite()) {
            None => Err(BadLine::Value(name.clone())),
            Some(value) if *kind == Kind::Counter && value < 0.0 => Err(BadLine::Negative(name.clone())),
            Some(value) => Ok(value),
        }
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= NAME_MAX_BYTES
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// The form of a backend's id in the configuration.
fn is_id(id: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b" ._:-".contains(&byte);
    (1..=64).contains(&id.len()) && id.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(line: &str) -> Result<PluginPage, BadLine> {
        let page = PluginPage::read(line.as_bytes());
        match page.first_dropped() {
            None => Ok(page),
            Some(bad) => Err(bad.reason.clone()),
        }
    }

    fn line(name: &str, rest: &str) -> String {
        format!(r#"{{"name":"{name}","type":"gauge","help":"It is.",{rest}}}"#)
    }

    #[test]
    fn lines_become_families_with_a_sample_for_each_backend() {
        let text = [
            r#"{"name":"waits_total","type":"counter","help":"Waits.","value":3}"#,
            "",
            r#" {"name":"load","type":"gauge","help":"Load.","value":-0.5,"backend":"b1"} "#,
            r#"{"name":"load","type":"gauge","help":"Another text.","value":1e3,"backend":"b 2"}"#,
        ];
        let page = PluginPage::read(text.join("\r\n").as_bytes());
        assert_eq!((page.dropped(), page.first_dropped()), (0, None));
        let told: Vec<_> = page.families().map(|(name, one)| (name, one.is_counter, &*one.help)).collect();
        assert_eq!(told, [("load", false, "Load."), ("waits_total", true, "Waits.")]);
        let load = &page.families["load"];
        assert_eq!(load.series, BTreeMap::from([(Some("b 2".into()), 1e3), (Some("b1".into()), -0.5)]));
    }

    #[test]
    fn a_line_that_breaks_a_rule_is_dropped_with_its_reason_and_the_others_stay() {
        let long = "n".repeat(NAME_MAX_BYTES + 1);
        for name in ["", "9n", "_n", "Name", "a-b", "größe", &long] {
            assert_eq!(only(&line(name, r#""value":1"#)), Err(BadLine::Name(name.to_owned())), "{name:?}");
        }
        assert!(only(&line(&long[1..], r#""value":1"#)).is_ok());
        let n = || "n".to_owned();
        for value in [r#""value":null"#, r#""backend":"b1""#] {
            assert_eq!(only(&line("n", value)), Err(BadLine::Value(n())), "{value}");
        }
        for form in [r#""value":1e999"#, r#""value":NaN"#, r#""value":"1""#, r#""value":1,"unit":"s""#] {
            assert!(matches!(only(&line("n", form)), Err(BadLine::Form(_))), "{form}");
        }
        for id in ["", "a/b", "ä", &long] {
            let with = format!(r#""value":1,"backend":"{id}""#);
            assert_eq!(only(&line("n", &with)), Err(BadLine::Backend(id.to_owned())));
        }
        let of = |kind: &str, help: &str, value: f64| {
            format!(r#"{{"name":"n","type":"{kind}","help":"{help}","value":{value}}}"#)
        };
        assert_eq!(only(&of("counter", "It is.", -1.0)), Err(BadLine::Negative(n())));
        assert_eq!(only(&of("gauge", " ", 1.0)), Err(BadLine::Help(n())));
        assert!(matches!(only(&of("summary", "It is.", 1.0)), Err(BadLine::Form(_))));
        let page =
            PluginPage::read(b"\xff\xfe\n{\"name\":\"n\",\"type\":\"gauge\",\"help\":\"It is.\",\"value\":1}\n[]");
        assert_eq!((page.dropped(), page.first_dropped().unwrap().line, page.families.len()), (2, 1, 1));
    }

    #[test]
    fn one_name_has_one_type_and_one_sample_for_each_backend() {
        let n = || "n".to_owned();
        let gauge = line("n", r#""value":1"#);
        assert_eq!(only(&format!("{gauge}\n{gauge}")), Err(BadLine::Twice(n())));
        let counter = gauge.replace("gauge", "counter");
        assert_eq!(only(&format!("{gauge}\n{counter}")), Err(BadLine::Kind(n())));
    }

    #[test]
    fn names_and_samples_are_bounded_and_the_rest_is_counted() {
        let names: String = (0..100).map(|number| line(&format!("n{number}"), r#""value":1"#) + "\n").collect();
        let page = PluginPage::read(names.as_bytes());
        assert_eq!((page.families.len(), page.dropped()), (FAMILIES_MAX, 36));
        assert_eq!(page.first_dropped().map(|bad| (bad.line, &bad.reason)), Some((65, &BadLine::Families)));
        let samples = |number| line("n", &format!(r#""value":1,"backend":"b{number}""#)) + "\n";
        let page = PluginPage::read((0..1_500).map(samples).collect::<String>().as_bytes());
        assert_eq!((page.samples, page.dropped()), (SERIES_MAX, 500));
        let long = " ".repeat(LINE_MAX_BYTES);
        assert_eq!(only(&line("n", &format!("{long}\"value\":1"))), Err(BadLine::Long));
    }
}
