//! Lanes as a picture: one axis of time below, marks through all of them.

use super::{Lane, Line};
use crate::model::{Event, EventKind};
use crate::report::format;
use crate::report::picture::axes::{ABOVE, BELOW, EDGE, Panel, Quantity, Sample, heading, legend};
use crate::report::picture::font;
use crate::report::picture::scale::Scale;
use crate::report::picture::scene::{Anchor, Dash, Paint, SMALL, Scene, Text};

/// More swaps than this get lines without words.
const SWAPS_MAX: usize = 6;
/// Rates of more points than this are drawn as lines: steps would be too fine to see.
const STEPS_MAX: usize = 120;

pub(super) fn draw(title: &str, lanes: &[Lane], events: &[&Event], span: (f64, f64), width: f64) -> Scene {
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
    let marks = marks(events);
    let (labels, mut at) = place_labels(&marks, &time, y);
    let top = at;
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
    for (mark, label) in marks.iter().zip(&labels) {
        let (x, paint) = (time.at_x(mark.0), mark.2);
        let from = label.as_ref().map_or(top + 4.0, |text| text.y + 4.0);
        let dash = if paint == Paint::Grid { Dash::Solid } else { Dash::Dashed };
        for panel in &panels {
            scene.dashed([(x, panel.0.top - 4.0), (x, panel.0.bottom())], paint, 1.2, dash);
        }
        if let Some(text) = label {
            scene.dashed([(x, from), (x, top + 4.0)], paint, 1.2, Dash::Dashed);
            scene.text(text.clone());
        }
    }
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
        panel.x_axis(&mut scene, Quantity { name: "time since the start of the run", unit: "s" }, format::plain);
        scene.height = panel.bottom() + BELOW;
    }
    scene
}

/// Lines of the same names need no second key.
fn has_legend(lanes: &[Lane], number: usize) -> bool {
    let names = |lane: &Lane| lane.lines.iter().map(|line| line.name.clone()).collect::<Vec<_>>();
    lanes
        .get(number)
        .is_some_and(|lane| lane.lines.len() > 1 && (number == 0 || names(lane) != names(&lanes[number - 1])))
}

/// What was counted in a window was counted in all of it: flat from half-way to half-way.
fn steps(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut path = Vec::with_capacity(2 * points.len());
    for (at, &(x, y)) in points.iter().enumerate() {
        let before = if at > 0 { (points[at - 1].0 + x) / 2.0 } else { x };
        let after = points.get(at + 1).map_or(x, |next| (next.0 + x) / 2.0);
        path.extend([(before, y), (after, y)]);
    }
    path
}

/// Seconds, words and paint of each event.
fn marks(events: &[&Event]) -> Vec<(f64, String, Paint)> {
    let swaps = events.iter().filter(|event| event.kind == EventKind::Swap).count();
    let mark = |event: &&Event| {
        let is_silent = event.kind == EventKind::Swap && swaps > SWAPS_MAX;
        let paint = match event.kind {
            _ if is_silent => Paint::Grid,
            EventKind::Kill | EventKind::Stall | EventKind::Errors | EventKind::Slow | EventKind::Interrupted => {
                Paint::Fault
            }
            EventKind::Detected | EventKind::Recovered => Paint::Relief,
            _ => Paint::Muted,
        };
        (event.at_ms as f64 / 1e3, if is_silent { String::new() } else { event.text.clone() }, paint)
    };
    events.iter().map(mark).collect()
}

/// Puts each label into the first row where it touches none before it. Answers where the rows end.
fn place_labels(marks: &[(f64, String, Paint)], time: &Panel, top: f64) -> (Vec<Option<Text>>, f64) {
    const ROW: f64 = 17.0;
    let mut rows: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut labels = Vec::new();
    for (at, words, paint) in marks {
        if words.is_empty() {
            labels.push(None);
            continue;
        }
        let words = font::fit(words, SMALL, true, time.right() - 16.0);
        let width = font::width(&words, SMALL, true);
        let x = time.at_x(*at);
        // to the right of its line if there is room, else to the left, else as far right as it goes
        let (start, anchor) = if x + 5.0 + width <= time.right() + 8.0 {
            (x + 5.0, Anchor::Start)
        } else if x - 5.0 - width >= 8.0 {
            (x - 5.0 - width, Anchor::End)
        } else {
            (time.right() + 8.0 - width, Anchor::Start)
        };
        let touches = |taken: &(f64, f64)| start < taken.1 + 10.0 && taken.0 < start + width + 10.0;
        let row = rows.iter().position(|row| !row.iter().any(touches)).unwrap_or(rows.len());
        if row == rows.len() {
            rows.push(Vec::new());
        }
        rows[row].push((start, start + width));
        let text_x = if anchor == Anchor::End { start + width } else { start };
        let text = Text::new(text_x, top + 12.0 + row as f64 * ROW, words).size(SMALL).bold().paint(*paint);
        labels.push(Some(text.anchor(anchor)));
    }
    (labels, top + rows.len() as f64 * ROW)
}

fn draw_legend(scene: &mut Scene, y: f64, lines: &[Line]) -> f64 {
    let entries: Vec<_> = lines.iter().map(|it| (it.name.as_str(), Sample::Line(it.paint, it.dash))).collect();
    legend(scene, y, &entries)
}
