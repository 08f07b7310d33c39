//! The run over time: requests per backend, errors and latency, with marks for the events.
//!
//! Lanes share one axis of time, whose zero is the first measured request, as in a plan. A point is a window of the
//! run. If there are too many windows, a point is the median of several (for rates the mean), and the caption states
//! it.
//!
//! With one pool, windows are by the time at which requests *ended*. A request that waits at a server fails when that
//! server is killed. By its send time, the error would be drawn before the kill. In a comparison, windows are by
//! scheduled send time, so that no arm shows requests of the arm before it.

mod draw;

use super::Plot;
use crate::model::{Event, EventKind, Run, Scenario, Series, Window};
use crate::report::clock;
use crate::report::format;
use crate::report::picture::scene::{Dash, Paint};
use crate::report::words::has_faults_in_blocks;

/// A run and its windows.
struct Course<'a> {
    run: &'a Run,
    series: Vec<Series>,
    /// Whether windows are by the time at which requests ended.
    is_by_end: bool,
    /// The zero of the axis.
    zero_ms: u64,
}

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

/// The most points of a line before windows are merged.
const POINTS: usize = 240;
/// If there are more swaps than this, swaps are not drawn, nor the faults of each turn.
const SWAPS_MAX: usize = 6;
/// The fewest windows for a plot.
const WINDOWS_MIN: usize = 8;

/// One plot over the whole run, and one around a kill.
pub(super) fn plots(run: &Run) -> Vec<Plot> {
    let windows: usize = run.series.iter().map(|series| series.windows.len()).sum();
    if windows < WINDOWS_MIN {
        return Vec::new();
    }
    let course = Course::of(run);
    let mut plots = vec![whole(&course)];
    plots.extend(around_kill(&course));
    plots
}

fn whole(course: &Course<'_>) -> Plot {
    let lanes = lanes(course, None);
    let all = &course.run.results.events;
    let swaps = all.iter().filter(|event| event.kind == EventKind::Swap).count();
    // colours distinguish the arms: a line for each turn would look like a grid
    let is_of_a_turn = |event: &Event| event.kind == EventKind::Swap || has_faults_in_blocks(course.run);
    let is_told = |event: &&Event| swaps <= SWAPS_MAX || !is_of_a_turn(event);
    let events: Vec<&Event> = all.iter().filter(is_told).collect();
    let latency = if course.has_lanes_of_backends() { "" } else { " Each arm has its colour; the arms take turns." };
    let caption = format!(
        "{} p50 and p99 are those of the window's own requests; with few requests, the p99 is the slowest of them.{latency}",
        about_points(course, None)
    );
    let span = course.span(None);
    let zero_ms = course.zero_ms;
    super::plot("timeline", caption, |width| draw::draw("The run over time", &lanes, &events, (zero_ms, span), width))
}

/// The seconds from a kill until recovery, enlarged.
fn around_kill(course: &Course<'_>) -> Option<Plot> {
    let events = &course.run.results.events;
    let kill = events.iter().find(|event| event.kind == EventKind::Kill)?;
    let later = |event: &&Event| event.at_ms >= kill.at_ms;
    let end = events.iter().filter(later).find(|event| event.kind == EventKind::Recovered);
    let end_ms = end.map_or(kill.at_ms + 4_000, |event| event.at_ms + 1_000);
    let range = (kill.at_ms.saturating_sub(1_000), end_ms);
    let lanes = lanes(course, Some(range));
    let reaches = |event: &&Event| event.at_ms <= range.1 && event.until_ms.unwrap_or(event.at_ms) >= range.0;
    let within: Vec<&Event> = events.iter().filter(reaches).collect();
    let caption = format!("The seconds around the kill. {}", about_points(course, Some(range)));
    let span = course.span(Some(range));
    let zero_ms = course.zero_ms;
    let title = "Around the kill";
    Some(super::plot("recovery", caption, |width| draw::draw(title, &lanes, &within, (zero_ms, span), width)))
}

/// The number of windows in a point.
fn bin(course: &Course<'_>, range: Option<(u64, u64)>) -> usize {
    let windows: usize = course.series.iter().map(|series| of_range(series, range).count()).sum();
    [1, 2, 5, 10, 20, 50, 100, 200].into_iter().find(|bin| windows / bin <= POINTS).unwrap_or(500)
}

fn about_points(course: &Course<'_>, range: Option<(u64, u64)>) -> String {
    let window = course.series.first().map_or(100, |series| series.window_ms);
    let bin = bin(course, range);
    let width = format::milliseconds((bin as u64 * window) as f64);
    let points = match bin {
        1 => format!("Each point is a window of {window} ms."),
        _ => format!(
            "Each point stands for {width}: the mean of their rates, the median of their percentiles (windows of {window} ms)."
        ),
    };
    let has_kill = course.run.results.events.iter().any(|event| event.kind == EventKind::Kill);
    let clock = match (course.is_by_end, course.has_lanes_of_backends()) {
        (true, _) => format!(
            " Responses, errors and latency are drawn at the end times of the requests, so the effect of a fault follows the fault (a point \
             begins up to {width} before it)."
        ),
        (false, true) if has_kill => {
            " Errors and latency are drawn at the scheduled send times: a request that waited at a server when it \
                                       was killed is an error before the kill."
                .into()
        }
        _ => " Windows are by scheduled send time.".into(),
    };
    let warm_up = if course.span(range).0 < -0.2 { "; negative times are before it" } else { "" };
    format!("{points}{clock} Times count from the first measured request{warm_up}.")
}

/// The windows that lie completely in the range.
fn of_range(series: &Series, range: Option<(u64, u64)>) -> impl Iterator<Item = &Window> {
    let is_within =
        move |at: u64| range.is_none_or(|(from, to)| (from..=to.saturating_sub(series.window_ms)).contains(&at));
    series.windows.iter().filter(move |window| is_within(window.at_ms))
}

fn lanes(course: &Course<'_>, range: Option<(u64, u64)>) -> Vec<Lane> {
    let bin = bin(course, range);
    let mut lanes = Vec::new();
    let by_backend = course.has_lanes_of_backends();
    if by_backend {
        lanes.push(Lane { name: "good responses per backend", unit: "1/s", lines: backend_lines(course, range, bin) });
        if let Some(asked) = line(course, range, bin, all, (mean, |window, width| Some(window.asked? as f64 / width))) {
            let answered = line(course, range, bin, all, (mean, |window, width| Some(window.answered as f64 / width)));
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
    let errors = line(course, range, bin, all, (mean, |window, width| Some(window.errors as f64 / width)));
    let has_errors = course.series.iter().flat_map(|series| &series.windows).any(|window| window.errors > 0);
    if has_errors || course.run.manifest.scenario == Scenario::A3 {
        let stretches = errors.unwrap_or_default();
        let lines = vec![Line { name: "errors".into(), paint: Paint::Fault, dash: Dash::Solid, stretches }];
        lanes.push(Lane { name: "errors", unit: "1/s", lines });
    }
    lanes.extend(latency_lanes(course, range, bin, by_backend));
    lanes
}

fn backend_lines(course: &Course<'_>, range: Option<(u64, u64)>, bin: usize) -> Vec<Line> {
    let ids =
        course.series.iter().max_by_key(|series| series.backends.len()).map_or(&[][..], |series| &series.backends);
    let of = |(number, id): (usize, &String)| {
        let rate = move |window: &Window, width: f64| Some(*window.backends.get(number).unwrap_or(&0) as f64 / width);
        let stretches = line(course, range, bin, all, (mean, rate))?;
        let dash = [Dash::Solid, Dash::Dashed, Dash::Dotted][number % 3];
        Some(Line { name: id.clone(), paint: Paint::Series(number), dash, stretches })
    };
    ids.iter().enumerate().filter_map(of).collect()
}

type Read = fn(&Window) -> Option<u64>;
const PERCENTILES: [(&str, &str, Read); 2] =
    [("latency, p50", "p50", |window| window.p50_ns), ("latency, p99", "p99", |window| window.p99_ns)];

fn latency_lanes(course: &Course<'_>, range: Option<(u64, u64)>, bin: usize, is_one: bool) -> Vec<Lane> {
    let top_ns =
        course.series.iter().flat_map(|series| of_range(series, range)).filter_map(|window| window.p99_ns).max();
    let (unit, divisor) = format::time_unit(top_ns.unwrap_or(0) as f64 / 1e6);
    let of = move |read: Read| move |window: &Window, _: f64| Some(read(window)? as f64 / 1e6 / divisor);
    if is_one {
        let lines = PERCENTILES.iter().zip([(Paint::Muted, Dash::Dashed), (Paint::Ink, Dash::Solid)]);
        let lines = lines.filter_map(|((_, name, read), (paint, dash))| {
            Some(Line {
                name: (*name).into(),
                paint,
                dash,
                stretches: line(course, range, bin, all, (median, of(*read)))?,
            })
        });
        return vec![Lane { name: "latency", unit, lines: lines.collect() }];
    }
    let lane = |&(name, _, read): &(&'static str, &str, Read)| {
        let lines = course.run.manifest.arms.iter().enumerate().filter_map(|(number, arm)| {
            let stretches = line(course, range, bin, |series| series.arm == arm.label, (median, of(read)))?;
            Some(Line { name: arm.label.clone(), paint: Paint::Series(number), dash: Dash::Solid, stretches })
        });
        Lane { name, unit, lines: lines.collect() }
    };
    PERCENTILES.iter().map(lane).collect()
}

fn all(_: &Series) -> bool {
    true
}

/// A value over time. Each series is a separate stretch. `None` if it was never measured.
fn line(
    course: &Course<'_>,
    range: Option<(u64, u64)>,
    bin: usize,
    counts: impl Fn(&Series) -> bool,
    (middle, read): (Middle, impl Fn(&Window, f64) -> Option<f64>),
) -> Option<Vec<Vec<(f64, f64)>>> {
    let stretch = |series: &Series| -> Vec<(f64, f64)> {
        let width = series.window_ms as f64 / 1e3;
        let windows: Vec<&Window> = of_range(series, range).collect();
        let point = |windows: &[&Window]| {
            let at = clock::seconds(course.zero_ms, windows[0].at_ms) + width * windows.len() as f64 / 2.0;
            let mut values: Vec<f64> = windows.iter().filter_map(|window| read(window, width)).collect();
            values.sort_by(f64::total_cmp);
            middle(&values).map(|value| (at, value))
        };
        windows.chunks(bin).filter_map(point).collect()
    };
    let stretches: Vec<_> =
        course.series.iter().filter(|series| counts(series)).map(stretch).filter(|points| !points.is_empty()).collect();
    (!stretches.is_empty()).then_some(stretches)
}

// === impl Course ===

impl<'a> Course<'a> {
    fn of(run: &'a Run) -> Self {
        let by_due = Self { run, series: Vec::new(), is_by_end: false, zero_ms: clock::zero_ms(run) };
        let by_end: Option<Vec<Series>> = match by_due.has_lanes_of_backends() {
            true => run.series.iter().map(Series::by_end).collect(),
            false => None,
        };
        let is_by_end = by_end.is_some();
        Self { series: by_end.unwrap_or_else(|| run.series.clone()), is_by_end, ..by_due }
    }

    /// Whether backends are drawn one by one, which needs one pool for the whole run.
    fn has_lanes_of_backends(&self) -> bool {
        self.run.series.len() == 1 || self.run.manifest.scenario == Scenario::A3
    }

    /// From the first window or event to the end of the last, or the given range, in seconds from the zero.
    fn span(&self, range: Option<(u64, u64)>) -> (f64, f64) {
        let seconds = |at_ms| clock::seconds(self.zero_ms, at_ms);
        if let Some((from, to)) = range {
            return (seconds(from), seconds(to));
        }
        let events = || self.run.results.events.iter().map(|event| event.at_ms);
        let firsts = self.series.iter().filter_map(|series| series.windows.first()).map(|window| window.at_ms);
        let lasts = self.series.iter().filter_map(|series| Some(series.windows.last()?.at_ms + series.window_ms));
        (seconds(firsts.chain(events()).min().unwrap_or(0)), seconds(lasts.chain(events()).max().unwrap_or(1_000)))
    }
}

/// The value that represents several sorted values.
type Middle = fn(&[f64]) -> Option<f64>;

fn median(values: &[f64]) -> Option<f64> {
    values.get(values.len() / 2).copied()
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
