//! Each promise of the header `lb_strategy.h` has a test in C and one in Rust, and the tutorial names both.
//!
//! The table "Promises and their tests" of docs/writing-a-strategy.md has the columns promise, in C and in Rust. Its
//! first column names fields behind their struct, as `lb_pick`: `index`, `token`, and constants and functions alone.
//! Invariants: the table has every field, hook, constant and function of the header, and nothing else. Every cell names
//! a test that exists, or says why there is none. A row whose tests do not run lb says "boundary".

use std::collections::BTreeSet;

use crate::sources::{Offence, Source, assert_none, find_word, named, sources};

const PAGE: &str = "docs/writing-a-strategy.md";
const HEADER: &str = "strategies/kit/api/include/lb_strategy.h";
const TITLE: &str = "## Promises and their tests";

/// Fields that only fill gaps.
const FILLERS: &[&str] = &["reserved", "reserved_1"];
/// Constants that are no promises to a plugin.
const OWN_CONSTANTS: &[&str] = &["LB_STRATEGY_H", "LB_ASSERT"];

/// One row of the table.
struct Row<'a> {
    line: usize,
    cells: Vec<&'a str>,
}

/// The fields, as `struct.field`, the constants and the functions of a header.
fn promised(header: &str) -> BTreeSet<String> {
    let text = without_comments(header);
    let mut found = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("#define ")) {
        let name = line.split([' ', '(']).next().unwrap_or_default();
        found.extend((!OWN_CONSTANTS.contains(&name)).then(|| name.to_owned()));
    }
    for line in text.lines().filter(|line| line.starts_with("static inline ")) {
        let name = line.split('(').next().and_then(|before| before.rsplit(' ').next());
        found.extend(name.map(str::to_owned));
    }
    for body in text.split("typedef struct ").skip(1) {
        let Some((fields, rest)) = body.split_once('{').and_then(|(head, rest)| {
            // A struct that is only declared ends before the next brace.
            if head.contains(';') { None } else { rest.split_once('}') }
        }) else {
            continue;
        };
        let owner = rest.split(';').next().unwrap_or_default().trim();
        let names = fields.split(';').flat_map(field_names);
        found.extend(names.filter(|name| !FILLERS.contains(name)).map(|name| format!("{owner}.{name}")));
    }
    found
}

fn without_comments(text: &str) -> String {
    let mut parts = text.split("/*");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once("*/").map_or("", |(_, after)| after))
}

/// The names in one declaration: `uint32_t a, *b`, `int32_t (*f)(int)` or `uint64_t w[8]`.
fn field_names(declaration: &str) -> Vec<&str> {
    if let Some((_, after)) = declaration.split_once("(*") {
        return after.split(')').take(1).collect();
    }
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let names = declaration.split(',').filter_map(|one| {
        let one = one.split('[').next().unwrap_or_default().trim();
        one.rsplit(|c| !is_part(c)).next()
    });
    names.filter(|name| !name.is_empty()).collect()
}

/// The rows of the table, without its head.
fn rows(page: &str) -> Vec<Row<'_>> {
    let lines = (1..).zip(page.lines()).skip_while(|(_, text)| *text != TITLE).skip(1);
    let section = lines.take_while(|(_, text)| !text.starts_with("## "));
    let rows = section.filter(|(_, text)| text.starts_with('|'));
    rows.skip(2)
        .map(|(line, text)| Row { line, cells: text.trim_matches('|').split('|').map(str::trim).collect() })
        .collect()
}

/// The words in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The promises of a first cell. A word of the header that is a struct's name owns the words behind it.
fn named_promises(cell: &str, header: &BTreeSet<String>) -> Vec<String> {
    let mut owner = "";
    let mut found = Vec::new();
    for word in quoted(cell) {
        if header.contains(word) {
            found.push(word.to_owned());
        } else if word.starts_with("lb_") {
            owner = word;
        } else {
            found.push(format!("{owner}.{word}"));
        }
    }
    found
}

fn missing_promises(page: &str, header: &str) -> Vec<Offence> {
    let promised = promised(header);
    let rows = rows(page);
    let offence = |line, what| Offence { path: PAGE.to_owned(), line, what };
    let mut offences = Vec::new();
    let mut seen = BTreeSet::new();
    for row in &rows {
        for promise in named_promises(row.cells[0], &promised) {
            if !promised.contains(&promise) {
                offences.push(offence(row.line, format!("{promise} is not in lb_strategy.h")));
            }
            seen.insert(promise);
        }
    }
    let absent = promised.difference(&seen);
    offences.extend(absent.map(|promise| offence(1, format!("{promise} is not in the table of promises"))));
    offences
}

fn missing_tests(page: &str, sources: &[Source]) -> Vec<Offence> {
    let mut offences = Vec::new();
    for row in rows(page) {
        let mut offend = |what| offences.push(Offence { path: PAGE.to_owned(), line: row.line, what });
        if row.cells.len() != 3 || row.cells.contains(&"") {
            offend("a row has the cells promise, in C, in Rust".to_owned());
            continue;
        }
        for cell in &row.cells[1..] {
            let tests: Vec<_> = quoted(cell).filter(|word| word.contains("::")).collect();
            let places: Vec<_> = tests.iter().map(|test| place_of(test, sources)).collect();
            for (test, _) in tests.iter().zip(&places).filter(|(_, place)| place.is_none()) {
                offend(format!("the test {test} does not exist"));
            }
            let runs_lb = places.iter().flatten().any(|path| path.starts_with("lb/tests/"));
            let all_exist = !tests.is_empty() && places.iter().all(Option::is_some);
            if all_exist && runs_lb == cell.contains("boundary") {
                offend(format!("\"boundary\" stands exactly where no test runs lb: {cell}"));
            }
        }
    }
    offences
}

/// The file with the test `file::test`. `file` may have folders before it.
fn place_of<'a>(test: &str, sources: &'a [Source]) -> Option<&'a str> {
    let (file, name) = test.split_once("::")?;
    let [end, function] = [format!("/{file}.rs"), format!("fn {name}(")];
    let is_it = |source: &&Source| {
        let starts = find_word(&source.blanked.code, name).map(|at| at.saturating_sub("fn ".len()));
        source.path.ends_with(&end)
            && starts.into_iter().any(|at| {
                let before = source.blanked.code[..at].trim_end();
                source.blanked.code[at..].starts_with(&function)
                    && (before.ends_with("#[test]") || before.ends_with("async") || before.ends_with(")]"))
            })
    };
    sources.iter().find(is_it).map(|source| source.path.as_str())
}

#[test]
fn every_promise_of_the_header_is_in_the_table() {
    let (page, header) = (named(PAGE).text, named(HEADER).text);
    assert!(promised(&header).len() > 120, "the test reads another format: {:?}", promised(&header));
    assert_none(&missing_promises(&page, &header));
}

#[test]
fn every_test_in_the_table_of_promises_exists() {
    let page = named(PAGE).text;
    assert!(rows(&page).len() > 20, "the test reads another format");
    assert_none(&missing_tests(&page, sources()));
}

const SAMPLE: &str = "#define LB_NONE 1 /* none */\n#define LB_HAS(p) 1\ntypedef struct lb_x lb_x;\n\
    typedef struct lb_pick { uint32_t index, reserved; uint64_t word[8]; const lb_str *names;\n\
    int32_t (*part)(const struct lb_x *r, lb_str *out); /* a; b */ } lb_pick;\n\
    static inline int lb_is_tried(const lb_request *r) {\n";

#[test]
fn the_promises_of_a_header_are_its_fields_constants_and_functions() {
    let all = ["LB_HAS", "LB_NONE", "lb_is_tried", "lb_pick.index", "lb_pick.names", "lb_pick.part", "lb_pick.word"];
    assert_eq!(promised(SAMPLE).into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn a_promise_that_is_absent_from_the_table_or_only_in_it_is_caught() {
    let page = |row: &str| format!("{TITLE}\n\n| promise | in C | in Rust |\n|---|---|---|\n{row}\n## Next\n| `x` |\n");
    let count = |row: &str| missing_promises(&page(row), SAMPLE).len();
    let whole = "| `LB_NONE`, `LB_HAS`, `lb_is_tried`; `lb_pick`: `index`, `names`, `part`, `word` | | |";
    assert_eq!(count(whole), 0);
    assert_eq!(count(&whole.replace("`part`, ", "")), 1);
    assert_eq!(count(&whole.replace("`LB_NONE`, ", "")), 1);
    assert_eq!(count(&whole.replace("`word`", "`word`, `weight`")), 1);
}

#[test]
fn a_test_that_does_not_exist_is_caught() {
    let code = "/// It.\n#[test]\nfn it_holds() {\n}\nfn helper() {}\n";
    let files = [Source::new("lb/tests/reload/promises.rs", code), Source::new("strategies/x/tests/views.rs", code)];
    let page = |c: &str, rust: &str| format!("{TITLE}\n| a | b | c |\n|---|---|---|\n| `LB_NONE` | {c} | {rust} |\n");
    let count = |c: &str, rust: &str| missing_tests(&page(c, rust), &files).len();
    let (good, outside) = ("`reload/promises::it_holds`", "`views::it_holds`, boundary");
    assert_eq!([count(good, good), count(good, outside), count(good, "the SDK has no such thing")], [0; 3]);
    for bad in ["`promises::it_fails`", "`promise::it_holds`", "`promises::helper`", "`views::it_holds`", ""] {
        assert_eq!(count(good, bad), 1, "{bad}");
    }
    assert_eq!(count(&format!("{good}, boundary"), good), 1);
}
