//! The verdicts as a picture: each arm's ratio to the baseline with its interval, and the zone in which differences do not matter.

use super::{Plot, is_narrow};
use crate::model::{Comparison, Conclusion, Load, Ratio, Run, Verdict};
use crate::report::format;
use crate::report::picture::axes::{ABOVE, BELOW, EDGE, Panel, Quantity, Sample, heading, legend};
use crate::report::picture::font;
use crate::report::picture::scale::{Scale, Tick};
use crate::report::picture::scene::{Anchor, Dash, LABEL, Paint, Role, SMALL, Scene, Text};
use crate::report::words::{is_by_load, judged, measure_name};

const ROW: f64 = 26.0;
const HEADING: f64 = 28.0;

/// Nothing without a comparison that may be believed.
pub(super) fn plot(run: &Run) -> Option<Plot> {
    let comparison = run.results.comparison.as_ref().filter(|_| run.manifest.supports(Conclusion::Latency))?;
    let told: Vec<&Ratio> = comparison.ratios.iter().filter(|ratio| is_told(run, comparison, ratio)).collect();
    if told.is_empty() {
        return None;
    }
    let apart = match told.iter().any(|ratio| ratio.verdict == Verdict::NotComparable) {
        true => {
            " Not comparable, and grey: the two answered different requests, so that their ratio says nothing of which is better."
        }
        false => "",
    };
    let few = match told.iter().all(|ratio| ratio.is_sound) {
        true => "",
        false => {
            " Too few blocks, and grey: for an interval of that confidence it takes more; this one is for orientation."
        }
    };
    let beside = match told.iter().all(|ratio| judged(comparison).contains(&ratio.measure.as_str())) {
        true => "",
        false => " Measures without a verdict are there for orientation: Holm's correction does not cover them.",
    };
    let caption = format!(
        "Each dot is the typical ratio of an arm's value to that of {} in the same block (so it need not be the ratio of the two values in the tables, \
         which put all blocks together); the line is its interval, of {} confidence at least. On 1 \
         they are equal; in the grey zone (±{}) a difference does not matter. Better or worse: the line does not reach 1 and the dot \
         lies outside the zone. Equivalent: the whole line lies in the zone. All else is undecided.{apart}{few}{beside}",
        comparison.baseline,
        format::percent(comparison.confidence).replace(".0\u{a0}%", "\u{a0}%"),
        format::percent(comparison.equivalence).replace(".00\u{a0}%", "\u{a0}%").replace(".0\u{a0}%", "\u{a0}%"),
    );
    Some(super::plot("verdicts", caption, |width| draw(run, comparison, &told, width)))
}

/// Whether a ratio is worth telling. Throughput of an open loop is what was asked for, by construction, unless an arm fails some of it. And
/// where an arm shares by load, uneven counts are its work: they say nothing of how even it is.
fn is_told(run: &Run, comparison: &Comparison, ratio: &Ratio) -> bool {
    let arms = [ratio.arm.as_str(), comparison.baseline.as_str()];
    match ratio.measure.as_str() {
        "rps" => matches!(run.manifest.load, Load::Closed { .. }) || arms.iter().any(|arm| misses(run, arm)),
        "max_over_mean" => !arms.iter().any(|arm| is_by_load(run, arm)),
        _ => true,
    }
}

/// Whether more than one of a hundred requests that were due had no good answer.
fn misses(run: &Run, arm: &str) -> bool {
    let (good, due) =
        run.results.cells_of(arm).fold((0, 0), |sum, cell| (sum.0 + cell.good(), sum.1 + cell.requests + cell.unsent));
    (good as f64) < 0.99 * due as f64
}

/// Those with a verdict first, in the order of the table; then the others as they come.
fn measures<'a>(comparison: &'a Comparison, told: &[&'a Ratio]) -> Vec<&'a str> {
    let mut measures = judged(comparison);
    for ratio in told {
        if !measures.contains(&ratio.measure.as_str()) {
            measures.push(&ratio.measure);
        }
    }
    measures.retain(|measure| told.iter().any(|ratio| ratio.measure == *measure));
    measures
}

fn interval(ratio: &Ratio) -> String {
    format!(
        "{} [{}, {}]",
        format::decimals(ratio.ratio, 2),
        format::decimals(ratio.low, 2),
        format::decimals(ratio.high, 2)
    )
}

fn verdict(ratio: &Ratio) -> &'static str {
    match ratio.verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::Equivalent => "equivalent",
        Verdict::Undecided if !ratio.is_sound => "too few blocks",
        Verdict::Undecided => "undecided",
        Verdict::NotComparable => "not comparable",
    }
}

fn draw(run: &Run, comparison: &Comparison, told: &[&Ratio], width: f64) -> Scene {
    let title = format!("Compared with {}", comparison.baseline);
    let mut scene = Scene::new(width, &title);
    let y = heading(&mut scene, &title, "");
    let y = legend(
        &mut scene,
        y,
        &[("ratio with interval", Sample::Interval(Paint::Muted)), ("no difference that matters", Sample::Zone)],
    );

    let narrow = is_narrow(width);
    let names = told.iter().map(|ratio| font::width(&ratio.arm, LABEL, false)).fold(0.0, f64::max);
    let names = names.min(if narrow { 112.0 } else { 200.0 });
    let judged = judged(comparison);
    let is_judged = |ratio: &Ratio| judged.contains(&ratio.measure.as_str());
    let right = |ratio: &Ratio| {
        let numbers = if narrow { format::decimals(ratio.ratio, 2) } else { interval(ratio) };
        if is_judged(ratio) { format!("{numbers}  {}", verdict(ratio)) } else { numbers }
    };
    let words = told.iter().map(|ratio| font::width(&right(ratio), SMALL, false)).fold(0.0, f64::max);
    let measures = measures(comparison, told);
    let rows: f64 = measures
        .iter()
        .map(|measure| HEADING + ROW * told.iter().filter(|it| it.measure == *measure).count() as f64)
        .sum();
    let finite = |value: f64| value.is_finite() && value > 0.0;
    let ends = || told.iter().flat_map(|it| [it.low, it.high]).filter(|value| finite(*value));
    let low = ends().fold(1.0 - 2.0 * comparison.equivalence, f64::min).max(0.05);
    let high = ends().fold(1.0 + 2.0 * comparison.equivalence, f64::max).min(20.0);
    let left = EDGE + names + 14.0;
    let panel = Panel {
        left,
        top: y + ABOVE,
        width: width - EDGE - words - 16.0 - left,
        height: rows,
        x: Scale::log_around(low, high),
        y: Scale::Linear { from: 0.0, to: 1.0 },
    };
    let (from, to) = (panel.at_x(1.0 / (1.0 + comparison.equivalence)), panel.at_x(1.0 + comparison.equivalence));
    let one = panel.at_x(1.0);
    let small = |x: f64, words: &str| Text::new(x, panel.top - 11.0, words).size(SMALL).paint(Paint::Muted);
    scene.text(small(EDGE, "arm").role(Role::AxisLabel("name".into())));
    let column = if narrow { "ratio  verdict" } else { "ratio [interval]  verdict" };
    scene.text(small(width - EDGE, column).anchor(Anchor::End));
    let mut at = panel.top;
    for measure in measures {
        let own: Vec<&Ratio> = told.iter().copied().filter(|it| it.measure == measure).collect();
        let direction = if own[0].more_is_better { "more is better" } else { "less is better" };
        let name = measure_name(measure);
        let apart = if is_judged(own[0]) { "" } else { " (no verdict)" };
        scene.text(Text::new(EDGE, at + 19.0, format!("{name}: {direction}{apart}")).bold());
        at += HEADING;
        // below the heading, whose words reach further than the names
        let end = at + ROW * own.len() as f64;
        scene.rect((from, at), (to - from, end - at), Paint::Band, 0.22);
        scene.dashed([(one, at), (one, end)], Paint::Muted, 1.2, Dash::Dashed);
        for ratio in own {
            let y = at + ROW / 2.0;
            let arm = run.manifest.arms.iter().position(|arm| arm.label == ratio.arm).unwrap_or(0);
            scene.text(Text::new(EDGE, y + 4.0, font::fit(&ratio.arm, LABEL, false, names)));
            let place =
                |value: f64| panel.at_x(if value.is_nan() { 1.0 } else { value }).clamp(panel.left, panel.right());
            let paint = if ratio.verdict == Verdict::NotComparable || !ratio.is_sound || !is_judged(ratio) {
                Paint::Muted
            } else {
                Paint::Series(arm)
            };
            scene.whisker(y, place(ratio.low), place(ratio.high), paint);
            scene.dot((place(ratio.ratio), y), 4.5, paint);
            scene.text(Text::new(width - EDGE, y + 4.0, right(ratio)).size(SMALL).anchor(Anchor::End));
            at += ROW;
        }
    }
    let wanted = ((panel.width / 50.0) as usize).clamp(3, 8);
    let ticks: Vec<Tick> = panel.x.ticks(wanted).into_iter().map(|value| (value, format::plain(value))).collect();
    panel.x_ticks(&mut scene, &ticks);
    let name = if narrow { "ratio to the baseline" } else { "ratio to the baseline (1 = equal)" };
    panel.x_label(&mut scene, Quantity { name, unit: "ratio" });
    scene.height = panel.bottom() + BELOW;
    scene
}
