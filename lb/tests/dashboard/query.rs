//! Reads an expression: its selectors, and the labels by which it groups and matches.
//!
//! Grafana's variables are replaced first. `$__rate_interval` becomes a range that no expression contains, so that
//! later checks can recognize it.

use std::time::Duration;

use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};

#[derive(Debug, Default)]
pub(crate) struct Query {
    pub(crate) selectors: Vec<Selector>,
    /// The labels in `by`, `without`, `on`, `ignoring`, `group_left` and `group_right`.
    pub(crate) grouped_by: Vec<String>,
}

/// One `name{label="value"}`.
#[derive(Debug)]
pub(crate) struct Selector {
    pub(crate) name: String,
    /// Label, operator and value.
    pub(crate) matchers: Vec<(String, String, String)>,
    pub(crate) range: Option<Duration>,
    /// The function that has the selector as its argument; empty if there is none.
    pub(crate) within: String,
}

/// The range that replaces `$__rate_interval`.
pub(crate) const RATE_INTERVAL: Duration = Duration::from_secs(299);

/// The selectors and labels of an expression, or the error of the parser.
pub(crate) fn read(expr: &str) -> Result<Query, String> {
    let filled = expr.replace("$__rate_interval", "4m59s").replace("$__from", "1").replace("$__to", "2");
    let mut query = Query::default();
    walk(&parser::parse(&filled)?, "", &mut query);
    Ok(query)
}

fn walk(expr: &Expr, within: &str, query: &mut Query) {
    match expr {
        Expr::Aggregate(aggregate) => {
            query.group(aggregate.modifier.as_ref());
            aggregate.param.iter().for_each(|param| walk(param, "", query));
            walk(&aggregate.expr, "", query);
        }
        Expr::Binary(binary) => {
            if let Some(modifier) = &binary.modifier {
                query.group(modifier.matching.as_ref());
                query.grouped_by.extend(modifier.card.labels().iter().flat_map(|labels| labels.labels.iter().cloned()));
            }
            walk(&binary.lhs, "", query);
            walk(&binary.rhs, "", query);
        }
        Expr::Call(call) => call.args.args.iter().for_each(|argument| walk(argument, call.func.name, query)),
        Expr::Paren(paren) => walk(&paren.expr, within, query),
        Expr::Unary(unary) => walk(&unary.expr, "", query),
        Expr::Subquery(subquery) => walk(&subquery.expr, "", query),
        Expr::VectorSelector(selector) => query.selectors.push(Selector::new(selector, None, within)),
        Expr::MatrixSelector(matrix) => query.selectors.push(Selector::new(&matrix.vs, Some(matrix.range), within)),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

// === impl Query ===

impl Query {
    fn group(&mut self, modifier: Option<&LabelModifier>) {
        self.grouped_by.extend(modifier.iter().flat_map(|modifier| modifier.labels().labels.iter().cloned()));
    }
}

// === impl Selector ===

impl Selector {
    fn new(selector: &VectorSelector, range: Option<Duration>, within: &str) -> Selector {
        let matchers = selector.matchers.matchers.iter();
        Selector {
            name: selector.name.clone().unwrap_or_default(),
            matchers: matchers.map(|one| (one.name.clone(), one.op.to_string(), one.value.clone())).collect(),
            range,
            within: within.to_owned(),
        }
    }

    pub(crate) fn has(&self, label: &str, operator: &str, value: &str) -> bool {
        self.matchers.iter().any(|(l, o, v)| l == label && o == operator && v == value)
    }
}

#[test]
fn selectors_and_labels_are_found() {
    let read =
        read(r#"sum by (a) (rate(x_total{b=~"$c"}[$__rate_interval])) / on (d) group_left (e) y > $__from"#).unwrap();
    let names: Vec<_> = read.selectors.iter().map(|one| (one.name.as_str(), one.within.as_str(), one.range)).collect();
    assert_eq!(names, [("x_total", "rate", Some(RATE_INTERVAL)), ("y", "", None)]);
    assert!(read.selectors[0].has("b", "=~", "$c"));
    assert_eq!(read.grouped_by, ["d", "e", "a"]);
}

#[test]
fn an_invalid_expression_is_an_error() {
    for bad in ["sum(", "rate(x)", "sum by a (x)", "x{a=}"] {
        assert!(read(bad).is_err(), "{bad} was read");
    }
}
