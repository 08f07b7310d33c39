//! The places of panels: none overlaps another, none is outside the 24 columns, and each has a unique id and title.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::files::{dashboard, list, panels, word};

/// Columns and lines of a panel. The end of a range is exclusive.
#[derive(Debug)]
struct Place {
    title: String,
    x: (u64, u64),
    y: (u64, u64),
}

fn place(panel: &Value) -> Place {
    let title = word(&panel["title"]).to_owned();
    let number = |key: &str| panel["gridPos"][key].as_u64().unwrap_or_else(|| panic!("{title}: gridPos has no {key}"));
    let (x, y, w, h) = (number("x"), number("y"), number("w"), number("h"));
    Place { title, x: (x, x + w), y: (y, y + h) }
}

/// Overlaps among panels that are visible together: the top level, and the inside of each collapsed row.
fn overlaps(dashboard: &Value) -> Vec<String> {
    let top = list(&dashboard["panels"]);
    let levels = std::iter::once(top).chain(top.iter().map(|row| list(&row["panels"])));
    let mut found = Vec::new();
    for level in levels {
        let places: Vec<_> = level.iter().map(place).collect();
        for (index, a) in places.iter().enumerate() {
            if a.x.1 > 24 || a.x.0 == a.x.1 || a.y.0 == a.y.1 {
                found.push(format!("{} is outside or has no size", a.title));
            }
            let over = |b: &&Place| a.x.0 < b.x.1 && b.x.0 < a.x.1 && a.y.0 < b.y.1 && b.y.0 < a.y.1;
            found.extend(places[index + 1..].iter().filter(over).map(|b| format!("{} overlaps {}", a.title, b.title)));
        }
    }
    found
}

fn repeated(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    values.filter(|value| !seen.insert(value.clone())).collect()
}

fn ids(dashboard: &Value) -> impl Iterator<Item = String> {
    let top = list(&dashboard["panels"]);
    top.iter()
        .flat_map(|panel| std::iter::once(panel).chain(list(&panel["panels"])))
        .map(|panel| panel["id"].to_string())
}

#[test]
fn no_panel_overlaps_another() {
    assert_eq!(overlaps(&dashboard()), [""; 0]);
}

#[test]
fn ids_and_titles_are_unique() {
    let dashboard = dashboard();
    assert_eq!(repeated(ids(&dashboard)), [""; 0]);
    assert_eq!(repeated(panels(&dashboard).iter().map(|panel| word(&panel["title"]).to_owned())), [""; 0]);
}

#[test]
fn wrong_places_and_ids_are_caught() {
    let mut dashboard = dashboard();
    dashboard["panels"][2]["gridPos"]["x"] = json!(2);
    dashboard["panels"][3]["gridPos"]["w"] = json!(24);
    dashboard["panels"][4]["id"] = dashboard["panels"][5]["id"].clone();
    let found = overlaps(&dashboard).join("\n");
    assert!(found.contains("Success ratio overlaps Requests/s"), "{found}");
    assert!(found.contains("p99 latency is outside"), "{found}");
    assert_eq!(repeated(ids(&dashboard)).len(), 1);
}
