//! The tables: the rows of results.csv in a report.

use super::shares::P_MIN;
use super::validity::why_void;
use crate::model::{Conclusion, Run};
use crate::report::document::{Block, Entry, Table, Tone};
use crate::report::format;
use crate::report::rows::{Kind, Row};

pub(super) fn all(run: &Run, rows: &[Row]) -> Vec<Block> {
    let summaries: Vec<&Row> = rows.iter().filter(|row| row.kind == Kind::Summary).collect();
    if summaries.is_empty() {
        return Vec::new();
    }
    let mut blocks =
        vec![Block::Table(traffic(&summaries)), Block::Table(times(&summaries)), Block::Table(balance(&summaries))];
    for (block, conclusion) in blocks.iter_mut().zip([Conclusion::Throughput, Conclusion::Latency, Conclusion::Shares])
    {
        if let (Block::Table(table), Some(why)) = (block, why_void(run, conclusion)) {
            let what = if conclusion == Conclusion::Throughput { "Rates are not" } else { "Not" };
            table.caption = format!("{what} to be believed: {why}. {}", table.caption);
        }
    }
    blocks.extend(backends(run, rows));
    blocks.extend(disruptions(run));
    blocks.extend(errors(run));
    blocks
}

fn number(value: Option<f64>, write: fn(f64) -> String) -> Entry {
    Entry::new(value.map_or("–".into(), write))
}

fn times_text(ms: f64) -> String {
    format::significant(ms)
}

fn two(value: f64) -> String {
    format::decimals(value, 2)
}

fn three(value: f64) -> String {
    format::decimals(value, 3)
}

/// Arm and N, the first columns of every table.
fn head(row: &Row) -> Vec<Entry> {
    vec![Entry::new(&row.arm), Entry::new(row.n.to_string())]
}

fn traffic(rows: &[&Row]) -> Table {
    let titles = [
        "arm",
        "#N",
        "#requests",
        "#errors",
        "#retries",
        "#unsent",
        "#asked 1/s",
        "#ended 1/s",
        "#good 1/s",
        "#seconds",
    ];
    let mut table = Table::new(
        "Requests. Seconds: the length of the schedule; in a closed loop, from the first request to the last response. Good: ended without an error.",
        &titles,
    );
    for row in rows {
        let tone = if row.errors > 0 { Tone::Bad } else { Tone::Plain };
        let mut entries = head(row);
        entries.extend([
            Entry::new(format::count(row.requests)),
            Entry::new(format::count(row.errors)).tone(tone),
            Entry::new(row.retries.map_or("–".into(), format::count)),
            Entry::new(row.unsent.map_or("–".into(), format::count)),
            number(row.asked_rps, format::significant),
            Entry::new(format::significant(row.ended_rps)),
            Entry::new(format::significant(row.rps)),
            Entry::new(format::significant(row.duration_s)),
        ]);
        table.row(entries);
    }
    table.without_empty_columns()
}

fn times(rows: &[&Row]) -> Table {
    let titles =
        ["arm", "#N", "#latency p50", "#p90", "#p99", "#p99.9", "#service p50", "#p90", "#p99", "#p99.9", "#samples"];
    let mut table =
        Table::new("Times in milliseconds, over all blocks except dropped ones. A dash: too few samples.", &titles);
    for row in rows {
        let mut entries = head(row);
        let percentiles = [
            row.latency_p50_ms,
            row.latency_p90_ms,
            row.latency_p99_ms,
            row.latency_p999_ms,
            row.service_p50_ms,
            row.service_p90_ms,
            row.service_p99_ms,
            row.service_p999_ms,
        ];
        entries.extend(percentiles.map(|value| number(value, times_text)));
        entries.push(Entry::new(row.samples.map_or("–".into(), format::count)));
        table.row(entries);
    }
    table
}

fn balance(rows: &[&Row]) -> Table {
    let titles = ["arm", "#N", "#max/mean", "#CV", "#Jain", "#Jain in flight", "#p"];
    let caption = "Balance. Even: max/mean 1, CV (standard deviation over mean) 0, Jain's index 1. Jain in flight: Jain's index of the \
                   requests in flight at each backend, which says more about the load than counts do.";
    // an exact declaration has no probability
    let by_chance = |row: &&Row| row.chi_square_p.filter(|p| *p < 1.0);
    let p = "p: the chance of counts at least so far from the strategy's declaration if it is true (chi-square).";
    let caption =
        if rows.iter().any(|row| by_chance(row).is_some()) { format!("{caption} {p}") } else { caption.into() };
    let mut table = Table::new(caption, &titles);
    for row in rows {
        let mut entries = head(row);
        let tone = if row.chi_square_p.is_some_and(|p| p < P_MIN) { Tone::Bad } else { Tone::Plain };
        entries.extend([
            number(row.max_over_mean, three),
            number(row.cv, three),
            number(row.jain, three),
            number(row.jain_in_flight, three),
            number(by_chance(row), format::p_value).tone(tone),
        ]);
        table.row(entries);
    }
    table.without_empty_columns()
}

/// The requests of each backend: blocks summed, arms in their order.
fn backends(run: &Run, rows: &[Row]) -> Option<Block> {
    let mut sums: Vec<(&Row, u64, u64, Option<[f64; 3]>)> = Vec::new();
    for row in rows.iter().filter(|row| row.kind == Kind::Backend) {
        let band = row.expected_low.zip(row.expected_requests).zip(row.expected_high);
        let band = band.map(|((low, expected), high)| [low, expected, high]);
        match sums.iter_mut().find(|sum| (&sum.0.arm, sum.0.n, &sum.0.backend) == (&row.arm, row.n, &row.backend)) {
            Some(sum) => {
                sum.1 += row.requests;
                sum.2 += row.errors;
                // the band of a sum is narrower than the sum of bands, so only a single block has a band
                sum.3 = None;
            }
            None => sums.push((row, row.requests, row.errors, band)),
        }
    }
    sums.sort_by_key(|sum| (run.manifest.arms.iter().position(|arm| arm.label == sum.0.arm), sum.0.n));
    if sums.is_empty() {
        return None;
    }
    let titles = ["arm", "#N", "backend", "#requests", "#share", "#expected", "#band of 95 %", "inside", "#errors"];
    let mut table = Table::new("Requests of each backend.", &titles);
    for (row, requests, errors, band) in &sums {
        let all: u64 = sums.iter().filter(|sum| (&sum.0.arm, sum.0.n) == (&row.arm, row.n)).map(|sum| sum.1).sum();
        let is_inside = band.map(|[low, _, high]| (low..=high).contains(&(*requests as f64)));
        let mut entries = head(row);
        entries.extend([
            Entry::new(row.backend.as_deref().unwrap_or_default()),
            Entry::new(format::count(*requests)),
            Entry::new(format::percent(*requests as f64 / all.max(1) as f64)),
            Entry::new(band.map_or("–".into(), |band| format::significant(band[1]))),
            Entry::new(
                band.map_or("–".into(), |band| format!("{} to {}", two_or_whole(band[0]), two_or_whole(band[2]))),
            ),
            match is_inside {
                Some(true) => Entry::new("yes"),
                Some(false) => Entry::new("no").tone(Tone::Bad),
                None => Entry::new("–"),
            },
            Entry::new(format::count(*errors)),
        ]);
        table.row(entries);
    }
    Some(Block::Table(table.without_empty_columns()))
}

fn two_or_whole(value: f64) -> String {
    if value >= 10.0 { format::count(value.round() as u64) } else { two(value) }
}

fn disruptions(run: &Run) -> Option<Block> {
    if run.results.disruptions.is_empty() {
        return None;
    }
    let caption =
        "Keys that changed their backend when N changed. Ideal: the smallest share that any strategy can reach.";
    let mut table = Table::new(caption, &["arm", "change of N", "#keys", "#moved", "#share moved", "#ideal"]);
    for it in &run.results.disruptions {
        table.row(vec![
            Entry::new(&it.arm),
            Entry::new(format!("{} → {}", it.from_n, it.to_n)),
            Entry::new(format::count(it.keys)),
            Entry::new(format::count(it.moved)),
            Entry::new(format::percent(it.share_moved())),
            Entry::new(format::percent(it.ideal())),
        ]);
    }
    Some(Block::Table(table))
}

fn errors(run: &Run) -> Option<Block> {
    let mut kinds: Vec<(String, String, u64)> = Vec::new();
    for cell in &run.results.cells {
        for (kind, count) in &cell.error_kinds {
            match kinds.iter_mut().find(|known| known.0 == cell.arm && known.1 == *kind) {
                Some(known) => known.2 += count,
                None => kinds.push((cell.arm.clone(), kind.clone(), *count)),
            }
        }
    }
    if kinds.is_empty() {
        return None;
    }
    let mut table = Table::new("Errors by kind.", &["arm", "kind", "#requests"]);
    for (arm, kind, count) in kinds {
        table.row(vec![Entry::new(arm), Entry::new(kind), Entry::new(format::count(count))]);
    }
    Some(Block::Table(table))
}
