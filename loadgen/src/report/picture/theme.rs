//! Colours, for paper and light screens and for dark ones.
//!
//! The series are those of Okabe and Ito (2008), which colour-blind readers can distinguish. They are darkened or
//! lightened until each contrasts with its background. Series also have labels beside their lines, so no meaning
//! depends on colour alone.

use std::fmt::Write as _;

use super::font;
use super::scene::Paint;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The number of series with different colours.
pub(crate) const SERIES: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Theme {
    Light,
    Dark,
}

const PAINTS: [(Paint, &str, &str, &str); 13] = [
    (Paint::Ink, "ink", "#1c2127", "#e6e9ed"),
    (Paint::Muted, "muted", "#5a6470", "#a3adb9"),
    (Paint::Grid, "grid", "#e2e6ea", "#2f363e"),
    (Paint::Surface, "surface", "#ffffff", "#15191e"),
    (Paint::Series(0), "s0", "#0b6fb0", "#5ab0ee"),
    (Paint::Series(1), "s1", "#c9540a", "#f3965a"),
    (Paint::Series(2), "s2", "#0a8a68", "#41c79f"),
    (Paint::Series(3), "s3", "#a8588c", "#df9cc6"),
    (Paint::Series(4), "s4", "#8a6d00", "#e3c04a"),
    (Paint::Series(5), "s5", "#5b5fc7", "#a5a8ff"),
    (Paint::Band, "band", "#8b96a3", "#8b96a3"),
    (Paint::Fault, "fault", "#b3261e", "#ff8a80"),
    (Paint::Relief, "relief", "#1b7f4b", "#5fd39a"),
];

fn entry(paint: Paint) -> &'static (Paint, &'static str, &'static str, &'static str) {
    let wanted = match paint {
        Paint::Series(number) => Paint::Series(number % SERIES),
        other => other,
    };
    PAINTS.iter().find(|entry| entry.0 == wanted).unwrap_or(&PAINTS[0])
}

/// The name of the paint in style sheets.
pub(crate) fn name(paint: Paint) -> &'static str {
    entry(paint).1
}

pub(crate) fn colour(paint: Paint, theme: Theme) -> &'static str {
    match theme {
        Theme::Light => entry(paint).2,
        Theme::Dark => entry(paint).3,
    }
}

/// Colours as variables, and the classes of pictures. Dark colours follow the reader's preference; paper has light
/// ones.
pub(crate) fn style(selector: &str) -> String {
    let variables = |theme| {
        PAINTS.iter().fold(String::new(), |mut text, entry| {
            let _ = write!(text, "--{}:{};", entry.1, colour(entry.0, theme));
            text
        })
    };
    let mut style = format!(
        "{selector}{{{}}}\n@media screen and (prefers-color-scheme:dark){{{selector}{{{}}}}}\n",
        variables(Theme::Light),
        variables(Theme::Dark)
    );
    for entry in &PAINTS {
        let _ = writeln!(style, ".f-{0}{{fill:var(--{0})}}.l-{0}{{stroke:var(--{0});fill:none}}", entry.1);
    }
    style.push_str(".halo{stroke:var(--surface)}\n");
    style
}

/// The font as part of a style sheet.
pub(crate) fn font_faces() -> String {
    let face = |weight: u32, bytes: &[u8]| {
        format!(
            "@font-face{{font-family:\"{}\";font-weight:{weight};src:url(data:font/woff2;base64,{}) format(\"woff2\")}}\n",
            font::FAMILY,
            STANDARD.encode(bytes)
        )
    };
    face(400, font::REGULAR_WOFF2) + &face(600, font::SEMI_BOLD_WOFF2)
}
