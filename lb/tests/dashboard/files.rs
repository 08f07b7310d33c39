//! Reads the files of `grafana/` and `docs/runbooks.md`.

use std::path::Path;

use serde_json::Value;

/// One query of the dashboard, and its place.
pub(crate) struct Asked {
    pub(crate) place: String,
    pub(crate) expr: String,
    /// The legend, with `{{label}}`s; empty if the query has none.
    pub(crate) legend: String,
    pub(crate) of: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Panel,
    Variable,
    Annotation,
}

/// One recording or alerting rule.
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) is_alert: bool,
    pub(crate) expr: String,
    /// The other lines of the rule: `for`, labels, annotations.
    pub(crate) rest: String,
}

pub(crate) fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("lb lies in the workspace").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn dashboard() -> Value {
    serde_json::from_str(&text("grafana/dashboards/lb.json")).expect("lb.json is JSON")
}

/// All panels without the rows themselves, but with the panels in collapsed rows.
pub(crate) fn panels(dashboard: &Value) -> Vec<&Value> {
    let top = list(&dashboard["panels"]);
    let all = top.iter().flat_map(|panel| std::iter::once(panel).chain(list(&panel["panels"])));
    all.filter(|panel| panel["type"] != "row").collect()
}

pub(crate) fn variables(dashboard: &Value) -> &[Value] {
    list(&dashboard["templating"]["list"])
}

/// Every query of the dashboard: of panels, variables and annotations.
pub(crate) fn asked(dashboard: &Value) -> Vec<Asked> {
    let mut all = Vec::new();
    for panel in panels(dashboard) {
        for target in list(&panel["targets"]) {
            all.push(Asked {
                place: format!("panel {}, query {}", word(&panel["title"]), word(&target["refId"])),
                expr: word(&target["expr"]).to_owned(),
                legend: word(&target["legendFormat"]).to_owned(),
                of: Origin::Panel,
            });
        }
    }
    for variable in variables(dashboard).iter().filter(|variable| variable["type"] == "query") {
        let place = format!("variable {}", word(&variable["name"]));
        let (selector, label) = label_values(word(&variable["query"]["query"])).unwrap_or_else(|| panic!("{place}"));
        // As a query, it is a count by that label.
        all.push(Asked {
            place,
            expr: format!("count by ({label}) ({selector})"),
            legend: String::new(),
            of: Origin::Variable,
        });
    }
    for annotation in list(&dashboard["annotations"]["list"]).iter().filter(|one| one["builtIn"] != 1) {
        all.push(Asked {
            place: format!("annotation {}", word(&annotation["name"])),
            expr: word(&annotation["expr"]).to_owned(),
            legend: word(&annotation["textFormat"]).to_owned(),
            of: Origin::Annotation,
        });
    }
    all
}

/// Selector and label of `label_values(selector, label)`.
pub(crate) fn label_values(query: &str) -> Option<(&str, &str)> {
    query.strip_prefix("label_values(")?.strip_suffix(')')?.rsplit_once(", ")
}

/// The rules of both files. This reads only the YAML that they use: one key a line, expressions as blocks.
pub(crate) fn rules() -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for path in ["grafana/prometheus/rules/lb.rules.yml", "grafana/prometheus/rules/lb.alerts.yml"] {
        let before = rules.len();
        let text = text(path);
        let mut in_expr = false;
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            if let Some((kind, name)) = line.strip_prefix("      - ").and_then(|rest| rest.split_once(": ")) {
                let is_alert = kind == "alert";
                rules.push(Rule { name: name.to_owned(), is_alert, expr: String::new(), rest: String::new() });
                in_expr = false;
            } else if line == "        expr: |" {
                in_expr = true;
            } else if let (true, Some(part)) = (in_expr, line.strip_prefix("          ")) {
                rules.last_mut().expect("the name of a rule comes before its expression").expr += &format!("{part}\n");
            } else if let Some(rule) = rules[before..].last_mut() {
                in_expr = false;
                rule.rest += &format!("{}\n", line.trim_start());
            }
        }
        let written = text.matches("expr:").count();
        assert_eq!(rules.len() - before, written, "{path} has {written} rules");
    }
    assert!(rules.iter().all(|rule| !rule.expr.is_empty()), "a rule without expression");
    rules
}

/// The elements of an array; none if the value is absent.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The text of a string; empty if the value is absent.
pub(crate) fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
