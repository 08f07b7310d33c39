//! The report for people, as plain text.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use super::summary::{QUANTILES, Summary, Times, Told};
use crate::load::{ErrorKind, Latencies, Segment, Stop};
use crate::model::samples_needed;

/// Rows and width of the histogram.
const ROWS: usize = 12;
const BAR: usize = 40;

pub(super) fn print(summary: &Summary<'_>) -> io::Result<()> {
    io::stdout().lock().write_all(render(summary).as_bytes())
}

/// The whole report. Writing to a string cannot fail.
fn render(summary: &Summary<'_>) -> String {
    let mut out = String::new();
    head(&mut out, summary);
    counts(&mut out, &summary.total);
    times(&mut out, summary);
    let total = &summary.total;
    picture(&mut out, &total.latency);
    breakdown(&mut out, summary);
    for verdict in &summary.verdicts {
        let mark = if verdict.is_kept { "kept  " } else { "MISSED" };
        let _ = writeln!(out, "  {mark} {}   measured: {}", verdict.threshold, verdict.found);
    }
    if !summary.verdicts.is_empty() {
        out.push('\n');
    }
    for doubt in &summary.outcome.doubts {
        let _ = writeln!(out, "  NOT VALID: {doubt}");
    }
    if let Some(why) = summary.outcome.punctuality.why_not_judged() {
        let _ = writeln!(out, "  not judged: whether the load generator was on time ({why})");
    }
    if summary.outcome.aborted {
        let _ = writeln!(out, "  INTERRUPTED: these are partial results");
    }
    out
}

fn head(out: &mut String, summary: &Summary<'_>) {
    let Summary { url, plan, .. } = summary;
    let many =
        if plan.requests.len() > 1 { format!(" ({} paths in turn)", plan.requests.len()) } else { String::new() };
    let _ = writeln!(out, "\n{} {url}{many}", plan.requests[0].method);
    let until = match plan.stop {
        Stop::AfterRequests(count) => format!("{} requests", thousands(count)),
        Stop::AfterTime(time) => format!("{} s", time.as_secs_f64()),
        Stop::WhenTold => "until it is stopped".to_owned(),
    };
    let _ = writeln!(out, "{until}, {}, seed {}", plan.arrivals.in_words(), plan.seed);
    if !plan.warm_up.is_zero() {
        let _ = writeln!(out, "after a warm-up of {} s, which is not counted", plan.warm_up.as_secs_f64());
    }
    out.push('\n');
}

fn counts(out: &mut String, total: &Segment) {
    let share = |count: u64| 100.0 * count as f64 / total.due.max(1) as f64;
    let mut line = |name: &str, count: u64, more: String| {
        let _ = writeln!(out, "  {name:<11}{:>12}  {more}", thousands(count));
    };
    line("scheduled", total.due, format!("in {:.3} s", total.seconds()));
    line("responses", total.answered, format!("{:.1}/s", total.rps()));
    if total.failed_answers() > 0 {
        line("failed", total.failed_answers(), format!("{:.2} %, status 400 and above", share(total.failed_answers())));
    }
    if total.errors.total() > 0 {
        line("no response", total.errors.total(), format!("{:.2} %", share(total.errors.total())));
    }
    if total.unsent > 0 {
        let why = "too many requests were in flight, or no connection was free within the timeout";
        line("unsent", total.unsent, format!("{:.2} %, {why}", share(total.unsent)));
    }
    if total.unfinished > 0 {
        line("unfinished", total.unfinished, "in flight when the run was interrupted".to_owned());
    }
    if total.resent > 0 {
        line("resent", total.resent, "after the server closed a keep-alive connection".to_owned());
    }
    out.push('\n');
}

fn times(out: &mut String, summary: &Summary<'_>) {
    let Summary { total, latency, service, .. } = summary;
    if latency.samples == 0 {
        let _ = writeln!(out, "  no good response, so no times\n");
        return;
    }
    let is_closed = summary.plan.arrivals.is_closed();
    let rule = if is_closed { "  (a closed loop: the same)" } else { "" };
    let _ =
        writeln!(out, "  {:<8}{:>14}{:>16}    {:<22}{rule}", "", "latency", "service time", "latency, 95 % interval");
    let told = latency.intervals.clone().unwrap_or_default();
    let mut row = |name: &str, one: Option<f64>, other: Option<f64>, needed: u64| {
        let say = |ms: Option<f64>| ms.map_or("-".to_owned(), milliseconds);
        let note = if one.is_none() {
            format!("  needs {} good responses, there are {}", thousands(needed), thousands(latency.samples))
        } else {
            told.intervals_95.get(name).map(interval).unwrap_or_default()
        };
        let _ = writeln!(out, "  {name:<8}{:>14}{:>16}{note}", say(one), say(other));
    };
    row("min", latency.min, service.min, 1);
    row("mean", latency.mean, service.mean, 1);
    for (name, quantile) in QUANTILES {
        row(name, latency.percentiles[name], service.percentiles[name], samples_needed(quantile));
    }
    row("max", latency.max, service.max, 1);
    without_intervals(out, latency, &told);
    if !is_closed {
        let _ = writeln!(out, "  latency is measured from the scheduled send time, service time from the actual send");
        if let Some(lag) = Times::of(&total.lag).percentiles["p99"] {
            let _ = writeln!(out, "  the load generator sent late by {} at p99", milliseconds(lag));
        }
    }
    let left_out = total.failed_answers() + total.errors.total() + total.unsent;
    if left_out > 0 {
        let _ = writeln!(out, "  {} requests without a good response are not in these times", thousands(left_out));
    }
    out.push('\n');
}

fn interval([low, high]: &[f64; 2]) -> String {
    format!("    {} to {}", milliseconds(*low), milliseconds(*high))
}

/// Why a number has no interval: a line for each reason.
fn without_intervals(out: &mut String, latency: &Times, told: &Told) {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    let is_said = |name: &str| name == "mean" || latency.percentiles.get(name).is_some_and(Option::is_some);
    for name in std::iter::once("mean").chain(QUANTILES.map(|(name, _)| name)).filter(|name| is_said(name)) {
        let Some(why) = told.without_interval.get(name) else { continue };
        match reasons.iter_mut().find(|(reason, _)| reason == why) {
            Some((_, names)) => names.push(name),
            None => reasons.push((why, vec![name])),
        }
    }
    for (why, names) in reasons {
        let _ = writeln!(out, "  no interval of {}: {why}", names.join(", "));
    }
}

/// A histogram whose rows grow by the same factor, so that both ends are visible.
fn picture(out: &mut String, latencies: &Latencies) {
    if latencies.len() < 2 {
        return;
    }
    let (low, high) = (latencies.min().max(1) as f64, latencies.max().max(2) as f64);
    let factor = (high / low).powf(1.0 / ROWS as f64).max(1.0 + 1e-9);
    let edge = |row: usize| if row == ROWS { u64::MAX } else { (low * factor.powi(row as i32)) as u64 };
    let count = |row: usize| -> u64 {
        let inside = latencies.iter_recorded().filter(|step| {
            let at = step.value_iterated_to();
            (row == 0 || at > edge(row)) && at <= edge(row + 1)
        });
        inside.map(|step| step.count_at_value()).sum()
    };
    // rows with the same label are merged
    let mut rows: Vec<(String, u64)> = Vec::with_capacity(ROWS);
    for row in 0..ROWS {
        let label = milliseconds((low * factor.powi(row as i32 + 1)).min(high) / 1e6);
        match rows.last_mut().filter(|last| last.0 == label) {
            Some(last) => last.1 += count(row),
            None => rows.push((label, count(row))),
        }
    }
    let most = rows.iter().map(|row| row.1).max().unwrap_or(1).max(1);
    let _ = writeln!(out, "  latency up to");
    for (label, count) in rows {
        let width = (count as f64 / most as f64 * BAR as f64).ceil() as usize;
        let _ = writeln!(out, "  {label:>12} {:<BAR$} {}", "■".repeat(width), thousands(count));
    }
    out.push('\n');
}

fn breakdown(out: &mut String, summary: &Summary<'_>) {
    let total = &summary.total;
    let share = |count: u64| 100.0 * count as f64 / total.answered.max(1) as f64;
    for (status, count) in &total.statuses {
        let _ = writeln!(out, "  status {status:<24} {:>12} {:>6.2} %", thousands(*count), share(*count));
    }
    for (name, tally) in &total.backends {
        let failed = if tally.failed > 0 { format!(", {} failed", thousands(tally.failed)) } else { String::new() };
        let (count, share) = (thousands(tally.answered), share(tally.answered));
        let _ = writeln!(out, "  backend {name:<23} {count:>12} {share:>6.2} %{failed}");
    }
    for (kind, count) in total.errors.iter() {
        let first = summary.outcome.first_errors.get(&kind).cloned().unwrap_or_default();
        let why = if kind == ErrorKind::Timeout { timeouts(summary) } else { first };
        let _ = writeln!(out, "  error {:<25} {:>12}  {why}", kind.name(), thousands(count));
    }
    out.push('\n');
}

/// The phases in which requests timed out, for example `no response within 1 s: 10 waiting for the response head`.
fn timeouts(summary: &Summary<'_>) -> String {
    let phases = summary.total.timeouts.iter();
    let phases: Vec<String> =
        phases.map(|(phase, count)| format!("{} {}", thousands(count), phase.in_words())).collect();
    format!("no response within {} s: {}", summary.plan.timeout.as_secs_f64(), phases.join(", "))
}

/// Three significant digits. The bounds are where rounding gives one digit more.
fn milliseconds(ms: f64) -> String {
    if ms >= 10_000.0 {
        format!("{:.2} s", ms / 1e3)
    } else if ms >= 99.95 {
        format!("{ms:.0} ms")
    } else if ms >= 9.995 {
        format!("{ms:.1} ms")
    } else if ms >= 0.9995 {
        format!("{ms:.2} ms")
    } else {
        format!("{ms:.3} ms")
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::new_latencies;

    #[test]
    fn numbers_have_three_significant_digits_and_a_unit() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        let times = [0.0421, 1.2345, 12.345, 123.45, 12_345.0].map(milliseconds);
        assert_eq!(times, ["0.042 ms", "1.23 ms", "12.3 ms", "123 ms", "12.35 s"]);
        assert_eq!([0.9996, 9.996, 99.96].map(milliseconds), ["1.00 ms", "10.0 ms", "100 ms"]);
    }

    #[test]
    fn the_picture_shows_every_sample_once() {
        let mut latencies = new_latencies();
        for us in (50..5_000).chain([900_000]) {
            latencies.record(us * 1000).unwrap();
        }
        let mut out = String::new();
        picture(&mut out, &latencies);
        let counts = out.lines().filter_map(|line| line.rsplit(' ').next()?.replace(',', "").parse::<u64>().ok());
        assert_eq!(counts.sum::<u64>(), 4_951, "{out}");
        assert_eq!(out.lines().count(), ROWS + 2);
        let mut same = new_latencies();
        (0..5).for_each(|_| same.record(1_000_000).unwrap());
        let mut out = String::new();
        picture(&mut out, &same);
        assert!(out.contains(" 5\n"), "{out}");
        assert_eq!(out.lines().count(), 3, "one value is one row\n{out}");
    }

    #[test]
    fn rows_with_the_same_label_are_merged() {
        let mut latencies = new_latencies();
        (0..100).for_each(|step| latencies.record(1_000_000 + step * 200).unwrap());
        let mut out = String::new();
        picture(&mut out, &latencies);
        let labels: Vec<&str> = out.lines().skip(1).filter_map(|line| line.split('■').next()).map(str::trim).collect();
        let mut distinct = labels.clone();
        distinct.dedup();
        assert_eq!(labels, distinct, "{out}");
        let counts = out.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        assert_eq!(counts.sum::<u64>(), 100, "{out}");
    }
}
