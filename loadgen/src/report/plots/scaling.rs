//! Throughput, latency and evenness over the number of backends: small panels, one line for each arm. One panel is the
//! chart of the course's sheet, the mean load; the caption explains why it cannot rank balancers.

use super::{Plot, Spread, about_error_bars, is_narrow, sizes, spread};
use crate::model::Run;
use crate::report::format;
use crate::report::picture::axes::{ABOVE, BELOW, EDGE, Panel, Quantity, Sample, heading, legend};
use crate::report::picture::scale::Scale;
use crate::report::picture::scene::{Dash, LABEL, Paint, Scene, Text};
use crate::report::rows::{Kind, Row, rows};
use crate::report::words::{plateau, saturated};

/// One small panel.
struct Small {
    title: &'static str,
    name: &'static str,
    unit: &'static str,
    /// Reads the value of a block, or of all blocks together as in the tables.
    read: fn(&Row) -> Option<f64>,
    /// The value of a perfect balance.
    ideal: Option<f64>,
}

const PANELS: [Small; 6] = [
    Small { title: "Throughput", name: "good responses", unit: "requests/s", read: |row| Some(row.rps), ideal: None },
    Small { title: "Latency, p99", name: "latency", unit: "ms", read: |row| row.latency_p99_ms, ideal: None },
    Small {
        title: "Fullest backend over the mean",
        name: "max/mean",
        unit: "ratio",
        read: |row| row.max_over_mean,
        ideal: Some(1.0),
    },
    Small {
        title: "Variation of counts",
        name: "standard deviation/mean",
        unit: "ratio",
        read: |row| row.cv,
        ideal: Some(0.0),
    },
    Small {
        title: "Jain's index",
        name: "1 = all alike, 1/N = all on one",
        unit: "ratio",
        read: |row| row.jain,
        ideal: Some(1.0),
    },
    Small {
        title: "The sheet's chart: mean load",
        name: "requests per backend",
        unit: "count",
        // the value of one block, also if there are several blocks
        read: |row| (row.kind == Kind::Block).then(|| row.requests as f64 / f64::from(row.n)),
        ideal: None,
    },
];

/// `None` if there is only one N.
pub(super) fn plot(run: &Run) -> Option<Plot> {
    if sizes(run).len() < 2 {
        return None;
    }
    let groups = crate::report::rows::groups(run);
    let about = about_error_bars(groups.iter().max_by_key(|cells| cells.len()).map_or(&[], Vec::as_slice));
    let rows = rows(run);
    let limit = run.manifest.arms.iter().find_map(|arm| {
        let own: Vec<&Row> = rows.iter().filter(|row| row.kind == Kind::Summary && row.arm == arm.label).collect();
        plateau(&own).map(|n| format!(" {}", saturated(run, n)))
    });
    let limit = limit.unwrap_or_default();
    let caption = "Each line is one strategy, each point one number of backends N, over all blocks as in the tables. The last panel is the line \
                   chart that the course's sheet asks for. With any balancer the mean load is the number of requests divided by N, so \
                   it does not distinguish good balancers from bad ones. The panels for max/mean, variation and Jain's index do.";
    Some(super::plot("scaling", format!("{caption}{limit} {about}"), |width| draw(run, &rows, width)))
}

fn draw(run: &Run, rows: &[Row], width: f64) -> Scene {
    let mut scene = Scene::new(width, "What changes with the number of backends");
    let title = scene.title.clone();
    let mut y = heading(&mut scene, &title, "");
    let arms = run.manifest.arms.iter().enumerate();
    let mut entries: Vec<_> =
        arms.map(|(number, arm)| (arm.label.as_str(), Sample::Points(Paint::Series(number)))).collect();
    entries.push(("perfect balance", Sample::Line(Paint::Muted, Dash::Dotted)));
    y = legend(&mut scene, y, &entries);

    let columns = if is_narrow(width) { 1 } else { 3 };
    let (gutter, right) = (44.0, 20.0);
    let cell_width = (width - EDGE) / f64::from(columns);
    let height = 130.0;
    let title_room = 24.0;
    for (number, small) in (0..).zip(&PANELS) {
        let (column, row) = (number % columns, number / columns);
        let left = EDGE + f64::from(column) * cell_width + gutter;
        let top = y + f64::from(row) * (title_room + ABOVE + height + BELOW + 8.0) + title_room + ABOVE;
        scene.text(Text::new(left - gutter, top - ABOVE - 8.0, small.title).bold().size(LABEL));
        panel(&mut scene, (run, rows), small, (left, top), (cell_width - gutter - right, height));
        scene.height = top + height + BELOW;
    }
    scene
}

fn panel(scene: &mut Scene, (run, rows): (&Run, &[Row]), small: &Small, at: (f64, f64), size: (f64, f64)) {
    let sizes = sizes(run);
    let value = |arm: &str, n: u32| -> Option<Spread> {
        let of = |kind| rows.iter().filter(move |row| row.kind == kind && row.arm == arm && row.n == n);
        let (all, blocks) = (of(Kind::Summary).find_map(small.read), of(Kind::Block).filter_map(small.read));
        let blocks = spread(&blocks.collect::<Vec<_>>());
        let mean = all.or(blocks.map(|blocks| blocks.mean))?;
        Some(Spread { mean, range: blocks.and_then(|blocks| blocks.range) })
    };
    let lines: Vec<Vec<(u32, Spread)>> = run
        .manifest
        .arms
        .iter()
        .map(|arm| sizes.iter().filter_map(|&n| Some((n, value(&arm.label, n)?))).collect())
        .collect();
    let top = lines.iter().flatten().map(|(_, it)| it.range.map_or(it.mean, |range| range.1)).fold(0.0, f64::max);
    let top = top.max(small.ideal.unwrap_or(0.0));
    let (first, last) = (sizes.first().copied().unwrap_or(1), sizes.last().copied().unwrap_or(2));
    let panel = Panel {
        left: at.0,
        top: at.1,
        width: size.0,
        height: size.1,
        x: Scale::Linear { from: f64::from(first) - 0.3, to: f64::from(last) + 0.3 },
        y: Scale::from_zero(if top < 0.05 { 0.1 } else { top }),
    };
    let write: fn(f64) -> String = if panel.y.ends().1 < 10.0 { format::plain } else { format::short };
    panel.y_axis(scene, Quantity { name: small.name, unit: small.unit }, write);
    panel.x_ticks(scene, &sizes.iter().map(|&n| (f64::from(n), n.to_string())).collect::<Vec<_>>());
    panel.x_label(scene, Quantity { name: "backends N", unit: "count" });
    if let Some(ideal) = small.ideal {
        let y = panel.at_y(ideal);
        let points = [(panel.left, y), (panel.right(), y)];
        scene.dashed(points, Paint::Muted, 1.5, Dash::Dotted);
    }
    for (arm, line) in lines.iter().enumerate() {
        let paint = Paint::Series(arm);
        // arms with the same values are drawn beside each other
        let aside = (arm as f64 - (lines.len() as f64 - 1.0) / 2.0) * 3.0;
        let at = |n: u32, value: f64| (panel.at_x(f64::from(n)) + aside, panel.at_y(value));
        scene.line(line.iter().map(|(n, it)| at(*n, it.mean)).collect::<Vec<_>>(), paint, 2.0);
        for (n, it) in line {
            if let Some((low, high)) = it.range {
                scene.line([at(*n, low), at(*n, high)], paint, 1.5);
            }
            scene.dot(at(*n, it.mean), 3.5, paint);
        }
    }
}
