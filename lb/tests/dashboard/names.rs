//! The metrics, labels and label values in the dashboard and in the rules all exist in `lb::telemetry::names`.

use std::collections::BTreeSet;

use lb::telemetry::names::{self, Metric};
use lb::telemetry::{
    ErrorReason, FallbackReason, INSTANCE_HOOKS, LogDropReason, QueueRefusal, ReloadKind, ReloadOutcome, SessionResult,
    ShadowResult, SwapKind,
};
use prometheus::proto::MetricType;

use crate::files::{asked, dashboard, rules};
use crate::query::{Selector, read};

/// Series that Prometheus adds, with their labels besides job and instance.
const PROMETHEUS_OWN: &[(&str, &[&str])] = &[
    ("up", &[]),
    ("scrape_duration_seconds", &[]),
    ("scrape_samples_scraped", &[]),
    ("ALERTS", &["alertname", "alertstate"]),
];

/// Labels that Prometheus adds to each series.
const OF_THE_TARGET: &[&str] = &["job", "instance"];

/// Metrics that neither the dashboard nor a rule uses, and why.
const UNUSED: &[(&str, &str)] = &[
    ("lb_access_log_lines_total", "the log is off by default, and a panel that always shows zero is of no use"),
    ("lb_hedges_total", "hedging is off by default"),
    ("lb_load_reports_total", "load reports are off by default"),
    ("lb_probes_total", "few strategies ask for probes"),
    ("lb_probes_skipped_total", "few strategies ask for probes"),
    ("lb_plugin_metrics_dropped_total", "only the author of a plugin can act on it, and the log names the line"),
    ("lb_strategy_hook_failures_total", "few plugins have ticks or metrics; the log names each kind of failure"),
    ("lb_shadow_info", "joins other series to the strategy and the version of a shadow"),
    ("lb_backend_info", "joins other series to addresses and labels, which only operators know"),
];

fn exposed() -> impl Iterator<Item = &'static Metric> {
    names::HUB.iter().chain(names::PROCESS).copied()
}

/// The metric that a series belongs to, and whether the series has `le`.
fn metric_of(series: &str) -> Option<(&'static Metric, bool)> {
    exposed().find_map(|metric| match (metric.kind, series.strip_prefix(metric.name)?) {
        (MetricType::HISTOGRAM, "_bucket") => Some((metric, true)),
        (MetricType::HISTOGRAM, "_sum" | "_count") => Some((metric, false)),
        (kind, "") if kind != MetricType::HISTOGRAM => Some((metric, false)),
        _ => None,
    })
}

/// Labels of a series, without those of the target; `None` if there is no such series.
fn labels_of(series: &str) -> Option<Vec<String>> {
    let owned = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>();
    if let Some((metric, has_le)) = metric_of(series) {
        return Some(owned(metric.labels).into_iter().chain(has_le.then(|| "le".to_owned())).collect());
    }
    if let Some((_, labels)) = PROMETHEUS_OWN.iter().find(|(name, _)| *name == series) {
        return Some(owned(labels));
    }
    let recorded = rules().into_iter().find(|rule| !rule.is_alert && rule.name == series)?;
    Some(read(&recorded.expr).ok()?.grouped_by)
}

/// All values of a label with a closed set of values; `None` for other labels.
fn words_of(metric: &str, label: &str) -> Option<Vec<&'static str>> {
    let is = |known: &[&Metric]| known.iter().any(|known| known.name == metric);
    Some(match label {
        "reason" if is(&[&names::STRATEGY_FALLBACKS]) => FallbackReason::ALL.iter().map(|one| one.as_str()).collect(),
        "reason" if is(&[&names::ACCESS_LOG_DROPPED]) => LogDropReason::ALL.iter().map(|one| one.as_str()).collect(),
        "reason" if is(&[&names::QUEUE_REFUSALS]) => QueueRefusal::ALL.iter().map(|one| one.as_str()).collect(),
        "reason" if is(&[&names::PROXY_ERRORS, &names::BACKEND_ERRORS]) => {
            ErrorReason::ALL.iter().map(|one| one.as_str()).collect()
        }
        "hook" if is(&[&names::STRATEGY_HOOK_PANICS]) => INSTANCE_HOOKS.iter().map(|one| one.as_str()).collect(),
        "kind" if is(&[&names::STRATEGY_SWAPS]) => SwapKind::ALL.iter().map(|one| one.as_str()).collect(),
        "kind" => ReloadKind::ALL.iter().map(|one| one.as_str()).collect(),
        "result" if is(&[&names::RELOADS]) => ReloadOutcome::ALL.iter().map(|one| one.as_str()).collect(),
        "result" if is(&[&names::SESSIONS]) => SessionResult::ALL.iter().map(|one| one.as_str()).collect(),
        "result" if is(&[&names::SHADOW_PICKS]) => ShadowResult::ALL.iter().map(|one| one.as_str()).collect(),
        "result" => vec!["ok", "failed"],
        _ => return None,
    })
}

fn wrong_with(selector: &Selector) -> Option<String> {
    let Some(labels) = labels_of(&selector.name) else { return Some(format!("there is no {}", selector.name)) };
    for (label, _, value) in &selector.matchers {
        if !OF_THE_TARGET.contains(&label.as_str()) && !labels.contains(label) {
            return Some(format!("{} has no label {label}", selector.name));
        }
        let words = words_of(&selector.name, label);
        if let Some(odd) =
            words.and_then(|words| value.split('|').find(|word| !words.contains(word)).map(str::to_owned))
        {
            return Some(format!("{label} of {} is never {odd}", selector.name));
        }
    }
    None
}

/// The errors of names in an expression and in the legend of its series.
fn wrong_with_names(expr: &str, legend: &str) -> Vec<String> {
    let query = match read(expr) {
        Ok(query) => query,
        Err(error) => return vec![error],
    };
    let mut wrong: Vec<_> = query.selectors.iter().filter_map(wrong_with).collect();
    let known: BTreeSet<_> = query.selectors.iter().filter_map(|one| labels_of(&one.name)).flatten().collect();
    for label in &query.grouped_by {
        if !OF_THE_TARGET.contains(&label.as_str()) && !known.contains(label) {
            wrong.push(format!("nothing in it has the label {label}"));
        }
    }
    for part in legend.split("{{").skip(1) {
        let label = part.split("}}").next().unwrap_or_default().trim();
        if !query.grouped_by.iter().any(|by| by == label) && !OF_THE_TARGET.contains(&label) {
            wrong.push(format!("its series have no {label} for the legend"));
        }
    }
    wrong
}

/// Every expression of dashboard and rules, as place, expression and legend.
fn everything() -> Vec<(String, String, String)> {
    let dashboard = asked(&dashboard()).into_iter().map(|one| (one.place, one.expr, one.legend));
    dashboard.chain(rules().into_iter().map(|rule| (format!("rule {}", rule.name), rule.expr, String::new()))).collect()
}

#[test]
fn every_name_in_dashboard_and_rules_exists() {
    let everything = everything();
    assert!(everything.len() > 80, "only {} expressions found", everything.len());
    let wrong: Vec<_> = everything
        .iter()
        .flat_map(|(place, expr, legend)| {
            wrong_with_names(expr, legend).into_iter().map(move |wrong| format!("{place}: {wrong}\n    {expr}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_error_ratio_of_a_backend_leaves_out_errors_that_clients_cause() {
    let ratio =
        everything().into_iter().find(|(place, ..)| place == "panel Backends, query D").expect("the panel exists").1;
    let selectors = read(&ratio).expect("the expression parses").selectors;
    let errors =
        selectors.iter().find(|one| one.name == names::BACKEND_ERRORS.name).expect("the expression selects errors");
    let (_, operator, reasons) =
        errors.matchers.iter().find(|(label, ..)| label == "reason").expect("the expression leaves reasons out");
    let left_out: BTreeSet<_> = reasons.split('|').collect();
    // No backend counts these errors: they occur before or after a backend has the request.
    let of_no_backend = [ErrorReason::NoBackend, ErrorReason::MethodNotAllowed, ErrorReason::TunnelIdle];
    let others = ErrorReason::ALL.iter().filter(|one| !one.is_the_backends_fault() && !of_no_backend.contains(one));
    assert_eq!((operator.as_str(), left_out), ("!~", others.map(|one| one.as_str()).collect()));
}

#[test]
fn every_metric_is_used_or_listed_with_a_reason() {
    let selectors =
        everything().into_iter().flat_map(|(_, expr, _)| read(&expr).expect("the expression parses").selectors);
    let used: BTreeSet<_> = selectors.filter_map(|one| Some(metric_of(&one.name)?.0.name)).collect();
    for metric in exposed() {
        let reason = UNUSED.iter().find(|(name, _)| *name == metric.name).map(|(_, reason)| *reason);
        match (used.contains(metric.name), reason) {
            (true, None) => {}
            (false, Some(reason)) => assert!(!reason.is_empty(), "{}: why?", metric.name),
            (true, Some(_)) => panic!("{} is used: remove it from UNUSED", metric.name),
            (false, None) => panic!("{} is on no panel and in no rule: use it, or say why not in UNUSED", metric.name),
        }
    }
}

#[test]
fn names_that_do_not_exist_are_caught() {
    let bad = [
        ("lb_request_total", "", "there is no lb_request_total"),
        ("lb_request_duration_seconds", "", "there is no lb_request_duration_seconds"),
        ("lb_requests_total_bucket", "", "there is no lb_requests_total_bucket"),
        (r#"lb_requests_total{status="200"}"#, "", "no label status"),
        (r#"lb_requests_total{le="1"}"#, "", "no label le"),
        (r#"rate(lb_strategy_fallbacks_total{reason=~"panic|crash"}[5m])"#, "", "never crash"),
        (r#"lb_reloads_total{kind="plugin"}"#, "", "never plugin"),
        (r#"lb_queue_refusals_total{reason=~"full|late"}"#, "", "never late"),
        (r#"lb_sessions_total{result="lost"}"#, "", "never lost"),
        (r#"lb_shadow_picks_total{result="equal"}"#, "", "never equal"),
        ("sum by (server) (lb_backend_up)", "", "label server"),
        ("lb_backend_up / on (zone) lb_backend_weight", "", "label zone"),
        ("sum by (pool) (lb_backend_up)", "{{pool}} {{backend}}", "no backend for the legend"),
        ("job_instance_pool:lb_requests:rate1m", "", "there is no job_instance_pool:lb_requests:rate1m"),
        ("sum(", "", ""),
    ];
    for (expr, legend, complaint) in bad {
        let wrong = wrong_with_names(expr, legend);
        assert!(wrong.iter().any(|wrong| wrong.contains(complaint)), "{expr}: {wrong:?}");
    }
    assert_eq!(wrong_with_names("sum by (le) (rate(lb_request_duration_seconds_bucket[5m]))", "{{le}}"), [""; 0]);
}
