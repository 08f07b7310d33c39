//! Percentile curves on an axis of 1/(1−p), where the tail has as much room as the middle. Compared arms have interval
//! ribbons.

use hdrhistogram::Histogram;

use super::{Plot, is_narrow};
use crate::model::{Ribbon, Run, samples_needed};
use crate::report::format;
use crate::report::picture::axes::{ABOVE, BELOW, EDGE, Panel, Quantity, Sample, heading, legend, spread};
use crate::report::picture::font;
use crate::report::picture::scale::{Scale, Tick};
use crate::report::picture::scene::{Dash, Paint, SMALL, Scene, Text};
use crate::report::rows::{groups, merged};
use crate::statistics::{RIBBON_BEYOND, RIBBON_BLOCKS};

struct Curve {
    name: String,
    paint: Paint,
    dash: Dash,
    /// 1/(1−p) and milliseconds.
    points: Vec<(f64, f64)>,
    /// 1/(1−p), low, high.
    ribbon: Vec<(f64, f64, f64)>,
}

/// The beginning of the axis as 1/(1−p): p11.
const RAREST_LEAST: f64 = 1.122;

/// `None` if no cell has enough samples for a median.
pub(super) fn plot(run: &Run) -> Option<Plot> {
    let curves = curves(run);
    if curves.iter().all(|curve| curve.points.len() < 2) {
        return None;
    }
    let ribbons = ribbons_in_words(run).unwrap_or_default();
    let caption = format!(
        "How to read it: at 99, the height of the curve is the latency that 99 of 100 requests did not exceed. Requests further to the right \
         are rarer and slower. Latency is measured from the scheduled send time. A curve ends where fewer than ten requests lie beyond it.{ribbons}"
    );
    Some(super::plot("percentiles", caption, |width| draw(&curves, width)))
}

/// The explanation of ribbons, and of their end; `None` for a run without a comparison.
fn ribbons_in_words(run: &Run) -> Option<String> {
    let comparison = run.results.comparison.as_ref()?;
    let requests = groups(run).iter().map(|cells| merged(run, cells).latency.len()).min()?;
    // a single point is not a ribbon
    let drawn = comparison.ribbons.iter().filter(|ribbon| ribbon.points.len() > 1);
    let ends = drawn.filter_map(|ribbon| ribbon.points.last()).map(|point| point.quantile);
    let end = ends.fold(f64::INFINITY, f64::min);
    let takes = format!("an interval needs {RIBBON_BLOCKS} blocks and {} requests", format::count(RIBBON_BEYOND));
    let has = format!(
        "the arm with the fewest requests has {} in {}",
        format::count(requests),
        format::plural(comparison.blocks.into(), "block")
    );
    if end.is_infinite() {
        return Some(format!(" No ribbon is drawn: {takes} beyond a percentile, and {has}."));
    }
    let what = format!(
        " The ribbon around a curve is the {} % interval over blocks. Ribbons may overlap although a verdict is sure, because verdicts compare \
         within blocks.",
        format::plain(comparison.confidence * 100.0)
    );
    // Rounded, because 1 − 0.9 is not 0.1 in binary.
    let is_by_rule = (requests as f64 * (1.0 - end)).round() >= RIBBON_BEYOND as f64;
    Some(match is_by_rule {
        true => format!("{what} It ends at p{}: {takes} beyond the percentile, and {has}.", format::plain(end * 100.0)),
        false => format!("{what} An older loadgen computed it by a bootstrap, which is too narrow in the tail."),
    })
}

fn curves(run: &Run) -> Vec<Curve> {
    let ribbons = run.results.comparison.as_ref().map_or(&[][..], |comparison| comparison.ribbons.as_slice());
    let arms = &run.manifest.arms;
    let mut curves: Vec<Curve> = Vec::new();
    for cells in groups(run) {
        let latencies = merged(run, &cells);
        let arm = arms.iter().position(|arm| arm.label == cells[0].arm).unwrap_or(0);
        let several_sizes = super::sizes(run).len() > 1;
        let single = arms.len() == 1 && !several_sizes;
        let name = match (single, several_sizes, arms.len()) {
            (true, ..) => "latency".to_owned(),
            (_, true, 1) => format!("N = {}", cells[0].n),
            (_, true, _) => format!("{}, N = {}", cells[0].arm, cells[0].n),
            _ => cells[0].arm.clone(),
        };
        // arms × sizes would be too many curves, so only the largest pool is drawn
        if several_sizes && arms.len() > 1 && Some(&cells[0].n) != super::sizes(run).last() {
            continue;
        }
        let paint = Paint::Series(if several_sizes && arms.len() == 1 { cells[0].n as usize - 1 } else { arm });
        let ribbon = ribbons.iter().find(|ribbon| ribbon.arm == cells[0].arm).map(band).unwrap_or_default();
        let dash = if curves.len() >= crate::report::picture::theme::SERIES { Dash::Dashed } else { Dash::Solid };
        curves.push(Curve { name, paint, dash, points: points(&latencies.latency), ribbon });
        if single {
            let points = points(&latencies.service);
            curves.push(Curve {
                name: "service time".into(),
                paint: Paint::Series(1),
                dash: Dash::Dashed,
                points,
                ribbon: Vec::new(),
            });
        }
    }
    curves
}

fn band(ribbon: &Ribbon) -> Vec<(f64, f64, f64)> {
    let rarity = |quantile: f64| 1.0 / (1.0 - quantile).max(1e-9);
    ribbon.points.iter().map(|it| (rarity(it.quantile), it.low_ns / 1e6, it.high_ns / 1e6)).collect()
}

/// Twenty points per decade from p11 on, as far as there are enough samples. The fastest requests are not interesting.
fn points(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let rarities = (1..).map(|step| 10_f64.powf(f64::from(step) / 20.0));
    rarities
        .take_while(|rarity| histogram.len() >= samples_needed(1.0 - 1.0 / rarity))
        .map(|rarity| (rarity, histogram.value_at_quantile(1.0 - 1.0 / rarity) as f64 / 1e6))
        .collect()
}

fn draw(curves: &[Curve], width: f64) -> Scene {
    let mut scene = Scene::new(width, "Latency percentiles");
    let y = heading(&mut scene, "Latency percentiles", "");
    let narrow = is_narrow(width);
    let y = if narrow { draw_legend(&mut scene, y, curves) } else { y };
    let names = curves.iter().map(|curve| font::width(&curve.name, SMALL, true)).fold(0.0, f64::max);
    let label_room = if narrow { 14.0 } else { names.min(190.0) + 16.0 };

    let values = || {
        let lines = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.1));
        lines.chain(curves.iter().flat_map(|curve| curve.ribbon.iter().flat_map(|it| [it.1, it.2])))
    };
    let low = curves.iter().filter_map(|curve| curve.points.first()).map(|point| point.1);
    let (low, high) = (low.fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let (unit, divisor) = format::time_unit(high);
    let rarest = curves.iter().filter_map(|curve| curve.points.last()).map(|point| point.0).fold(10.0, f64::max);
    let scale = if high / low > 8.0 {
        Scale::log_around(low / divisor, high / divisor)
    } else {
        Scale::from_zero(high / divisor)
    };
    let left = EDGE + 44.0;
    let panel = Panel {
        left,
        top: y + ABOVE,
        width: width - label_room - EDGE - left,
        height: if narrow { 250.0 } else { 300.0 },
        x: Scale::Log { from: RAREST_LEAST, to: rarest },
        y: scale,
    };
    panel.y_axis(&mut scene, Quantity { name: "latency", unit }, format::plain);
    let ticks: Vec<Tick> = [
        (25.0, "25"),
        (50.0, "50"),
        (75.0, "75"),
        (90.0, "90"),
        (99.0, "99"),
        (99.9, "99.9"),
        (99.99, "99.99"),
        (99.999, "99.999"),
    ]
    .into_iter()
    .map(|(percent, text): (f64, &str)| (1.0 / (1.0 - percent / 100.0), text.to_owned()))
    .filter(|tick| tick.0 <= rarest * 1.001 && !(narrow && matches!(tick.1.as_str(), "25" | "75")))
    .collect();
    for (rarity, _) in &ticks {
        let x = panel.at_x(*rarity);
        scene.line([(x, panel.top), (x, panel.bottom())], Paint::Grid, 1.0);
    }
    panel.x_ticks(&mut scene, &ticks);
    panel.x_label(&mut scene, Quantity { name: "share of requests that were faster", unit: "%" });
    draw_curves(&mut scene, &panel, curves, divisor);
    if !narrow {
        draw_names(&mut scene, &panel, curves, divisor, names.min(190.0));
    }
    scene.height = panel.bottom() + BELOW;
    scene
}

fn draw_curves(scene: &mut Scene, panel: &Panel, curves: &[Curve], divisor: f64) {
    let at = |rarity: f64, value: f64| (panel.at_x(rarity.min(panel.x.ends().1)), panel.at_y(value / divisor));
    for curve in curves {
        let end = curve.points.last().map_or(0.0, |point| point.0) * 1.001;
        let within = || curve.ribbon.iter().filter(move |it| (RAREST_LEAST..=end).contains(&it.0));
        let mut outline: Vec<(f64, f64)> = within().map(|it| at(it.0, it.2)).collect();
        outline.extend(within().rev().map(|it| at(it.0, it.1)));
        scene.area(outline, curve.paint, 0.2);
    }
    for curve in curves {
        let points: Vec<_> = curve.points.iter().map(|point| at(point.0, point.1)).collect();
        scene.dashed(points, curve.paint, 2.0, curve.dash);
    }
}

/// Draws the name of each curve at its end.
fn draw_names(scene: &mut Scene, panel: &Panel, curves: &[Curve], divisor: f64, room: f64) {
    let named: Vec<&Curve> = curves.iter().filter(|curve| !curve.points.is_empty()).collect();
    let ends: Vec<f64> =
        named.iter().map(|curve| panel.at_y(curve.points[curve.points.len() - 1].1 / divisor)).collect();
    let placed = spread(&ends, 15.0, panel.top + 4.0, panel.bottom() - 4.0);
    for ((curve, y), end) in named.iter().zip(placed).zip(ends) {
        let x = panel.at_x(curve.points[curve.points.len() - 1].0);
        scene.line([(x, end), (panel.right() + 6.0, y), (panel.right() + 10.0, y)], curve.paint, 1.0);
        let text = Text::new(panel.right() + 14.0, y + 4.0, font::fit(&curve.name, SMALL, true, room));
        scene.text(text.size(SMALL).bold().paint(curve.paint));
    }
}

fn draw_legend(scene: &mut Scene, y: f64, curves: &[Curve]) -> f64 {
    let entries: Vec<_> = curves.iter().map(|it| (it.name.as_str(), Sample::Line(it.paint, it.dash))).collect();
    legend(scene, y, &entries)
}
