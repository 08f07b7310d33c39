//! The answer in sentences, by scenario.

use crate::model::{Cell, Run, Scenario};
use crate::report::format;
use crate::report::rows::{Kind, Row, groups, totals};

use super::{compare, faults, single, suspended};

/// Chances below this are called a contradiction to the declared law.
pub(super) const P_MIN: f64 = 0.01;

/// The first sentence is the answer; the others say how sure it is and what to mind.
pub(super) fn sentences(run: &Run, rows: &[Row]) -> Vec<String> {
    if run.results.cells.is_empty() {
        return vec!["Nothing was measured.".into()];
    }
    if !run.manifest.is_valid() {
        // a verdict beside such a mark would be read all the same
        return vec![
            "This run answers nothing: a check of the run by itself failed.".into(),
            "What was measured is below, so that the cause can be found; no verdict is drawn from it.".into(),
        ];
    }
    let mut sentences = Vec::new();
    sentences.extend(match (run.manifest.scenario, &run.results.comparison) {
        (_, Some(comparison)) => compare::sentences(run, comparison),
        (Scenario::A4 | Scenario::B, None) => {
            let undecided = "This run decides nothing: fewer blocks were measured than a comparison needs.";
            std::iter::once(undecided.to_owned()).chain(shares(run, rows)).collect()
        }
        (Scenario::A2, _) => scaling(run, rows),
        (Scenario::A3, _) => faults::sentences(run),
        _ if run.manifest.is_single_load() => {
            let is_pool = run.results.cells.iter().any(|cell| cell.backends.len() > 1);
            let shares = if is_pool { shares(run, rows) } else { Vec::new() };
            single::sentences(run, rows).into_iter().chain(shares).collect()
        }
        _ => shares(run, rows),
    });
    sentences.extend(errors(run, rows));
    sentences
}

/// Who got how much, one arm after the other.
fn shares(run: &Run, rows: &[Row]) -> Vec<String> {
    let mut sentences = Vec::new();
    for cells in groups(run) {
        let totals = totals(&cells);
        let all: u64 = totals.iter().map(|total| total.1).sum();
        let Some(most) = totals.iter().max_by_key(|total| total.1).filter(|_| all > 0) else { continue };
        let least = totals.iter().map(|total| total.1).min().unwrap_or(0);
        let arm = &cells[0].arm;
        let share = |count: u64| format::percent(count as f64 / all as f64);
        let counts: Vec<String> = totals
            .iter()
            .map(|total| format!("{}: {} ({})", total.0, format::count(total.1), share(total.1)))
            .collect();
        let summary = summary(rows, cells[0]);
        let ratio = summary.and_then(|row| row.max_over_mean).unwrap_or(1.0);
        sentences.push(if most.1 - least <= 1 {
            format!(
                "{arm} shared evenly: each of the {} backends got {} or one request more.",
                totals.len(),
                format::count(least)
            )
        } else if ratio < 1.1 {
            format!(
                "{arm} shared nearly evenly: the fullest backend got {} times the mean.",
                format::decimals(ratio, 2)
            )
        } else {
            format!(
                "{arm} shared unevenly: {} got {} of the requests, {} times the mean.",
                most.0,
                share(most.1),
                format::decimals(ratio, 2)
            )
        });
        sentences.push(format!("Requests answered: {}.", format::list(&counts)));
        if ratio >= 1.1 {
            sentences.push(format!(
                "What that costs: with backends of equal strength, {} is at its limit when the pool as a whole does {} of what it could \
                 do if shared evenly.",
                most.0,
                format::percent(1.0 / ratio)
            ));
        }
        sentences.extend(as_declared(&cells, summary));
        sentences.extend(suspended::sentence(run, &cells));
    }
    sentences
}

fn summary<'a>(rows: &'a [Row], cell: &Cell) -> Option<&'a Row> {
    rows.iter().find(|row| row.kind == Kind::Summary && row.arm == cell.arm && row.n == cell.n)
}

/// Whether the counts are what the strategy declares.
fn as_declared(cells: &[&Cell], summary: Option<&Row>) -> Option<String> {
    let outside: Vec<String> = cells
        .iter()
        .flat_map(|cell| &cell.backends)
        .filter(|backend| {
            backend.expected.is_some_and(|band| !(band.low..=band.high).contains(&(backend.requests as f64)))
        })
        .map(|backend| backend.id.clone())
        .collect();
    let bands = cells.iter().flat_map(|cell| &cell.backends).filter(|backend| backend.expected.is_some()).count();
    match summary.and_then(|row| row.chi_square_p) {
        Some(p) if p < P_MIN => Some(format!(
            "This is not what the strategy declares: if it did what it says, counts so far off would come up with a chance of {}.",
            format::p_value(p)
        )),
        // what is declared exactly has no chance in it
        Some(p) if p < 1.0 => Some(format!(
            "This agrees with what the strategy declares: counts as far from the expected ones come up with a chance of {} by luck \
             alone (below {P_MIN} would be a contradiction).",
            format::p_value(p)
        )),
        Some(_) => Some("This is exactly what the strategy declares.".into()),
        None if bands == 0 => None,
        None if outside.is_empty() => {
            Some("Every count lies in the band that the strategy's declaration makes us expect.".into())
        }
        None => Some(format!(
            "{} of {bands} counts lie outside the expected band: {}.",
            outside.len(),
            format::list(&outside)
        )),
    }
}

fn scaling(run: &Run, rows: &[Row]) -> Vec<String> {
    let mut sentences = Vec::new();
    for arm in &run.manifest.arms {
        let own: Vec<&Row> = rows.iter().filter(|row| row.kind == Kind::Summary && row.arm == arm.label).collect();
        let (Some(first), Some(last)) = (own.first(), own.last()) else { continue };
        let worst = own.iter().filter(|row| row.n > 1).filter_map(|row| Some((row.max_over_mean?, row.n)));
        let worst = worst.max_by(|one, two| one.0.total_cmp(&two.0));
        let label = &arm.label;
        sentences.push(match worst {
            Some((ratio, _)) if ratio < 1.02 => {
                format!(
                    "{label} keeps the balance at every N: the fullest backend never had more than {} times the mean.",
                    format::decimals(ratio, 4)
                )
            }
            Some((ratio, n)) => {
                format!(
                    "{label} does not keep the balance: with N = {n} the fullest backend had {} times the mean.",
                    format::decimals(ratio, 2)
                )
            }
            None => format!("{label} was tried with one backend only."),
        });
        if first.n != last.n && first.rps > 0.0 {
            let mut p99: Vec<f64> = own.iter().filter_map(|row| row.latency_p99_ms).collect();
            p99.sort_unstable_by(f64::total_cmp);
            let latency = match (p99.first(), p99.last()) {
                (Some(&least), Some(&most)) => format!(
                    "; the p99 latency lay between {} and {}",
                    format::milliseconds(least),
                    format::milliseconds(most)
                ),
                _ => String::new(),
            };
            sentences.push(format!(
                "From N = {} to N = {} throughput went from {} to {} requests per second, {} times as much with {} times the backends{latency}.",
                first.n,
                last.n,
                format::significant(first.rps),
                format::significant(last.rps),
                format::decimals(last.rps / first.rps, 2),
                format::plain(f64::from(last.n) / f64::from(first.n)),
            ));
            if last.rps < 1.3 * first.rps {
                sentences.push(format!(
                    "Throughput that does not grow with the backends says that they were not what limited it; everything here shared {}.",
                    format::plural(u64::from(run.manifest.host.cores), "core")
                ));
            }
        }
    }
    sentences.push(
        "The mean load, which the sheet asks for, says nothing of a balancer: it is the number of requests divided by N whatever that does."
            .into(),
    );
    sentences
}

/// Failed requests, if any: no latency is worth having if the answers were errors.
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
    let unsent =
        if unsent == 0 { String::new() } else { format!("; {} could not be sent in time", format::count(unsent)) };
    Some(format!("{failed}{unsent}."))
}
