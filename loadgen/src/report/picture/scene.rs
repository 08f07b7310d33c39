//! A scene: shapes in order, in units of CSS pixels, with the origin at the upper left.
//!
//! Invariant: a shape has a meaning; the theme gives its colour.

/// The meaning of a shape. The theme gives it a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Paint {
    /// Text and axes.
    Ink,
    /// Explanations: labels of ticks, notes.
    Muted,
    Grid,
    /// The background.
    Surface,
    /// A compared thing, by number. Numbers from [`super::theme::SERIES`] on repeat the colours.
    Series(usize),
    /// Expected values, or the zone in which differences do not matter.
    Band,
    /// A fault or an error.
    Fault,
    /// The end of a fault: detection, recovery.
    Relief,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dash {
    Solid,
    Dashed,
    Dotted,
}

/// The purpose of a text, for readers and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Title,
    /// The label of an axis, with its unit: `ms`, `count`, `name`, `ratio`.
    AxisLabel(String),
    Tick,
    /// Any other text.
    Label,
}

#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) x: f64,
    /// The position of the base line.
    pub(crate) y: f64,
    pub(crate) text: String,
    pub(crate) size: f64,
    pub(crate) anchor: Anchor,
    pub(crate) is_bold: bool,
    pub(crate) paint: Paint,
    pub(crate) role: Role,
}

#[derive(Clone, Debug)]
pub(crate) enum Shape {
    Rect {
        x: f64,
        y: f64,
        width: f64,
        height: f64,
        radius: f64,
        paint: Paint,
        opacity: f64,
    },
    /// A line through points.
    Line {
        points: Vec<(f64, f64)>,
        paint: Paint,
        width: f64,
        dash: Dash,
    },
    /// A filled polygon.
    Area {
        points: Vec<(f64, f64)>,
        paint: Paint,
        opacity: f64,
    },
    /// A filled circle with a rim in the colour of the background, so that it is visible on lines.
    Dot {
        x: f64,
        y: f64,
        radius: f64,
        paint: Paint,
    },
    Text(Text),
}

/// One picture.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) width: f64,
    pub(crate) height: f64,
    /// For screen readers and the properties of the file.
    pub(crate) title: String,
    pub(crate) shapes: Vec<Shape>,
}

/// Sizes of text.
pub(crate) const TITLE: f64 = 15.0;
pub(crate) const LABEL: f64 = 12.0;
pub(crate) const SMALL: f64 = 11.0;

// === impl Text ===

impl Text {
    pub(crate) fn new(x: f64, y: f64, text: impl Into<String>) -> Self {
        Self {
            x,
            y,
            text: text.into(),
            size: LABEL,
            anchor: Anchor::Start,
            is_bold: false,
            paint: Paint::Ink,
            role: Role::Label,
        }
    }

    pub(crate) fn size(self, size: f64) -> Self {
        Self { size, ..self }
    }

    pub(crate) fn anchor(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }

    pub(crate) fn bold(self) -> Self {
        Self { is_bold: true, ..self }
    }

    pub(crate) fn paint(self, paint: Paint) -> Self {
        Self { paint, ..self }
    }

    pub(crate) fn role(self, role: Role) -> Self {
        Self { role, ..self }
    }
}

// === impl Scene ===

impl Scene {
    /// An empty picture. Its height grows later.
    pub(crate) fn new(width: f64, title: &str) -> Self {
        Self { width, height: 0.0, title: title.to_owned(), shapes: Vec::new() }
    }

    pub(crate) fn rect(&mut self, at: (f64, f64), size: (f64, f64), paint: Paint, opacity: f64) {
        let ((x, y), (width, height)) = (at, size);
        self.shapes.push(Shape::Rect { x, y, width, height, radius: 0.0, paint, opacity });
    }

    /// A bar: a rectangle with slightly rounded corners.
    pub(crate) fn bar(&mut self, at: (f64, f64), size: (f64, f64), paint: Paint) {
        let ((x, y), (width, height)) = (at, size);
        let radius = 2.0_f64.min(width / 2.0).min(height / 2.0);
        self.shapes.push(Shape::Rect { x, y, width, height, radius, paint, opacity: 1.0 });
    }

    pub(crate) fn line(&mut self, points: impl Into<Vec<(f64, f64)>>, paint: Paint, width: f64) {
        self.dashed(points, paint, width, Dash::Solid);
    }

    pub(crate) fn dashed(&mut self, points: impl Into<Vec<(f64, f64)>>, paint: Paint, width: f64, dash: Dash) {
        let points = points.into();
        if points.len() > 1 {
            self.shapes.push(Shape::Line { points, paint, width, dash });
        }
    }

    pub(crate) fn area(&mut self, points: Vec<(f64, f64)>, paint: Paint, opacity: f64) {
        if points.len() > 2 {
            self.shapes.push(Shape::Area { points, paint, opacity });
        }
    }

    pub(crate) fn dot(&mut self, at: (f64, f64), radius: f64, paint: Paint) {
        self.shapes.push(Shape::Dot { x: at.0, y: at.1, radius, paint });
    }

    /// A dot of a series. Dots of series with a repeated colour are hollow.
    pub(crate) fn series_dot(&mut self, at: (f64, f64), radius: f64, paint: Paint) {
        self.dot(at, radius, paint);
        if matches!(paint, Paint::Series(number) if number >= super::theme::SERIES) {
            self.dot(at, radius * 0.4, Paint::Surface);
        }
    }

    /// A horizontal range with short ends: an interval or an error bar.
    pub(crate) fn whisker(&mut self, y: f64, from: f64, to: f64, paint: Paint) {
        for (points, width) in [
            (vec![(from, y), (to, y)], 1.5),
            (vec![(from, y - 3.5), (from, y + 3.5)], 1.5),
            (vec![(to, y - 3.5), (to, y + 3.5)], 1.5),
        ] {
            self.line(points, paint, width);
        }
    }

    /// Moves all shapes down by `by` and makes room above them.
    pub(crate) fn push_down(&mut self, by: f64) {
        let down = |points: &mut Vec<(f64, f64)>| points.iter_mut().for_each(|point| point.1 += by);
        for shape in &mut self.shapes {
            match shape {
                Shape::Rect { y, .. } | Shape::Dot { y, .. } => *y += by,
                Shape::Line { points, .. } | Shape::Area { points, .. } => down(points),
                Shape::Text(text) => text.y += by,
            }
        }
        self.height += by;
    }

    pub(crate) fn text(&mut self, text: Text) {
        if !text.text.is_empty() {
            self.shapes.push(Shape::Text(text));
        }
    }
}
