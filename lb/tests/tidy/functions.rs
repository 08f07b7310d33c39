//! A rule about functions: each fits on a screen.

use crate::sources::{Offence, Source, assert_none, find_word, leading_word, line_of, sources};

const LINES_MAX: usize = 70;

/// Longer functions by file and name, each with a reason. The list may only become shorter.
const LONG: &[(&str, &str, &str)] =
    &[("lb/src/config/tests/mistakes.rs", "a_wrong_value_is_reported_with_line_key_and_remedy", "a table of mistakes")];

/// A function with a body.
#[derive(Debug, PartialEq)]
struct Function<'a> {
    name: &'a str,
    /// The lines from `fn` to the closing brace.
    first: usize,
    last: usize,
}

fn functions(code: &str) -> Vec<Function<'_>> {
    let of = |at: usize| {
        let name = leading_word(code[at + "fn".len()..].trim_start());
        let (open, close) = body(&code[at..])?;
        // The type of a function pointer has no name.
        (!name.is_empty() && open < close).then(|| Function {
            name,
            first: line_of(code, at),
            last: line_of(code, at + close),
        })
    };
    find_word(code, "fn").filter_map(of).collect()
}

/// The braces of the first body, as byte indexes; `None` if a declaration ends without one.
fn body(code: &str) -> Option<(usize, usize)> {
    let (mut brackets, mut braces, mut open) = (0_i32, 0_i32, None);
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets -= 1,
            b';' if open.is_none() && brackets <= 0 => return None,
            b'{' => {
                open = open.or((brackets == 0).then_some(at));
                braces += i32::from(open.is_some());
            }
            b'}' if open.is_some() => {
                braces -= 1;
                if braces == 0 {
                    return Some((open?, at));
                }
            }
            _ => {}
        }
        // The bracket after the type of a function pointer ends here.
        if brackets < 0 {
            return None;
        }
    }
    None
}

fn too_long(sources: &[Source], allowed: &[(&str, &str, &str)]) -> Vec<Offence> {
    let mut offences = Vec::new();
    let mut used = vec![false; allowed.len()];
    for source in sources.iter().filter(|source| source.path.contains("/src/")) {
        for Function { name, first, last } in functions(&source.blanked.code) {
            let lines = last - first + 1;
            if lines <= LINES_MAX {
                continue;
            }
            match allowed.iter().position(|(path, function, _)| *path == source.path && *function == name) {
                Some(at) if !allowed[at].2.is_empty() => used[at] = true,
                _ => offences.push(
                    source.offence(first, format!("{name} has {lines} lines, and {LINES_MAX} fit: divide it by idea")),
                ),
            }
        }
    }
    let stale = allowed.iter().zip(used).filter(|(_, is_used)| !is_used);
    offences.extend(stale.map(|((path, name, _), _)| Offence {
        path: (*path).to_owned(),
        line: 1,
        what: format!("{name} is short enough: remove it from LONG"),
    }));
    offences
}

#[test]
fn functions_fit_on_a_screen() {
    assert_none(&too_long(sources(), LONG));
}

#[test]
fn a_long_function_and_a_stale_reason_are_caught() {
    let lines = |n: usize| format!("fn f(g: fn(u8), [a, b]: [u8; 2])\nwhere\n    u8: Copy,\n{{{}}}\n", "\n".repeat(n));
    let [long, short] = [67, 66].map(lines);
    let count =
        |path: &str, text: &str, allowed: &[(&str, &str, &str)]| too_long(&[Source::new(path, text)], allowed).len();
    assert_eq!(count("lb/src/a.rs", &long, &[]), 1);
    assert_eq!(count("lb/src/a.rs", &short, &[]), 0);
    assert_eq!(count("lb/tests/a.rs", &long, &[]), 0);
    assert_eq!(count("lb/src/a.rs", &long, &[("lb/src/a.rs", "f", "a table")]), 0);
    assert_eq!(count("lb/src/a.rs", &long, &[("lb/src/a.rs", "f", "")]), 2);
    assert_eq!(count("lb/src/a.rs", &long, &[("lb/src/b.rs", "f", "a table")]), 2);
    assert_eq!(count("lb/src/a.rs", &short, &[("lb/src/a.rs", "f", "a table")]), 1);
}

#[test]
fn functions_are_found_where_they_begin_and_end() {
    let found = |text: &str| {
        let source = Source::new("a.rs", text);
        let found = functions(&source.blanked.code);
        found.iter().map(|it| format!("{} {} {}", it.name, it.first, it.last)).collect::<Vec<_>>()
    };
    assert_eq!(found("trait T {\n fn a(&self);\n fn b() -> fn() {\n  \"}\"\n }\n}"), ["b 3 5"]);
    assert_eq!(found("fn a() {\n fn b() {}\n}\n// fn c() {}\ntype F = fn(u8);\n"), ["a 1 3", "b 2 2"]);
    assert_eq!(found("struct S {\n f: Box<fn(u8)>,\n g: (fn(), u8),\n}\nimpl S { fn d() {} }"), ["d 5 5"]);
}
