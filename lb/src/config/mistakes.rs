//! All mistakes of a configuration at once: the checks run again without the cause of each mistake that they find.
//!
//! Why not checks that go on after a mistake? A check may rely on the checks before it. And serde, which reads names
//! and types, stops at its first complaint.
//!
//! Invariant: a mistake that only the removal of another one causes is not reported.

use super::document::Document;
use super::error::{ConfigError, Place};
use super::key_path::{KeyPath, Step};
use super::load::Source;
use super::overrides::flag;

/// More are rarely of use, and each costs one more run of the checks.
const MISTAKES_MAX: usize = 50;

/// Returns the result of `check`, or all mistakes that it finds.
pub(super) fn collect<T>(
    source: &Source,
    mut document: Document<'_>,
    check: impl Fn(&Source, &mut Document<'_>) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    let mut source = source.clone();
    let mut found = Vec::new();
    let mut lost_pool = false;
    let mut lost = Vec::new();
    loop {
        let mistake = match check(&source, &mut document) {
            Ok(checked) => return ConfigError::all(found).map_or(Ok(checked), Err),
            Err(mistake) => mistake,
        };
        // Such a route may name a pool that was removed.
        let is_of_route = matches!(&mistake, ConfigError::Setting { key, .. } if lost_pool && names_pool(key));
        let named = named(&mistake, &document);
        // A setting that was removed may be missing now.
        let is_lost = matches!(&named, ConfigError::Setting { key, .. } if lost.contains(key));
        if let ConfigError::Setting { key, .. } = &named {
            lost.push(key.clone());
        }
        let removed = remove_cause(&mistake, &mut document, &mut source);
        lost_pool |= removed && matches!(&mistake, ConfigError::Setting { key, .. } if is_pool(key));
        if !is_of_route && !is_lost {
            found.push(named);
        }
        if !removed || found.len() >= MISTAKES_MAX {
            return Err(ConfigError::all(found).unwrap_or(mistake));
        }
    }
}

/// `mistake` with its key as the whole document calls it.
fn named(mistake: &ConfigError, document: &Document<'_>) -> ConfigError {
    let mut named = mistake.clone();
    if let ConfigError::Setting { key, place: Place::File { .. }, .. } = &mut named {
        *key = document.name_of(key);
    }
    named
}

/// Takes out what `mistake` is about. Returns `false` if that is impossible.
fn remove_cause(mistake: &ConfigError, document: &mut Document<'_>, source: &mut Source) -> bool {
    let ConfigError::Setting { place, key, .. } = mistake else { return false };
    match place {
        Place::File { .. } => document.remove(key),
        Place::Environment(name) => source.environment.remove(name).is_some(),
        Place::CommandLine(name) => {
            let before = source.command_line.len();
            source.command_line.retain(|(key, _)| flag(key) != *name);
            source.command_line.len() < before
        }
    }
}

/// `pools.NAME`.
fn is_pool(key: &KeyPath) -> bool {
    matches!(key.steps(), [Step::Key(pools), Step::Key(_)] if pools == "pools")
}

/// `routes[N].pool`.
fn names_pool(key: &KeyPath) -> bool {
    matches!(key.steps(), [Step::Key(routes), Step::Index(_), Step::Key(pool)] if routes == "routes" && pool == "pool")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::load_text;
    use super::*;

    /// The mistakes of `text`, a line each, without the file's name.
    fn mistakes(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
        let environment: BTreeMap<_, _> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let source = Source { path: "/etc/lb/lb.toml".into(), environment, ..Source::default() };
        let error = load_text(&source, text).map(|loaded| loaded.config).expect_err(text);
        error.each().iter().map(|one| one.to_string().replace("/etc/lb/lb.toml", "")).collect()
    }

    fn assert_found(text: &str, environment: &[(&str, &str)], expected: &[&str]) {
        let found = mistakes(text, environment);
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}\nnot {expected}");
        }
    }

    #[test]
    fn names_types_and_values_are_reported_together() {
        let text = "[proxy]\nlisen = 1\nworkers = \"two\"\n[strategy]\nname = \"round-robin\"\n[retry]\nattempts = 6\n";
        assert_found(
            text,
            &[],
            &[
                ":2:1: proxy.lisen: unknown key `lisen`; did you mean `listen`?",
                ":3:11: proxy.workers: invalid type: string",
                ":5:1: strategy.name: \"round-robin\"",
                ":7:1: retry.attempts: must be from 1 to 5",
            ],
        );
    }

    #[test]
    fn elements_after_a_removed_one_keep_their_names() {
        let text = "[[backends]]\nid = \"a\"\n[[backends]]\nid = \"b\"\naddress = \"127.0.0.1\"\n\
                    [[backends]]\nid = \"c\"\naddress = \"127.0.0.1:1\"\nweight = 300\n";
        assert_found(
            text,
            &[],
            &[
                ":1:1: backends[0]: missing field `address`",
                ":5:1: backends[1].address: \"127.0.0.1\"",
                ":9:1: backends[2].weight: a weight is",
            ],
        );
    }

    #[test]
    fn a_route_to_a_pool_with_a_wrong_name_is_no_mistake_of_its_own() {
        let text = "[pools.\"a/b\"]\n[[routes]]\npool = \"a/b\"\n[log]\nlevel = \"lb=loud\"\n";
        assert_found(text, &[], &[":1:8: pools.\"a/b\": an id is made of", ":5:1: log.level:"]);
    }

    #[test]
    fn a_wrong_setting_is_not_missing_too() {
        let text = "[sticky]\ncookie = \"lb\"\nsecret_file = \"\\u0000\"\n[log]\nlevel = \"lb=loud\"\n";
        let found = mistakes(text, &[]);
        let of_secret: Vec<_> = found.iter().filter(|one| one.contains("sticky.secret_file")).collect();
        assert_eq!(of_secret.len(), 1, "{found:#?}");
    }

    #[test]
    fn variables_are_reported_beside_the_file() {
        let text = "[health]\npath = \"x\"\n";
        let environment = [("LB__PROXY__WORKERS", "two"), ("LB__LOG__LEVEL", "lb=loud")];
        assert_found(
            text,
            &environment,
            &["LB__PROXY__WORKERS: proxy.workers", "LB__LOG__LEVEL: log.level", ":2:1: health.path"],
        );
    }

    #[test]
    fn each_line_that_is_not_toml_is_reported_once() {
        let text = "[proxy]\nlisten = 127.0.0.1:18080\nworkers = two # or three\n[admin]\nlisten = \"a\n";
        assert_found(
            text,
            &[],
            &[
                ":2:15: not valid TOML: a text needs quotes; write listen = \"127.0.0.1:18080\"",
                ":3:11: not valid TOML: a text needs quotes; write workers = \"two\"",
                ":5:",
            ],
        );
    }

    #[test]
    fn brackets_are_corrected() {
        assert_found(
            "[backends]\nid = \"a\"",
            &[],
            &[":1:1: backends: there can be several, so each has two brackets; write [[backends]]"],
        );
        assert_found(
            "[[proxy]]\nworkers = 1",
            &[],
            &[":1:1: proxy[0]: there is only one, so it has single brackets; write [proxy]"],
        );
    }

    #[test]
    fn a_single_mistake_is_the_same_error_as_before() {
        let source = Source { path: "/etc/lb/lb.toml".into(), ..Source::default() };
        let error = load_text(&source, "[retry]\nattempts = 6").map(|loaded| loaded.config).unwrap_err();
        assert!(matches!(error, ConfigError::Setting { .. }), "{error}");
        let error =
            load_text(&source, "[retry]\nattempts = 6\nreplay_bytes = -1").map(|loaded| loaded.config).unwrap_err();
        assert!(error.to_string().ends_with("(and 1 more; `lb check` lists all)"), "{error}");
    }
}
