//! The configuration as a whole: the files that are shipped, the layers, every kind of mistake.
//!
//! All tests use [`load_text`] with an environment of their own; none reads the machine's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;

mod layers;
mod mistakes;
mod outcome;
mod policies;
mod shadows;
mod shipped;

const LB_TOML: &str = include_str!("../../../config/lb.toml");
const ASSIGNMENT_TOML: &str = include_str!("../../../config/assignment.toml");

/// A source at `/etc/lb/lb.toml` with `environment` as `NAME=value` and `command_line` as `key=value`.
fn source(environment: &[&str], command_line: &[&str]) -> Source {
    let pair = |text: &&str| {
        let (name, value) = text.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    };
    let mut environment: BTreeMap<String, String> = environment.iter().map(pair).collect();
    environment.entry("HOME".to_owned()).or_insert_with(|| "/home/somebody".to_owned());
    Source {
        path: PathBuf::from("/etc/lb/lb.toml"),
        command_line: command_line.iter().map(pair).collect(),
        environment,
        ..Source::default()
    }
}

fn config(text: &str) -> Config {
    load_text(&source(&[], &[]), text).unwrap().config
}

fn error(text: &str, environment: &[&str], command_line: &[&str]) -> String {
    let error = load_text(&source(environment, command_line), text).map(|loaded| loaded.config);
    error.expect_err(text).to_string()
}

fn setting(loaded: &Loaded, key: &str) -> (String, Origin) {
    let found = loaded.settings.iter().find(|setting| setting.key == key);
    let found = found.unwrap_or_else(|| panic!("{key} is not listed"));
    (found.value.clone(), found.origin.clone())
}

/// lb.toml with its `#key = value` lines as `key = value`.
fn with_defaults_shown() -> String {
    let key = |line: &str| line.starts_with('#') && line[1..].starts_with(char::is_alphabetic);
    let show = |line| if key(line) { &line[1..] } else { line };
    LB_TOML.lines().map(show).flat_map(|line| [line, "\n"]).collect()
}
