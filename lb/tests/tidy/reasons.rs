//! Rules about the reference: its tables list each word of the closed sets, and no other.
//!
//! Why: an operator looks up the word of a header, a log line or a metric there. The tables are written by hand.

use lb::telemetry::{
    DutyHook, ErrorReason, FallbackReason, HedgeResult, INSTANCE_HOOKS, LogDropReason, ProbeKind, ProbeOutcome,
    ProbeSkip, QueueRefusal, ReloadKind, ReloadOutcome, ReportResult, RetryReason, ShadowResult, SwapKind, names,
};

use crate::docs::outside_fences;
use crate::sources::named;

/// The closed sets of the table of other reasons, by metric and label.
fn other_sets() -> Vec<(String, Vec<&'static str>)> {
    macro_rules! set {
        ($metric:ident, $label:literal, $reasons:ident) => {
            (key(names::$metric.name, $label), $reasons::ALL.iter().map(|word| word.as_str()).collect())
        };
    }
    vec![
        set!(RETRIES, "reason", RetryReason),
        set!(HEDGES, "result", HedgeResult),
        set!(QUEUE_REFUSALS, "reason", QueueRefusal),
        set!(LOAD_REPORTS, "result", ReportResult),
        set!(PROBES, "kind", ProbeKind),
        set!(PROBES, "outcome", ProbeOutcome),
        set!(PROBES_SKIPPED, "reason", ProbeSkip),
        set!(STRATEGY_FALLBACKS, "reason", FallbackReason),
        set!(STRATEGY_HOOK_FAILURES, "hook", DutyHook),
        (key(names::STRATEGY_HOOK_PANICS.name, "hook"), INSTANCE_HOOKS.iter().map(|hook| hook.as_str()).collect()),
        set!(SHADOW_PICKS, "result", ShadowResult),
        set!(ACCESS_LOG_DROPPED, "reason", LogDropReason),
        set!(STRATEGY_SWAPS, "kind", SwapKind),
        set!(RELOADS, "kind", ReloadKind),
        set!(RELOADS, "result", ReloadOutcome),
    ]
}

/// The first cell of a metric's first row.
fn key(metric: &str, label: &str) -> String {
    format!("`{metric}`, `{label}`")
}

/// The cells of the rows of the table below `heading`, without its head.
fn rows<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let lines = outside_fences(page).map(|(_, line)| line);
    let section = lines.skip_while(|line| *line != heading).skip(1).take_while(|line| !line.starts_with("## "));
    let table = section.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    table.skip(2).map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The words in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The differences between the listed words and the words of the code.
fn differences(what: &str, listed: &[&str], words: &[&str]) -> Vec<String> {
    let missing = words.iter().filter(|word| !listed.contains(word)).map(|word| format!("{what}: no {word}"));
    let unknown = listed.iter().filter(|word| !words.contains(word)).map(|word| format!("{what}: unknown {word}"));
    let twice = listed.iter().enumerate().filter(|(index, word)| listed[..*index].contains(word));
    missing.chain(unknown).chain(twice.map(|(_, word)| format!("{what}: {word} twice"))).collect()
}

/// The differences between the tables of `page` and the code.
fn wrong(page: &str) -> Vec<String> {
    let errors = rows(page, "## Error reasons");
    let listed: Vec<&str> = errors.iter().flat_map(|row| quoted(row[0])).collect();
    let words: Vec<&str> = ErrorReason::ALL.iter().map(|reason| reason.as_str()).collect();
    let mut wrong = differences("Error reasons", &listed, &words);

    let mut sets: Vec<(&str, Vec<&str>)> = Vec::new();
    for row in rows(page, "## Other reasons") {
        match (row[0], sets.last_mut()) {
            ("", Some((_, words))) => words.extend(quoted(row[1])),
            (metric, _) => sets.push((metric, quoted(row[1]).collect())),
        }
    }
    let wanted = other_sets();
    for (metric, words) in &wanted {
        let listed = sets.iter().find(|(listed, _)| listed == metric).map_or(&[][..], |(_, listed)| listed);
        wrong.extend(differences(metric, listed, words));
    }
    let unknown = sets.iter().filter(|(listed, _)| wanted.iter().all(|(metric, _)| metric != listed));
    wrong.extend(unknown.map(|(metric, _)| format!("{metric}: no closed set is known here")));
    wrong
}

#[test]
fn the_reference_lists_each_reason_and_no_other() {
    assert_eq!(wrong(&named("docs/reference.md").text), [""; 0]);
}

#[test]
fn a_reason_that_is_missing_or_unknown_is_caught() {
    let page = named("docs/reference.md").text;
    for (text, instead, complaint) in [
        ("| `reset` |", "| `resets` |", "Error reasons: no reset"),
        ("| `reset` |", "| `resets` |", "Error reasons: unknown resets"),
        ("| `reset` |", "| `timeout` |", "Error reasons: timeout twice"),
        ("| | `panic` |", "| | `panics` |", "`lb_strategy_fallbacks_total`, `reason`: no panic"),
        ("| | `plugin` |", "| | `plug` |", "`lb_strategy_swaps_total`, `kind`: no plugin"),
        ("`lb_reloads_total`, `kind`", "`lb_reloads_total`, `sort`", "`lb_reloads_total`, `sort`: no closed set"),
    ] {
        assert!(page.contains(text), "{text} is not in the page any more");
        let wrong = wrong(&page.replacen(text, instead, 1));
        assert!(wrong.iter().any(|line| line.starts_with(complaint)), "{complaint}: {wrong:?}");
    }
}
