//! `lb explain`: asks the running lb where a request would go, and prints the response.
//!
//! Invariants: with `--json` the response is printed unchanged, as compact JSON. Without it, long lists and texts of
//! the strategy are shortened: a ring has up to a megabyte.

use std::fmt::Write as _;

use clap::Args as ClapArgs;
use serde_json::Value;

use super::CliError;
use super::inspect::print;
use super::running::{asked, list, text};
use crate::config::Admin;

/// More entries of a list are not printed, such as the arcs of a ring.
const ENTRIES_MAX: usize = 16;
/// Characters of one text.
const TEXT_MAX: usize = 400;

/// A hypothetical request. Every part is optional.
#[derive(Clone, Debug, PartialEq, Eq, ClapArgs)]
#[group(skip)] // its name would be that of the command
pub struct Explain {
    /// The key to hash; without it, the key that hash_on finds in the request
    pub key: Option<String>,
    /// The pool; without it, the routes choose the pool by host and path
    #[arg(long, value_name = "NAME")]
    pub pool: Option<String>,
    /// The host of the request
    #[arg(long)]
    pub host: Option<String>,
    /// The path of the request, with or without a query
    #[arg(long)]
    pub path: Option<String>,
    /// A header of the request; may be repeated
    #[arg(long, value_name = "NAME:VALUE")]
    pub header: Vec<String>,
    /// The body of the request, for a strategy that picks by the body
    #[arg(long, value_name = "TEXT")]
    pub body: Option<String>,
    /// The client's address
    #[arg(long, value_name = "IP")]
    pub client_ip: Option<String>,
}

pub(super) fn explain(admin: &Admin, question: &Explain, as_json: bool) -> Result<(), CliError> {
    let answer = asked(admin, &question.path_and_query())?;
    print(&if as_json { answer.to_string() } else { page(&answer) })
}

fn page(answer: &Value) -> String {
    let mut page = String::new();
    let request = match (answer["key"].as_str(), answer["hash"].as_str()) {
        (Some(key), Some(hash)) => format!("a request with key {key:?} (hash {hash})"),
        _ => "a request".to_owned(),
    };
    let _ = match answer["backend"].as_str() {
        Some(backend) => writeln!(page, "{request} would go to {backend}"),
        None if answer["wait"].is_object() => writeln!(page, "{request} would wait: {}", wait(&answer["wait"])),
        None if answer["reason"] == "overload" => {
            writeln!(page, "{request} would get 503 overload: no backend has room, and no further request may wait")
        }
        None => writeln!(page, "{request} would go nowhere: {}", text(&answer["reason"])),
    };
    let (pool, strategy, version) =
        (text(&answer["pool"]), text(&answer["strategy"]), text(&answer["strategy_version"]));
    let _ = writeln!(page, "pool {pool:14} {strategy} {version}, generation {}", answer["generation"]);
    if answer["picked_by"] == "fallback" {
        let _ = writeln!(page, "picked by           lb's own fallback: {}", text(&answer["reason"]));
    }
    for backend in list(&answer["backends"]) {
        let state = if backend["eligible"] == true { "eligible" } else { "not eligible" };
        let latency =
            backend["ewma_latency_ms"].as_f64().map(|ms| format!(", {ms:.3} ms on average")).unwrap_or_default();
        let (name, weight, in_flight) = (text(&backend["backend"]), &backend["weight"], &backend["in_flight"]);
        let effective = backend["effective_weight"].as_f64().filter(|effective| Some(*effective) != weight.as_f64());
        let starts = effective.map(|effective| format!(" ({effective} in slow start)")).unwrap_or_default();
        let _ = writeln!(page, "backend {name:11} {state}, weight {weight}{starts}, {in_flight} in flight{latency}");
    }
    if !answer["strategy_says"].is_null() {
        let _ = writeln!(page, "the strategy says   {}", shortened(&answer["strategy_says"]));
    }
    if let Some(failed) = answer["strategy_failed"].as_str() {
        let _ = writeln!(page, "no explanation      {failed}");
    }
    page
}

/// A copy in which each long list is replaced by its number of entries, and each long text is cut.
fn shortened(value: &Value) -> Value {
    match value {
        Value::Array(entries) if entries.len() > ENTRIES_MAX => {
            format!("{} entries, shown with --json", entries.len()).into()
        }
        Value::Array(entries) => entries.iter().map(shortened).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shortened(value))).collect(),
        Value::String(text) if text.chars().count() > TEXT_MAX => {
            let begin: String = text.chars().take(TEXT_MAX).collect();
            format!("{begin}… ({} bytes, shown with --json)", text.len()).into()
        }
        other => other.clone(),
    }
}

fn wait(wait: &Value) -> String {
    let cause = match text(&wait["cause"]) {
        "full" => "no backend that may serve has room",
        "limit" => "the pool is at its adaptive limit",
        "behind" => "it has no key, and others wait",
        "strategy" => "the strategy lets it wait",
        other => other,
    };
    let at_most_s = wait["at_most_ms"].as_f64().unwrap_or_default() / 1e3;
    format!("{cause}; {} wait now, each for at most {at_most_s} s", wait["waiting"])
}

// === impl Explain ===

impl Explain {
    fn path_and_query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let Self { key, pool, host, path, header, body, client_ip } = self;
        let request = [("host", host), ("path", path), ("body", body), ("client_ip", client_ip)];
        let single = [("key", key), ("pool", pool)].into_iter().chain(request);
        for (name, value) in single.filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            query.append_pair(name, value);
        }
        for header in header {
            query.append_pair("header", header);
        }
        format!("/explain?{}", query.finish())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_options_become_a_query() {
        let mut question = Explain {
            key: Some("a b&".into()),
            pool: None,
            host: None,
            path: None,
            header: Vec::new(),
            body: None,
            client_ip: None,
        };
        assert_eq!(question.path_and_query(), "/explain?key=a+b%26");
        (question.key, question.header) = (None, vec!["x-a: 1".into(), "x-b:2".into()]);
        assert_eq!(question.path_and_query(), "/explain?header=x-a%3A+1&header=x-b%3A2");
        (question.body, question.header) = (Some("{\n}".into()), Vec::new());
        assert_eq!(question.path_and_query(), "/explain?body=%7B%0A%7D");
    }

    #[test]
    fn long_lists_and_texts_of_a_strategy_are_shortened_and_short_ones_are_not() {
        let arcs: Vec<_> = (0..16_384).map(|arc| json!([f64::from(arc) / 16_384.0, arc % 7])).collect();
        let says = json!({ "ring": arcs, "walk": [[1, "b1"], [2, "b2"]], "because": "é".repeat(500), "point": 1 });
        let page =
            super::page(&json!({ "pool": "p", "backend": "b1", "strategy_says": says, "strategy_failed": null }));
        assert!(page.len() < 1_200, "{} bytes", page.len());
        for part in ["\"ring\":\"16384 entries, shown with --json\"", "[[1,\"b1\"],[2,\"b2\"]]", "é… (1000 bytes, "]
        {
            assert!(page.contains(part), "no {part} in {page}");
        }
        let failed = json!({ "pool": "p", "strategy_failed": "strategy x failed in explain: it panicked" });
        assert!(super::page(&failed).ends_with("no explanation      strategy x failed in explain: it panicked\n"));
    }

    #[test]
    fn the_page_shows_the_backend_and_the_reason() {
        let answer = json!({
            "pool": "default", "generation": 3, "strategy": "ring", "strategy_version": "1", "key": "a", "hash": "00ff",
            "backend": "b1", "picked_by": "fallback", "reason": "not_eligible", "strategy_says": {"point": 1},
            "backends": [
                { "backend": "b1", "eligible": true, "weight": 1, "in_flight": 2, "ewma_latency_ms": 0.25 },
                { "backend": "b2", "eligible": false, "weight": 1, "effective_weight": 1.0, "in_flight": 0 },
                { "backend": "b3", "eligible": true, "weight": 2, "effective_weight": 0.4, "in_flight": 0 },
            ],
        });
        let wanted = "\
a request with key \"a\" (hash 00ff) would go to b1
pool default        ring 1, generation 3
picked by           lb's own fallback: not_eligible
backend b1          eligible, weight 1, 2 in flight, 0.250 ms on average
backend b2          not eligible, weight 1, 0 in flight
backend b3          eligible, weight 2 (0.4 in slow start), 0 in flight
the strategy says   {\"point\":1}
";
        assert_eq!(page(&answer), wanted);
        let nowhere = json!({ "pool": "p", "backend": null, "reason": "no_backend" });
        assert!(page(&nowhere).starts_with("a request would go nowhere: no_backend\n"));
        let mut full = json!({ "pool": "p", "backend": null, "reason": "overload" });
        assert!(page(&full).starts_with("a request would get 503 overload: no backend has room"));
        full["wait"] = json!({ "cause": "full", "waiting": 2, "at_most_ms": 1500 });
        let wanted = "a request would wait: no backend that may serve has room; 2 wait now, each for at most 1.5 s\n";
        assert!(page(&full).starts_with(wanted), "{}", page(&full));
        full["wait"]["cause"] = "strategy".into();
        assert!(page(&full).starts_with("a request would wait: the strategy lets it wait; 2 wait now"));
    }
}
