//! Requests per backend, with the band of expected counts: the bar chart of A1, and for each N that of A2.

use super::{Plot, Spread, about_error_bars, is_narrow, plot, sizes, spread};
use crate::model::{Band, Cell, Run};
use crate::report::format;
use crate::report::picture::axes::{ABOVE, BELOW, EDGE, Panel, Quantity, Sample, heading, legend};
use crate::report::picture::font;
use crate::report::picture::scale::Scale;
use crate::report::picture::scene::{Anchor, LABEL, Paint, SMALL, Scene, Text};
use crate::report::rows::groups;

struct Bar {
    id: String,
    requests: Spread,
    share: f64,
    band: Option<Band>,
}

/// Bars under one heading: an arm, or a number of backends.
struct Group {
    heading: String,
    paint: Paint,
    bars: Vec<Bar>,
}

const ROW: f64 = 27.0;
const BAR: f64 = 13.0;
const HEADING: f64 = 26.0;

/// One plot for each arm if N varies, else one for all arms.
pub(super) fn plots(run: &Run) -> Vec<Plot> {
    let groups = groups(run);
    if groups.is_empty() {
        return Vec::new();
    }
    let about = about_error_bars(groups.iter().max_by_key(|cells| cells.len()).map_or(&[], Vec::as_slice));
    let has_bands = groups.iter().flatten().flat_map(|cell| &cell.backends).any(|backend| backend.expected.is_some());
    let band = if has_bands {
        "The grey band contains the count in 95 of 100 runs if the strategy's declaration is true; the thin line in it is the \
         expected count."
    } else {
        "The strategy declares no shares, so there is no band of expected counts."
    };
    let caption = format!("Responses of each backend. {band} {about}");
    if sizes(run).len() < 2 {
        let groups: Vec<Group> = groups.iter().map(|cells| group(run, cells, cells[0].arm.clone())).collect();
        let mut plots = vec![plot("balance", caption, |width| draw(&groups, "Requests per backend", width))];
        // one arm needs no heading over its bars
        if groups.len() == 1 {
            let title = format!("Requests per backend: {}", groups[0].heading);
            let bare =
                [Group { heading: String::new(), ..group(run, &super::super::rows::groups(run)[0], String::new()) }];
            plots[0].wide = draw(&bare, &title, super::WIDE);
            plots[0].narrow = draw(&bare, &title, super::NARROW);
        }
        return plots;
    }
    let of_arm = |(number, arm): (usize, &crate::model::Arm)| {
        let own = groups.iter().filter(|cells| cells[0].arm == arm.label);
        let own: Vec<Group> = own.map(|cells| group(run, cells, format!("N = {}", cells[0].n))).collect();
        let title = format!("Requests per backend at each N: {}", arm.label);
        let name = if run.manifest.arms.len() == 1 { "balance".into() } else { format!("balance-{}", number + 1) };
        (!own.is_empty()).then(|| plot(name, caption.clone(), |width| draw(&own, &title, width)))
    };
    run.manifest.arms.iter().enumerate().filter_map(of_arm).collect()
}

fn group(run: &Run, cells: &[&Cell], heading: String) -> Group {
    let arm = run.manifest.arms.iter().position(|arm| arm.label == cells[0].arm).unwrap_or(0);
    let mut ids: Vec<&str> = Vec::new();
    for backend in cells.iter().flat_map(|cell| &cell.backends) {
        if !ids.contains(&backend.id.as_str()) {
            ids.push(&backend.id);
        }
    }
    let all: u64 = cells.iter().flat_map(|cell| &cell.backends).map(|backend| backend.requests).sum();
    let bar = |id: &str| {
        let own: Vec<_> = cells.iter().flat_map(|cell| &cell.backends).filter(|backend| backend.id == id).collect();
        // blocks differ in size by chance, so counts are scaled to a mean block before they are compared with each
        // other and with a band
        let per_block = all as f64 / cells.len().max(1) as f64;
        let of_block = |cell: &&Cell| cell.backends.iter().map(|backend| backend.requests).sum::<u64>().max(1) as f64;
        let requests: Vec<f64> = cells
            .iter()
            .flat_map(|cell| {
                let scale = per_block / of_block(cell);
                cell.backends.iter().filter(|backend| backend.id == id).map(move |it| it.requests as f64 * scale)
            })
            .collect();
        let counted: u64 = own.iter().map(|backend| backend.requests).sum();
        let bands: Option<Vec<Band>> = own.iter().map(|backend| backend.expected).collect();
        Some(Bar {
            id: id.to_owned(),
            requests: spread(&requests)?,
            share: if all == 0 { 0.0 } else { counted as f64 / all as f64 },
            band: bands.map(|bands| mean_band(&bands)),
        })
    };
    Group { heading, paint: Paint::Series(arm), bars: ids.into_iter().filter_map(bar).collect() }
}

/// The mean of the blocks' bands.
fn mean_band(bands: &[Band]) -> Band {
    let mean = |read: fn(&Band) -> f64| bands.iter().map(read).sum::<f64>() / bands.len().max(1) as f64;
    Band { low: mean(|band| band.low), expected: mean(|band| band.expected), high: mean(|band| band.high) }
}

fn value_label(bar: &Bar) -> String {
    format!("{} · {}", format::count(bar.requests.mean.round() as u64), format::percent(bar.share))
}

fn draw(groups: &[Group], title: &str, width: f64) -> Scene {
    let mut scene = Scene::new(width, title);
    let bars = || groups.iter().flat_map(|group| &group.bars);
    let has_ranges = bars().any(|bar| bar.requests.range.is_some());
    let per_block = if has_ranges { "mean per block · share of all" } else { "count · share of all" };
    let y = heading(&mut scene, title, "");
    let y = draw_legend(&mut scene, y, groups, has_ranges);

    let text_room = bars().map(|bar| font::width(&bar.id, LABEL, false)).fold(0.0, f64::max).min(width * 0.3);
    let value_room = bars().map(|bar| font::width(&value_label(bar), SMALL, false)).fold(0.0, f64::max);
    let top = bars()
        .flat_map(|bar| {
            [bar.requests.mean, bar.requests.range.map_or(0.0, |it| it.1), bar.band.map_or(0.0, |it| it.high)]
        })
        .fold(1.0, f64::max);
    let rows: f64 = groups
        .iter()
        .map(|group| group.bars.len() as f64 * ROW + if group.heading.is_empty() { 0.0 } else { HEADING })
        .sum();
    let left = EDGE + text_room + 10.0;
    let panel = Panel {
        left,
        top: y + ABOVE,
        width: width - EDGE - value_room - 12.0 - left,
        height: rows,
        x: Scale::from_zero(top),
        y: Scale::Linear { from: 0.0, to: 1.0 },
    };
    let column = if is_narrow(width) { "count · share" } else { per_block };
    scene.text(Text::new(width - EDGE, panel.top - 11.0, column).size(SMALL).anchor(Anchor::End).paint(Paint::Muted));
    scene.text(
        Text::new(EDGE, panel.top - 11.0, "backend")
            .size(SMALL)
            .paint(Paint::Muted)
            .role(crate::report::picture::scene::Role::AxisLabel("name".into())),
    );
    let ticks = panel.x.ticks(((panel.width / 80.0) as usize).clamp(2, 8));
    let mut at = panel.top;
    for group in groups {
        if !group.heading.is_empty() {
            scene.text(Text::new(EDGE, at + 18.0, font::fit(&group.heading, LABEL, true, width - 2.0 * EDGE)).bold());
            at += HEADING;
        }
        // a line through a heading would look like strike-through
        for x in ticks.iter().map(|value| panel.at_x(*value)) {
            scene.line([(x, at), (x, at + group.bars.len() as f64 * ROW)], Paint::Grid, 1.0);
        }
        for bar in &group.bars {
            draw_bar(&mut scene, &panel, bar, group.paint, at + ROW / 2.0, text_room);
            at += ROW;
        }
    }
    let name = if has_ranges { "requests per block" } else { "requests" };
    let ticks: Vec<(f64, String)> = ticks.into_iter().map(|value| (value, format::short(value))).collect();
    panel.x_ticks(&mut scene, &ticks);
    panel.x_label(&mut scene, Quantity { name, unit: "count" });
    scene.height = panel.bottom() + BELOW;
    scene
}

fn draw_bar(scene: &mut Scene, panel: &Panel, bar: &Bar, paint: Paint, y: f64, text_room: f64) {
    scene.text(Text::new(EDGE, y + 4.0, font::fit(&bar.id, LABEL, false, text_room)));
    let end = panel.at_x(bar.requests.mean);
    scene.bar((panel.left, y - BAR / 2.0), ((end - panel.left).max(0.5), BAR), paint);
    if let Some(band) = bar.band {
        let (low, high) = (panel.at_x(band.low.max(0.0)), panel.at_x(band.high));
        // an exact expectation would be too thin to see
        let (low, high) =
            if high - low < 4.0 { ((low + high) / 2.0 - 2.0, (low + high) / 2.0 + 2.0) } else { (low, high) };
        scene.rect((low, y - ROW / 2.0 + 2.0), (high - low, ROW - 4.0), Paint::Band, 0.45);
        let x = panel.at_x(band.expected);
        scene.line([(x, y - ROW / 2.0 + 2.0), (x, y + ROW / 2.0 - 2.0)], Paint::Ink, 1.2);
    }
    if let Some((low, high)) = bar.requests.range {
        scene.whisker(y, panel.at_x(low), panel.at_x(high), Paint::Ink);
    }
    let label = Text::new(scene.width - EDGE, y + 4.0, value_label(bar));
    scene.text(label.size(SMALL).anchor(Anchor::End));
}

fn draw_legend(scene: &mut Scene, y: f64, groups: &[Group], has_ranges: bool) -> f64 {
    let has_bands = groups.iter().flat_map(|group| &group.bars).any(|bar| bar.band.is_some());
    let mut entries = vec![("counted", Sample::Bar(groups[0].paint))];
    if has_bands {
        entries.push(("expected, 95 of 100 runs", Sample::Expected));
    }
    if has_ranges {
        entries.push(("lowest to highest block", Sample::Range));
    }
    legend(scene, y, &entries)
}
