//! The fields of one head or trailer section, in the order of their arrival.
//!
//! One buffer holds them as they are sent: a name in lower case, a colon, a space, the value, CR LF. So writing a head
//! is a copy. Reading one allocates nothing once the buffer has grown. Invariants: a name is a token in lower case. A
//! value has no CR, LF or NUL and no space at its ends. Spans are in the order of the fields, not always of the bytes
//! ([`set`](Fields::set)).

mod whole;

use super::class::{is_blank, is_token, is_value, lower_token, trim};
use super::scan::Line;

/// Names and values. Cleared, it keeps its memory for the next head.
#[derive(Clone)]
pub struct Fields {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    /// A [`bit`] for each name that was added: a look-up of a name without its bit ends at once.
    names: u64,
    /// The bytes are the fields, in their order and without gaps.
    is_whole: bool,
}

/// Where one field lies.
#[derive(Clone, Copy, Debug)]
struct Span {
    begin: u32,
    name: u32,
    value: u32,
}

/// The bytes between name and value, and behind the value.
const COLON: &[u8] = b": ";
const END: &[u8] = b"\r\n";

// === impl Fields ===

impl Fields {
    pub fn new() -> Self {
        Self { bytes: Vec::new(), spans: Vec::new(), names: 0, is_whole: true }
    }

    /// Removes all fields and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
        (self.names, self.is_whole) = (0, true);
    }

    /// The bytes of memory for names and values that are kept when it is cleared.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Names (lower case) and values, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        self.spans.iter().map(|span| (self.name(*span), self.value(*span)))
    }

    /// The first value of `name`, which is in lower case.
    #[inline(always)]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.candidates(name).iter().find(|span| self.is(**span, name)).map(|span| self.value(*span))
    }

    /// All values of `name`, which is in lower case.
    #[inline(always)]
    pub fn all<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.candidates(name).iter().filter(move |span| self.is(**span, name)).map(|span| self.value(*span))
    }

    #[inline(always)]
    pub fn has(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    /// Adds a field behind the others. `name` is a token in any case; `value` has no spaces at its ends.
    #[inline]
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        debug_assert!(is_token(name) && is_value(value), "{} {}", name.escape_ascii(), value.escape_ascii());
        let begin = self.bytes.len();
        self.bytes.reserve(name.len() + value.len() + COLON.len() + END.len());
        self.bytes.extend_from_slice(name);
        self.bytes[begin..].make_ascii_lowercase();
        self.bytes.extend_from_slice(COLON);
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(END);
        self.add(begin, name.len(), value.len());
    }

    /// Adds the field in `line`, or returns false if [there is none](Line::why_no_field).
    ///
    /// Most lines already have the form in which they are sent, except for the case of the name. They are copied whole.
    pub(super) fn push_line(&mut self, line: Line<'_>) -> bool {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(line.whole);
        let name = lower_token(&mut self.bytes[begin..]);
        let rest = &line.bytes()[name..];
        let is_plain = matches!(rest, [b':', b' ', first, .., last] if !is_blank(*first) && !is_blank(*last));
        if !is_plain || name == 0 || line.has_control {
            return self.finish_line(begin, name, rest, line.has_control);
        }
        self.add(begin, name, rest.len() - COLON.len());
        true
    }

    /// Adds a field of which the name was added, or nothing if there is none. `rest` is the line from the colon on.
    #[cold]
    fn finish_line(&mut self, begin: usize, name: usize, rest: &[u8], has_control: bool) -> bool {
        let value = match rest {
            [b':', value @ ..] if name > 0 && !has_control => trim(value),
            _ => {
                self.bytes.truncate(begin);
                return false;
            }
        };
        self.bytes.truncate(begin + name);
        self.bytes.extend_from_slice(COLON);
        self.bytes.extend_from_slice(value);
        self.bytes.extend_from_slice(END);
        self.add(begin, name, value.len());
        true
    }

    /// Adds the span of a field whose bytes were added.
    #[inline(always)]
    fn add(&mut self, begin: usize, name: usize, value: usize) {
        let span = Span { begin: begin as u32, name: name as u32, value: value as u32 };
        self.names |= bit(span.name_in(&self.bytes));
        self.spans.push(span);
    }

    /// Adds all fields of `others` behind the others.
    pub fn append(&mut self, others: &Fields) {
        let (begin, spans) = (self.bytes.len() as u32, others.spans.iter());
        self.bytes.extend_from_slice(&others.bytes);
        self.spans.extend(spans.map(|span| Span { begin: begin + span.begin, ..*span }));
        self.names |= others.names;
        self.is_whole &= others.is_whole;
    }

    /// Adds a field with the first value of `of`, which is in lower case as `name` is; none if there is no such value.
    pub fn push_copy(&mut self, name: &[u8], of: &[u8]) {
        let Some(span) = self.spans.iter().find(|span| self.is(**span, of)).copied() else { return };
        let (begin, end) = (self.bytes.len(), span.end());
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(COLON);
        self.bytes.extend_from_within(end - END.len() - span.value as usize..end);
        self.add(begin, name.len(), span.value as usize);
    }

    /// Gives `name` this one value, at the place of its first field, or behind the others.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let place = self.spans.iter().position(|span| self.is(*span, name));
        self.push(name, value);
        let Some(place) = place else { return };
        self.is_whole = false;
        if let Some(span) = self.spans.pop() {
            self.spans[place] = span;
        }
        let mut index = 0;
        let (bytes, spans) = (&self.bytes, &mut self.spans);
        spans.retain(|span| {
            index += 1;
            index - 1 <= place || span.name_in(bytes) != name
        });
    }

    /// Removes every field of `name`, which is in lower case.
    pub fn remove(&mut self, name: &[u8]) {
        self.retain(|other, _| other != name);
    }

    /// Keeps the fields of which `is_kept` says so, by name and value.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&[u8], &[u8]) -> bool) {
        let before = self.spans.len();
        let (bytes, spans) = (&self.bytes, &mut self.spans);
        spans.retain(|span| is_kept(span.name_in(bytes), span.value_in(bytes)));
        self.is_whole &= spans.len() == before;
    }

    /// Appends all fields as they go out, without the empty line behind them.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.is_whole {
            return out.extend_from_slice(&self.bytes);
        }
        let mut spans = self.spans.iter();
        let Some(first) = spans.next() else { return };
        let (mut begin, mut end) = (first.begin as usize, first.end());
        for span in spans {
            if span.begin as usize != end {
                out.extend_from_slice(&self.bytes[begin..end]);
                begin = span.begin as usize;
            }
            end = span.end();
        }
        out.extend_from_slice(&self.bytes[begin..end]);
    }

    /// All spans, or none if `name` was never added.
    #[inline(always)]
    fn candidates(&self, name: &[u8]) -> &[Span] {
        if self.names & bit(name) == 0 { &[] } else { &self.spans }
    }

    #[inline(always)]
    fn is(&self, span: Span, name: &[u8]) -> bool {
        span.name as usize == name.len() && self.name(span) == name
    }

    fn name(&self, span: Span) -> &[u8] {
        span.name_in(&self.bytes)
    }

    fn value(&self, span: Span) -> &[u8] {
        span.value_in(&self.bytes)
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        f.debug_map().entries(self.iter().map(|(name, value)| (text(name), text(value)))).finish()
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

impl<'a> FromIterator<(&'a str, &'a str)> for Fields {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(fields: I) -> Self {
        let mut all = Self::new();
        fields.into_iter().for_each(|(name, value)| all.push(name.as_bytes(), value.as_bytes()));
        all
    }
}

// === impl Span ===

impl Span {
    fn name_in(self, bytes: &[u8]) -> &[u8] {
        let begin = self.begin as usize;
        &bytes[begin..begin + self.name as usize]
    }

    fn value_in(self, bytes: &[u8]) -> &[u8] {
        let begin = self.begin as usize + self.name as usize + COLON.len();
        &bytes[begin..begin + self.value as usize]
    }

    fn end(self) -> usize {
        self.begin as usize + self.name as usize + COLON.len() + self.value as usize + END.len()
    }
}

/// One of 64 bits for a name, by its length and first byte.
#[inline(always)]
fn bit(name: &[u8]) -> u64 {
    let first = name.first().copied().unwrap_or_default();
    1 << ((name.len() * 5 + usize::from(first)) % 64)
}

// === impl Line ===

impl Line<'_> {
    /// One sentence that says why the line is not a valid field.
    #[cold]
    pub(super) fn why_no_field(self) -> &'static str {
        let name = lower_token(&mut self.bytes().to_vec());
        match &self.bytes()[name..] {
            [b' ' | b'\t', ..] if name == 0 => "a header field is folded into a second line, which is obsolete",
            [b':', ..] if name == 0 => "a header field has no name",
            [b':', ..] => "a header field's value contains a control character",
            rest if !rest.contains(&b':') => "a header field has no colon",
            _ => "a header field's name contains an invalid byte",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Fields {
        [("Host", "a"), ("X-One", "1"), ("x-two", "2"), ("X-ONE", "3")].into_iter().collect()
    }

    fn written(fields: &Fields) -> String {
        let mut out = Vec::new();
        fields.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_are_found_by_name_and_written_in_order() {
        let fields = some();
        assert_eq!((fields.len(), fields.get(b"x-one"), fields.get(b"x-three")), (4, Some(&b"1"[..]), None));
        assert_eq!(fields.all(b"x-one").collect::<Vec<_>>(), [b"1", b"3"]);
        assert_eq!(written(&fields), "host: a\r\nx-one: 1\r\nx-two: 2\r\nx-one: 3\r\n");
        assert_eq!(written(&Fields::new()), "");
    }

    #[test]
    fn a_field_that_is_set_stands_once_at_its_first_place() {
        let mut fields = some();
        fields.set(b"x-one", b"new");
        fields.set(b"x-last", b"9");
        assert_eq!(written(&fields), "host: a\r\nx-one: new\r\nx-two: 2\r\nx-last: 9\r\n");
        fields.remove(b"x-two");
        fields.push(b"via", b"");
        assert_eq!(written(&fields), "host: a\r\nx-one: new\r\nx-last: 9\r\nvia: \r\n");
        assert_eq!(fields.get(b"via"), Some(&b""[..]));
        fields.clear();
        assert!(fields.is_empty() && fields.get(b"host").is_none());
    }

    #[test]
    fn a_copy_has_the_first_value_of_another_field() {
        let mut fields = some();
        fields.push_copy(b"x-copy", b"x-one");
        fields.push_copy(b"x-none", b"x-three");
        fields.push(b"x-last", b"9");
        fields.push_copy(b"x-again", b"x-last");
        let copied = "host: a\r\nx-one: 1\r\nx-two: 2\r\nx-one: 3\r\nx-copy: 1\r\nx-last: 9\r\nx-again: 9\r\n";
        assert_eq!((written(&fields).as_str(), fields.get(b"x-copy"), fields.len()), (copied, Some(&b"1"[..]), 7));
    }

    #[test]
    fn appended_fields_stand_behind_the_others() {
        let (mut fields, mut others) = (some(), some());
        others.remove(b"x-one");
        fields.set(b"x-two", b"4");
        fields.append(&others);
        fields.append(&Fields::new());
        let all = "host: a\r\nx-one: 1\r\nx-two: 4\r\nx-one: 3\r\nhost: a\r\nx-two: 2\r\n";
        assert_eq!((written(&fields).as_str(), fields.len()), (all, 6));
        assert_eq!(fields.all(b"x-two").collect::<Vec<_>>(), [b"4", b"2"]);
        let mut none = Fields::new();
        none.append(&some());
        assert_eq!((none.get(b"host"), &none), (Some(&b"a"[..]), &some()));
    }

    #[test]
    fn any_changes_leave_what_a_plain_list_would_hold() {
        let seed = 912;
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let names = ["a", "bb", "ccc", "b-b"];
        for _ in 0..2_000 {
            let (mut fields, mut plain) = (Fields::new(), Vec::<(String, String)>::new());
            for _ in 0..random.usize(1..12) {
                let name = names[random.usize(0..names.len())];
                let value = "v".repeat(random.usize(0..4));
                match random.u8(0..4) {
                    0 | 1 => {
                        fields.push(name.as_bytes(), value.as_bytes());
                        plain.push((name.into(), value));
                    }
                    2 => {
                        fields.remove(name.as_bytes());
                        plain.retain(|(other, _)| other != name);
                    }
                    _ => {
                        fields.set(name.as_bytes(), value.as_bytes());
                        let place = plain.iter().position(|(other, _)| other == name).unwrap_or(plain.len());
                        plain.insert(place, (name.into(), value));
                        let mut index = 0;
                        plain.retain(|(other, _)| {
                            index += 1;
                            index - 1 <= place || other != name
                        });
                    }
                }
            }
            let expected: String = plain.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            assert_eq!(written(&fields), expected);
        }
    }
}
