//! The blocks of a comparison one by one: each arm's ratio to the baseline, with the estimate and its interval over all
//! blocks. It shows whether an arm is better everywhere or in some blocks only, and which blocks were dropped.

use super::{Plot, is_narrow};
use crate::model::{Comparison, Conclusion, Latencies, Run, percentile_ns};
use crate::report::format;
use crate::report::picture::axes::{ABOVE, BELOW, DROPPED, EDGE, Panel, Quantity, RIBBON, Sample, heading, legend};
use crate::report::picture::scale::Scale;
use crate::report::picture::scene::{Dash, LABEL, Paint, Scene, Text};
use crate::report::words::{judged, measure_name};

/// The ratios of an arm to the baseline in one measure.
struct Arm {
    paint: Paint,
    /// Block and ratio; dropped blocks have none.
    dots: Vec<(u32, f64)>,
    /// Low, estimate, high.
    interval: Option<[f64; 3]>,
}

struct Lane<'a> {
    measure: &'a str,
    arms: Vec<Arm>,
}

/// Ratios beyond this are drawn at the edge.
const RATIO_MAX: f64 = 50.0;
const TITLE_ROOM: f64 = 24.0;

/// `None` with fewer than two blocks, and if latency is void, because readers would believe a ratio in spite of the
/// banner.
pub(super) fn plot(run: &Run) -> Option<Plot> {
    let comparison = run.results.comparison.as_ref().filter(|_| run.manifest.supports(Conclusion::Latency))?;
    let lanes: Vec<Lane<'_>> = judged(comparison).into_iter().map(|measure| lane(run, comparison, measure)).collect();
    let lanes: Vec<Lane<'_>> =
        lanes.into_iter().filter(|lane| lane.arms.iter().any(|arm| arm.dots.len() > 1)).collect();
    if lanes.is_empty() {
        return None;
    }
    let dropped = match comparison.dropped.is_empty() {
        true => "",
        false => " Shaded: blocks that were dropped, because the generator was late in them.",
    };
    let caption = format!(
        "Each dot is an arm's value over that of {} in the same block, with the same requests and nearly the same state of the machine. Below \
         1 is better. The line across is the estimate over all blocks, the ribbon around it its interval. If all dots are on one side \
         of 1, the arm is better or worse in every block. Otherwise blocks differ, and the interval says how sure the estimate is.{dropped}",
        comparison.baseline
    );
    Some(super::plot("blocks", caption, |width| draw(run, comparison, &lanes, width)))
}

fn lane<'a>(run: &Run, comparison: &'a Comparison, measure: &'a str) -> Lane<'a> {
    let arms = run.manifest.arms.iter().enumerate().filter(|(_, arm)| arm.label != comparison.baseline);
    let arm = |(number, arm): (usize, &crate::model::Arm)| {
        let counted = run.results.cells_of(&arm.label).filter(|cell| !comparison.is_dropped(cell.block));
        let dot = |block: u32| {
            let value = |label: &str| {
                let cell = run.results.cells_of(label).find(|cell| cell.block == block)?;
                value(run.latencies.get(&cell.key())?, measure)
            };
            let ratio = value(&arm.label)? / value(&comparison.baseline)?;
            (ratio.is_finite() && ratio > 0.0).then_some((block, ratio))
        };
        Arm {
            paint: Paint::Series(number),
            dots: counted.filter_map(|cell| dot(cell.block)).collect(),
            interval: comparison.ratio(&arm.label, measure).map(|ratio| [ratio.low, ratio.ratio, ratio.high]),
        }
    };
    Lane { measure, arms: arms.map(arm).collect() }
}

/// A measure of one cell.
fn value(latencies: &Latencies, measure: &str) -> Option<f64> {
    let (histogram, quantile) = match measure {
        "latency_p50" => (&latencies.latency, 0.5),
        "latency_p90" => (&latencies.latency, 0.9),
        "latency_p99" => (&latencies.latency, 0.99),
        "service_p99" => (&latencies.service, 0.99),
        _ => return None,
    };
    percentile_ns(histogram, quantile).map(|ns| ns as f64)
}

fn draw(run: &Run, comparison: &Comparison, lanes: &[Lane<'_>], width: f64) -> Scene {
    let mut scene = Scene::new(width, &format!("Block by block: latency over that of {}", comparison.baseline));
    let title = scene.title.clone();
    let y = heading(&mut scene, &title, "");
    let arms = run.manifest.arms.iter().enumerate().filter(|(_, arm)| arm.label != comparison.baseline);
    let mut entries: Vec<(&str, Sample)> =
        arms.map(|(number, arm)| (arm.label.as_str(), Sample::Dot(Paint::Series(number)))).collect();
    entries.push(("estimate with its interval", Sample::Ribbon(Paint::Muted)));
    entries.push(("no difference that matters", Sample::Zone));
    if !comparison.dropped.is_empty() {
        entries.push(("dropped block", Sample::Dropped));
    }
    let mut at = legend(&mut scene, y, &entries);
    let blocks = run.results.cells.iter().map(|cell| cell.block).max().unwrap_or(1);
    let ticks: Vec<(f64, String)> = (1..=blocks).map(|block| (f64::from(block), block.to_string())).collect();
    for (number, lane) in lanes.iter().enumerate() {
        scene.text(Text::new(EDGE, at + 12.0, measure_name(lane.measure)).bold().size(LABEL));
        let panel = panel(comparison, lane, blocks, (at + TITLE_ROOM + ABOVE - 4.0, width));
        draw_lane(&mut scene, comparison, lane, &panel, blocks);
        let is_last = number + 1 == lanes.len();
        panel.x_ticks(&mut scene, if is_last { &ticks } else { &[] });
        if is_last {
            panel.x_label(&mut scene, Quantity { name: "block", unit: "count" });
        }
        at = panel.bottom() + 14.0;
        scene.height = panel.bottom() + BELOW;
    }
    scene
}

fn panel(comparison: &Comparison, lane: &Lane<'_>, blocks: u32, (top, width): (f64, f64)) -> Panel {
    let ends = lane.arms.iter().flat_map(|arm| arm.interval.iter().flatten());
    let values = || lane.arms.iter().flat_map(|arm| &arm.dots).map(|dot| &dot.1).chain(ends.clone()).copied();
    let within = || values().filter(|value| (1.0 / RATIO_MAX..=RATIO_MAX).contains(value));
    let low = within().fold(1.0 / (1.0 + 1.5 * comparison.equivalence), f64::min);
    let high = within().fold(1.0 + 1.5 * comparison.equivalence, f64::max);
    Panel {
        left: EDGE + 44.0,
        top,
        width: width - 2.0 * EDGE - 44.0,
        height: if is_narrow(width) { 120.0 } else { 130.0 },
        x: Scale::Linear { from: 0.5, to: f64::from(blocks) + 0.5 },
        y: Scale::log_around(low, high),
    }
}

fn draw_lane(scene: &mut Scene, comparison: &Comparison, lane: &Lane<'_>, panel: &Panel, blocks: u32) {
    let across = |value: f64| [(panel.left, panel.at_y(value)), (panel.right(), panel.at_y(value))];
    let band = |from: f64, to: f64| (panel.at_y(to), panel.at_y(from) - panel.at_y(to));
    let (top, height) = band(1.0 / (1.0 + comparison.equivalence), 1.0 + comparison.equivalence);
    scene.rect((panel.left, top), (panel.width, height), Paint::Band, 0.22);
    for dropped in comparison.dropped.iter().filter(|dropped| (1..=blocks).contains(&dropped.block)) {
        let (from, to) = (f64::from(dropped.block) - 0.5, f64::from(dropped.block) + 0.5);
        let (from, to) = (panel.at_x(from), panel.at_x(to));
        scene.rect((from, panel.top), (to - from, panel.height), Paint::Fault, DROPPED);
    }
    panel.y_axis(scene, Quantity { name: "ratio to the baseline", unit: "ratio" }, format::plain);
    scene.dashed(across(1.0), Paint::Muted, 1.2, Dash::Dashed);
    for arm in &lane.arms {
        if let Some([low, estimate, high]) = arm.interval {
            let (top, height) = band(low, high);
            scene.rect((panel.left, top), (panel.width, height), arm.paint, RIBBON);
            scene.line(across(estimate), arm.paint, 1.5);
        }
    }
    // arms of one block are drawn beside each other
    let aside = |number: usize| (number as f64 - (lane.arms.len() as f64 - 1.0) / 2.0) * 3.0;
    for (number, arm) in lane.arms.iter().enumerate() {
        for &(block, ratio) in &arm.dots {
            let ratio = ratio.clamp(1.0 / RATIO_MAX, RATIO_MAX);
            let at = (panel.at_x(f64::from(block)) + aside(number), panel.at_y(ratio));
            scene.series_dot(at, 3.5, arm.paint);
        }
    }
}
