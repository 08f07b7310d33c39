//! The part of Rust's lexical rules that is needed to separate code, comments and literals.
//!
//! Invariant: a blanked text has the same line breaks as the original, and as many characters in each line.

/// One text in four views. Each keeps some kinds of characters; the others become spaces.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Blanked {
    /// Code and literals.
    pub(crate) uncommented: String,
    /// Code; only the quotes of literals.
    pub(crate) code: String,
    /// Comments with their slashes.
    pub(crate) comments: String,
    /// The contents of literals, without quotes.
    pub(crate) literals: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

pub(crate) fn blank(text: &str) -> Blanked {
    let bytes = text.as_bytes();
    let mut kinds = vec![Kind::Code; bytes.len()];
    let mut at = 0;
    while at < bytes.len() {
        let (kind, from, to) = next_token(bytes, at);
        kinds[from..to].fill(kind);
        at = to.max(at + 1);
        // The closing quote counts as code.
        if kind == Kind::Literal {
            at += 1;
        }
    }
    let keep = |kept: &[Kind]| {
        let chars = text.char_indices();
        chars.map(|(index, c)| if c == '\n' || kept.contains(&kinds[index]) { c } else { ' ' }).collect()
    };
    Blanked {
        uncommented: keep(&[Kind::Code, Kind::Literal]),
        code: keep(&[Kind::Code]),
        comments: keep(&[Kind::Comment]),
        literals: keep(&[Kind::Literal]),
    }
}

/// The kind of the token at `at`, and the range that gets this kind.
fn next_token(bytes: &[u8], at: usize) -> (Kind, usize, usize) {
    let rest = &bytes[at..];
    let is_inside_word = at > 0 && is_word(bytes[at - 1]);
    if rest.starts_with(b"//") {
        let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        return (Kind::Comment, at, at + length);
    }
    if rest.starts_with(b"/*") {
        return (Kind::Comment, at, at + block_comment(rest));
    }
    if rest[0] == b'"' {
        return (Kind::Literal, at + 1, at + 1 + until_quote(&rest[1..], b'"'));
    }
    if rest[0] == b'\'' && is_char(rest) {
        return (Kind::Literal, at + 1, at + 1 + until_quote(&rest[1..], b'\''));
    }
    if let (false, Some(raw)) = (is_inside_word, raw_string(rest)) {
        return (Kind::Literal, at + raw.0, at + raw.1);
    }
    (Kind::Code, at, at + 1)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The length of the block comment at the start of `rest`. Block comments nest.
fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at.min(rest.len())
}

/// The number of bytes before the closing quote.
fn until_quote(rest: &[u8], quote: u8) -> usize {
    let mut at = 0;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at.min(rest.len())
}

/// Whether this is a character and not a lifetime: `'x'`, `'\n'`, but not `'a` or `'static`.
fn is_char(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        Some(first) if first.is_ascii() => rest.get(2) == Some(&b'\''),
        Some(_) => true,
        None => false,
    }
}

/// Where the content of `r"…"`, `r#"…"#`, `br"…"` begins and ends.
fn raw_string(rest: &[u8]) -> Option<(usize, usize)> {
    let prefix = rest
        .iter()
        .position(|byte| *byte == b'r')
        .filter(|at| *at <= 1 && rest[..*at].iter().all(|b| *b == b'b' || *b == b'c'))?
        + 1;
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    let from = prefix + hashes;
    if rest.get(from) != Some(&b'"') {
        return None;
    }
    let end = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let length = rest[from + 1..].windows(end.len()).position(|window| window == end)?;
    Some((from + 1, from + 1 + length))
}

#[test]
fn comments_and_literals_are_separated_from_code() {
    let cases = [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("x // y", 'z')"#, r#"f("      ", ' ')"#),
        (r##"f(r#"a"b"#, br"c\")"##, r##"f(r#"   "#, br"  ")"##),
        (r#"f("a\"b", '\'', '"')"#, r#"f("    ", '  ', ' ')"#),
        ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
        ("over\"é\"r\"x\"", "over\" \"r\" \""),
    ];
    for (text, code) in cases {
        assert_eq!(blank(text).code, code, "{text}");
    }
    let views = blank("a(\"b\") // c");
    assert_eq!(views.uncommented, "a(\"b\")     ");
    assert_eq!(views.comments, "       // c");
    assert_eq!(views.literals, "   b       ");
}
