//! The blocks of a comparison one by one: whether an arm is better everywhere or in some blocks only, and whether the machine drifted.

use super::{Plot, is_narrow};
use crate::model::{Run, percentile_ns};
use crate::report::format;
use crate::report::picture::axes::{ABOVE, BELOW, EDGE, Panel, Quantity, Sample, heading, legend};
use crate::report::picture::scale::Scale;
use crate::report::picture::scene::{Paint, Scene};

/// p99 in milliseconds of each arm by block; nothing with fewer than two blocks.
pub(super) fn plot(run: &Run) -> Option<Plot> {
    let lines: Vec<Vec<(u32, f64)>> = run.manifest.arms.iter().map(|arm| line(run, &arm.label)).collect();
    if lines.iter().map(Vec::len).max().unwrap_or(0) < 2 {
        return None;
    }
    let caption = "Every arm ran once in every block, in random order. Compare the dots above each other: they saw the same minutes of the \
                   machine. Lines that all rise or fall together are the machine, not the strategies.";
    Some(super::plot("blocks", caption, |width| draw(run, &lines, width)))
}

fn line(run: &Run, arm: &str) -> Vec<(u32, f64)> {
    let p99 = |cell: &crate::model::Cell| percentile_ns(&run.latencies.get(&cell.key())?.latency, 0.99);
    run.results.cells_of(arm).filter_map(|cell| Some((cell.block, p99(cell)? as f64 / 1e6))).collect()
}

fn draw(run: &Run, lines: &[Vec<(u32, f64)>], width: f64) -> Scene {
    let mut scene = Scene::new(width, "Latency p99, block by block");
    let title = scene.title.clone();
    let y = heading(&mut scene, &title, "");
    let arms = run.manifest.arms.iter().enumerate();
    let entries: Vec<_> =
        arms.map(|(number, arm)| (arm.label.as_str(), Sample::Points(Paint::Series(number)))).collect();
    let y = legend(&mut scene, y, &entries);
    let values = || lines.iter().flatten().map(|point| point.1);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let (unit, divisor) = format::time_unit(high);
    let blocks = lines.iter().flatten().map(|point| point.0).max().unwrap_or(1);
    let is_wide = high / low > 8.0;
    let panel = Panel {
        left: EDGE + 44.0,
        top: y + ABOVE,
        width: width - 2.0 * EDGE - 44.0,
        height: if is_narrow(width) { 180.0 } else { 220.0 },
        x: Scale::Linear { from: 0.5, to: f64::from(blocks) + 0.5 },
        y: if is_wide { Scale::log_around(low / divisor, high / divisor) } else { Scale::from_zero(high / divisor) },
    };
    panel.y_axis(&mut scene, Quantity { name: "latency, p99", unit }, format::plain);
    panel.x_ticks(&mut scene, &(1..=blocks).map(|block| (f64::from(block), block.to_string())).collect::<Vec<_>>());
    panel.x_label(&mut scene, Quantity { name: "block", unit: "count" });
    for (arm, line) in lines.iter().enumerate() {
        let points: Vec<_> =
            line.iter().map(|&(block, ms)| (panel.at_x(f64::from(block)), panel.at_y(ms / divisor))).collect();
        scene.line(points.clone(), Paint::Series(arm), 1.2);
        points.into_iter().for_each(|point| scene.dot(point, 3.5, Paint::Series(arm)));
    }
    scene.height = panel.bottom() + BELOW;
    scene
}
