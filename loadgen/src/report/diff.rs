//! Two stored runs held against each other: what changed from the first to the second.
//!
//! Invariant: what cannot be compared is refused with the reason. Runs of different hours are not blocks of one experiment, so there
//! are no verdicts here, only ratios.

use thiserror::Error;

use super::document::{Block, Document, Entry, Table, text};
use super::rows::{Kind, Row, rows};
use super::{format, words};
use crate::model::{Host, Run};

#[derive(Debug, Error, PartialEq, Eq)]
pub enum DiffError {
    #[error("the runs cannot be compared: {what} differs: {first} in the first, {second} in the second")]
    Differs { what: &'static str, first: String, second: String },
    #[error(
        "the runs cannot be compared: they have no arm in common at the same N ({first} in the first, {second} in the second)"
    )]
    NothingInCommon { first: String, second: String },
    #[error("the {which} run is invalid: {reason}")]
    Invalid { which: &'static str, reason: String },
}

/// The comparison for a terminal.
pub fn diff(first: &Run, second: &Run) -> Result<String, DiffError> {
    comparable(first, second)?;
    let (before, after) = (summaries(first), summaries(second));
    let titles = ["arm", "#N", "measure", "#first", "#second", "#ratio"];
    let mut table = Table::new("Second over first; below 1 the second is smaller.", &titles);
    for one in &before {
        let Some(two) = after.iter().find(|two| (&two.arm, two.n) == (&one.arm, one.n)) else { continue };
        for (name, read) in MEASURES {
            let (Some(a), Some(b)) = (read(one), read(two)) else { continue };
            table.row(vec![
                Entry::new(&one.arm),
                Entry::new(one.n.to_string()),
                Entry::new(*name),
                Entry::new(format::significant(a)),
                Entry::new(format::significant(b)),
                Entry::new(if a > 0.0 { format::decimals(b / a, 3) } else { "–".into() }),
            ]);
        }
    }
    if table.rows.is_empty() {
        let labels = |run: &Run| words::labels(run).join(", ");
        return Err(DiffError::NothingInCommon { first: labels(first), second: labels(second) });
    }
    let document = Document {
        title: format!("{} of {} and of {}", first.manifest.scenario, first.manifest.started, second.manifest.started),
        subtitle: "Two runs at different times: a ratio near 1 may be the weather of the machine. To decide, compare them as arms of \
                   one run."
            .into(),
        blocks: vec![Block::Table(table)],
    };
    Ok(text::write(&document))
}

type Read = fn(&Row) -> Option<f64>;
const MEASURES: &[(&str, Read)] = &[
    ("good answers per second", |row| Some(row.rps)),
    ("latency p50, ms", |row| row.latency_p50_ms),
    ("latency p90, ms", |row| row.latency_p90_ms),
    ("latency p99, ms", |row| row.latency_p99_ms),
    ("latency p99.9, ms", |row| row.latency_p999_ms),
    ("service time p99, ms", |row| row.service_p99_ms),
    ("errors", |row| Some(row.errors as f64)),
    ("max/mean", |row| row.max_over_mean),
];

fn summaries(run: &Run) -> Vec<Row> {
    rows(run).into_iter().filter(|row| row.kind == Kind::Summary).collect()
}

fn comparable(first: &Run, second: &Run) -> Result<(), DiffError> {
    for (which, run) in [("first", first), ("second", second)] {
        let invalid = run.manifest.marks.iter().find(|mark| mark.severity == crate::model::Severity::Invalid);
        if let Some(mark) = invalid {
            return Err(DiffError::Invalid { which, reason: mark.reason.clone() });
        }
    }
    same_setting(first, second)
}

/// Whether both were measured with the same load on the same machine; else what differs.
pub fn same_setting(first: &Run, second: &Run) -> Result<(), DiffError> {
    let machine = |host: &Host| format!("{} ({} cores of {}, kernel {})", host.name, host.cores, host.cpu, host.kernel);
    let (one, two) = (&first.manifest, &second.manifest);
    let same = |what, first: String, second: String| {
        if first == second { Ok(()) } else { Err(DiffError::Differs { what, first, second }) }
    };
    same("the host", machine(&one.host), machine(&two.host))?;
    same("the commit of loadgen", one.loadgen.commit.clone(), two.loadgen.commit.clone())?;
    same("the scenario", one.scenario.to_string(), two.scenario.to_string())?;
    same("the load", words::load_in_short(&one.load), words::load_in_short(&two.load))?;
    same("the backends", one.backends.description.clone(), two.backends.description.clone())?;
    same("the keys", one.backends.keys.clone(), two.backends.keys.clone())
}
