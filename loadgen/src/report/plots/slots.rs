//! The course's ring laid out flat: where requests begin, where virtual servers lie, and whose each slot is.

use super::{Plot, is_narrow};
use crate::model::Run;
use crate::report::format;
use crate::report::picture::axes::{ABOVE, BELOW, EDGE, Panel, Quantity, Sample, heading, legend};
use crate::report::picture::scale::Scale;
use crate::report::picture::scene::{Paint, SMALL, Scene, Text};
use crate::report::ring::{self, Ring};
use crate::report::words::uneven_pools;

const STRIP: f64 = 22.0;

/// One for each arm whose skew its options explain, named `slots-` and the arm's number.
pub(super) fn plots(run: &Run) -> Vec<Plot> {
    let of = |(number, ids): (usize, Vec<String>)| {
        let ring = ring::of(&run.manifest.arms[number], &ids)?;
        let caption = "The array of slots from left to right; a request goes right to the next virtual server, and from the end round to \
                       the beginning. Upper strip: the virtual servers. Lower strip: whom a request that begins there goes to. The bars \
                       above are how many of the 900,000 ids begin at each slot.";
        let title = format!("The slots of {}", run.manifest.arms[number].label);
        Some(super::plot(format!("slots-{}", number + 1), caption, |width| draw(&title, &ring, &ids, width)))
    };
    uneven_pools(run).into_iter().filter_map(of).collect()
}

fn draw(title: &str, ring: &Ring, ids: &[String], width: f64) -> Scene {
    let mut scene = Scene::new(width, title);
    let y = heading(&mut scene, title, "");
    let words: Vec<String> =
        ids.iter().zip(&ring.shares).map(|(id, share)| format!("{id}: {}", format::percent(*share))).collect();
    let entries: Vec<(&str, Sample)> =
        words.iter().enumerate().map(|(at, word)| (word.as_str(), Sample::Bar(Paint::Series(at)))).collect();
    let y = legend(&mut scene, y, &entries);
    let left = EDGE + 44.0;
    let most = ring.begins.iter().copied().max().unwrap_or(1) as f64;
    let bars = Panel {
        left,
        top: y + ABOVE,
        width: width - EDGE - 8.0 - left,
        height: if is_narrow(width) { 100.0 } else { 120.0 },
        x: Scale::Linear { from: 0.0, to: ring.slots as f64 },
        y: Scale::from_zero(most),
    };
    bars.y_axis(&mut scene, Quantity { name: "ids that begin at a slot", unit: "count" }, format::short);
    let slot_width = bars.width / ring.slots as f64;
    for (slot, &count) in ring.begins.iter().enumerate().filter(|(_, count)| **count > 0) {
        let (x, top) = (bars.at_x(slot as f64 + 0.5), bars.at_y(count as f64));
        scene.line([(x, bars.bottom()), (x, top)], Paint::Series(ring.owner(slot)), slot_width.clamp(0.8, 12.0));
    }
    bars.x_ticks(&mut scene, &[]);

    let strip = |number: f64| bars.bottom() + 26.0 + number * (STRIP + 22.0);
    scene.text(Text::new(left, strip(0.0) - 6.0, "virtual servers").size(SMALL).paint(Paint::Muted));
    scene.rect((left, strip(0.0)), (bars.width, STRIP), Paint::Band, 0.15);
    for &(slot, owner) in &ring.points {
        let x = bars.at_x(slot as f64 + 0.5);
        let width = slot_width.clamp(1.0, 12.0);
        scene.line([(x, strip(0.0)), (x, strip(0.0) + STRIP)], Paint::Series(owner), width);
    }
    scene.text(Text::new(left, strip(1.0) - 6.0, "whom requests go to").size(SMALL).paint(Paint::Muted));
    for (from, to, owner) in arcs(ring) {
        let (x, end) = (bars.at_x(from as f64), bars.at_x(to as f64));
        scene.rect((x, strip(1.0)), (end - x, STRIP), Paint::Series(owner), 1.0);
    }
    let axis = Panel { top: strip(1.0), height: STRIP + 4.0, ..bars };
    axis.x_axis(&mut scene, Quantity { name: "number of the slot", unit: "name" }, format::plain);
    scene.height = axis.bottom() + BELOW;
    scene
}

/// Stretches of slots of one owner: from, to (exclusive), backend.
fn arcs(ring: &Ring) -> Vec<(usize, usize, usize)> {
    let mut arcs: Vec<(usize, usize, usize)> = Vec::new();
    for slot in 0..ring.slots {
        let owner = ring.owner(slot);
        match arcs.last_mut() {
            Some(arc) if arc.2 == owner => arc.1 = slot + 1,
            _ => arcs.push((slot, slot + 1, owner)),
        }
    }
    arcs
}
