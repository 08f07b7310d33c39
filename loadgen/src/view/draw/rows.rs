//! The rows of the picture, from top to bottom, each with its importance.

use ratatui::text::{Line, Span};

use super::parts::{
    BAD, BAR, FAINT, GOOD, PLAIN, STRONG, WARN, bar, chain, clock, curve, shortened, span, spread, track, width_of,
};
use crate::report::format::{count, milliseconds, percent, significant};
use crate::view::status::{Arm, BackendRow, Flow, Precision, Progress, Status};

pub(super) struct Row {
    pub(super) line: Line<'static>,
    /// If the rows do not fit, those with the lowest weight are left out first.
    pub(super) weight: u8,
}

/// The most columns of the curve.
const CURVE_MAX: usize = 60;
const TRACK: usize = 20;
const NAME_MAX: usize = 20;
const BAR_MIN: usize = 12;
/// Text in fewer columns than this is left out.
const ROOM_MIN: usize = 8;
/// If there are more backends than this, one row summarises the last ones.
const BACKENDS_MAX: usize = 16;

pub(super) fn rows(status: &Status, width: u16) -> Vec<Row> {
    // one column of margin on either side
    let width = usize::from(width.saturating_sub(2));
    let mut picture = Picture { rows: Vec::new() };
    picture.push(9, head(status, width));
    picture.push(9, place(status, width));
    if let Some(flow) = &status.flow {
        picture.gap();
        picture.push(9, rate(flow, &status.rates, width));
        picture.push(8, times(flow, width));
        picture.push(8, ends(flow, width));
    }
    if !status.backends.is_empty() {
        picture.gap();
        let table = backends(&status.backends, width);
        table.into_iter().enumerate().for_each(|(at, line)| picture.push(if at == 0 { 4 } else { 7 }, line));
    }
    if let Some(precision) = status.precision.as_ref().filter(|precision| !precision.arms.is_empty()) {
        picture.gap();
        picture.push(6, precision_head(precision, width));
        precision.arms.iter().for_each(|arm| picture.push(6, arm_row(arm, precision, width)));
    }
    if status.next.is_some() || !status.notes.is_empty() {
        picture.gap();
    }
    if let Some(next) = &status.next {
        let what = shortened(&next.what, width.saturating_sub(18));
        let groups = vec![
            vec![span("next  ", FAINT), span(what, PLAIN)],
            vec![span(format!("in {:.0} s", next.after.as_secs_f64().ceil()), STRONG)],
        ];
        picture.push(8, Line::from(chain(groups, width).0));
    }
    for (at, (when, text)) in status.notes.iter().enumerate() {
        let when = format!("{:>5} ", clock(*when));
        let room = width.saturating_sub(when.len() + 1);
        if room < ROOM_MIN {
            continue;
        }
        let text = shortened(text, room);
        let style = if at + 1 == status.notes.len() { PLAIN } else { FAINT };
        picture.push(3 + at.min(3) as u8, Line::from(vec![span(when + " ", FAINT), span(text, style)]));
    }
    picture.rows
}

struct Picture {
    rows: Vec<Row>,
}

fn head(status: &Status, width: usize) -> Line<'static> {
    let gone = clock(status.elapsed);
    let time = match status.left {
        Some(left) if left.is_at_most => format!("{gone} gone, at most {} left", clock(left.time)),
        Some(left) => format!("{gone} gone, {} left", clock(left.time)),
        None => format!("{gone} gone"),
    };
    let room = width.saturating_sub(time.len() + 2);
    let title = shortened(&status.title, if room < ROOM_MIN { width } else { room });
    spread(vec![span(title, STRONG)], vec![span(time, PLAIN)], width)
}

fn place(status: &Status, width: usize) -> Line<'static> {
    let mut groups = Vec::new();
    if !status.place.is_empty() {
        groups.push(vec![span(shortened(&status.place, width), PLAIN)]);
    }
    if !status.strategy.is_empty() {
        groups.push(vec![span(shortened(&status.strategy, width.min(NAME_MAX + 10)), STRONG)]);
    }
    groups.push(vec![span(status.phase.clone(), WARN)]);
    if let Some(progress) = status.progress {
        let mut all = track(progress.share(), TRACK, BAR);
        let told = match progress {
            Progress::Time { done, all } => format!(" {:.0} of {} s", done.as_secs_f64().floor(), significant_s(all)),
            Progress::Requests { done, all } => format!(" {} of {}", count(done), count(all)),
        };
        all.push(span(told, PLAIN));
        groups.push(all);
    }
    Line::from(chain(groups, width).0)
}

fn significant_s(time: std::time::Duration) -> String {
    crate::report::format::plain((time.as_secs_f64() * 10.0).round() / 10.0)
}

fn rate(flow: &Flow, rates: &[u64], width: usize) -> Line<'static> {
    let asked = match flow.asked {
        Some(asked) => format!("/s of {}", significant(asked)),
        None => "/s".to_owned(),
    };
    // a fixed width, so that the curve begins at the same column for usual numbers
    let told = format!("{:>7}", significant(flow.achieved));
    let mut row =
        vec![span("rate  ", FAINT), span(told, if flow.is_behind { WARN } else { STRONG }), span(asked, PLAIN)];
    let left = width.saturating_sub(width_of(&row) + 2);
    if left >= BAR_MIN && !rates.is_empty() {
        row.push(span("  ", PLAIN));
        row.push(span(curve(rates, left.min(CURVE_MAX)), BAR));
    }
    Line::from(chain(vec![row], width).0)
}

fn times(flow: &Flow, width: usize) -> Line<'static> {
    let of = |name: &str, ms: Option<f64>| {
        vec![span(format!("{name} "), FAINT), span(format!("{:>8}", ms.map_or("–".to_owned(), milliseconds)), STRONG)]
    };
    let groups = vec![
        of("p50  ", flow.p50_ms),
        of("p99", flow.p99_ms),
        of("p90", flow.p90_ms),
        vec![span(format!("{} in flight", count(flow.outstanding)), PLAIN)],
    ];
    Line::from(chain(groups, width).0)
}

fn ends(flow: &Flow, width: usize) -> Line<'static> {
    let [informed, ok, moved, wrong, failed] = flow.classes;
    let mut groups = vec![vec![span("total ", FAINT), span(format!("2xx {}", count(ok)), PLAIN)]];
    for (name, number, style) in [
        ("5xx", failed, BAD),
        ("no response", flow.errors, BAD),
        ("not sent", flow.unsent, WARN),
        ("4xx", wrong, BAD),
        ("3xx", moved, PLAIN),
        ("1xx", informed, PLAIN),
    ] {
        let is_usual = ["5xx", "no response", "not sent"].contains(&name);
        if number > 0 {
            groups.push(vec![span(format!("{name} {}", count(number)), style)]);
        } else if is_usual {
            groups.push(vec![span(format!("{name} 0"), FAINT)]);
        }
    }
    Line::from(chain(groups, width).0)
}

/// A table of the backends that fit. The name and the bar are always shown, the other columns if there is room.
fn backends(backends: &[BackendRow], width: usize) -> Vec<Line<'static>> {
    let shown = if backends.len() > BACKENDS_MAX { BACKENDS_MAX - 1 } else { backends.len() };
    let name_width = backends.iter().map(|backend| Span::raw(backend.id.as_str()).width()).max().unwrap_or(0);
    let name_width = name_width.clamp("backend".len(), NAME_MAX.min(width / 3).max("backend".len()));
    let all: u64 = backends.iter().map(|backend| backend.answers).sum();
    let most = backends.iter().map(|backend| backend.rate).fold(0.0, f64::max);
    let knows_pool = backends.iter().any(|backend| backend.in_flight.is_some());
    type Cell = fn(&BackendRow, u64) -> String;
    let columns: [(&str, usize, bool, Cell); 4] = [
        ("per s", 8, true, |backend, _| significant(backend.rate)),
        ("share", 8, true, |backend, all| match all {
            0 => "–".to_owned(),
            all => percent(backend.answers as f64 / all as f64),
        }),
        ("in flight", 11, knows_pool, |backend, _| match backend.in_flight {
            _ if backend.is_out => "out".to_owned(),
            Some(number) => count(u64::from(number)),
            None => "–".to_owned(),
        }),
        ("responses", 12, true, |backend, _| count(backend.answers)),
    ];
    if width < name_width + 2 + BAR_MIN {
        return Vec::new();
    }
    let mut left = width - name_width - 2;
    let mut taken = Vec::new();
    for (name, column_width, is_known, cell) in columns.into_iter().filter(|(_, _, is_known, _)| *is_known) {
        debug_assert!(is_known);
        if left >= column_width + BAR_MIN {
            left -= column_width;
            taken.push((name, column_width, cell));
        }
    }
    let row = |name: Span<'static>, bar: Span<'static>, cells: Vec<Span<'static>>| {
        let mut spans = vec![name, span("  ", PLAIN)];
        let pad = left.saturating_sub(bar.width());
        spans.extend([bar, span(" ".repeat(pad), PLAIN)]);
        spans.extend(cells);
        Line::from(spans)
    };
    let right =
        |text: &str, width: usize| format!("{}{text}", " ".repeat(width.saturating_sub(Span::raw(text).width())));
    let titles = taken.iter().map(|(name, width, _)| span(right(name, *width), FAINT)).collect();
    let mut lines = vec![row(
        span(format!("{:name_width$}", "backend"), FAINT),
        span(shortened("last second", left), FAINT),
        titles,
    )];
    for backend in &backends[..shown] {
        let name = shortened(&backend.id, name_width);
        let pad = name_width.saturating_sub(Span::raw(name.as_str()).width());
        let style = if backend.is_out { BAD } else { PLAIN };
        let filled = if most > 0.0 { bar(backend.rate / most, left) } else { String::new() };
        let cells = taken.iter().map(|(_, width, cell)| span(right(&cell(backend, all), *width), style)).collect();
        lines.push(row(span(name + &" ".repeat(pad), style), span(filled, BAR), cells));
    }
    let others = &backends[shown..];
    if let (Some(least), Some(most)) = (
        others.iter().map(|backend| backend.rate).min_by(f64::total_cmp),
        others.iter().map(|backend| backend.rate).max_by(f64::total_cmp),
    ) {
        let text = format!("and {} others with {} to {} per s", others.len(), significant(least), significant(most));
        lines.push(Line::from(span(shortened(&text, width), FAINT)));
    }
    lines
}

fn precision_head(precision: &Precision, width: usize) -> Line<'static> {
    let target = format!("target ±{} or less", percent(precision.target));
    let measure =
        shortened(&format!("interval of {}", precision.measure), width.saturating_sub(Span::raw(&target).width() + 2));
    let groups = vec![vec![span(measure, FAINT)], vec![span(target, FAINT)]];
    Line::from(chain(groups, width).0)
}

fn arm_row(arm: &Arm, precision: &Precision, width: usize) -> Line<'static> {
    let longest = precision.arms.iter().map(|arm| Span::raw(arm.label.as_str()).width()).max().unwrap_or(0);
    let name_width = longest.min(NAME_MAX);
    let name = shortened(&arm.label, name_width);
    let pad = name_width.saturating_sub(Span::raw(name.as_str()).width());
    let mut groups = vec![vec![span(name + &" ".repeat(pad), PLAIN)]];
    match arm.half_width {
        Some(half_width) => {
            let is_enough = half_width <= precision.target;
            let style = if is_enough { GOOD } else { BAR };
            groups.push(vec![span(format!("{:>8}", format!("±{}", percent(half_width))), STRONG)]);
            groups.push(track(if is_enough { 1.0 } else { precision.target / half_width }, TRACK, style));
            if let Some(expected) = arm.expected.filter(|_| !is_enough) {
                let then = format!("±{} after {} blocks", percent(expected), precision.blocks_possible);
                groups.push(vec![span(then, FAINT)]);
            }
        }
        None if precision.is_out_of_reach() => {
            let few = format!(
                "needs {} blocks, the budget has room for {}",
                precision.blocks_needed, precision.blocks_possible
            );
            groups.push(vec![span(few, WARN)]);
        }
        None => groups.push(vec![span(
            format!("known after {} of about {} blocks", precision.blocks_needed, precision.blocks_possible),
            FAINT,
        )]),
    }
    Line::from(chain(groups, width).0)
}

// === impl Picture ===

impl Picture {
    fn push(&mut self, weight: u8, mut line: Line<'static>) {
        line.spans.insert(0, span(" ", PLAIN));
        self.rows.push(Row { line, weight });
    }

    fn gap(&mut self) {
        self.rows.push(Row { line: Line::default(), weight: 1 });
    }
}
