//! A ring as a straight strip: the positions of its points, the share of keys of each point, and the backend of each
//! arc.

use super::{Plot, is_narrow};
use crate::model::{Ring, Run};
use crate::report::format;
use crate::report::picture::axes::{ABOVE, BELOW, EDGE, Panel, Quantity, Sample, heading, legend};
use crate::report::picture::scale::Scale;
use crate::report::picture::scene::{Paint, SMALL, Scene, Text};
use crate::report::words::uneven_pools;

const STRIP: f64 = 22.0;
/// The distance between the bars and the first strip, and between the strips.
const GAP: f64 = 26.0;

/// One for each uneven arm whose strategy described its ring, named `ring-` and the arm's number.
pub(super) fn plots(run: &Run) -> Vec<Plot> {
    let of = |(number, ids): (usize, Vec<String>)| {
        let arm = &run.manifest.arms[number];
        let ring = run.results.ring(&arm.label, &ids).filter(|ring| !ring.arcs.is_empty())?;
        let caption = "The circle laid out from left to right. A request goes right to the next point; from the end it goes to the first \
                       point. Bars: the share of all keys that goes to each point. Upper strip: the points. Lower strip: the backend \
                       that a request goes to from there.";
        let title = format!("The ring of {}", arm.label);
        Some(super::plot(format!("ring-{}", number + 1), caption, |width| draw(&title, ring, width)))
    };
    uneven_pools(run).into_iter().filter_map(of).collect()
}

fn draw(title: &str, ring: &Ring, width: f64) -> Scene {
    let mut scene = Scene::new(width, title);
    let y = heading(&mut scene, title, "");
    let of_all = ring.backends.iter().zip(&ring.shares);
    let words: Vec<String> = of_all.map(|(id, share)| format!("{id}: {}", format::percent(*share))).collect();
    let entries: Vec<(&str, Sample)> =
        words.iter().enumerate().map(|(at, word)| (word.as_str(), Sample::Bar(Paint::Series(at)))).collect();
    let y = legend(&mut scene, y, &entries);
    let left = EDGE + 44.0;
    let most = ring.arcs.iter().map(|arc| arc.share).fold(0.0, f64::max);
    let bars = Panel {
        left,
        top: y + ABOVE,
        width: width - EDGE - 8.0 - left,
        height: if is_narrow(width) { 100.0 } else { 120.0 },
        x: Scale::Linear { from: 0.0, to: 100.0 },
        y: Scale::from_zero(100.0 * most),
    };
    bars.y_axis(&mut scene, Quantity { name: "keys that go to a point", unit: "%" }, format::plain);
    let line = (bars.width / ring.arcs.len() as f64 / 4.0).clamp(1.0, 4.0);
    for arc in ring.arcs.iter().filter(|arc| arc.share > 0.0) {
        let (x, top) = (bars.at_x(100.0 * arc.end), bars.at_y(100.0 * arc.share));
        scene.line([(x, bars.bottom()), (x, top)], Paint::Series(arc.backend), line);
    }
    bars.x_ticks(&mut scene, &[]);
    strips(&mut scene, ring, &bars, line);
    scene
}

/// Draws the two strips below the bars and the axis below them.
fn strips(scene: &mut Scene, ring: &Ring, bars: &Panel, line: f64) {
    let (points, owners) = (bars.bottom() + GAP, bars.bottom() + 2.0 * GAP + STRIP - 4.0);
    scene.text(Text::new(bars.left, points - 6.0, "points").size(SMALL).paint(Paint::Muted));
    scene.rect((bars.left, points), (bars.width, STRIP), Paint::Band, 0.15);
    scene.text(Text::new(bars.left, owners - 6.0, "backend that requests go to").size(SMALL).paint(Paint::Muted));
    for (number, arc) in ring.arcs.iter().enumerate() {
        let (x, paint) = (bars.at_x(100.0 * arc.end), Paint::Series(arc.backend));
        scene.line([(x, points), (x, points + STRIP)], paint, line);
        let (begin, length) = ring.span(number);
        for (from, to) in [(begin, (begin + length).min(1.0)), (0.0, begin + length - 1.0)] {
            let (x, end) = (bars.at_x(100.0 * from), bars.at_x(100.0 * to));
            if end > x {
                scene.rect((x, owners), (end - x, STRIP), paint, 1.0);
            }
        }
    }
    let axis = Panel { top: owners, height: STRIP + 4.0, ..*bars };
    axis.x_axis(scene, Quantity { name: "position on the circle", unit: "%" }, format::plain);
    scene.height = axis.bottom() + BELOW;
}
