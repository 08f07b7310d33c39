//! The rules of Grafana's dashboard-linter that concern a dashboard with one data source, each with a fault to catch.
//!
//! The names of the rules are those of the linter.

use serde_json::{Value, json};

use crate::files::{Origin, asked, dashboard, label_values, list, panels, variables, word};
use crate::query::{RATE_INTERVAL, read};

/// Grafana's ids of the units in use. Grafana draws an unknown id as a suffix of the number.
const UNITS: &[&str] =
    &["none", "short", "s", "reqps", "ops", "cps", "percentunit", "Bps", "bytes", "dtdurations", "bool_yes_no"];

/// Every offence, as `rule: where`.
fn offences(dashboard: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |holds: bool, rule: &str, place: &str| {
        if !holds {
            found.push(format!("{rule}: {place}"));
        }
    };
    check(dashboard["editable"] == false, "uneditable-dashboard", "editable");
    check(word(&dashboard["uid"]) == "lb-overview", "uid", "links to the dashboard contain it");
    check(dashboard["id"].is_null() && dashboard.get("__inputs").is_none(), "provisioning", "id or __inputs");

    let source = variables(dashboard).iter().find(|variable| variable["type"] == "datasource");
    let is_source =
        |one: &Value| one["name"] == "datasource" && one["label"] == "Data source" && one["query"] == "prometheus";
    check(source.is_some_and(is_source), "template-datasource", "datasource");
    for (name, label) in [("job", "Job"), ("instance", "Instance"), ("pool", "Pool"), ("backend", "Backend")] {
        let variable = variables(dashboard).iter().find(|variable| variable["name"] == name);
        let holds =
            variable.is_some_and(|one| one["label"] == label && one["multi"] == true && one["allValue"] == ".+");
        check(holds, &format!("template-{name}"), name);
    }
    for variable in variables(dashboard).iter().filter(|variable| variable["type"] == "query") {
        let name = word(&variable["name"]);
        check(label_values(word(&variable["query"]["query"])).is_some(), "template-label-promql", name);
        check(variable["refresh"] == 2, "template-on-time-change-reload", name);
        check(from_the_variable(variable), "template-datasource", name);
    }

    for panel in panels(dashboard) {
        let title = word(&panel["title"]);
        check(from_the_variable(panel), "panel-datasource", title);
        check(!title.is_empty() && word(&panel["description"]).ends_with('.'), "panel-title-description", title);
        check(!list(&panel["targets"]).is_empty(), "panel-no-targets", title);
        check(list(&panel["targets"]).iter().all(from_the_variable), "panel-datasource", title);
        let own = match word(&panel["type"]) {
            "heatmap" => &panel["options"]["yAxis"]["unit"],
            _ => &panel["fieldConfig"]["defaults"]["unit"],
        };
        let overrides = list(&panel["fieldConfig"]["overrides"]).iter().flat_map(|one| list(&one["properties"]));
        let of_overrides = overrides.filter(|property| property["id"] == "unit").map(|property| &property["value"]);
        let known = std::iter::once(own).chain(of_overrides).all(|unit| UNITS.contains(&word(unit)));
        check(known, "panel-units", title);
    }

    for one in asked(dashboard).iter().filter(|one| one.of != Origin::Variable) {
        let Ok(query) = read(&one.expr) else {
            check(false, "target-promql", &one.place);
            continue;
        };
        for selector in &query.selectors {
            check(selector.has("job", "=~", "$job"), "target-job", &one.place);
            check(selector.has("instance", "=~", "$instance"), "target-instance", &one.place);
            check(selector.range.is_none_or(|range| range == RATE_INTERVAL), "target-rate-interval", &one.place);
            let is_counter = selector.name.ends_with("_total") || selector.name.ends_with("_bucket");
            let rated = ["rate", "irate", "increase"].contains(&selector.within.as_str());
            check(!is_counter || rated || one.of == Origin::Annotation, "target-counter-agg", &one.place);
        }
    }
    found
}

fn from_the_variable(of: &Value) -> bool {
    of["datasource"] == json!({ "type": "prometheus", "uid": "${datasource}" })
}

/// The dashboard with one thing changed.
fn with(pointer: &str, value: Value) -> Value {
    let mut changed = dashboard();
    *changed.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is not there")) = value;
    changed
}

#[test]
fn the_dashboard_keeps_the_rules() {
    let offences = offences(&dashboard());
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn each_rule_catches_its_fault() {
    let expr = "/panels/2/targets/0/expr";
    let faults = [
        ("uneditable-dashboard", "/editable", json!(true)),
        ("uid", "/uid", json!("other")),
        ("provisioning", "/id", json!(7)),
        ("template-datasource", "/templating/list/0/name", json!("ds")),
        ("template-datasource", "/templating/list/1/datasource", json!("Prometheus")),
        ("template-job", "/templating/list/1/multi", json!(false)),
        ("template-instance", "/templating/list/2/allValue", json!(".*")),
        ("template-pool", "/templating/list/3/label", json!("pool")),
        ("template-backend", "/templating/list/4/name", json!("server")),
        ("template-on-time-change-reload", "/templating/list/1/refresh", json!(1)),
        ("panel-datasource", "/panels/1/datasource/uid", json!("lb-prometheus")),
        ("panel-datasource", "/panels/1/targets/0/datasource/uid", json!("lb-prometheus")),
        ("panel-title-description", "/panels/1/description", json!("")),
        ("panel-no-targets", "/panels/1/targets", json!([])),
        ("panel-units", "/panels/1/fieldConfig/defaults/unit", json!("percent_unit")),
        ("target-promql", expr, json!("sum(")),
        ("target-job", expr, json!(r#"lb_generation{instance=~"$instance"}"#)),
        ("target-instance", expr, json!(r#"lb_generation{job=~"$job",instance="$instance"}"#)),
        ("target-rate-interval", expr, json!(r#"rate(lb_reloads_total{job=~"$job",instance=~"$instance"}[5m])"#)),
        ("target-counter-agg", expr, json!(r#"sum(lb_reloads_total{job=~"$job",instance=~"$instance"})"#)),
    ];
    for (rule, pointer, value) in faults {
        let found = offences(&with(pointer, value));
        assert!(found.iter().any(|one| one.starts_with(&format!("{rule}: "))), "{rule} lets {pointer} pass: {found:?}");
    }
}
