//! The font of all reports, and the width of texts in it.
//!
//! Inter (SIL Open Font License 1.1, fonts/OFL.txt), cut down to the characters that reports need. It is embedded, so a
//! page and its pictures look the same on every machine.

use std::collections::HashMap;
use std::sync::LazyLock;

use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider};

pub(crate) const FAMILY: &str = "Inter";
pub(crate) const REGULAR: &[u8] = include_bytes!("../fonts/Inter-Regular.otf");
pub(crate) const SEMI_BOLD: &[u8] = include_bytes!("../fonts/Inter-SemiBold.otf");
/// The same two weights for browsers.
pub(crate) const REGULAR_WOFF2: &[u8] = include_bytes!("../fonts/Inter-Regular.woff2");
pub(crate) const SEMI_BOLD_WOFF2: &[u8] = include_bytes!("../fonts/Inter-SemiBold.woff2");

/// Widths of characters in one weight at size 1.
struct Advances {
    known: HashMap<char, f64>,
    /// The width of characters that the font lacks. Another font will show them, so it is wide to be safe.
    unknown: f64,
}

static WIDTHS: LazyLock<[Advances; 2]> = LazyLock::new(|| [Advances::read(REGULAR), Advances::read(SEMI_BOLD)]);

/// Width of a text without kerning; kerning makes it slightly narrower.
pub(crate) fn width(text: &str, size: f64, is_bold: bool) -> f64 {
    let advances = &WIDTHS[usize::from(is_bold)];
    size * text.chars().map(|char| advances.known.get(&char).copied().unwrap_or(advances.unknown)).sum::<f64>()
}

/// The text, or its beginning with an ellipsis if it does not fit.
pub(crate) fn fit(text: &str, size: f64, is_bold: bool, room: f64) -> String {
    if width(text, size, is_bold) <= room {
        return text.to_owned();
    }
    let mut short: String = text.to_owned();
    while !short.is_empty() && width(&format!("{short}…"), size, is_bold) > room {
        short.pop();
    }
    format!("{}…", short.trim_end())
}

/// The text in lines of at most the width `room`. A single word may be wider.
pub(crate) fn wrap(text: &str, size: f64, is_bold: bool, room: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if width(&format!("{line} {word}"), size, is_bold) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

// === impl Advances ===

impl Advances {
    fn read(bytes: &[u8]) -> Self {
        let font = FontRef::new(bytes).expect("the embedded font is a font");
        let metrics = font.glyph_metrics(Size::new(1.0), LocationRef::default());
        let known: HashMap<char, f64> = font
            .charmap()
            .mappings()
            .filter_map(|(code, glyph)| Some((char::from_u32(code)?, f64::from(metrics.advance_width(glyph)?))))
            .collect();
        Self { known, unknown: 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_follow_the_font() {
        assert!(width("iiii", 10.0, false) < width("mmmm", 10.0, false));
        assert!(width("Server 1", 12.0, false) < width("Server 1", 12.0, true));
        assert!((width("10,000", 20.0, false) - 2.0 * width("10,000", 10.0, false)).abs() < 1e-9);
    }

    #[test]
    fn the_font_has_all_characters_of_reports() {
        for sign in "±×–—·…≤≥≈→−χ²µ%½▲▼".chars() {
            for (weight, advances) in WIDTHS.iter().enumerate() {
                assert!(advances.known.contains_key(&sign), "{sign} is not in weight {weight}");
            }
        }
    }

    #[test]
    fn a_text_that_does_not_fit_ends_in_an_ellipsis() {
        assert_eq!(fit("short", 12.0, false, 200.0), "short");
        let cut = fit("a label that is much too long for its place", 12.0, false, 80.0);
        assert!(cut.ends_with('…') && width(&cut, 12.0, false) <= 80.0, "{cut}");
        assert_eq!(wrap("one two three", 10.0, false, 1.0), ["one", "two", "three"]);
    }
}
