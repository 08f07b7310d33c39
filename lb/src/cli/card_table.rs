//! A score card as text: a line for each row, with colour only on a terminal.
//!
//! Invariant: text from a plugin is printed without control characters, because they could change the terminal.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

use lb_strategy_conformance::scorecard::{Row, Verdict};

use super::check_strategy::Card;

/// A line with at most this many columns holds the row's sentence, too.
const WIDTH: usize = 132;
const INDENT: &str = "                    ";

/// Prints to stdout. A write error is ignored.
pub(super) fn print(card: &Card) {
    let mut out = std::io::stdout().lock();
    let page = page(card, out.is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let _ = out.write_all(page.as_bytes()).and_then(|()| out.flush());
}

fn page(card: &Card, is_coloured: bool) -> String {
    let plugin = match (&card.strategy, &card.version) {
        (Some(name), Some(version)) => format!("{name} {version}"),
        _ => "?".to_owned(),
    };
    let mut page = format!("{}  {}  seed {}\n", clean(&plugin), clean(&card.file.display().to_string()), card.seed);
    for row in &card.rows {
        page.push_str(&line(row, is_coloured));
    }
    let count = |verdict| card.rows.iter().filter(|row| row.verdict == verdict).count();
    let (passed, failed, warned) = (count(Verdict::Pass), count(Verdict::Fail), count(Verdict::Warn));
    let verdict = if card.passed { paint("passed", "32", is_coloured) } else { paint("FAILED", "31;1", is_coloured) };
    let _ = writeln!(page, "  {verdict}: {passed} pass, {failed} fail, {warned} warn\n");
    page
}

fn line(row: &Row, is_coloured: bool) -> String {
    let (word, colour) = match row.verdict {
        Verdict::Pass => ("pass", "32"),
        Verdict::Fail => ("FAIL", "31;1"),
        Verdict::Warn => ("warn", "33"),
        Verdict::NotApplicable => ("n/a ", "2"),
    };
    let word = paint(word, colour, is_coloured);
    let figures = format!("{:28} {:24}", clean(&row.figure), clean(&row.bar));
    let sentence = clean(&row.sentence);
    let is_short = figures.chars().count() + sentence.chars().count() + INDENT.len() < WIDTH;
    let (title, figures) = (row.row.title(), figures.trim_end());
    match (figures.is_empty(), is_short) {
        (true, _) => format!("  {word}  {title:12}{sentence}\n"),
        (false, true) => format!("  {word}  {title:12}{figures:53} {sentence}\n"),
        (false, false) => format!("  {word}  {title:12}{figures}\n{INDENT}{sentence}\n"),
    }
}

fn paint(word: &str, colour: &str, is_coloured: bool) -> String {
    if is_coloured { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_owned() }
}

fn clean(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use lb_strategy_conformance::scorecard::Check;

    use super::*;

    fn card(sentence: &str) -> Card {
        Card {
            file: "libx.so".into(),
            strategy: Some("x\x1b[2J".into()),
            version: Some("1".into()),
            build: None,
            seed: 7,
            passed: false,
            rows: vec![Row::failed(Check::Answers, "3 bad", "0", sentence)],
        }
    }

    #[test]
    fn colour_is_for_terminals_and_a_plugin_cannot_control_them() {
        let plain = page(&card("so"), false);
        assert!(!plain.contains('\x1b') && plain.contains("FAIL  answers"), "{plain}");
        let coloured = page(&card("so"), true);
        assert!(coloured.contains("\x1b[31;1mFAIL") && !coloured.contains("\x1b[2J"), "{coloured}");
    }

    #[test]
    fn a_long_sentence_has_a_line_of_its_own() {
        assert_eq!(page(&card("so"), false).lines().filter(|line| !line.is_empty()).count(), 3);
        assert_eq!(page(&card(&"so ".repeat(40)), false).lines().filter(|line| !line.is_empty()).count(), 4);
    }
}
