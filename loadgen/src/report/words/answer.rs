//! The answer to the scenario's question, as far as the checks of the run support it.
//!
//! Invariant: for a void conclusion, the report only states that it is void and why. The other conclusions are reported
//! as usual.

use crate::model::{Cell, Conclusion, Run, Scenario};
use crate::report::document::Table;
use crate::report::format;
use crate::report::rows::{Kind, Row};

use super::{compare, faults, shares, single, validity, verdicts};

/// The answer, in the order in which a reader needs it.
pub(super) struct Answer {
    /// Sentences; the first is the answer.
    pub(super) lead: Vec<String>,
    /// The answer for each arm.
    pub(super) tables: Vec<Table>,
    /// The certainty of the answer, and its limits.
    pub(super) further: Vec<String>,
}

/// An answer of sentences alone.
fn only(lead: Vec<String>) -> Answer {
    Answer { lead, tables: Vec::new(), further: Vec::new() }
}

pub(super) fn answer(run: &Run, rows: &[Row]) -> Answer {
    if run.results.cells.is_empty() {
        return only(vec!["Nothing was measured.".into()]);
    }
    if validity::answers_nothing(run) {
        // readers would believe a verdict in spite of such a mark
        return only(vec![
            "This run has no answer: one of its own checks failed.".into(),
            "The numbers are shown all the same, so that the cause can be found. There is no verdict.".into(),
        ]);
    }
    let scenario = run.manifest.scenario;
    let mut answer = match (scenario, &run.results.comparison) {
        (Scenario::A4, _) => other_hashes(run, rows),
        (_, Some(_)) => compared(run, rows),
        (Scenario::B, None) => {
            let undecided = "This run decides nothing: fewer blocks were measured than a comparison needs.";
            let shares = stands(run, Conclusion::Shares, "the shares", || shares::sentences(run, rows));
            only(std::iter::once(undecided.to_owned()).chain(shares).collect())
        }
        (Scenario::A2, _) => only(scaling(run, rows)),
        (Scenario::A3, _) => only(stands(run, Conclusion::Recovery, "the recovery", || faults::sentences(run))),
        _ if run.manifest.is_single_load() => only(single_load(run, rows)),
        _ => only(stands(run, Conclusion::Shares, "the shares", || shares::sentences(run, rows))),
    };
    if run.manifest.supports(Conclusion::Counts) {
        answer.lead.extend(errors(run, rows));
    }
    answer
}

/// The sentences if the conclusion is valid; else one sentence with the reason why it is void.
fn stands(run: &Run, conclusion: Conclusion, name: &str, tell: impl FnOnce() -> Vec<String>) -> Vec<String> {
    match validity::why_void(run, conclusion) {
        None => tell(),
        Some(why) => vec![format!("This run does not tell {name}: {why}.")],
    }
}

/// The answer for one load on any server, with shares if several backends responded.
fn single_load(run: &Run, rows: &[Row]) -> Vec<String> {
    let is_pool = run.results.cells.iter().any(|cell| cell.backends.len() > 1);
    let shares = if is_pool {
        stands(run, Conclusion::Shares, "the shares", || shares::sentences(run, rows))
    } else {
        Vec::new()
    };
    let latency = stands(run, Conclusion::Latency, "the latency", || single::sentences(run, rows));
    latency.into_iter().chain(shares).collect()
}

/// The arm that is better.
fn compared(run: &Run, rows: &[Row]) -> Answer {
    let Some(comparison) = &run.results.comparison else { return only(Vec::new()) };
    if let Some(why) = validity::why_void(run, comparison.conclusion()) {
        let unanswered = format!("This run does not tell which strategy is better: {why}.");
        return Answer { further: compare::dropped(comparison).into_iter().collect(), ..only(vec![unanswered]) };
    }
    Answer {
        lead: compare::headline(run, comparison),
        tables: verdicts::grid(run, comparison, rows).into_iter().collect(),
        further: compare::further(run, comparison),
    }
}

/// A4: the evenness of each arm, and the latency that results.
fn other_hashes(run: &Run, rows: &[Row]) -> Answer {
    let ranking = || shares::ranking(run).into_iter().collect();
    let mut lead = stands(run, Conclusion::Shares, "how even the strategies are", ranking);
    let mut tables = Vec::new();
    if run.manifest.supports(Conclusion::Shares) {
        tables.push(shares::table(run));
    }
    if run.results.comparison.is_none() {
        lead.push("The cost in latency is undecided: fewer blocks were measured than a comparison needs.".into());
        return Answer { lead, tables, further: Vec::new() };
    }
    let cost = match validity::why_void(run, Conclusion::Latency) {
        Some(why) => Answer { lead: vec![format!("The cost in latency is not shown: {why}.")], ..compared(run, rows) },
        None => compared(run, rows),
    };
    lead.extend(cost.lead);
    tables.extend(cost.tables);
    Answer { lead, tables, further: cost.further }
}

pub(super) fn summary<'a>(rows: &'a [Row], cell: &Cell) -> Option<&'a Row> {
    rows.iter().find(|row| row.kind == Kind::Summary && row.arm == cell.arm && row.n == cell.n)
}

/// A2: whether the balance holds at every N, and how throughput grows.
fn scaling(run: &Run, rows: &[Row]) -> Vec<String> {
    let mut sentences = stands(run, Conclusion::Shares, "whether the balance holds", || balance_by_size(run, rows));
    sentences.extend(stands(run, Conclusion::Throughput, "how throughput grows", || growth(run, rows)));
    sentences.push(
        "The mean load, which the sheet asks for, says nothing about a balancer: with any balancer it is the number of requests divided by N."
            .into(),
    );
    sentences
}

fn balance_by_size(run: &Run, rows: &[Row]) -> Vec<String> {
    let mut sentences = Vec::new();
    for arm in &run.manifest.arms {
        let own: Vec<&Row> = rows.iter().filter(|row| row.kind == Kind::Summary && row.arm == arm.label).collect();
        if own.is_empty() {
            continue;
        }
        let worst = own.iter().filter(|row| row.n > 1).filter_map(|row| Some((row.max_over_mean?, row.n)));
        let worst = worst.max_by(|one, two| one.0.total_cmp(&two.0));
        let label = &arm.label;
        sentences.push(match (worst, shares::by(run, label)) {
            (Some((ratio, _)), _) if ratio < 1.02 => {
                format!(
                    "{label} keeps the balance at every N: the fullest backend never had more than {} times the mean.",
                    format::decimals(ratio, 4)
                )
            }
            (Some((ratio, n)), Some(by)) => format!(
                "{label} shares by {by}, so its counts follow the speed of the servers: with N = {n} the fullest backend had {} times the \
                 mean.",
                format::decimals(ratio, 2)
            ),
            (Some((ratio, n)), None) => {
                format!(
                    "{label} does not keep the balance: with N = {n} the fullest backend had {} times the mean.",
                    format::decimals(ratio, 2)
                )
            }
            (None, _) => format!("{label} was tried with one backend only."),
        });
    }
    sentences
}

fn growth(run: &Run, rows: &[Row]) -> Vec<String> {
    let mut sentences = Vec::new();
    for arm in &run.manifest.arms {
        let own: Vec<&Row> = rows.iter().filter(|row| row.kind == Kind::Summary && row.arm == arm.label).collect();
        let (Some(first), Some(last)) = (own.first(), own.last()) else { continue };
        let label = &arm.label;
        if first.n != last.n && first.rps > 0.0 {
            let mut p99: Vec<f64> = own.iter().filter_map(|row| row.latency_p99_ms).collect();
            p99.sort_unstable_by(f64::total_cmp);
            let latency = match (p99.first(), p99.last()) {
                (Some(&least), Some(&most)) if run.manifest.supports(Conclusion::Latency) => format!(
                    "; the p99 latency lay between {} and {}",
                    format::milliseconds(least),
                    format::milliseconds(most)
                ),
                _ => String::new(),
            };
            sentences.push(format!(
                "{label}: from N = {} to N = {} throughput went from {} to {} requests per second, {} times as much with {} times the backends{latency}.",
                first.n,
                last.n,
                format::significant(first.rps),
                format::significant(last.rps),
                format::decimals(last.rps / first.rps, 2),
                format::plain(f64::from(last.n) / f64::from(first.n)),
            ));
            sentences.extend(plateau(&own).map(|n| saturated(run, n)));
        }
    }
    sentences
}

/// The N from which throughput grows by at most half of the capacity that further backends add. With uneven shares,
/// that capacity is smaller, because the fullest backend is the limit.
pub(crate) fn plateau(rows: &[&Row]) -> Option<u32> {
    let carried = |row: &Row| f64::from(row.n) / row.max_over_mean.unwrap_or(1.0);
    let grows = |pair: &[&Row]| {
        let (added, possible) = (pair[1].rps / pair[0].rps - 1.0, carried(pair[1]) / carried(pair[0]) - 1.0);
        pair[0].rps > 0.0 && added > possible / 2.0
    };
    let last_growth = rows.windows(2).rposition(grows).map_or(0, |at| at + 1);
    (last_growth + 1 < rows.len()).then(|| rows[last_growth].n)
}

/// The likely limit of throughput from this N on.
pub(crate) fn saturated(run: &Run, n: u32) -> String {
    let cores = run.manifest.host.cores;
    let shared = format::plural(u64::from(cores), "core");
    // lb and the generator are two more processes
    match cores < n + 2 {
        true => format!(
            "From N = {n} on throughput hardly grows: lb, the servers and the generator share {shared}, which are then the likely limit. \
             Throughput cannot exceed their capacity."
        ),
        false => format!(
            "From N = {n} on throughput hardly grows, so the backends are not its limit there; lb, the servers and the generator \
             share {shared}."
        ),
    }
}

/// The number of failed requests, if any. The low latency of error responses is worthless.
fn errors(run: &Run, rows: &[Row]) -> Option<String> {
    let summaries: Vec<&Row> = rows.iter().filter(|row| row.kind == Kind::Summary).collect();
    let (requests, errors) = summaries.iter().fold((0, 0), |sum, row| (sum.0 + row.requests, sum.1 + row.errors));
    let unsent: u64 = summaries.iter().filter_map(|row| row.unsent).sum();
    if errors == 0 && unsent == 0 {
        return None;
    }
    let mut of_arms: Vec<String> = Vec::new();
    for arm in &run.manifest.arms {
        let own = summaries.iter().filter(|row| row.arm == arm.label);
        let (all, bad) = own.fold((0, 0), |sum, row| (sum.0 + row.requests, sum.1 + row.errors));
        if bad > 0 && run.manifest.arms.len() > 1 {
            of_arms.push(format!(
                "{} {} ({})",
                arm.label,
                format::count(bad),
                format::percent(bad as f64 / all as f64)
            ));
        }
    }
    let failed = match errors {
        0 => "No request failed".to_owned(),
        _ => format!(
            "{} of {} requests failed ({}){}",
            format::count(errors),
            format::count(requests),
            format::percent(errors as f64 / requests as f64),
            if of_arms.is_empty() { String::new() } else { format!(": {}", format::list(&of_arms)) }
        ),
    };
    let unsent = if unsent == 0 { String::new() } else { format!("; {} were not sent in time", format::count(unsent)) };
    Some(format!("{failed}{unsent}."))
}
