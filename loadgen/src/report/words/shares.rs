//! The requests of each backend, how even the shares are, and whether they agree with the strategy's declaration.

use crate::model::{Cell, Run};
use crate::report::document::{Entry, Table, Tone};
use crate::report::format;
use crate::report::rows::{Row, groups, totals};
use crate::statistics::{Law, max_over_mean};

use super::answer::summary;
use super::suspended;

/// A smaller probability contradicts the declared law.
pub(super) const P_MIN: f64 = 0.01;
/// An arm is called uneven if its fullest backend has at least this many times the mean.
const UNEVEN: f64 = 1.1;

/// One arm's counts over all blocks of one N.
struct Shared<'a> {
    arm: &'a str,
    /// Requests of each backend, in the pool's order.
    totals: Vec<(String, u64)>,
    max_over_mean: f64,
}

fn shared(run: &Run) -> Vec<Shared<'_>> {
    let of = |cells: Vec<&Cell>| {
        let totals: Vec<(String, u64)> = totals(&cells).into_iter().map(|total| (total.0, total.1)).collect();
        let loads: Vec<f64> = totals.iter().map(|total| total.1 as f64).collect();
        let arm = run.manifest.arm(&cells[0].arm)?;
        Some(Shared { arm: &arm.label, totals, max_over_mean: max_over_mean(&loads)? })
    };
    groups(run).into_iter().filter_map(of).collect()
}

/// Whether the strategy shares by load or latency. Then counts follow the speed of the servers, and evenness is not a
/// property of the strategy.
pub(crate) fn is_by_load(run: &Run, arm: &str) -> bool {
    by(run, arm).is_some()
}

/// "load" or "latency", if the strategy shares by it.
pub(super) fn by(run: &Run, arm: &str) -> Option<&'static str> {
    let declared: serde_json::Value = serde_json::from_str(&run.manifest.arm(arm)?.expectation).ok()?;
    match declared.get("balance")?.as_str()? {
        "by_load" => Some("load"),
        "by_latency" => Some("latency"),
        _ => None,
    }
}

/// The most and the least even arm, in one sentence; `None` for a single arm.
pub(super) fn ranking(run: &Run) -> Option<String> {
    let mut all: Vec<Shared<'_>> = shared(run).into_iter().filter(|it| !is_by_load(run, it.arm)).collect();
    all.sort_by(|one, two| one.max_over_mean.total_cmp(&two.max_over_mean));
    let [most, .., least] = all.as_slice() else { return None };
    let times = |shared: &Shared<'_>| format::decimals(shared.max_over_mean, 2);
    if times(most) == times(least) {
        return Some(format!(
            "All arms are equally even: the fullest backend of each got {} times the mean.",
            times(most)
        ));
    }
    Some(format!(
        "{} shares most evenly: its fullest backend got {} times the mean. Least evenly: {}, {} times the mean.",
        most.arm,
        times(most),
        least.arm,
        times(least)
    ))
}

/// One row for each arm: its shares, how even they are, and whether the strategy declares them.
pub(super) fn table(run: &Run) -> Table {
    let ids: Vec<String> = shared(run)
        .first()
        .map_or(Vec::new(), |shared| shared.totals.iter().map(|total| format!("#{}", total.0)).collect());
    let mut titles = vec!["arm"];
    titles.extend(ids.iter().map(String::as_str));
    titles.extend(["#max/mean", "as declared"]);
    let caption = "Shares of the requests over all blocks. max/mean: the fullest backend over the mean, 1 is even. As declared: whether the \
                   counts agree with the strategy's declaration (p: the chance of counts at least so far off).";
    let mut table = Table::new(caption, &titles);
    for cells in groups(run) {
        let totals = totals(&cells);
        let all: u64 = totals.iter().map(|total| total.1).sum();
        if totals.len() != ids.len() || all == 0 {
            continue;
        }
        let loads: Vec<f64> = totals.iter().map(|total| total.1 as f64).collect();
        let mut row = vec![Entry::new(&cells[0].arm)];
        row.extend(loads.iter().map(|load| Entry::new(format::percent(load / all as f64))));
        row.push(Entry::new(max_over_mean(&loads).map_or("–".into(), |ratio| format::decimals(ratio, 3))));
        row.push(match (by(run, &cells[0].arm), chance(run, &cells)) {
            (Some(by), _) => Entry::new(format!("shares by {by}")),
            (None, None) => Entry::new("–"),
            (None, Some(p)) if p < P_MIN => Entry::new(format!("no, p {}", format::p_value(p))).tone(Tone::Bad),
            // an exact declaration or a range is kept or not, without a probability
            (None, Some(p)) if p >= 1.0 => Entry::new("yes").tone(Tone::Good),
            (None, Some(p)) => Entry::new(format!("yes, p {}", format::p_value(p))).tone(Tone::Good),
        });
        table.row(row);
    }
    table
}

/// The probability of counts at least as far from the strategy's declaration, over all blocks; `None` without a
/// testable declaration.
fn chance(run: &Run, cells: &[&Cell]) -> Option<f64> {
    if let [cell] = cells {
        return cell.chi_square_p;
    }
    if cells.iter().flat_map(|cell| &cell.backends).any(|backend| backend.expected.is_none()) {
        return None;
    }
    let arm = run.manifest.arm(&cells[0].arm)?;
    let totals = totals(cells);
    let counts: Vec<u64> = totals.into_iter().map(|total| total.1).collect();
    // the expected counts of the run have the shares by options
    let told: Vec<f64> = cells[0].backends.iter().filter_map(|backend| Some(backend.expected?.expected)).collect();
    match Law::of(&arm.expectation, &arm.options, &vec![1; counts.len()], Some(&told)).ok().flatten()? {
        // each block may be off by one, so the sum of blocks is no test
        exact @ Law::Exact { .. } => {
            let is_kept = cells.iter().all(|cell| exact.p(&cell.counts()) == Some(1.0));
            Some(if is_kept { 1.0 } else { 0.0 })
        }
        law => law.p(&counts),
    }
}

/// The requests of each backend, arm by arm.
pub(super) fn sentences(run: &Run, rows: &[Row]) -> Vec<String> {
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
        let by = by(run, arm);
        let times = format::decimals(ratio, 2);
        sentences.push(if most.1 - least <= 1 {
            let (backends, least) = (totals.len(), format::count(least));
            format!("{arm} shared evenly: each of the {backends} backends got {least} or one request more.")
        } else if let Some(by) = by {
            format!(
                "{arm} shares by {by}: a faster server gets more requests, so uneven counts are intended. The fullest backend got {times} \
                 times the mean."
            )
        } else if ratio < UNEVEN {
            format!("{arm} shared nearly evenly: the fullest backend got {times} times the mean.")
        } else {
            format!("{arm} shared unevenly: {} got {} of the requests, {times} times the mean.", most.0, share(most.1))
        });
        sentences.push(format!("Responses: {}.", format::list(&counts)));
        if ratio >= UNEVEN && by.is_none() {
            sentences.push(format!(
                "The cost: with equal backends, {} is at its limit when the pool handles {} of the load that it could handle with even \
                 shares.",
                most.0,
                format::percent(1.0 / ratio)
            ));
        }
        sentences.extend(as_declared(&cells, summary));
        sentences.extend(suspended::sentence(run, &cells));
    }
    sentences
}

/// Whether the counts agree with the strategy's declaration.
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
            "This contradicts the strategy's declaration: if it were true, counts at least so far off would have a chance of {}.",
            format::p_value(p)
        )),
        // an exact declaration has no probability
        Some(p) if p < 1.0 => Some(format!(
            "This agrees with the strategy's declaration: counts at least so far from the expected ones have a chance of {} (below \
             {P_MIN} would be a contradiction).",
            format::p_value(p)
        )),
        Some(_) => Some("This is exactly as the strategy declares.".into()),
        None if bands == 0 => None,
        None if outside.is_empty() => {
            Some("Every count lies in the band that follows from the strategy's declaration.".into())
        }
        None => Some(format!(
            "{} of {bands} counts lie outside the expected band: {}.",
            outside.len(),
            format::list(&outside)
        )),
    }
}
