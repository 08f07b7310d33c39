//! The verdicts as a picture: each arm's ratio to the baseline with its interval, and the zone in which differences do
//! not matter.

use super::{Plot, is_narrow};
use crate::model::{Comparison, Conclusion, GOOD_SHARE, Load, Ratio, Run, Verdict};
use crate::report::format;
use crate::report::picture::axes::{ABOVE, BELOW, EDGE, Panel, Quantity, Sample, heading, legend};
use crate::report::picture::font;
use crate::report::picture::scale::{Scale, Tick};
use crate::report::picture::scene::{Anchor, Dash, LABEL, Paint, Role, SMALL, Scene, Text};
use crate::report::words::{is_by_load, judged, measure_name};

const ROW: f64 = 26.0;
const HEADING: f64 = 28.0;

/// `None` without a comparison, and if the conclusion of its verdicts is void.
pub(super) fn plot(run: &Run) -> Option<Plot> {
    let comparison = run.results.comparison.as_ref().filter(|it| run.manifest.supports(it.conclusion()))?;
    let told: Vec<&Ratio> = comparison.ratios.iter().filter(|ratio| is_told(run, comparison, ratio)).collect();
    if told.is_empty() {
        return None;
    }
    let apart = match told.iter().any(|ratio| ratio.verdict == Verdict::NotComparable) {
        true => {
            " Not comparable, and grey: both have good responses to different requests, so their ratio does not say which is better."
        }
        false => "",
    };
    let few = match told.iter().all(|ratio| ratio.is_sound) {
        true => "",
        false => {
            " Too few blocks, and grey: an interval of that confidence needs more blocks; this one is only a guide."
        }
    };
    let beside = match told.iter().all(|ratio| judged(comparison).contains(&ratio.measure.as_str())) {
        true => "",
        false => " Measures without a verdict are only a guide: Holm's correction does not cover them.",
    };
    let caption = format!(
        "Each dot is the typical ratio of an arm's value to that of {} in the same block. It can differ from the ratio of the values in the \
         tables, which are over all blocks. The line is its interval, of {} confidence at least. At 1 both are equal; \
         in the grey zone (±{}) a difference does not matter. Better or worse: the line does not reach 1, and the dot \
         lies outside the zone. Equivalent: the whole line lies in the zone. Everything else is undecided.{apart}{few}{beside}",
        comparison.baseline,
        format::percent(comparison.confidence).replace(".0\u{a0}%", "\u{a0}%"),
        format::percent(comparison.equivalence).replace(".00\u{a0}%", "\u{a0}%").replace(".0\u{a0}%", "\u{a0}%"),
    );
    Some(super::plot("verdicts", caption, |width| draw(run, comparison, &told, width)))
}

/// Whether the plot shows a ratio. The throughput of an open loop is its planned rate, unless requests fail. If an arm
/// shares by load, uneven counts are intended.
fn is_told(run: &Run, comparison: &Comparison, ratio: &Ratio) -> bool {
    let arms = [ratio.arm.as_str(), comparison.baseline.as_str()];
    match ratio.measure.as_str() {
        "rps" => matches!(run.manifest.load, Load::Closed { .. }) || arms.iter().any(|arm| misses(run, arm)),
        "max_over_mean" => !arms.iter().any(|arm| is_by_load(run, arm)),
        GOOD_SHARE => true,
        _ => run.manifest.supports(Conclusion::Latency),
    }
}

/// Whether more than one in a hundred scheduled requests had no good response.
fn misses(run: &Run, arm: &str) -> bool {
    let (good, due) =
        run.results.cells_of(arm).fold((0, 0), |sum, cell| (sum.0 + cell.good(), sum.1 + cell.requests + cell.unsent));
    (good as f64) < 0.99 * due as f64
}

/// Measures with a verdict in the order of the table, then the others.
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
    let samples =
        [("ratio with interval", Sample::Interval(Paint::Muted)), ("no difference that matters", Sample::Zone)];
    let y = legend(&mut scene, y, &samples);
    let forest = Forest::new(run, comparison, told, (width, y + ABOVE));
    forest.titles(&mut scene);
    let mut top = forest.panel.top;
    for measure in &forest.measures {
        top = forest.measure(&mut scene, measure, top);
    }
    forest.axis(&mut scene);
    scene
}

/// The layout of the picture.
struct Forest<'a> {
    run: &'a Run,
    told: &'a [&'a Ratio],
    measures: Vec<&'a str>,
    /// The measures with a verdict.
    judged: Vec<&'a str>,
    /// Differences up to this one do not matter.
    equivalence: f64,
    width: f64,
    /// The width of the column of names.
    names: f64,
    panel: Panel,
}

// === impl Forest ===

impl<'a> Forest<'a> {
    fn new(run: &'a Run, comparison: &'a Comparison, told: &'a [&'a Ratio], (width, top): (f64, f64)) -> Self {
        let names = told.iter().map(|ratio| font::width(&ratio.arm, LABEL, false)).fold(0.0, f64::max);
        let names = names.min(if is_narrow(width) { 112.0 } else { 200.0 });
        let measures = measures(comparison, told);
        let rows_of = |measure: &&str| told.iter().filter(|it| it.measure == *measure).count() as f64;
        let height = measures.iter().map(|measure| HEADING + ROW * rows_of(measure)).sum();
        let finite = |value: f64| value.is_finite() && value > 0.0;
        let ends = || told.iter().flat_map(|it| [it.low, it.high]).filter(|value| finite(*value));
        let equivalence = comparison.equivalence;
        let low = ends().fold(1.0 - 2.0 * equivalence, f64::min).max(0.05);
        let high = ends().fold(1.0 + 2.0 * equivalence, f64::max).min(20.0);
        let left = EDGE + names + 14.0;
        let (x, y) = (Scale::log_around(low, high), Scale::Linear { from: 0.0, to: 1.0 });
        let panel = Panel { left, top, width: width - EDGE - 16.0 - left, height, x, y };
        let judged = judged(comparison);
        let mut forest = Self { run, told, measures, judged, equivalence, width, names, panel };
        let words = told.iter().map(|ratio| font::width(&forest.words(ratio), SMALL, false)).fold(0.0, f64::max);
        forest.panel.width -= words;
        forest
    }

    fn is_judged(&self, ratio: &Ratio) -> bool {
        self.judged.contains(&ratio.measure.as_str())
    }

    /// The numbers of a row, and its verdict.
    fn words(&self, ratio: &Ratio) -> String {
        let numbers = if is_narrow(self.width) { format::decimals(ratio.ratio, 2) } else { interval(ratio) };
        if self.is_judged(ratio) { format!("{numbers}  {}", verdict(ratio)) } else { numbers }
    }

    /// The titles of the columns.
    fn titles(&self, scene: &mut Scene) {
        let small = |x: f64, words: &str| Text::new(x, self.panel.top - 11.0, words).size(SMALL).paint(Paint::Muted);
        scene.text(small(EDGE, "arm").role(Role::AxisLabel("name".into())));
        let column = if is_narrow(self.width) { "ratio  verdict" } else { "ratio [interval]  verdict" };
        scene.text(small(self.width - EDGE, column).anchor(Anchor::End));
    }

    /// Draws the rows of one measure below `top`. Returns their lower end.
    fn measure(&self, scene: &mut Scene, measure: &str, top: f64) -> f64 {
        let own: Vec<&Ratio> = self.told.iter().copied().filter(|it| it.measure == measure).collect();
        let direction = if own[0].more_is_better { "more is better" } else { "less is better" };
        let name = measure_name(measure);
        let apart = if self.is_judged(own[0]) { "" } else { " (no verdict)" };
        scene.text(Text::new(EDGE, top + 19.0, format!("{name}: {direction}{apart}")).bold());
        // the zone begins below the heading, because the heading is wider than the names
        let (begin, end) = (top + HEADING, top + HEADING + ROW * own.len() as f64);
        let zone = [1.0 / (1.0 + self.equivalence), 1.0 + self.equivalence].map(|ratio| self.panel.at_x(ratio));
        scene.rect((zone[0], begin), (zone[1] - zone[0], end - begin), Paint::Band, 0.22);
        let one = self.panel.at_x(1.0);
        scene.dashed([(one, begin), (one, end)], Paint::Muted, 1.2, Dash::Dashed);
        for (number, ratio) in (0..).zip(own) {
            self.row(scene, ratio, begin + ROW * (f64::from(number) + 0.5));
        }
        end
    }

    fn row(&self, scene: &mut Scene, ratio: &Ratio, y: f64) {
        let panel = &self.panel;
        scene.text(Text::new(EDGE, y + 4.0, font::fit(&ratio.arm, LABEL, false, self.names)));
        let place = |value: f64| panel.at_x(if value.is_nan() { 1.0 } else { value }).clamp(panel.left, panel.right());
        let arm = self.run.manifest.arms.iter().position(|arm| arm.label == ratio.arm).unwrap_or(0);
        let is_muted = ratio.verdict == Verdict::NotComparable || !ratio.is_sound || !self.is_judged(ratio);
        let paint = if is_muted { Paint::Muted } else { Paint::Series(arm) };
        scene.whisker(y, place(ratio.low), place(ratio.high), paint);
        scene.dot((place(ratio.ratio), y), 4.5, paint);
        scene.text(Text::new(self.width - EDGE, y + 4.0, self.words(ratio)).size(SMALL).anchor(Anchor::End));
    }

    fn axis(&self, scene: &mut Scene) {
        let wanted = ((self.panel.width / 50.0) as usize).clamp(3, 8);
        let ticks: Vec<Tick> =
            self.panel.x.ticks(wanted).into_iter().map(|value| (value, format::plain(value))).collect();
        self.panel.x_ticks(scene, &ticks);
        let name = if is_narrow(self.width) { "ratio to the baseline" } else { "ratio to the baseline (1 = equal)" };
        self.panel.x_label(scene, Quantity { name, unit: "ratio" });
        scene.height = self.panel.bottom() + BELOW;
    }
}
