//! Two stored runs compared: the changes from the first to the second.
//!
//! Invariants: runs of different settings are refused with the reason. A number is left out if its conclusion is void
//! in one of the runs. Two single runs do not show how much runs differ by chance. So the only verdict is that of
//! `check` with one baseline: more than [`BEYOND`] times as slow or as fast.

use thiserror::Error;

use super::document::{Block, Document, Entry, Table, text};
use super::rows::{Kind, Row, rows};
use super::{format, words};
use crate::model::{Arm, Conclusion, Host, Load, Mark, Run};
use crate::statistics::{BEYOND, FAILURES_LIMIT};

#[derive(Debug, Error, PartialEq, Eq)]
pub enum DiffError {
    #[error("the runs cannot be compared: {what} differs: {first} in the first, {second} in the second")]
    Differs { what: &'static str, first: String, second: String },
    #[error(
        "the runs cannot be compared: they have no arm in common at the same N ({first} in the first, {second} in the second)"
    )]
    NothingInCommon { first: String, second: String },
    #[error(
        "the runs cannot be compared: {what} of the arm {arm:?} changed: {first} in the first, {second} in the second; \
         compare them as two arms of one run"
    )]
    ArmDiffers { arm: String, what: &'static str, first: String, second: String },
    #[error("the {which} run is invalid: {reason}")]
    Invalid { which: &'static str, reason: String },
}

/// The comparison for a terminal.
pub fn diff(first: &Run, second: &Run) -> Result<String, DiffError> {
    comparable(first, second)?;
    let (before, after) = (summaries(first), summaries(second));
    let titles = ["arm", "#N", "measure", "#first", "#second", "#ratio", "verdict"];
    let mut table = Table::new("Second over first; below 1 the second is smaller.", &titles);
    for one in &before {
        let Some(two) = after.iter().find(|two| (&two.arm, two.n) == (&one.arm, one.n)) else { continue };
        for measure in MEASURES.iter().filter(|measure| void(first, second, measure.conclusion).is_none()) {
            let (Some(a), Some(b)) = ((measure.read)(one), (measure.read)(two)) else { continue };
            table.row(vec![
                Entry::new(&one.arm),
                Entry::new(one.n.to_string()),
                Entry::new(measure.name),
                Entry::new(format::significant(a)),
                Entry::new(format::significant(b)),
                Entry::new(if a > 0.0 { format::decimals(b / a, 3) } else { "–".into() }),
                Entry::new(if measure.is_judged { verdict(one, two, b / a) } else { "" }),
            ]);
        }
    }
    if table.rows.is_empty() {
        let labels = |run: &Run| words::labels(run).join(", ");
        return Err(DiffError::NothingInCommon { first: labels(first), second: labels(second) });
    }
    let mut blocks = vec![Block::Table(table), Block::Paragraph(RULE.into())];
    for (names, conclusion) in OF_CONCLUSION {
        if let Some(mark) = void(first, second, conclusion) {
            blocks.push(Block::Paragraph(format!("Left out: {names}, because {} ({}).", mark.reason, mark.check)));
        }
    }
    let document = Document {
        title: format!("{} of {} and of {}", first.manifest.scenario, first.manifest.started, second.manifest.started),
        subtitle: "Two runs at different times: a ratio near 1 may come from the state of the machine.".into(),
        blocks,
    };
    Ok(text::write(&document))
}

const RULE: &str = "Cannot tell: two single runs do not show how much runs differ by chance, so only a factor beyond 2 has a verdict. \
                    Use loadgen check with three or more --baseline runs, or compare as arms of one run.";
const OF_CONCLUSION: [(&str, Conclusion); 4] = [
    ("latencies", Conclusion::Latency),
    ("good responses per second", Conclusion::Throughput),
    ("max/mean", Conclusion::Shares),
    ("errors", Conclusion::Counts),
];

/// A row of the table.
struct Measure {
    name: &'static str,
    read: fn(&Row) -> Option<f64>,
    conclusion: Conclusion,
    /// Whether it is a percentile of latency.
    is_judged: bool,
}

const fn measure(name: &'static str, conclusion: Conclusion, read: fn(&Row) -> Option<f64>) -> Measure {
    Measure { name, read, conclusion, is_judged: false }
}

const fn judged(name: &'static str, read: fn(&Row) -> Option<f64>) -> Measure {
    Measure { is_judged: true, ..measure(name, Conclusion::Latency, read) }
}

const MEASURES: &[Measure] = &[
    measure("good responses per second", Conclusion::Throughput, |row| Some(row.rps)),
    judged("latency p50, ms", |row| row.latency_p50_ms),
    judged("latency p90, ms", |row| row.latency_p90_ms),
    judged("latency p99, ms", |row| row.latency_p99_ms),
    judged("latency p99.9, ms", |row| row.latency_p999_ms),
    judged("service time p99, ms", |row| row.service_p99_ms),
    measure("errors", Conclusion::Counts, |row| Some(row.errors as f64)),
    measure("max/mean", Conclusion::Shares, |row| row.max_over_mean),
];

/// The check that makes this conclusion void in one of the runs.
fn void<'a>(first: &'a Run, second: &'a Run, conclusion: Conclusion) -> Option<&'a Mark> {
    first.manifest.why_void(conclusion).or(second.manifest.why_void(conclusion))
}

/// The verdict on a ratio of latencies.
fn verdict(one: &Row, two: &Row, ratio: f64) -> &'static str {
    let share = |row: &Row| {
        let unsent = row.unsent.unwrap_or(0);
        (row.errors + unsent) as f64 / (row.requests + unsent).max(1) as f64
    };
    match ratio {
        _ if (share(one) - share(two)).abs() > FAILURES_LIMIT => "cannot tell: other requests failed",
        ratio if ratio > BEYOND => "beyond 2 times: slower",
        ratio if ratio < 1.0 / BEYOND => "beyond 2 times: faster",
        _ => "cannot tell",
    }
}

fn summaries(run: &Run) -> Vec<Row> {
    rows(run).into_iter().filter(|row| row.kind == Kind::Summary).collect()
}

fn comparable(first: &Run, second: &Run) -> Result<(), DiffError> {
    for (which, run) in [("first", first), ("second", second)] {
        let void = OF_CONCLUSION.iter().map(|(_, conclusion)| run.manifest.why_void(*conclusion));
        // without a valid conclusion the table would be empty
        if let Some([mark, ..]) = void.collect::<Option<Vec<&Mark>>>().as_deref() {
            return Err(DiffError::Invalid { which, reason: mark.reason.clone() });
        }
    }
    same_setting(first, second)
}

/// Checks that both runs have the same load on the same machine. The error names the difference.
pub fn same_setting(first: &Run, second: &Run) -> Result<(), DiffError> {
    let machine = |host: &Host| format!("{} ({} cores of {}, kernel {})", host.name, host.cores, host.cpu, host.kernel);
    let (one, two) = (&first.manifest, &second.manifest);
    let same = |what, first: String, second: String| {
        if first == second { Ok(()) } else { Err(DiffError::Differs { what, first, second }) }
    };
    same("the host", machine(&one.host), machine(&two.host))?;
    same("the commit of loadgen", one.loadgen.commit.clone(), two.loadgen.commit.clone())?;
    same("the scenario", one.scenario.to_string(), two.scenario.to_string())?;
    same("the load", load(&one.load), load(&two.load))?;
    same("the backends", one.backends.description.clone(), two.backends.description.clone())?;
    same("the keys", one.backends.keys.clone(), two.backends.keys.clone())?;
    one.arms
        .iter()
        .try_for_each(|arm| two.arms.iter().filter(|it| it.label == arm.label).try_for_each(|it| same_arm(arm, it)))
}

/// An arm is a strategy with its options and the cost of its requests. The versions of its library and of lb may
/// differ, because two runs are compared to find out whether a new version is slower.
fn same_arm(one: &Arm, two: &Arm) -> Result<(), DiffError> {
    let same = |what, is_same: bool, first: String, second: String| match is_same {
        true => Ok(()),
        false => Err(DiffError::ArmDiffers { arm: one.label.clone(), what, first, second }),
    };
    same("the strategy", one.strategy == two.strategy, one.strategy.clone(), two.strategy.clone())?;
    let [first, second] = [one, two].map(|arm| arm.cost_factor.to_string());
    same("cost_factor", one.cost_factor == two.cost_factor, first, second)?;
    same("the options", one.options == two.options, one.options.to_string(), two.options.to_string())
}

/// The complete load; reports leave out some of it.
fn load(load: &Load) -> String {
    let words = words::load_in_short(load);
    match load {
        Load::Closed { .. } => words,
        Load::Open { arrivals, outstanding_max, .. } => {
            format!("{words}, {arrivals:?} arrivals, at most {outstanding_max} outstanding").to_lowercase()
        }
    }
}
