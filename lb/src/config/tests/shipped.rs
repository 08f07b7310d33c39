//! The files that are shipped, and the defaults they describe.
//!
//! Operators learn the keys from `lb.toml`, so every key must be there with its real default.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;

#[test]
fn an_empty_file_is_a_whole_configuration() {
    let config = config("");
    assert_eq!(config.file, Some(PathBuf::from("/etc/lb/lb.toml")));
    assert_eq!(config.proxy.listen, vec!["127.0.0.1:8080".parse().unwrap()]);
    assert!(config.proxy.workers >= 1);
    assert_eq!(config.pools.len(), 1);
    assert_eq!(config.pools[0].name, DEFAULT_POOL);
    assert_eq!(config.pools[0].strategy.plugin, Plugin::Name("round_robin".to_owned()));
    assert_eq!(config.launcher, None);
    assert_eq!(config.timeouts.total, None);
    assert_eq!(config.limits.body_bytes, None);
    assert!(config.state.dir.starts_with("/home/somebody/.local/state/lb"));
    let executable = std::env::current_exe().unwrap();
    assert_eq!(config.plugin_dirs, vec![executable.parent().unwrap().to_owned()]);
}

#[test]
fn lb_toml_is_the_defaults_with_three_launched_servers() {
    let loaded = load_text(&source(&[], &[]), LB_TOML).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let launcher = loaded.config.launcher.clone().unwrap();
    assert_eq!((launcher.replicas, launcher.first_port), (3, 5001));
    assert_eq!(launcher.command, ["mock-server"]);
    let without_launcher = Config { launcher: None, ..loaded.config };
    assert_eq!(without_launcher, config(""));
}

#[test]
fn lb_toml_describes_every_key() {
    let mut told = BTreeSet::new();
    let mut section = String::new();
    for line in LB_TOML.lines().map(|line| line.trim_start_matches(['#', ' '])) {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_start_matches('[').split(']').next().unwrap();
            let (parent, rest) = header.split_once('.').unwrap_or((header, ""));
            told.insert((String::new(), parent.to_owned()));
            told.insert((parent.to_owned(), rest.split('.').next().unwrap().to_owned()));
            section = header.to_owned();
            // A table of a pool is a key of the pool.
            if let Some((pool, table)) = section.strip_prefix("pools.").and_then(|rest| rest.split_once('.')) {
                told.insert((format!("pools.{pool}"), table.to_owned()));
            }
        } else if let Some((key, _)) = line.split_once(" = ") {
            told.insert((section.clone(), key.to_owned()));
        }
    }
    for (section, keys) in keys_by_section() {
        for key in keys {
            assert!(told.contains(&(section.clone(), key.clone())), "[{section}] {key} is missing");
        }
    }
}

#[test]
fn taking_the_hash_from_lb_tomls_defaults_changes_nothing() {
    let shown = with_defaults_shown();
    assert!(shown.matches("\nconnect_ms = ").count() == 1, "not where this test looks for them");
    assert_eq!(config(&shown), config(LB_TOML));
}

#[test]
fn lb_tomls_examples_are_valid() {
    let example = |line: &&str| line.starts_with("#   ") && !line.contains("  lb c");
    let blocks: Vec<&str> = LB_TOML.lines().filter(example).map(|line| line[1..].trim()).collect();
    let start = |first: &str| blocks.iter().position(|line| *line == first).unwrap();
    for first in ["[[backends]]", "[pools.api.strategy]"] {
        let text: String = blocks[start(first)..]
            .iter()
            .take_while(|line| !line.starts_with("seed"))
            .flat_map(|line| [*line, "\n"])
            .collect();
        let config = config(&text);
        assert_eq!(config.pools.len(), 2, "{text}");
        assert_eq!(config.routes[0].host, HostMatch::Wildcard(".example.org".to_owned()));
    }
}

#[test]
fn assignment_toml_is_the_sheet() {
    let loaded = load_text(&source(&[], &[]), ASSIGNMENT_TOML).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let config = loaded.config;
    assert_eq!(config.proxy.listen, vec!["127.0.0.1:5000".parse().unwrap()]);
    assert_eq!(config.admin.listen, "127.0.0.1:5100".parse().unwrap());
    let strategy = &config.pools[0].strategy;
    assert_eq!(strategy.plugin, Plugin::Name("assignment_ring".to_owned()));
    let sheet = serde_json::json!({
        "slots": 512,
        "virtual_servers": 9,
        "request": "i^2 + 2i + 17",
        "server": "i^2 + j^2 + 2j + 25",
        "first_virtual_index": 0,
        "probing": "linear",
    });
    assert_eq!(strategy.options, sheet);
    assert_eq!(strategy.hash_on, [KeySource::RandomId]);
    assert!(config.course.on_proxy_port && config.course.missing_path_is_400);
    let (pool, retry) = (&config.pools[0], config.policies[0].retry.rules);
    assert!(pool.outlier.is_off() && pool.panic.below_percent == 0 && retry.attempts == 1, "safeguards are off");
    let launcher = config.launcher.unwrap();
    assert_eq!((launcher.replicas, launcher.names.as_str()), (3, "Server {n}"));
    assert_eq!(launcher.command, ["mock-server", "--home-id", "{n}"]);
}

/// All keys of the file form, taken from its errors about an unknown key.
fn keys_by_section() -> Vec<(String, Vec<String>)> {
    let known = |text: &str| -> Vec<String> {
        let said = error(text, &[], &[]);
        let (_, known) = said.split_once("Known here: ").unwrap_or(("", ""));
        known.split(", ").filter(|key| !key.is_empty()).map(str::to_owned).collect()
    };
    let top = known("none = 1");
    assert!(top.len() >= 14, "{top:?}");
    let mut sections = vec![(String::new(), top.clone())];
    for section in top.iter().filter(|key| !["plugin_dirs", "allow_group_writable", "pools"].contains(&key.as_str())) {
        let header = match section.as_str() {
            "backends" | "routes" => format!("[[{section}]]\nnone = 1"),
            _ => format!("[{section}]\nnone = 1"),
        };
        sections.push((section.clone(), known(&header)));
    }
    for section in ["strategy.load_reports", "strategy.probe"] {
        sections.push((section.to_owned(), known(&format!("[{section}]\nnone = 1"))));
    }
    sections.push(("strategy.shadow".to_owned(), known("[[strategy.shadow]]\nname = \"a\"\nnone = 1")));
    sections.push(("pools.api".to_owned(), known("[pools.api]\nnone = 1")));
    assert!(sections.iter().all(|(_, keys)| !keys.is_empty()), "{sections:?}");
    sections
}
