//! What happened when: requests per backend, errors and latency over time, with the marks of what was done to the run.
//!
//! Lanes share one axis of time. A point is a window of the run, or where there are too many of them the median of some windows (of
//! rates the mean); the caption says which.

mod draw;

use super::Plot;
use crate::model::{Event, EventKind, Run, Scenario, Series, Window};
use crate::report::format;
use crate::report::picture::scene::{Dash, Paint};

/// One lane: a quantity with its lines.
struct Lane {
    name: &'static str,
    unit: &'static str,
    lines: Vec<Line>,
}

struct Line {
    name: String,
    paint: Paint,
    dash: Dash,
    /// Seconds and values, in stretches without a gap.
    stretches: Vec<Vec<(f64, f64)>>,
}

/// Points that a line may have before windows are put together.
const POINTS: usize = 240;
/// Fewest windows that make a course of time.
const WINDOWS_MIN: usize = 8;

/// One over the whole run; one more around a kill.
pub(super) fn plots(run: &Run) -> Vec<Plot> {
    let windows: usize = run.series.iter().map(|series| series.windows.len()).sum();
    if windows < WINDOWS_MIN {
        return Vec::new();
    }
    let mut plots = vec![whole(run)];
    plots.extend(around_kill(run));
    plots
}

fn whole(run: &Run) -> Plot {
    let lanes = lanes(run, None);
    let events: Vec<&Event> = run.results.events.iter().collect();
    let latency = if has_lanes_of_backends(run) { "" } else { " Colours are the arms." };
    let caption = format!(
        "{} p50 and p99 of a window describe that window's own requests, so with few of them the p99 is the slowest one.{latency}",
        about_points(run, None)
    );
    let title = "The run over time";
    super::plot("timeline", caption, |width| draw::draw(title, &lanes, &events, span(run, None), width))
}

/// A closer look at the seconds from a kill until all is well.
fn around_kill(run: &Run) -> Option<Plot> {
    let events = &run.results.events;
    let kill = events.iter().find(|event| event.kind == EventKind::Kill)?;
    let later = |event: &&Event| event.at_ms >= kill.at_ms;
    let end = events.iter().filter(later).find(|event| event.kind == EventKind::Recovered);
    let end_ms = end.map_or(kill.at_ms + 4_000, |event| event.at_ms + 1_000);
    let range = (kill.at_ms.saturating_sub(1_000), end_ms);
    let lanes = lanes(run, Some(range));
    let reaches = |event: &&Event| event.at_ms <= range.1 && event.until_ms.unwrap_or(event.at_ms) >= range.0;
    let within: Vec<&Event> = events.iter().filter(reaches).collect();
    let caption = format!("The seconds around the kill. {}", about_points(run, Some(range)));
    let title = "Around the kill";
    Some(super::plot("recovery", caption, |width| draw::draw(title, &lanes, &within, span(run, Some(range)), width)))
}

/// From the first window or event to the end of the last, in seconds, or the range asked for.
fn span(run: &Run, range: Option<(u64, u64)>) -> (f64, f64) {
    if let Some((from, to)) = range {
        return (from as f64 / 1e3, to as f64 / 1e3);
    }
    let firsts = run.series.iter().filter_map(|series| series.windows.first()).map(|window| window.at_ms);
    let starts = firsts.chain(run.results.events.iter().map(|event| event.at_ms)).min();
    let lasts = run.series.iter().filter_map(|series| Some(series.windows.last()?.at_ms + series.window_ms));
    let ends = lasts.chain(run.results.events.iter().map(|event| event.at_ms)).max();
    (starts.unwrap_or(0) as f64 / 1e3, ends.unwrap_or(1_000) as f64 / 1e3)
}

/// How many windows make a point.
fn bin(run: &Run, range: Option<(u64, u64)>) -> usize {
    let windows: usize = run.series.iter().map(|series| of_range(series, range).count()).sum();
    [1, 2, 5, 10, 20, 50, 100, 200].into_iter().find(|bin| windows / bin <= POINTS).unwrap_or(500)
}

fn about_points(run: &Run, range: Option<(u64, u64)>) -> String {
    let window = run.series.first().map_or(100, |series| series.window_ms);
    match bin(run, range) {
        1 => format!("Each point is a window of {window} ms."),
        bin => format!(
            "Each point stands for {}: the mean of their rates, the median of their percentiles (windows of {window} ms).",
            format::milliseconds((bin as u64 * window) as f64)
        ),
    }
}

/// Windows that lie wholly in the range.
fn of_range(series: &Series, range: Option<(u64, u64)>) -> impl Iterator<Item = &Window> {
    let is_within =
        move |at: u64| range.is_none_or(|(from, to)| (from..=to.saturating_sub(series.window_ms)).contains(&at));
    series.windows.iter().filter(move |window| is_within(window.at_ms))
}

/// Backends are drawn one by one where one pool stays all the time.
fn has_lanes_of_backends(run: &Run) -> bool {
    run.series.len() == 1 || run.manifest.scenario == Scenario::A3
}

fn lanes(run: &Run, range: Option<(u64, u64)>) -> Vec<Lane> {
    let bin = bin(run, range);
    let mut lanes = Vec::new();
    let by_backend = has_lanes_of_backends(run);
    if by_backend {
        lanes.push(Lane { name: "requests per backend", unit: "1/s", lines: backend_lines(run, range, bin) });
        if let Some(asked) = line(run, range, bin, all, (mean, |window, width| Some(window.asked? as f64 / width))) {
            let answered = line(run, range, bin, all, (mean, |window, width| Some(window.answered as f64 / width)));
            let mut lines =
                vec![Line { name: "asked".into(), paint: Paint::Muted, dash: Dash::Dashed, stretches: asked }];
            lines.extend(answered.map(|stretches| Line {
                name: "ended".into(),
                paint: Paint::Ink,
                dash: Dash::Solid,
                stretches,
            }));
            lanes.push(Lane { name: "all requests", unit: "1/s", lines });
        }
    }
    let errors = line(run, range, bin, all, (mean, |window, width| Some(window.errors as f64 / width)));
    let has_errors = run.series.iter().flat_map(|series| &series.windows).any(|window| window.errors > 0);
    if has_errors || run.manifest.scenario == Scenario::A3 {
        let stretches = errors.unwrap_or_default();
        let lines = vec![Line { name: "errors".into(), paint: Paint::Fault, dash: Dash::Solid, stretches }];
        lanes.push(Lane { name: "errors", unit: "1/s", lines });
    }
    lanes.extend(latency_lanes(run, range, bin, by_backend));
    lanes
}

fn backend_lines(run: &Run, range: Option<(u64, u64)>, bin: usize) -> Vec<Line> {
    let ids = run.series.iter().max_by_key(|series| series.backends.len()).map_or(&[][..], |series| &series.backends);
    let of = |(number, id): (usize, &String)| {
        let rate = move |window: &Window, width: f64| Some(*window.backends.get(number).unwrap_or(&0) as f64 / width);
        let stretches = line(run, range, bin, all, (mean, rate))?;
        let dash = [Dash::Solid, Dash::Dashed, Dash::Dotted][number % 3];
        Some(Line { name: id.clone(), paint: Paint::Series(number), dash, stretches })
    };
    ids.iter().enumerate().filter_map(of).collect()
}

type Read = fn(&Window) -> Option<u64>;
const PERCENTILES: [(&str, &str, Read); 2] =
    [("latency, p50", "p50", |window| window.p50_ns), ("latency, p99", "p99", |window| window.p99_ns)];

fn latency_lanes(run: &Run, range: Option<(u64, u64)>, bin: usize, is_one: bool) -> Vec<Lane> {
    let top_ns = run.series.iter().flat_map(|series| of_range(series, range)).filter_map(|window| window.p99_ns).max();
    let (unit, divisor) = format::time_unit(top_ns.unwrap_or(0) as f64 / 1e6);
    let of = move |read: Read| move |window: &Window, _: f64| Some(read(window)? as f64 / 1e6 / divisor);
    if is_one {
        let lines = PERCENTILES.iter().zip([(Paint::Muted, Dash::Dashed), (Paint::Ink, Dash::Solid)]);
        let lines = lines.filter_map(|((_, name, read), (paint, dash))| {
            Some(Line {
                name: (*name).into(),
                paint,
                dash,
                stretches: line(run, range, bin, all, (median, of(*read)))?,
            })
        });
        return vec![Lane { name: "latency", unit, lines: lines.collect() }];
    }
    let lane = |&(name, _, read): &(&'static str, &str, Read)| {
        let lines = run.manifest.arms.iter().enumerate().filter_map(|(number, arm)| {
            let stretches = line(run, range, bin, |series| series.arm == arm.label, (median, of(read)))?;
            Some(Line { name: arm.label.clone(), paint: Paint::Series(number), dash: Dash::Solid, stretches })
        });
        Lane { name, unit, lines: lines.collect() }
    };
    PERCENTILES.iter().map(lane).collect()
}

fn all(_: &Series) -> bool {
    true
}

/// A value over time: each series is a stretch of its own. `None` if it was never measured.
fn line(
    run: &Run,
    range: Option<(u64, u64)>,
    bin: usize,
    counts: impl Fn(&Series) -> bool,
    (middle, read): (Middle, impl Fn(&Window, f64) -> Option<f64>),
) -> Option<Vec<Vec<(f64, f64)>>> {
    let stretch = |series: &Series| -> Vec<(f64, f64)> {
        let width = series.window_ms as f64 / 1e3;
        let windows: Vec<&Window> = of_range(series, range).collect();
        let point = |windows: &[&Window]| {
            let at = windows[0].at_ms as f64 / 1e3 + width * windows.len() as f64 / 2.0;
            let mut values: Vec<f64> = windows.iter().filter_map(|window| read(window, width)).collect();
            values.sort_by(f64::total_cmp);
            middle(&values).map(|value| (at, value))
        };
        windows.chunks(bin).filter_map(point).collect()
    };
    let stretches: Vec<_> =
        run.series.iter().filter(|series| counts(series)).map(stretch).filter(|points| !points.is_empty()).collect();
    (!stretches.is_empty()).then_some(stretches)
}

/// What stands for several sorted values.
type Middle = fn(&[f64]) -> Option<f64>;

fn median(values: &[f64]) -> Option<f64> {
    values.get(values.len() / 2).copied()
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
