//! The sentences of a comment, and the words in them.
//!
//! Code in backticks and a link each count as one word, because their length does not make a sentence harder to read.

/// Abbreviations whose full stop does not end a sentence.
const ABBREVIATIONS: &[&str] = &["e.g.", "i.e.", "cf.", "vs.", "approx."];

/// The word that replaces a piece of code or a link.
const CODE: &str = "code";

/// A sentence and the line where it begins, from 1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sentence {
    pub(crate) line: usize,
    pub(crate) words: usize,
}

/// The sentences of Markdown text, which is given as numbered lines. Blocks of code are left out.
///
/// A sentence also ends at the end of a heading, of a list item and of a table cell.
pub(crate) fn sentences<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<Sentence> {
    let mut found = Vec::new();
    let mut paragraph: Vec<(usize, String)> = Vec::new();
    let mut is_fenced = false;
    let mut last = 0;
    for (number, line) in lines {
        let text = line.trim();
        let is_fence = text.starts_with("```");
        if number != last + 1 || is_fence || text.is_empty() || begins_block(text) {
            split(&mut paragraph, &mut found);
        }
        last = number;
        is_fenced ^= is_fence;
        if is_fenced || is_fence {
            continue;
        }
        if text.starts_with('|') {
            for cell in without_code(text).split('|') {
                split(&mut vec![(number, cell.to_owned())], &mut found);
            }
            continue;
        }
        paragraph.push((number, text.to_owned()));
        if text.starts_with('#') {
            split(&mut paragraph, &mut found);
        }
    }
    split(&mut paragraph, &mut found);
    found
}

/// `text` with [`CODE`] in place of each piece of code in backticks and each link. Line breaks stay.
pub(crate) fn without_code(text: &str) -> String {
    let plain = replaced(text, '`', '`');
    let mut plain = replaced(&plain, '[', ']');
    while let Some(at) = plain.find(&format!("{CODE}(")) {
        let from = at + CODE.len();
        let Some(length) = plain[from..].find(')') else { break };
        let breaks = "\n".repeat(plain[from..from + length].matches('\n').count());
        plain.replace_range(from..=from + length, &breaks);
    }
    plain
}

/// The words of `text` in lower case. [`CODE`] replaces text in backticks and links.
pub(crate) fn plain_words(text: &str) -> Vec<String> {
    let is_between = |c: char| !c.is_alphanumeric() && c != '_';
    without_code(text).split(is_between).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

fn replaced(text: &str, open: char, close: char) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(open) {
        let Some((inside, after)) = after.split_once(close) else { break };
        plain.push_str(before);
        plain.push_str(CODE);
        plain.extend(inside.matches('\n'));
        rest = after.strip_prefix(close).unwrap_or(after);
    }
    plain.push_str(rest);
    plain
}

fn begins_block(text: &str) -> bool {
    text.split_whitespace().next().is_some_and(is_number)
        || ["- ", "* ", "|", "#", "> "].iter().any(|sign| text.starts_with(sign))
}

/// Moves the sentences of `paragraph` to `found`.
fn split(paragraph: &mut Vec<(usize, String)>, found: &mut Vec<Sentence>) {
    let Some((first, _)) = paragraph.first() else { return };
    let first = *first;
    let lines: Vec<_> = paragraph.drain(..).map(|(_, line)| line).collect();
    let text = without_code(&lines.join("\n"));
    let mut open: Option<Sentence> = None;
    for (number, line) in (first..).zip(text.lines()) {
        for word in line.split_whitespace() {
            if open.is_none() && is_number(word) {
                continue;
            }
            let sentence = open.get_or_insert(Sentence { line: number, words: 0 });
            sentence.words += usize::from(word.contains(|c: char| c.is_alphanumeric()));
            if is_end(word) {
                found.extend(open.take());
            }
        }
    }
    found.extend(open);
}

/// Whether the word is the number of a list item, such as `1.`.
fn is_number(word: &str) -> bool {
    word.strip_suffix('.').is_some_and(|digits| digits.parse::<u32>().is_ok())
}

fn is_end(word: &str) -> bool {
    let bare = word.trim_end_matches([')', '"', '\'', '*', '”', '“']);
    bare.ends_with(['.', '!', '?']) && !ABBREVIATIONS.contains(&bare.trim_start_matches('('))
}

#[test]
fn sentences_are_counted_where_they_end() {
    let counts = |text: &str| sentences((1..).zip(text.lines())).into_iter().map(|s| s.words).collect::<Vec<_>>();
    for (text, expected) in [
        ("One two. Three", &[2, 1][..]),
        ("One two\nthree (four.) Five!", &[4, 1]),
        ("See `a b c` and [`A`] and [a b](c d).", &[6]),
        ("See `a\nb` and [a b](c\nd) x.", &[5]),
        ("One, e.g. two, i.e. three.", &[5]),
        ("# One two\nthree\n- four\n- five\n  six\n1. seven", &[2, 1, 1, 2, 1]),
        ("One:\n```\nlet x = 1. + 2.;\n```\ntwo", &[1, 1]),
        ("| one two | `a|b` three |", &[2, 2]),
        ("One 0.5 two — three.", &[4]),
    ] {
        let counted: Vec<_> = counts(text).into_iter().filter(|words| *words > 0).collect();
        assert_eq!(counted, expected, "{text}");
    }
    let apart = [(3, "one"), (5, "two"), (6, "three. four")];
    assert_eq!(
        sentences(apart.into_iter()),
        [(3, 1), (5, 2), (6, 1)].map(|(line, words)| Sentence { line, words }),
        "a gap in the numbers ends a paragraph"
    );
}
