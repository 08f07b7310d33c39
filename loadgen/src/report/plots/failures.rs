//! The share of requests without a good response: each arm's interval over the blocks, and the share of each block.

use super::{Plot, is_narrow};
use crate::model::{Comparison, Conclusion, Run, TypicalShare};
use crate::report::format;
use crate::report::picture::axes::{BELOW, EDGE, Panel, Quantity, Sample, heading, legend};
use crate::report::picture::font;
use crate::report::picture::scale::Scale;
use crate::report::picture::scene::{Anchor, LABEL, Paint, SMALL, Scene, Text};

/// The shares of an arm, 0..1.
struct Arm<'a> {
    label: &'a str,
    paint: Paint,
    of_blocks: Vec<f64>,
    typical: TypicalShare,
}

const ROW: f64 = 38.0;
/// The interval lies above the dots of the blocks.
const APART: f64 = 7.0;

/// `None` in a comparison that is about something else, and if counts are void.
pub(super) fn plot(run: &Run) -> Option<Plot> {
    let comparison = run.results.comparison.as_ref().filter(|it| it.conclusion() == Conclusion::Counts)?;
    let arms: Vec<Arm<'_>> = arms(run, comparison);
    if arms.is_empty() || !run.manifest.supports(Conclusion::Counts) {
        return None;
    }
    let few = match arms.iter().all(|arm| arm.typical.is_sound) {
        true => "",
        false => " Too few blocks: an interval of that confidence needs more blocks; this one is only a guide.",
    };
    let caption = format!(
        "The share of the scheduled requests without a good response: failed, status 400 or above, or not sent in time. Each small dot is one \
         block. The large dot is the typical share of a block; the line is its interval, of {} confidence for each arm by itself. Less is \
         better.{few}",
        format::percent(comparison.confidence).replace(".0\u{a0}%", "\u{a0}%"),
    );
    Some(super::plot("bad-responses", caption, |width| draw(&arms, width)))
}

fn arms<'a>(run: &'a Run, comparison: &Comparison) -> Vec<Arm<'a>> {
    let arm = |(number, arm): (usize, &'a crate::model::Arm)| {
        let typical = comparison.failures_of(&arm.label)?.in_a_block?;
        let counted = run.results.cells_of(&arm.label).filter(|cell| cell.block <= comparison.blocks);
        let share = |due: u64, good: u64| (due > 0).then(|| 1.0 - good as f64 / due as f64);
        let of_blocks = counted.filter_map(|cell| share(cell.requests + cell.unsent, cell.good())).collect();
        Some(Arm { label: &arm.label, paint: Paint::Series(number), of_blocks, typical })
    };
    run.manifest.arms.iter().enumerate().filter_map(arm).collect()
}

/// For example `8.35 % [7.90 %, 8.80 %]`.
fn words(typical: &TypicalShare, is_narrow: bool) -> String {
    let [share, low, high] = [typical.share, typical.low, typical.high].map(format::percent);
    if is_narrow { share } else { format!("{share} [{low}, {high}]") }
}

fn draw(arms: &[Arm<'_>], width: f64) -> Scene {
    let title = "Requests without a good response";
    let mut scene = Scene::new(width, title);
    let y = heading(&mut scene, title, "");
    let samples =
        [("one block", Sample::Dot(Paint::Muted)), ("typical block with interval", Sample::Interval(Paint::Muted))];
    let top = legend(&mut scene, y, &samples) + 4.0;
    let is_narrow = is_narrow(width);
    let names = arms.iter().map(|arm| font::width(arm.label, LABEL, false)).fold(0.0, f64::max);
    let names = names.min(if is_narrow { 112.0 } else { 200.0 });
    let numbers = arms.iter().map(|arm| font::width(&words(&arm.typical, is_narrow), SMALL, false)).fold(0.0, f64::max);
    let most = arms.iter().flat_map(|arm| arm.of_blocks.iter().chain([&arm.typical.high])).copied();
    let (left, height) = (EDGE + names + 14.0, ROW * arms.len() as f64);
    let panel = Panel {
        left,
        top,
        width: width - EDGE - 16.0 - left - numbers,
        height,
        x: Scale::from_zero(100.0 * most.fold(0.0, f64::max)),
        y: Scale::Linear { from: 0.0, to: 1.0 },
    };
    for (number, arm) in (0..).zip(arms) {
        let y = top + ROW * (f64::from(number) + 0.5);
        scene.text(Text::new(EDGE, y + 4.0, font::fit(arm.label, LABEL, false, names)));
        for share in &arm.of_blocks {
            scene.series_dot((panel.at_x(100.0 * share), y + APART), 2.5, Paint::Muted);
        }
        let [low, share, high] =
            [arm.typical.low, arm.typical.share, arm.typical.high].map(|it| panel.at_x(100.0 * it));
        let paint = if arm.typical.is_sound { arm.paint } else { Paint::Muted };
        scene.whisker(y - APART, low, high, paint);
        scene.dot((share, y - APART), 4.5, paint);
        let numbers = Text::new(width - EDGE, y + 4.0, words(&arm.typical, is_narrow));
        scene.text(numbers.size(SMALL).anchor(Anchor::End));
    }
    let name = if is_narrow { "no good response" } else { "share of requests without a good response" };
    panel.x_axis(&mut scene, Quantity { name, unit: "%" }, format::plain);
    scene.height = panel.bottom() + BELOW;
    scene
}
