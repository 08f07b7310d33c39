//! Scenes as SVG: inside a page, as a separate file, or with plain colours for the renderer.

use std::fmt::Write as _;

use super::font;
use super::scene::{Anchor, Dash, Paint, Role, Scene, Shape, Text};
use super::theme::{self, Theme};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Colours come from the page's style sheet.
    Inline,
    /// It has its own style sheet and font.
    Alone,
    /// Each shape has its colour.
    Plain(Theme),
}

/// Escapes text for XML and HTML.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // not allowed in XML in any form
            control if control.is_control() => safe.push(' '),
            other => safe.push(other),
        }
    }
    safe
}

pub(crate) fn write(scene: &Scene, style: Style) -> String {
    let (width, height) = (number(scene.width), number(scene.height));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\" \
         font-family=\"{}, Helvetica Neue, Arial, sans-serif\"",
        escape(&scene.title),
        font::FAMILY
    );
    match style {
        Style::Inline => {
            let _ = writeln!(svg, " width=\"{width}\">");
        }
        _ => {
            let _ = writeln!(svg, " width=\"{width}\" height=\"{height}\">\n<title>{}</title>", escape(&scene.title));
        }
    }
    if style == Style::Alone {
        let _ = writeln!(svg, "<style>\n{}{}</style>", theme::style("svg"), theme::font_faces());
    }
    if style != Style::Inline {
        let ground = fill(Paint::Surface, style);
        let _ = writeln!(svg, "<rect width=\"{width}\" height=\"{height}\" {ground}/>");
    }
    for shape in &scene.shapes {
        write_shape(&mut svg, shape, style);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Coordinates to a tenth of a pixel, without a trailing zero.
fn number(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    if rounded == 0.0 { "0".into() } else { rounded.to_string() }
}

fn coordinates(points: &[(f64, f64)]) -> String {
    points.iter().map(|(x, y)| format!("{},{}", number(*x), number(*y))).collect::<Vec<_>>().join(" ")
}

fn fill(paint: Paint, style: Style) -> String {
    match style {
        Style::Plain(theme) => format!("fill=\"{}\"", theme::colour(paint, theme)),
        _ => format!("class=\"f-{}\"", theme::name(paint)),
    }
}

fn stroke(paint: Paint, style: Style) -> String {
    match style {
        Style::Plain(theme) => format!("fill=\"none\" stroke=\"{}\"", theme::colour(paint, theme)),
        _ => format!("class=\"l-{}\"", theme::name(paint)),
    }
}

fn write_shape(svg: &mut String, shape: &Shape, style: Style) {
    let _ = match shape {
        Shape::Rect { x, y, width, height, radius, paint, opacity } => writeln!(
            svg,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"{}{} {}/>",
            number(*x),
            number(*y),
            number(*width),
            number(*height),
            if *radius > 0.0 { format!(" rx=\"{}\"", number(*radius)) } else { String::new() },
            fill_opacity(*opacity),
            fill(*paint, style)
        ),
        Shape::Line { points, paint, width, dash } => writeln!(
            svg,
            "<polyline points=\"{}\" stroke-width=\"{}\" stroke-linejoin=\"round\"{} {}/>",
            coordinates(points),
            number(*width),
            match dash {
                Dash::Solid => "",
                Dash::Dashed => " stroke-dasharray=\"6 4\"",
                Dash::Dotted => " stroke-dasharray=\"1.5 3.5\" stroke-linecap=\"round\"",
            },
            stroke(*paint, style)
        ),
        Shape::Area { points, paint, opacity } => {
            writeln!(
                svg,
                "<polygon points=\"{}\"{} {}/>",
                coordinates(points),
                fill_opacity(*opacity),
                fill(*paint, style)
            )
        }
        Shape::Dot { x, y, radius, paint } => {
            let rim = match style {
                Style::Plain(theme) => format!(
                    "fill=\"{}\" stroke=\"{}\"",
                    theme::colour(*paint, theme),
                    theme::colour(Paint::Surface, theme)
                ),
                _ => format!("class=\"f-{} halo\"", theme::name(*paint)),
            };
            writeln!(
                svg,
                "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" stroke-width=\"1.5\" {rim}/>",
                number(*x),
                number(*y),
                number(*radius)
            )
        }
        Shape::Text(text) => writeln!(svg, "{}", write_text(text, style)),
    };
}

fn fill_opacity(opacity: f64) -> String {
    if opacity < 1.0 { format!(" fill-opacity=\"{opacity}\"") } else { String::new() }
}

fn write_text(text: &Text, style: Style) -> String {
    let anchor = match text.anchor {
        Anchor::Start => "",
        Anchor::Middle => " text-anchor=\"middle\"",
        Anchor::End => " text-anchor=\"end\"",
    };
    let role = match &text.role {
        Role::Title => " data-role=\"title\"".to_owned(),
        Role::AxisLabel(unit) => format!(" data-role=\"axis\" data-unit=\"{}\"", escape(unit)),
        Role::Tick => " data-role=\"tick\"".to_owned(),
        Role::Label => String::new(),
    };
    format!(
        "<text x=\"{}\" y=\"{}\" font-size=\"{}\"{}{anchor}{role} {}>{}</text>",
        number(text.x),
        number(text.y),
        number(text.size),
        if text.is_bold { " font-weight=\"600\"" } else { "" },
        fill(text.paint, style),
        escape(&text.text)
    )
}
