//! Panels with axes, headings and legends, the parts of every plot.
//!
//! Invariant: each axis has a horizontal label with its unit, above the axis (y) or below it (x).

use super::font;
use super::scale::{Scale, Tick};
use super::scene::{Anchor, Dash, Paint, Role, SMALL, Scene, TITLE, Text};

/// The area in which values are drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panel {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) x: Scale,
    pub(crate) y: Scale,
}

/// The quantity of an axis. The unit is shown in parentheses, unless it is `count`, `name` or `ratio`, which the label
/// itself shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantity<'a> {
    pub(crate) name: &'a str,
    pub(crate) unit: &'a str,
}

/// Opacity of an interval over a whole axis, and of a stretch that is not counted.
pub(crate) const RIBBON: f64 = 0.16;
pub(crate) const DROPPED: f64 = 0.12;
/// Space around a panel.
pub(crate) const EDGE: f64 = 16.0;
/// Room below a panel for ticks and the label.
pub(crate) const BELOW: f64 = 40.0;
/// Room above a panel for the label of its y axis.
pub(crate) const ABOVE: f64 = 22.0;

/// Draws title and subtitle, in as many lines as they need. Returns the top of the next part.
pub(crate) fn heading(scene: &mut Scene, title: &str, subtitle: &str) -> f64 {
    let room = scene.width - 2.0 * EDGE;
    let mut y = 12.0;
    for line in font::wrap(title, TITLE, true, room) {
        y += 19.0;
        scene.text(Text::new(EDGE, y - 4.0, line).size(TITLE).bold().role(Role::Title));
    }
    if !subtitle.is_empty() {
        for line in font::wrap(subtitle, SMALL, false, room) {
            y += 16.0;
            scene.text(Text::new(EDGE, y - 3.0, line).size(SMALL).paint(Paint::Muted));
        }
    }
    y + 10.0
}

/// Draws a warning above a finished picture, in as many lines as it needs.
pub(crate) fn banner(scene: &mut Scene, words: &str) {
    let lines = font::wrap(words, SMALL, true, scene.width - 2.0 * EDGE - 20.0);
    let height = 16.0 * lines.len() as f64 + 10.0;
    scene.push_down(height + 10.0);
    scene.rect((EDGE, 10.0), (scene.width - 2.0 * EDGE, height), Paint::Fault, 0.1);
    scene.rect((EDGE, 10.0), (4.0, height), Paint::Fault, 1.0);
    for (number, line) in (0..).zip(lines) {
        let y = 10.0 + 17.0 + 16.0 * f64::from(number);
        scene.text(Text::new(EDGE + 14.0, y, line).size(SMALL).bold().paint(Paint::Fault));
    }
}

/// The sample before an entry of a legend.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sample {
    Line(Paint, Dash),
    /// A line through points.
    Points(Paint),
    Bar(Paint),
    /// A band with its middle.
    Expected,
    /// An error bar.
    Range,
    /// A value with its interval.
    Interval(Paint),
    /// A value with its interval, over a whole axis.
    Ribbon(Paint),
    Dot(Paint),
    Zone,
    /// A stretch that is not counted.
    Dropped,
}

/// Draws a legend: samples and words, in lines. Returns the top of the next part.
pub(crate) fn legend(scene: &mut Scene, top: f64, entries: &[(&str, Sample)]) -> f64 {
    let (mut x, mut y) = (EDGE, top);
    for (word, sample) in entries {
        let word = font::fit(word, SMALL, false, scene.width - 2.0 * EDGE - 30.0);
        let width = 30.0 + font::width(&word, SMALL, false) + 18.0;
        if x > EDGE && x + width - 18.0 > scene.width - EDGE {
            (x, y) = (EDGE, y + 18.0);
        }
        sample.draw(scene, x, y + 8.0);
        scene.text(Text::new(x + 30.0, y + 12.0, word).size(SMALL).paint(Paint::Muted));
        x += width;
    }
    y + 24.0
}

/// Moves labels up or down as little as possible, so that they are at least `gap` apart, within `from` to `to`. Keeps
/// their order.
pub(crate) fn spread(wanted: &[f64], gap: f64, from: f64, to: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&one, &two| wanted[one].total_cmp(&wanted[two]));
    let mut placed = wanted.to_vec();
    let mut least = from;
    for &at in &order {
        placed[at] = placed[at].max(least);
        least = placed[at] + gap;
    }
    let mut most = to;
    for &at in order.iter().rev() {
        placed[at] = placed[at].min(most);
        most = placed[at] - gap;
    }
    placed
}

// === impl Sample ===

impl Sample {
    fn draw(self, scene: &mut Scene, x: f64, y: f64) {
        let across = [(x, y), (x + 22.0, y)];
        match self {
            Self::Line(paint, dash) => scene.dashed(across, paint, 2.0, dash),
            Self::Points(paint) => {
                scene.line(across, paint, 2.0);
                scene.dot((x + 11.0, y), 4.0, paint);
            }
            Self::Bar(paint) => scene.bar((x, y - 5.0), (22.0, 10.0), paint),
            Self::Expected => {
                scene.rect((x + 3.0, y - 8.0), (16.0, 16.0), Paint::Band, 0.45);
                scene.line([(x + 11.0, y - 8.0), (x + 11.0, y + 8.0)], Paint::Ink, 1.2);
            }
            Self::Range => scene.whisker(y, x + 1.0, x + 21.0, Paint::Ink),
            Self::Interval(paint) => {
                scene.whisker(y, x + 1.0, x + 21.0, paint);
                scene.dot((x + 11.0, y), 4.5, paint);
            }
            Self::Ribbon(paint) => {
                scene.rect((x, y - 6.0), (22.0, 12.0), paint, RIBBON);
                scene.line(across, paint, 1.5);
            }
            Self::Dot(paint) => scene.series_dot((x + 11.0, y), 4.0, paint),
            Self::Zone => scene.rect((x, y - 7.0), (22.0, 14.0), Paint::Band, 0.3),
            Self::Dropped => scene.rect((x, y - 7.0), (22.0, 14.0), Paint::Fault, DROPPED),
        }
    }
}

// === impl Quantity ===

impl Quantity<'_> {
    fn label(&self) -> String {
        match self.unit {
            "count" | "name" | "ratio" => self.name.to_owned(),
            unit => format!("{} ({unit})", self.name),
        }
    }
}

// === impl Panel ===

impl Panel {
    pub(crate) fn at_x(&self, value: f64) -> f64 {
        self.left + self.x.place(value) * self.width
    }

    pub(crate) fn at_y(&self, value: f64) -> f64 {
        self.bottom() - self.y.place(value).clamp(-0.02, 1.02) * self.height
    }

    pub(crate) fn right(&self) -> f64 {
        self.left + self.width
    }

    pub(crate) fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// Draws grid lines, ticks at the left, and the label above.
    pub(crate) fn y_axis(&self, scene: &mut Scene, quantity: Quantity<'_>, write: impl Fn(f64) -> String) {
        let wanted = ((self.height / 34.0) as usize).clamp(2, 7);
        for value in self.y.ticks(wanted) {
            let y = self.at_y(value);
            scene.line([(self.left, y), (self.right(), y)], Paint::Grid, 1.0);
            scene.text(tick(self.left - 8.0, y + 4.0, write(value)).anchor(Anchor::End));
        }
        let label_x = self.left.min(EDGE.max(self.left - 44.0));
        let role = Role::AxisLabel(quantity.unit.to_owned());
        scene.text(Text::new(label_x, self.top - 11.0, quantity.label()).size(SMALL).paint(Paint::Muted).role(role));
    }

    /// Draws round ticks below, as many as fit, and the label.
    pub(crate) fn x_axis(&self, scene: &mut Scene, quantity: Quantity<'_>, write: impl Fn(f64) -> String) {
        let wanted = ((self.width / 70.0) as usize).clamp(3, 10);
        let ticks: Vec<Tick> = self.x.ticks(wanted).into_iter().map(|value| (value, write(value))).collect();
        self.x_ticks(scene, &ticks);
        self.x_label(scene, quantity);
    }

    /// Draws the given ticks. A tick that would touch the one before is left out.
    pub(crate) fn x_ticks(&self, scene: &mut Scene, ticks: &[Tick]) {
        let mut free_from = f64::MIN;
        for (value, text) in ticks {
            let (x, half) = (self.at_x(*value), font::width(text, SMALL, false) / 2.0);
            if x - half < free_from {
                continue;
            }
            free_from = x + half + 6.0;
            scene.line([(x, self.bottom()), (x, self.bottom() + 4.0)], Paint::Muted, 1.0);
            let x = x.min(scene.width - half - 2.0);
            scene.text(tick(x, self.bottom() + 17.0, text.clone()).anchor(Anchor::Middle));
        }
        scene.line([(self.left, self.bottom()), (self.right(), self.bottom())], Paint::Muted, 1.0);
    }

    pub(crate) fn x_label(&self, scene: &mut Scene, quantity: Quantity<'_>) {
        let role = Role::AxisLabel(quantity.unit.to_owned());
        let label = Text::new(self.left + self.width / 2.0, self.bottom() + 33.0, quantity.label());
        scene.text(label.size(SMALL).anchor(Anchor::Middle).paint(Paint::Muted).role(role));
    }
}

fn tick(x: f64, y: f64, text: String) -> Text {
    Text::new(x, y, text).size(SMALL).paint(Paint::Muted).role(Role::Tick)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_moved_apart_and_keep_their_order() {
        let placed = spread(&[50.0, 52.0, 51.0, 10.0], 14.0, 0.0, 100.0);
        assert_eq!(placed, [50.0, 78.0, 64.0, 10.0]);
        // at the lower end they move up instead
        assert_eq!(spread(&[99.0, 98.0], 14.0, 0.0, 100.0), [100.0, 86.0]);
    }
}
