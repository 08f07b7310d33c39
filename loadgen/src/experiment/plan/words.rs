//! A mistake in an experiment file as one line: the mistake, the expected value, and the nearest known name.
//!
//! serde and the TOML parser only give the place and the kind of a mistake. [`KEYS`] has the kind of value of each key.

use std::ops::Range;

use super::bounds::MEASURES;
use super::place::{Entry, around, without_indexes};

/// The kind of value of a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Text,
    Time,
    Whole,
    Number,
    /// Numbers of servers: one or several.
    Sizes,
    OneOf(&'static [&'static str]),
    /// A list of some of these names.
    Some(&'static [&'static str]),
    /// A table. Its keys are listed in [`KEYS`] under its name, except for a table with free keys.
    Section,
    /// One or more sections.
    Sections,
}

/// Every key: its section ("" for none), its name, and the kind of its value.
pub(super) const KEYS: &[(&str, &str, Kind)] = &[
    ("", "scenario", Kind::Text),
    ("", "title", Kind::Text),
    ("", "world", Kind::OneOf(&["live", "simulated"])),
    ("", "budget", Kind::Time),
    ("", "load", Kind::Section),
    ("", "backends", Kind::Section),
    ("", "blocks", Kind::Section),
    ("", "lb", Kind::Section),
    ("", "arms", Kind::Sections),
    ("", "faults", Kind::Sections),
    ("", "simulated", Kind::Section),
    ("load", "loop", Kind::OneOf(&["closed", "open"])),
    ("load", "connections", Kind::Whole),
    ("load", "requests", Kind::Whole),
    ("load", "repeats", Kind::Whole),
    ("load", "arrivals", Kind::OneOf(&["poisson", "constant"])),
    ("load", "rate_rps", Kind::Number),
    ("load", "of_capacity", Kind::Number),
    ("load", "capacity_p99", Kind::Time),
    ("load", "outstanding_max", Kind::Whole),
    ("load", "warm_up", Kind::Time),
    ("load", "duration", Kind::Time),
    ("load", "path", Kind::Text),
    ("load", "keys", Kind::Text),
    ("load", "cost", Kind::Text),
    ("load", "timeout", Kind::Time),
    ("backends", "n", Kind::Sizes),
    ("backends", "service_time", Kind::Text),
    ("backends", "concurrency", Kind::Whole),
    ("backends", "queue", Kind::Whole),
    ("blocks", "segment", Kind::Time),
    ("blocks", "wash_out", Kind::Time),
    ("blocks", "half_width", Kind::Number),
    ("blocks", "equivalence", Kind::Number),
    ("blocks", "confidence", Kind::Number),
    ("blocks", "verdicts", Kind::Some(&MEASURES)),
    ("blocks", "primary", Kind::Text),
    ("arms", "label", Kind::Text),
    ("arms", "strategy", Kind::Text),
    ("arms", "options", Kind::Section),
    ("arms", "cost_factor", Kind::Number),
    ("arms", "lb", Kind::Section),
    ("faults", "at", Kind::Time),
    ("faults", "for", Kind::Time),
    ("faults", "kind", Kind::OneOf(&["slow", "delay", "stall", "kill", "errors", "add", "remove", "hot_key"])),
    ("faults", "backend", Kind::Whole),
    ("faults", "factor", Kind::Number),
    ("faults", "extra", Kind::Time),
    ("faults", "rate", Kind::Number),
    ("faults", "share", Kind::Number),
    ("faults", "n", Kind::Whole),
    ("simulated", "balancers", Kind::Whole),
    ("simulated", "network", Kind::Text),
    ("simulated", "waves", Kind::Sections),
    ("simulated", "groups", Kind::Sections),
];

/// A mistake: its place, its key, and the message.
pub(super) type Mistake = (Range<usize>, String, String);

const EXPLAINED: &str = "config/experiments/a1.toml explains every key";
const SNIPPET_MAX: usize = 60;

/// The mistake of a text that is not TOML.
pub(super) fn of_syntax(text: &str, error: &toml::de::Error) -> Mistake {
    let span = error.span().unwrap_or(0..0);
    let there = text.get(span.clone()).unwrap_or_default();
    let what = match error.message() {
        "duplicate key" => format!("{} is set twice", one_line(there)),
        // the parser reports this if nothing, or a bare word, is after the equals sign
        "string values must be quoted, expected literal string" if there.is_empty() => "a value is missing".to_owned(),
        "string values must be quoted, expected literal string" => {
            format!("text must be in quotes: \"{}\"", one_line(there))
        }
        message => format!("this is not valid TOML: {}", one_line(message)),
    };
    (span, String::new(), what)
}

/// The mistake of a text that is TOML but not an experiment.
pub(super) fn of_form(text: &str, entries: &[Entry], error: &toml::de::Error) -> Mistake {
    let span = error.span().unwrap_or(0..0);
    if entries.is_empty() {
        let what =
            format!("the file is empty: an experiment needs [load] with loop = \"closed\" or \"open\"; {EXPLAINED}");
        return (0..0, String::new(), what);
    }
    let message = error.message();
    if let Some(missing) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        // the key is missing in a section, or above all of them
        let section = entries.iter().rev().find(|entry| entry.is_table && entry.value == span);
        let section = section.map(|entry| without_indexes(&entry.path)).unwrap_or_default();
        return (span, section.clone(), missing_in_words(&section, missing));
    }
    let Some(entry) = around(entries, &span).map(|at| &entries[at]) else {
        return (span, String::new(), one_line(message));
    };
    let key = without_indexes(&entry.path);
    let (section, name) = key.rsplit_once('.').unwrap_or(("", &key));
    let what = match kind(section, name) {
        _ if message.starts_with("unknown field") => unknown(section, name),
        Some(Kind::OneOf(known)) => match &entry.text {
            Some(typed) => format!("{typed:?} is none of {}{}", known.join(", "), did_you_mean(typed, known)),
            None => format!("expected {}, not {}", quoted(known), found(text, entry)),
        },
        Some(Kind::Sections) if entry.is_table => {
            format!("there may be several: write [[{name}]] in double brackets before each")
        }
        Some(Kind::Section) if (section, name) == ("arms", "lb") => {
            format!("expected sections, such as [arms.lb.retry], not {}", found(text, entry))
        }
        Some(kind) => format!("expected {}, not {}", expected(name, kind), found(text, entry)),
        None => one_line(message),
    };
    (span, key, what)
}

/// `; did you mean x?`, if one of the known names is near.
pub fn did_you_mean(typed: &str, known: &[&str]) -> String {
    nearest(typed, known).map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

/// The name that was probably meant: within a few typing errors, or with the typed text as a part.
fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    // no name is longer, and the time of the comparison grows with the length
    let typed: String = typed.to_lowercase().replace(['-', ' '], "_").chars().take(64).collect();
    let slips_max = (typed.chars().count() / 3).max(1);
    let by_slips = known.iter().map(|name| (strsim::osa_distance(&typed, &name.to_lowercase()), *name));
    let nearest = by_slips.min_by_key(|(slips, _)| *slips).filter(|(slips, _)| *slips <= slips_max);
    let has_part = |name: &&&str| typed.len() > 2 && name.split('_').any(|part| part == typed);
    nearest.map(|(_, name)| name).or_else(|| known.iter().find(has_part).copied())
}

/// Replaces line ends, removes other control characters, and cuts the text to a line.
pub(super) fn one_line(text: &str) -> String {
    let words = text.trim().replace('\n', ", ");
    words.chars().filter(|char| !char.is_control()).take(1000).collect()
}

fn kind(section: &str, name: &str) -> Option<Kind> {
    KEYS.iter().find(|key| (key.0, key.1) == (section, name)).map(|key| key.2)
}

fn names(section: &str) -> Vec<&'static str> {
    KEYS.iter().filter(|key| key.0 == section).map(|key| key.1).collect()
}

fn unknown(section: &str, name: &str) -> String {
    let known = names(section);
    let near = did_you_mean(name, &known);
    let home = KEYS.iter().find(|key| key.1 == name && near.is_empty()).map(|key| key.0);
    let end = if near.is_empty() { "." } else { "" };
    match (section, home) {
        (_, Some("")) => "there is no such key here; it belongs above all sections".to_owned(),
        (_, Some(home)) => format!("there is no such key here; it belongs in {}", heading(home)),
        ("", None) => format!("there is no such key or section{near}{end} There are {}", with_headings(&known)),
        (section, None) => format!("there is no such key{near}{end} {} has {}", heading(section), known.join(", ")),
    }
}

fn missing_in_words(section: &str, name: &str) -> String {
    match (section, name) {
        ("", "load") => {
            format!(
                "[load] is missing: it describes how requests are sent, with loop = \"closed\" or \"open\"; {EXPLAINED}"
            )
        }
        ("load", "loop") => {
            "loop is missing: \"closed\" (clients that wait for their responses) or \"open\" (a rate)".to_owned()
        }
        ("arms", "strategy") => "strategy is missing, such as strategy = \"round_robin\"".to_owned(),
        (section, name) => match kind(section, name) {
            Some(kind) => format!("{name} is missing: {}", expected(name, kind)),
            None => format!("{name} is missing"),
        },
    }
}

fn expected(name: &str, kind: Kind) -> String {
    match kind {
        Kind::Text => "text in quotes".to_owned(),
        Kind::Time => "a time with its unit, such as \"5s\"".to_owned(),
        Kind::Whole => "a whole number".to_owned(),
        Kind::Number => "a number".to_owned(),
        Kind::Sizes => "a number of servers, or several as [1, 2, 3]".to_owned(),
        Kind::OneOf(known) => quoted(known),
        Kind::Some(known) => format!("a list of names, such as [{:?}, {:?}]", known[0], known[1]),
        Kind::Section if name == "options" => "a table of options, such as { virtual_nodes = 160 }".to_owned(),
        Kind::Section => format!("a section: write [{name}] and its keys below"),
        Kind::Sections => format!("sections: write [[{name}]] and its keys below, once for each"),
    }
}

/// The value in the file, in words.
fn found(text: &str, entry: &Entry) -> String {
    if entry.is_table {
        return "a section".to_owned();
    }
    let snippet = one_line(text.get(entry.value.clone()).unwrap_or_default());
    match snippet.chars().count() {
        0 => "that".to_owned(),
        1..=SNIPPET_MAX => snippet,
        _ => snippet.chars().take(SNIPPET_MAX).chain(['…']).collect(),
    }
}

fn quoted(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

fn heading(section: &str) -> String {
    match kind("", section) {
        Some(Kind::Sections) => format!("[[{section}]]"),
        _ => format!("[{section}]"),
    }
}

fn with_headings(names: &[&str]) -> String {
    let of = |name: &&str| match kind("", name) {
        Some(Kind::Section | Kind::Sections) => heading(name),
        _ => (*name).to_owned(),
    };
    names.iter().map(of).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::file::File;
    use super::*;

    /// serde lists the keys of a section when it finds an unknown key.
    #[test]
    fn every_key_of_a_file_has_its_words() {
        for (section, before) in [
            ("", ""),
            ("load", "[load]"),
            ("backends", "load = {loop = \"open\"}\n[backends]"),
            ("blocks", "load = {loop = \"open\"}\n[blocks]"),
            ("arms", "load = {loop = \"open\"}\n[[arms]]"),
            ("faults", "load = {loop = \"open\"}\n[[faults]]"),
            ("simulated", "load = {loop = \"open\"}\n[simulated]"),
        ] {
            let error = toml::from_str::<File>(&format!("{before}\nnobodys = 1")).expect_err(section).to_string();
            let (_, listed) = error.split_once("expected one of").expect("a list");
            let listed: Vec<&str> = listed.split('`').skip(1).step_by(2).collect();
            assert_eq!(listed, names(section), "[{section}]");
        }
    }

    #[test]
    fn a_typing_error_and_a_part_of_a_name_are_recognised() {
        let known = ["rate_rps", "of_capacity", "round_robin", "n"];
        for (typed, meant) in [
            ("rate", Some("rate_rps")),
            ("rps", Some("rate_rps")),
            ("Round-Robin", Some("round_robin")),
            ("rond_robin", Some("round_robin")),
            ("capacity", Some("of_capacity")),
            ("of", None),
            ("something_else", None),
        ] {
            assert_eq!(nearest(typed, &known), meant, "{typed}");
        }
        assert_eq!(nearest("x", &[]), None);
    }
}
