//! Rules of plain English in Rust sources: forbidden words, long sentences, wide comments.
//!
//! Each finding is an [`Offence`]. `unplain` lists the files that already had offences when these rules were added.

use std::sync::LazyLock;

use crate::prose::{plain_words, sentences};
use crate::sources::{Offence, Source, find_word, leading_word, line_of, named};

/// Words that do not name a thing. The subject of a sentence is a thing of the vocabulary or a type.
const VAGUE: &[&str] = &["who", "whoever", "whom", "nobody", "somebody", "anybody", "everybody", "he", "him", "his"];

const WORDS_MAX: usize = 25;

/// Files in which a word of [`VAGUE`] is a name: path, word and its meaning.
const NAMES: &[(&str, &str, &str)] = &[
    ("lb/src/control/trust/vet/confine.rs", "nobody", "the user that owns nothing"),
    ("loadgen/src/run/options.rs", "nobody", "a host name of a sample"),
];

/// The largest width of a line, from rustfmt's configuration.
static COLUMNS_MAX: LazyLock<usize> = LazyLock::new(|| {
    let settings = named(".rustfmt.toml").text;
    let width = settings.lines().find_map(|line| line.strip_prefix("max_width = "));
    width.and_then(|width| width.parse().ok()).expect(".rustfmt.toml has max_width")
});

/// All offences in one file, in order of lines.
pub(crate) fn offences(source: &Source) -> Vec<Offence> {
    let mut found = vague_comments(source);
    found.extend(vague_functions(source));
    found.extend(vague_texts(source));
    found.extend(long_sentences(source));
    found.extend(wide_comments(source));
    found.sort_by_key(|offence| offence.line);
    found
}

fn vague_comments(source: &Source) -> Vec<Offence> {
    vague_lines(source, "a comment", (1..).zip(source.blanked.comments.lines()))
}

/// Literals, because users read log lines, errors and help. Literals of tests are data and are not checked.
fn vague_texts(source: &Source) -> Vec<Offence> {
    let end = source.tests_from().unwrap_or(usize::MAX);
    let lines = (1..).zip(source.blanked.literals.lines()).take_while(|(number, _)| *number < end);
    vague_lines(source, "a text", lines)
}

fn vague_lines<'a>(source: &Source, place: &str, lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (number, line) in lines {
        let words = plain_words(line).into_iter().filter(|word| is_vague(source, word));
        offences.extend(words.map(|word| source.offence(number, format!("{place} says `{word}`: name the thing"))));
    }
    offences
}

/// Names of functions. Names of tests are claims.
fn vague_functions(source: &Source) -> Vec<Offence> {
    let code = &source.blanked.code;
    let names = find_word(code, "fn").map(|at| (at, leading_word(code[at + "fn".len()..].trim_start())));
    names
        .filter_map(|(at, name)| {
            let word = name.split('_').find(|word| is_vague(source, word))?;
            Some(source.offence(line_of(code, at), format!("`{name}` says `{word}`: name the thing")))
        })
        .collect()
}

fn is_vague(source: &Source, word: &str) -> bool {
    let is_name = || NAMES.iter().any(|(path, name, _)| *path == source.path && *name == word);
    VAGUE.contains(&word) && !is_name()
}

/// Long sentences in `///` and `//!`.
fn long_sentences(source: &Source) -> Vec<Offence> {
    let mut offences = Vec::new();
    for sign in ["///", "//!"] {
        let lines = (1..).zip(source.blanked.comments.lines());
        let documentation = lines.filter_map(|(number, line)| {
            let text = line.trim_start().strip_prefix(sign)?;
            (!text.starts_with('/')).then_some((number, text))
        });
        let long = sentences(documentation).into_iter().filter(|sentence| sentence.words > WORDS_MAX);
        offences.extend(long.map(|sentence| {
            let what = format!("a sentence of {} words, over {WORDS_MAX}: divide it", sentence.words);
            source.offence(sentence.line, what)
        }));
    }
    offences
}

/// Wide lines with a comment. A line that cannot be broken, such as a long address, is allowed.
fn wide_comments(source: &Source) -> Vec<Offence> {
    let lines = (1..).zip(source.text.lines().zip(source.blanked.comments.lines()));
    let wide = lines.filter(|(_, (line, comment))| {
        let columns = line.chars().count();
        columns > *COLUMNS_MAX && comment.split_whitespace().count() > 2
    });
    wide.map(|(number, (line, _))| {
        source.offence(number, format!("{} columns, over {}: break the line", line.chars().count(), *COLUMNS_MAX))
    })
    .collect()
}

#[test]
fn words_that_name_nothing_are_caught() {
    let count = |text: &str| offences(&Source::new("lb/src/a.rs", text)).len();
    for bad in [
        "// Whoever asks first.",
        "/// Nobody reads it.",
        "//! The thread of who asked.",
        "f(x); // his own",
        "/* he waits */",
        "fn those_who_wait() {}",
        "async fn nobody() {}",
        "info!(\"nobody reads the log\");",
        "f(r#\"he said\"#)",
        "// `a` and `b`, and who",
    ] {
        assert_eq!(count(bad), 1, "{bad}");
    }
    for good in [
        "// The whole head of the host; somewhere, here, this.",
        "// The user `nobody` runs it.",
        "/// See [who is who](https://example.org/who).",
        "fn whole_heads() { let who = 1; }",
        "#[cfg(test)]\nmod tests { f(\"nobody\"); }",
    ] {
        assert_eq!(count(good), 0, "{good}");
    }
    assert_eq!(offences(&Source::new("lb/tests/a.rs", "f(\"nobody\");")), [], "the data of a test is free");
}

#[test]
fn sentences_of_more_than_25_words_are_caught() {
    let count = |text: &str| offences(&Source::new("lb/src/a.rs", text)).len();
    let (short, long) = ("a ".repeat(25), "a ".repeat(26));
    assert_eq!(count(&format!("/// {long}")), 1);
    assert_eq!(count(&format!("//! {short}\n//! more.")), 1);
    assert_eq!(count(&format!("/// {short}.\n/// More.")), 0);
    assert_eq!(count(&format!("/// {short}\nfn f() {{}}\n/// More.")), 0);
    assert_eq!(count(&format!("/// {short}\n///\n/// More.")), 0);
    assert_eq!(count(&format!("/// {short}\n/// - more\n/// - more")), 0);
    assert_eq!(count(&format!("/// - {short}\n///   more")), 1);
    assert_eq!(count(&format!("/// ```\n/// {long}\n/// ```")), 0);
    assert_eq!(count(&format!("f(\"/// {long}\")")), 0);
}

#[test]
fn comments_wider_than_the_limit_are_caught() {
    let count = |text: &str| offences(&Source::new("lb/src/a.rs", text)).len();
    let wide = format!("{}x", "x. ".repeat(40));
    assert_eq!(wide.len(), 121);
    assert_eq!(count(&format!("// {}", &wide[3..])), 1);
    assert_eq!(count(&format!("// {}", &wide[4..])), 0);
    assert_eq!(count(&format!("    f(x); // {}", &wide[14..])), 0);
    assert_eq!(count(&format!("    f(x); // {}", &wide[12..])), 1);
    assert_eq!(count(&format!("// https://example.org/{}", "x".repeat(120))), 0);
}
