//! Recording and alerting rules: each parses and has a conventional name. Each alert has its annotations, a runbook and
//! test cases for promtool.

use crate::files::{Rule, rules, text};
use crate::query::read;

fn alerts() -> Vec<Rule> {
    rules().into_iter().filter(|rule| rule.is_alert).collect()
}

/// The keys that an on-call engineer needs and that `rule` lacks.
fn missing(rule: &Rule) -> Vec<&'static str> {
    let mut missing = Vec::new();
    let has = |key: &str| rule.rest.lines().any(|line| line.starts_with(key));
    for key in ["for: ", "summary: ", "description: ", "dashboard_url: /d/lb-overview"] {
        if !has(key) {
            missing.push(key);
        }
    }
    if !has("severity: critical") && !has("severity: warning") {
        missing.push("severity: critical or warning");
    }
    if !has(&format!("runbook_url: docs/runbooks.md#{}", rule.name.to_lowercase())) {
        missing.push("runbook_url: its own heading");
    }
    missing
}

#[test]
fn every_rule_parses_and_keeps_job_and_instance() {
    let rules = rules();
    assert!(rules.len() >= 19, "only {} rules", rules.len());
    for rule in rules {
        let query = read(&rule.expr).unwrap_or_else(|error| panic!("{}: {error}", rule.name));
        // A grouping without these labels would mix two load balancers.
        let grouped = query.grouped_by.iter().filter(|label| *label == "job").count();
        let times = query.grouped_by.iter().filter(|label| *label == "instance").count();
        let groupings = rule.expr.matches(" by (").count() + rule.expr.matches(" on (").count();
        assert_eq!((grouped, times), (groupings, groupings), "{}: {}", rule.name, rule.expr);
    }
}

#[test]
fn recorded_series_are_named_level_metric_operation() {
    for rule in rules().iter().filter(|rule| !rule.is_alert) {
        let parts: Vec<_> = rule.name.split(':').collect();
        let [level, metric, operation] = parts[..] else { panic!("{}", rule.name) };
        assert!(level.starts_with("job_instance") && metric.starts_with("lb_"), "{}", rule.name);
        let range = operation.rsplit_once("rate").map(|(_, range)| range).expect("the name ends with rate and a range");
        assert!(
            rule.expr.contains(&format!("[{range}]")),
            "{}: the range in the name is not in the expression",
            rule.name
        );
    }
}

#[test]
fn every_alert_has_the_keys_that_an_on_call_engineer_needs() {
    for alert in alerts() {
        assert!(alert.name.starts_with("LB"), "{}", alert.name);
        assert_eq!(missing(&alert), [""; 0], "{}", alert.name);
    }
    let poor = Rule { name: "LBPoor".into(), is_alert: true, expr: "up".into(), rest: "severity: info\n".into() };
    assert_eq!(missing(&poor).len(), 6);
}

#[test]
fn every_alert_has_one_runbook_and_every_runbook_has_an_alert() {
    let page = text("docs/runbooks.md");
    let sections: Vec<_> = page.split("\n## ").skip(1).collect();
    let headings: Vec<_> = sections.iter().map(|section| section.lines().next().unwrap_or_default()).collect();
    assert_eq!(headings, alerts().iter().map(|alert| alert.name.as_str()).collect::<Vec<_>>());
    for section in sections {
        let heading = section.lines().next().unwrap_or_default();
        for part in ["**Meaning.**", "**Impact.**", "**Diagnosis.**", "**Mitigation.**"] {
            assert!(section.contains(part), "{heading} has no {part}");
        }
    }
}

#[test]
fn every_alert_is_tested_firing_and_silent() {
    let tests = text("grafana/prometheus/tests/lb_test.yml");
    for alert in alerts() {
        for case in ["fires\n", "is silent"] {
            assert!(tests.contains(&format!("name: {} {case}", alert.name)), "no case in which {} {case}", alert.name);
        }
    }
}
