//! The parts of rows: bars, curves, times, and rows that leave out parts that do not fit.

use std::time::Duration;

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

pub(super) const PLAIN: Style = Style::new();
pub(super) const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
pub(super) const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
pub(super) const BAR: Style = Style::new().fg(Color::Cyan);
pub(super) const GOOD: Style = Style::new().fg(Color::Green);
pub(super) const BAD: Style = Style::new().fg(Color::Red);
pub(super) const WARN: Style = Style::new().fg(Color::Yellow);

/// A cell of one column filled from the left by eighths.
const EIGHTHS: [&str; 9] = [" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"];
/// A cell filled from below by eighths.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

pub(super) fn span(text: impl Into<String>, style: Style) -> Span<'static> {
    Span::styled(text.into(), style)
}

/// Groups of spans with two spaces between them. A group that does not fit is skipped. Also returns the number of free
/// columns.
pub(super) fn chain(groups: Vec<Vec<Span<'static>>>, width: usize) -> (Vec<Span<'static>>, usize) {
    let (mut row, mut left) = (Vec::new(), width);
    for group in groups {
        let gap = if row.is_empty() { 0 } else { 2 };
        let needed = gap + width_of(&group);
        if needed > left {
            continue;
        }
        left -= needed;
        if gap > 0 {
            row.push(span("  ", PLAIN));
        }
        row.extend(group);
    }
    (row, left)
}

/// Puts `left` at the left end, and `right` at the right end if there is room for both.
pub(super) fn spread(mut left: Vec<Span<'static>>, right: Vec<Span<'static>>, width: usize) -> Line<'static> {
    let needed = width_of(&left) + 2 + width_of(&right);
    if needed <= width {
        left.push(span(" ".repeat(width - needed + 2), PLAIN));
        left.extend(right);
    }
    Line::from(left)
}

pub(super) fn width_of(spans: &[Span<'_>]) -> usize {
    spans.iter().map(Span::width).sum()
}

/// Shortens a text to this number of columns, with `…` for the missing part.
pub(super) fn shortened(text: &str, width: usize) -> String {
    if Span::raw(text).width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for char in text.chars() {
        if Span::raw(format!("{short}{char}…")).width() > width {
            break;
        }
        short.push(char);
    }
    if width > 0 {
        short.push('…');
    }
    short
}

/// A bar that fills this share of its columns.
pub(super) fn bar(share: f64, width: usize) -> String {
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    // a value above 0 must not look like 0
    let eighths = if share > 0.0 { eighths.max(1) } else { eighths };
    let (full, rest) = (eighths / 8, eighths % 8);
    let mut text = EIGHTHS[8].repeat(full);
    if rest > 0 {
        text += EIGHTHS[rest];
    }
    text
}

/// A progress bar: the part done and the part to do.
pub(super) fn track(share: f64, width: usize, style: Style) -> Vec<Span<'static>> {
    let done = ((share.clamp(0.0, 1.0) * width as f64).round() as usize).min(width);
    vec![span("━".repeat(done), style), span("─".repeat(width - done), FAINT)]
}

/// The last values as a curve, one column each, from 0 to the largest.
pub(super) fn curve(values: &[u64], width: usize) -> String {
    let shown = &values[values.len().saturating_sub(width)..];
    let max = shown.iter().copied().max().unwrap_or(0).max(1);
    let level = |value: &u64| match *value {
        0 => ' ',
        value => LEVELS[((value * 8).div_ceil(max) as usize).clamp(1, 8) - 1],
    };
    shown.iter().map(level).collect()
}

/// Time as on a clock: 0:07, 12:34, 1:02:03.
pub(super) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_exact_to_an_eighth_and_show_every_value_above_0() {
        assert_eq!(
            [0.0, 0.001, 0.5, 0.52, 1.0, 7.0].map(|share| bar(share, 6)),
            ["", "▏", "███", "███▏", "██████", "██████"]
        );
        assert_eq!(curve(&[0, 1, 50, 100], 9), " ▁▄█");
        assert_eq!(curve(&[9, 9, 100, 100], 2), "██");
        assert_eq!(curve(&[], 9), "");
    }

    #[test]
    fn groups_that_do_not_fit_are_left_out_completely() {
        let groups = || ["one", "twenty", "six"].map(|text| vec![span(text, PLAIN)]).to_vec();
        let text = |width| chain(groups(), width).0.iter().map(|span| span.content.as_ref()).collect::<String>();
        assert_eq!([16, 15, 11, 3, 2].map(text), ["one  twenty  six", "one  twenty", "one  twenty", "one", ""]);
        let both = |width| spread(vec![span("left", PLAIN)], vec![span("right", PLAIN)], width).to_string();
        assert_eq!([12, 11, 10].map(both), ["left   right", "left  right", "left"]);
        assert_eq!(
            [9, 8, 3, 1, 0].map(|width| shortened("Server 12", width)),
            ["Server 12", "Server …", "Se…", "…", ""]
        );
    }

    #[test]
    fn times_have_the_form_of_a_clock() {
        assert_eq!([7, 754, 3723].map(|s| clock(Duration::from_secs(s))), ["0:07", "12:34", "1:02:03"]);
    }
}
