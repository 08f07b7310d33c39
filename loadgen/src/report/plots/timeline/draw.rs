//! Lanes as a picture: one axis of time below, marks and bands through all of them.
//!
//! An event without duration is a dashed line. A longer event is a band from its beginning to its end. A bar of the
//! same length below its label distinguishes bands that overlap.

use super::{Lane, Line};
use crate::model::{Event, EventKind};
use crate::report::clock;
use crate::report::format;
use crate::report::picture::axes::{ABOVE, BELOW, EDGE, Panel, Quantity, Sample, heading, legend};
use crate::report::picture::font;
use crate::report::picture::scale::Scale;
use crate::report::picture::scene::{Anchor, Dash, Paint, SMALL, Scene, Text};

/// Rates of more points than this are drawn as lines, because steps would be too fine to see.
const STEPS_MAX: usize = 120;
/// The height of a row of labels.
const ROW: f64 = 18.0;

/// An event on the axis of time.
struct Mark {
    /// Its position in the picture.
    x: f64,
    /// The position of its end, if it has a duration.
    until: Option<f64>,
    words: String,
    paint: Paint,
}

/// The placed label of a mark.
struct Label {
    text: Text,
    /// The range that it occupies in its row, including its bar.
    taken: (f64, f64),
    row: usize,
}

/// `zero_ms` is the zero of the axis, `span` its ends in seconds from there.
pub(super) fn draw(
    title: &str,
    lanes: &[Lane],
    events: &[&Event],
    (zero_ms, span): (u64, (f64, f64)),
    width: f64,
) -> Scene {
    let mut scene = Scene::new(width, title);
    let y = heading(&mut scene, title, "");
    let left = EDGE + 44.0;
    let panel_of = |top: f64, height: f64, y: Scale| Panel {
        left,
        top,
        width: width - EDGE - 6.0 - left,
        height,
        x: Scale::Linear { from: span.0, to: span.1 },
        y,
    };
    let time = panel_of(y, 0.0, Scale::from_zero(1.0));
    let y = if has_legend(lanes, 0) { draw_legend(&mut scene, y, &lanes[0].lines) } else { y };
    let marks = marks(events, &time, zero_ms);
    let labels = place_labels(&marks, &time, y);
    let rows = labels.iter().flatten().map(|label| label.row + 1).max().unwrap_or(0);
    let top = y + rows as f64 * ROW;
    let mut at = top;
    let mut panels = Vec::new();
    for (number, lane) in lanes.iter().enumerate() {
        at += 8.0;
        if number > 0 && has_legend(lanes, number) {
            at = draw_legend(&mut scene, at, &lane.lines);
        }
        let highest = lane.lines.iter().flat_map(|line| line.stretches.iter().flatten()).map(|point| point.1);
        let highest = highest.fold(0.0, f64::max);
        let panel = panel_of(at + ABOVE, if lane.unit == "1/s" && lane.name == "errors" { 70.0 } else { 120.0 }, {
            Scale::from_zero(if highest == 0.0 { 1.0 } else { highest })
        });
        panel.y_axis(&mut scene, Quantity { name: lane.name, unit: lane.unit }, format::short);
        panel.x_ticks(&mut scene, &[]);
        at = panel.bottom() + 8.0;
        panels.push((panel, lane));
    }
    draw_marks(&mut scene, &marks, &labels, top, &panels);
    for (panel, lane) in &panels {
        for line in &lane.lines {
            for stretch in &line.stretches {
                let points: Vec<_> = stretch.iter().map(|&(x, y)| (panel.at_x(x), panel.at_y(y))).collect();
                let is_stepped = lane.unit == "1/s" && points.len() <= STEPS_MAX;
                scene.dashed(if is_stepped { steps(&points) } else { points }, line.paint, 1.5, line.dash);
            }
        }
    }
    if let Some((panel, _)) = panels.last() {
        panel.x_axis(&mut scene, Quantity { name: "time since the first measured request", unit: "s" }, format::plain);
        scene.height = panel.bottom() + BELOW;
    }
    scene
}

/// A lane whose lines have the same names as the lane above needs no legend.
fn has_legend(lanes: &[Lane], number: usize) -> bool {
    let names = |lane: &Lane| lane.lines.iter().map(|line| line.name.clone()).collect::<Vec<_>>();
    lanes
        .get(number)
        .is_some_and(|lane| lane.lines.len() > 1 && (number == 0 || names(lane) != names(&lanes[number - 1])))
}

/// A count belongs to a whole window, so it is flat from half-way to half-way.
fn steps(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut path = Vec::with_capacity(2 * points.len());
    for (at, &(x, y)) in points.iter().enumerate() {
        let before = if at > 0 { (points[at - 1].0 + x) / 2.0 } else { x };
        let after = points.get(at + 1).map_or(x, |next| (next.0 + x) / 2.0);
        path.extend([(before, y), (after, y)]);
    }
    path
}

/// Marks in order of time. Events that begin before the picture begin at its edge; the same holds for ends.
fn marks(events: &[&Event], time: &Panel, zero_ms: u64) -> Vec<Mark> {
    let mark = |event: &&Event| {
        let paint = match event.kind {
            EventKind::Kill | EventKind::Stall | EventKind::Errors | EventKind::Slow | EventKind::Interrupted => {
                Paint::Fault
            }
            EventKind::HotKey => Paint::Series(3),
            EventKind::Detected | EventKind::Recovered => Paint::Relief,
            _ => Paint::Muted,
        };
        let at = |ms: u64| time.at_x(clock::seconds(zero_ms, ms)).clamp(time.left, time.right());
        Mark { x: at(event.at_ms), until: event.until_ms.map(at), words: event.text.clone(), paint }
    };
    // the end of a fault is the end of its band
    let mut marks: Vec<Mark> = events.iter().filter(|event| event.kind != EventKind::Undone).map(mark).collect();
    marks.sort_by(|one, two| one.x.total_cmp(&two.x));
    marks
}

/// Puts each label into the first row in which it touches no earlier label and its line crosses no label below.
fn place_labels(marks: &[Mark], time: &Panel, top: f64) -> Vec<Option<Label>> {
    let mut labels: Vec<Option<Label>> = Vec::new();
    for mark in marks {
        if mark.words.is_empty() {
            labels.push(None);
            continue;
        }
        let words = font::fit(&mark.words, SMALL, true, time.right() - 16.0);
        let width = font::width(&words, SMALL, true);
        // to the right of its line if there is room, else to the left, else as far right as possible
        let (start, anchor) = if mark.x + 5.0 + width <= time.right() + 8.0 {
            (mark.x + 5.0, Anchor::Start)
        } else if mark.x - 5.0 - width >= 8.0 {
            (mark.x - 5.0 - width, Anchor::End)
        } else {
            (time.right() + 8.0 - width, Anchor::Start)
        };
        let end = start + width;
        let taken = (start.min(mark.x), end.max(mark.until.unwrap_or(mark.x)));
        let is_free = |row: usize| {
            labels.iter().flatten().all(|other| {
                let is_apart = taken.1 + 10.0 <= other.taken.0 || other.taken.1 + 10.0 <= taken.0;
                let is_beside = mark.x < other.taken.0 || mark.x > other.taken.1;
                if other.row == row { is_apart } else { other.row < row || is_beside }
            })
        };
        let row = (0..).find(|row| is_free(*row)).unwrap_or(0);
        let text_x = if anchor == Anchor::End { end } else { start };
        let text = Text::new(text_x, top + 12.0 + row as f64 * ROW, words).size(SMALL).bold().paint(mark.paint);
        labels.push(Some(Label { text: text.anchor(anchor), taken, row }));
    }
    labels
}

/// Draws bands first, then lines, then labels with a background, so that a line behind a label is interrupted there.
fn draw_marks(scene: &mut Scene, marks: &[Mark], labels: &[Option<Label>], top: f64, panels: &[(Panel, &Lane)]) {
    for mark in marks {
        let Some(until) = mark.until else { continue };
        for (panel, _) in panels {
            scene.rect((mark.x, panel.top), ((until - mark.x).max(1.0), panel.height), mark.paint, 0.1);
        }
    }
    for (mark, label) in marks.iter().zip(labels) {
        for (x, dash) in [(Some(mark.x), Dash::Dashed), (mark.until, Dash::Dotted)] {
            let Some(x) = x else { continue };
            for (panel, _) in panels {
                scene.dashed([(x, panel.top - 4.0), (x, panel.bottom())], mark.paint, 1.2, dash);
            }
            if let Some(label) = label {
                scene.dashed([(x, label.text.y + 4.0), (x, top + 4.0)], mark.paint, 1.2, dash);
            }
        }
    }
    for (mark, label) in marks.iter().zip(labels) {
        let Some(Label { text, .. }) = label else { continue };
        let width = font::width(&text.text, SMALL, true);
        let start = if text.anchor == Anchor::End { text.x - width } else { text.x };
        scene.rect((start - 2.0, text.y - 10.0), (width + 4.0, 13.0), Paint::Surface, 1.0);
        if let Some(until) = mark.until {
            scene.line([(mark.x, text.y + 4.0), (until, text.y + 4.0)], mark.paint, 2.0);
        }
        scene.text(text.clone());
    }
}

fn draw_legend(scene: &mut Scene, y: f64, lines: &[Line]) -> f64 {
    let entries: Vec<_> = lines.iter().map(|it| (it.name.as_str(), Sample::Line(it.paint, it.dash))).collect();
    legend(scene, y, &entries)
}
