//! `lb check-strategy` as a process: sound plugins pass, and each broken plugin fails on the row of the rule it breaks.
//!
//! The broken plugins are one file in C, in which each `-D` breaks one rule. Invariants: every check has a fixed seed.
//! Only the check of the plugin that hangs depends on time, and it has its own time-out. A slow plugin is slow by the
//! clock, so its picks never take less than the test expects.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const SEED: &str = "11";

/// One row of a card.
fn row<'a>(card: &'a Value, row: &str) -> &'a Value {
    let rows = card["rows"].as_array().expect("rows");
    rows.iter().find(|one| one["row"] == row).unwrap_or_else(|| panic!("no row {row} in {card:#}"))
}

/// Its verdict.
fn verdict<'a>(card: &'a Value, name: &str) -> &'a str {
    row(card, name)["verdict"].as_str().expect("a word")
}

fn failed(card: &Value) -> Vec<&str> {
    let rows = card["rows"].as_array().expect("rows").iter();
    rows.filter(|row| row["verdict"] == "fail").map(|row| row["row"].as_str().expect("a word")).collect()
}

/// The plugin made of `strategies/examples/<source>`, with one rule broken by `define`.
fn compile(folder: &TempDir, source: &str, define: &str) -> PathBuf {
    let output = folder.path().join(format!("lib{}.so", define.to_lowercase().replace('=', "_")));
    lb_test_support::compile(&format!("examples/{source}"), &[&format!("-D{define}")], &output);
    output
}

fn lb(arguments: &[&str], files: &[&Path]) -> Output {
    // The folder is empty: the command needs no configuration.
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    command.current_dir(folder.path()).arg("check-strategy").args(arguments).args(files).output().expect("lb runs")
}

/// Runs the command with `--json`. Returns the exit code and the cards.
fn cards(arguments: &[&str], files: &[&Path]) -> (Option<i32>, Vec<Value>) {
    let output = lb(&[&["--json", "--seed", SEED], arguments].concat(), files);
    let cards: Vec<Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(cards.len(), files.len());
    assert!(cards.iter().all(|card| card["seed"] == 11 && card["rows"].as_array().expect("rows").len() == 18));
    (output.status.code(), cards)
}

#[track_caller]
fn assert_fails_on(cases: &[(&str, &str)], arguments: &[&str], exactly: bool) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = cases.iter().map(|(define, _)| compile(&folder, "broken/one_rule.c", define)).collect();
    let (code, cards) = cards(arguments, &files.iter().map(PathBuf::as_path).collect::<Vec<_>>());
    assert_eq!(code, Some(1));
    for ((define, row), card) in cases.iter().zip(&cards) {
        assert_eq!(verdict(card, row), "fail", "{define}: {card:#}");
        assert!(!exactly || failed(card) == [*row], "{define} fails on {:?}: {card:#}", failed(card));
        assert_eq!(card["passed"], false);
    }
    cards
}

#[test]
fn the_shipped_strategies_and_the_examples_pass() {
    let folder = tempfile::tempdir().unwrap();
    let twins = [
        "two_choices",
        "fastest_half",
        "prefix_affinity",
        "central_queue",
        "least_loaded_probed",
        "probed_latency",
        "by_cost",
    ];
    let in_c = twins.map(|name| compile(&folder, &format!("{name}.c"), &name.to_uppercase()));
    let sound = compile(&folder, "broken/one_rule.c", "NO_RULE");
    let offers_all = compile(&folder, "broken/one_rule.c", "OFFERS_ALL_HOOKS");
    let names: Vec<_> = lb_strategy_built::shipped().chain(twins).collect();
    let rust: Vec<_> = names.iter().copied().map(lb_strategy_built::library).collect();
    let files: Vec<&Path> = rust.iter().chain(&in_c).chain([&sound, &offers_all]).map(PathBuf::as_path).collect();
    let (code, cards) = cards(&[], &files);
    for card in &cards {
        assert_eq!(failed(card), [""; 0], "{card:#}");
        assert_eq!(card["passed"], true);
    }
    assert_eq!(code, Some(0));
    let judged: Vec<_> = cards.iter().map(|card| card["strategy"].as_str().unwrap()).collect();
    assert_eq!(judged, [&names[..], &twins[..], &["one_rule", "one_rule"]].concat());
    let card = |name: &str| &cards[judged.iter().position(|judged| *judged == name).unwrap()];
    assert_eq!(verdict(card("consistent_hash"), "disruption"), "pass");
    assert_eq!(verdict(card("round_robin"), "disruption"), "not_applicable");
    assert_eq!(["disruption", "fairness"].map(|row| verdict(card("prefix_affinity"), row)), ["pass"; 2]);
    assert_eq!(["hooks", "explain"].map(|row| verdict(&cards[0], row)), ["pass", "pass"], "{:#}", cards[0]);
    assert_eq!(verdict(card("one_rule"), "explain"), "not_applicable");
    let last = row(&cards[cards.len() - 1], "hooks");
    assert_eq!(
        last["sentence"],
        "called: on_start, on_finish, on_probe, tick, explain, metrics, state_export, state_import"
    );
    assert_eq!(verdict(card("two_choices"), "waits"), "not_applicable");
    let waits = cards.iter().filter(|card| card["strategy"] == "central_queue").map(|card| verdict(card, "waits"));
    assert_eq!(waits.collect::<Vec<_>>(), ["pass", "pass"], "it waits only while backends are busy");
    let ring = card("assignment_ring");
    assert_eq!(["expectation", "fairness"].map(|row| verdict(ring, row)), ["pass", "not_applicable"]);
}

#[test]
fn a_strategy_that_lets_requests_wait_while_all_backends_are_idle_gets_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let (code, cards) = cards(&[], &[&compile(&folder, "broken/one_rule.c", "WAITS_WHEN_IDLE")]);
    assert_eq!((code, failed(&cards[0]), verdict(&cards[0], "waits")), (Some(0), vec![], "warn"), "{:#}", cards[0]);
    assert!(cards[0]["rows"].to_string().contains("with all backends idle, it answered LB_WAIT "), "{:#}", cards[0]);
}

#[test]
fn the_examples_that_read_labels_pass() {
    let folder = tempfile::tempdir().unwrap();
    let files = [lb_strategy_built::library("own_zone"), compile(&folder, "own_zone.c", "OWN_ZONE")];
    let (code, cards) = cards(&["--options", r#"{"zone":"a"}"#], &files.each_ref().map(PathBuf::as_path));
    for card in &cards {
        assert_eq!((failed(card), &card["strategy"]), (vec![], &"own_zone".into()), "{card:#}");
    }
    assert_eq!(code, Some(0));
}

#[test]
fn a_broken_rule_fails_on_its_own_row() {
    let cases = [("BREAKS_ELIGIBILITY", "answers"), ("BREAKS_DRY", "dry_picks"), ("BREAKS_MEMORY", "memory")];
    // Every row with an ineligible backend sees that the plugin ignores health, so `threads` fails as well.
    let cards = assert_fails_on(&cases, &[], false);
    assert_eq!(failed(&cards[1]), ["dry_picks"]);
    assert_eq!(failed(&cards[2]), ["memory"]);
    assert_eq!(failed(&cards[0]), ["threads", "answers"]);
}

#[test]
fn a_declared_property_that_does_not_hold_fails_on_its_row() {
    let cases = [
        ("BREAKS_FAIRNESS", "fairness"),
        ("BREAKS_CONSISTENCY", "disruption"),
        ("BREAKS_INSTANCES", "instances"),
        ("BREAKS_THREADS", "threads"),
    ];
    let cards = assert_fails_on(&cases, &[], false);
    assert_eq!(failed(&cards[1]), ["disruption"], "a random pick is not consistent: {:#}", cards[1]);
    assert_eq!(failed(&cards[3]), ["threads"], "{:#}", cards[3]);
}

#[test]
fn a_strategy_that_picks_by_labels_meets_two_zones() {
    let cards = assert_fails_on(&[("BREAKS_LABELS", "fairness")], &[], false);
    assert_eq!(verdict(&cards[0], "expectation"), "fail", "counts of two zones are uneven: {:#}", cards[0]);
    assert_eq!(verdict(&cards[0], "answers"), "pass", "the small worlds have no labels: {:#}", cards[0]);
}

#[test]
fn a_crash_and_a_hang_are_rows_of_a_card() {
    let cards = assert_fails_on(&[("BREAKS_BY_A_CRASH", "answers")], &[], true);
    assert!(cards[0]["rows"].to_string().contains("signal 6 (abort)"), "{:#}", cards[0]);
    let cards = assert_fails_on(&[("BREAKS_BY_A_HANG", "answers")], &["--timeout", "6"], true);
    let hung = row(&cards[0], "answers");
    assert_eq!((&hung["figure"], &hung["bar"]), (&"hangs".into(), &"progress in 6 s".into()));
    // Verdicts from before the hang stay. Rows after it were not reached.
    assert_eq!((verdict(&cards[0], "fairness"), verdict(&cards[0], "memory")), ("pass", "not_applicable"));
}

/// With the time limit of the hang above, the card takes far longer in all.
#[test]
fn a_slow_pick_is_measured_and_not_called_a_hang() {
    let folder = tempfile::tempdir().unwrap();
    let slow = compile(&folder, "broken/one_rule.c", "TAKES_NS=200000");
    let (code, cards) = cards(&["--timeout", "6"], &[&slow]);
    let card = &cards[0];
    assert_eq!((code, failed(card)), (Some(0), vec![]), "{card:#}");
    let pick_time = row(card, "pick_time");
    assert_eq!(pick_time["verdict"], "warn", "{pick_time:#}");
    assert!(pick_time["figure"].as_str().unwrap().contains(" µs / "), "{pick_time:#}");
    assert!(pick_time["sentence"].as_str().unwrap().contains("Probation fails it above 250 µs"), "{pick_time:#}");
}

#[test]
fn a_pick_beyond_the_limit_of_probation_fails_and_a_very_long_one_ends_the_card() {
    let cards = assert_fails_on(&[("TAKES_NS=2000000", "pick_time")], &[], true);
    let pick_time = row(&cards[0], "pick_time");
    assert_eq!(pick_time["bar"], "at most 250 µs", "{pick_time:#}");
    let memory = row(&cards[0], "memory");
    assert_eq!(memory["verdict"], "not_applicable");
    assert!(memory["sentence"].as_str().unwrap().starts_with("not reached: a pick takes "), "{memory:#}");
}

#[test]
fn faults_of_the_other_hooks_and_leftovers_are_found() {
    let cases = [
        ("BREAKS_EXPLAIN_JSON", "explain"),
        ("BREAKS_EXPLAIN_BACKEND", "explain"),
        ("BREAKS_EXPLAIN_PANIC", "explain"),
        ("BREAKS_TICK", "hooks"),
        ("BREAKS_FINISH", "hooks"),
        ("BREAKS_METRICS", "hooks"),
        ("BREAKS_METRICS_SIGN", "hooks"),
        ("BREAKS_METRICS_ONCE", "hooks"),
        ("BREAKS_PROBE", "hooks"),
        ("BREAKS_THREAD_IN_NEW", "leftovers"),
    ];
    let cards = assert_fails_on(&cases, &[], false);
    let failed: Vec<_> = cards.iter().map(failed).collect();
    let hooks = &["hooks"][..];
    let explain = &["explain"][..];
    let both = &["hooks", "explain"][..];
    let expected = [explain, explain, both, hooks, hooks, hooks, hooks, hooks, hooks, &["leftovers"]];
    assert_eq!(failed, expected);
    let sentence = |card: usize, name: &str| row(&cards[card], name)["sentence"].as_str().unwrap();
    assert!(sentence(0, "explain").contains("is no JSON"), "{:#}", cards[0]);
    assert!(sentence(1, "explain").contains("but the dry pick was"), "{:#}", cards[1]);
    assert!(
        sentence(3, "hooks").contains("failed in tick: it panicked at one_rule.c: the spring broke"),
        "{:#}",
        cards[3]
    );
    let finish = sentence(4, "hooks");
    assert!(finish.starts_with("on_finish panicked in ") && finish.ends_with(" calls, first at on_finish"), "{finish}");
    assert!(sentence(5, "hooks").contains("\"turns-taken\""), "{:#}", cards[5]);
    assert!(sentence(6, "hooks").contains("the counter turns is negative"), "{:#}", cards[6]);
    assert!(sentence(7, "hooks").contains("line 2 of its metrics is not valid: turns has two"), "{:#}", cards[7]);
    assert!(sentence(8, "hooks").contains("on_probe panicked in "), "{:#}", cards[8]);
    assert!(sentence(9, "leftovers").contains("leaves 1 thread running"), "{:#}", cards[9]);
}

#[test]
fn a_file_that_does_not_load_names_the_stage() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("libtext.so");
    std::fs::write(&text, "no library").unwrap();
    let (code, cards) = cards(&[], &[&text]);
    assert_eq!((code, failed(&cards[0])), (Some(1), vec!["loads"]));
    assert_eq!(cards[0]["rows"][0]["figure"], "stage elf");
}

#[test]
fn a_file_that_is_not_there_is_one_line_and_no_card() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("libabsent.so");
    let there = lb_strategy_built::library("round_robin");
    for (files, what) in [
        (&[&*there, &*absent][..], "libabsent.so: there is no such file; "),
        (&[&*absent], "libabsent.so: there is no such file; "),
        (&[folder.path()], ": it is no file; "),
    ] {
        let output = lb(&[], files);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout), (Some(2), Vec::new()), "{said}");
        assert!(said.starts_with("lb: cannot check ") && said.contains(what) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn options_reach_the_strategy() {
    let ring = lb_strategy_built::library("consistent_hash");
    let (code, cards) = cards(&["--options", r#"{"virtual_nodes":0}"#], &[&ring]);
    assert_eq!((code, failed(&cards[0])), (Some(1), vec!["loads"]));
    assert!(cards[0]["rows"][0].to_string().contains("virtual_nodes is 0"), "{:#}", cards[0]);
}

#[test]
fn a_mistake_on_the_command_line_is_one_line_and_exit_code_2() {
    let none: &[&Path] = &[];
    for (arguments, word) in
        [(&[][..], "<FILE>"), (&["--options", "[]", "x"], "object"), (&["--timeout", "0", "x"], "0")]
    {
        let output = lb(arguments, none);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.starts_with("lb: ") && said.contains(word) && said.lines().count() == 1, "{said}");
    }
    let help = lb(&["--help"], none);
    assert!(String::from_utf8_lossy(&help.stdout).contains("native code of its author, with your rights"));
}

#[test]
fn the_table_names_file_seed_and_every_row_without_colour_in_a_pipe() {
    let output = lb(&["--seed", SEED], &[&lb_strategy_built::library("round_robin")]);
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(page.starts_with("round_robin ") && page.contains("seed 11\n") && !page.contains('\x1b'), "{page}");
    assert_eq!(
        page.lines().filter(|line| line.starts_with("  pass") || line.starts_with("  n/a ")).count(),
        19,
        "{page}"
    );
}
