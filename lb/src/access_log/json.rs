//! A record as one JSON object on one line.
//!
//! Invariants: ASCII only, everything else as `\u` escapes, so no byte of a client has a meaning for a terminal or a
//! parser. A key without a value is left out. Keys are in a fixed order.

use super::plain::{hex, plain_length};
use super::record::{Record, Text};
use super::{address, spell};

/// The texts of a record.
struct Texts<'a> {
    record: &'a Record,
    /// None of them needs an escape.
    are_plain: bool,
}

/// Appends the line. `stamp`: when the request began.
pub(super) fn line(out: &mut Vec<u8>, record: &Record, stamp: &[u8]) {
    // One test of all texts instead of one for each: mostly no byte needs an escape.
    let texts = Texts { record, are_plain: plain_length(record.bytes()) == record.bytes().len() };
    out.extend_from_slice(br#"{"ts":""#);
    out.extend_from_slice(stamp);
    out.push(b'"');
    texts.put(out, br#","request_id":""#, Text::RequestId);
    texts.put(out, br#","trace_id":""#, Text::TraceId);
    texts.put(out, br#","listener":""#, Text::Listener);
    out.extend_from_slice(br#","client":""#);
    address::with_port(out, record.client);
    out.push(b'"');
    texts.put(out, br#","method":""#, Text::Method);
    texts.put(out, br#","host":""#, Text::Host);
    texts.put(out, br#","path":""#, Text::Path);
    out.extend_from_slice(br#","protocol":""#);
    spell::version(out, record.version);
    out.push(b'"');
    number(out, br#","status":"#, Some(record.status.into()));
    number(out, br#","bytes_in":"#, Some(record.bytes_in));
    number(out, br#","bytes_out":"#, Some(record.bytes_out));
    texts.put(out, br#","pool":""#, Text::Pool);
    texts.put(out, br#","backend":""#, Text::Backend);
    number(out, br#","attempts":"#, Some(record.attempts.into()));
    if let Some(hedge) = record.hedge {
        word(out, br#","hedge":""#, hedge.as_str());
    }
    texts.put(out, br#","strategy":""#, Text::Strategy);
    number(out, br#","generation":"#, Some(record.generation).filter(|generation| *generation > 0));
    milliseconds(out, br#","total_ms":"#, Some(record.total_ns));
    number(out, br#","pick_ns":"#, record.pick_ns);
    milliseconds(out, br#","queue_ms":"#, record.queue_ns);
    milliseconds(out, br#","connect_ms":"#, record.connect_ns);
    milliseconds(out, br#","head_ms":"#, record.head_ns);
    if let Some(error) = record.error {
        word(out, br#","error":""#, error.as_str());
    }
    texts.put(out, br#","user_agent":""#, Text::UserAgent);
    out.extend_from_slice(b"}\n");
}

// Keys are arrays and these functions are inlined, so that the copy of a key has a constant length.

#[inline(always)]
fn number<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], number: Option<u64>) {
    if let Some(number) = number {
        out.extend_from_slice(key);
        spell::number(out, number);
    }
}

#[inline(always)]
fn milliseconds<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], ns: Option<u64>) {
    if let Some(ns) = ns {
        out.extend_from_slice(key);
        spell::milliseconds(out, ns);
    }
}

/// Appends a word that needs no escape.
fn word(out: &mut Vec<u8>, key: &[u8], word: &str) {
    [key, word.as_bytes(), b"\""].iter().for_each(|part| out.extend_from_slice(part));
}

// === impl Texts ===

impl Texts<'_> {
    #[inline(always)]
    fn put<const N: usize>(&self, out: &mut Vec<u8>, key: &[u8; N], text: Text) {
        let Some((bytes, is_cut)) = self.record.text(text) else { return };
        out.extend_from_slice(key);
        match self.are_plain {
            true => out.extend_from_slice(bytes),
            false => escaped(out, bytes),
        }
        if is_cut {
            out.extend_from_slice(b"...");
        }
        out.push(b'"');
    }
}

/// Appends text for a place between quotes. Bytes that are not UTF-8 become U+FFFD, because JSON cannot represent them.
fn escaped(out: &mut Vec<u8>, mut bytes: &[u8]) {
    loop {
        let (plain, rest) = bytes.split_at(plain_length(bytes));
        out.extend_from_slice(plain);
        match rest {
            [] => return,
            [mark @ (b'"' | b'\\'), rest @ ..] => {
                out.extend_from_slice(&[b'\\', *mark]);
                bytes = rest;
            }
            [control @ ..0x80, rest @ ..] => {
                unit(out, (*control).into());
                bytes = rest;
            }
            _ => {
                // After a byte of ASCII, neither a character nor a broken part of one goes on.
                let length = rest.iter().position(u8::is_ascii).unwrap_or(rest.len());
                not_ascii(out, &rest[..length]);
                bytes = &rest[length..];
            }
        }
    }
}

fn not_ascii(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            character.encode_utf16(&mut [0; 2]).iter().for_each(|of| unit(out, *of));
        }
        if !chunk.invalid().is_empty() {
            unit(out, 0xfffd);
        }
    }
}

/// A unit of UTF-16 as an escape.
fn unit(out: &mut Vec<u8>, unit: u16) {
    let [high, low] = unit.to_be_bytes().map(hex);
    out.extend_from_slice(&[b'\\', b'u', high[0], high[1], low[0], low[1]]);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::telemetry::{ErrorReason, HedgeResult};

    fn value(record: &Record) -> Value {
        let mut out = Vec::new();
        line(&mut out, record, b"2025-11-22T18:35:07.123Z");
        let text = String::from_utf8(out).unwrap();
        assert!(text.is_ascii() && text.ends_with("}\n") && text.lines().count() == 1, "{text:?}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_line_has_the_known_values_and_leaves_out_the_others() {
        let mut record = Record::default();
        (record.status, record.attempts, record.generation, record.total_ns) = (200, 1, 3, 1_234_567);
        record.note(Text::Path, b"/a?b=c");
        record.note(Text::Backend, b"Server 1");
        let expected = json!({
            "ts": "2025-11-22T18:35:07.123Z", "client": "0.0.0.0:0", "path": "/a?b=c", "protocol": "HTTP/1.1", "status": 200,
            "bytes_in": 0, "bytes_out": 0, "backend": "Server 1", "attempts": 1, "generation": 3, "total_ms": 1.235,
        });
        assert_eq!(value(&record), expected);
        record.error = Some(ErrorReason::Timeout);
        (record.pick_ns, record.connect_ns, record.head_ns) = (Some(40), Some(100_000), Some(1_000_000));
        record.queue_ns = Some(2_500_000);
        let all = value(&record);
        let found = [&all["error"], &all["pick_ns"], &all["queue_ms"], &all["connect_ms"], &all["head_ms"]];
        assert_eq!(found, [&json!("timeout"), &json!(40), &json!(2.5), &json!(0.1), &json!(1.0)]);
    }

    #[test]
    fn keys_are_in_this_order() {
        let mut record = Record::default();
        record.client = "[2001:db8::1]:443".parse().unwrap();
        (record.status, record.bytes_in, record.bytes_out, record.attempts) = (502, 12, 345, 2);
        (record.generation, record.total_ns, record.pick_ns) = (7, 1_234_567, Some(40));
        (record.connect_ns, record.head_ns, record.error) =
            (Some(100_000), Some(1_000_000), Some(ErrorReason::Timeout));
        (record.queue_ns, record.hedge) = (Some(2_500_000), Some(HedgeResult::Won));
        for (text, bytes) in [
            (Text::RequestId, "id"),
            (Text::TraceId, "trace"),
            (Text::Listener, "door"),
            (Text::Method, "GET"),
            (Text::Host, "a"),
            (Text::Path, "/"),
            (Text::Pool, "p"),
            (Text::Backend, "b"),
            (Text::Strategy, "s"),
            (Text::UserAgent, "u"),
        ] {
            record.note(text, bytes.as_bytes());
        }
        let mut out = Vec::new();
        line(&mut out, &record, b"now");
        let wanted = concat!(
            r#"{"ts":"now","request_id":"id","trace_id":"trace","listener":"door","client":"[2001:db8::1]:443","method":"GET","#,
            r#""host":"a","path":"/","protocol":"HTTP/1.1","status":502,"bytes_in":12,"bytes_out":345,"pool":"p","backend":"b","#,
            r#""attempts":2,"hedge":"won","strategy":"s","generation":7,"total_ms":1.235,"pick_ns":40,"queue_ms":2.500,"connect_ms":0.100,"#,
            r#""head_ms":1.000,"error":"timeout","user_agent":"u"}"#,
            "\n",
        );
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }

    #[test]
    fn hostile_bytes_stay_inside_their_field() {
        let mut record = Record::default();
        let hostile: Vec<u8> = (0..=255).collect();
        record.note(Text::UserAgent, &hostile[..]);
        record.note(Text::Path, "\"},{\"status\":\"é\u{9b}\u{202e}😀\r\n".as_bytes());
        let value = value(&record);
        assert_eq!(value["path"], "\"},{\"status\":\"é\u{9b}\u{202e}😀\r\n");
        let said = value["user_agent"].as_str().unwrap();
        assert!(said.starts_with("\u{0}\u{1}") && said.contains("\"#") && said.ends_with('\u{fffd}'), "{said:?}");
    }

    /// The rule of the documentation, one character at a time.
    fn reference(bytes: &[u8]) -> String {
        let escape = |character: char| match character {
            '"' | '\\' => format!("\\{character}"),
            ' '..='~' => character.to_string(),
            _ => character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
        };
        String::from_utf8_lossy(bytes).chars().map(escape).collect()
    }

    #[test]
    fn any_text_is_escaped_by_the_rule() {
        let mut random = fastrand::Rng::with_seed(815);
        let pieces: [&[u8]; 10] =
            [b"\"", b"\\", b"\x7f", b"\0", "é".as_bytes(), "😀".as_bytes(), b"\xe2\x82", b"\xff", b"\xf0\x9f", b"\x80"];
        for round in 0..20_000 {
            let mut bytes = vec![b'a'; random.usize(..20)];
            for _ in 0..random.usize(..5) {
                match round % 2 {
                    0 => bytes.extend_from_slice(pieces[random.usize(..pieces.len())]),
                    _ => bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(3)),
                }
                bytes.extend(std::iter::repeat_with(|| random.u8(b' '..=b'~')).take(round % 9));
            }
            let mut out = Vec::new();
            escaped(&mut out, &bytes);
            assert_eq!(String::from_utf8(out).unwrap(), reference(&bytes), "{}", bytes.escape_ascii());
            // Also in a line where only this text needs escapes.
            let mut record = Record::default();
            record.note(Text::Method, b"GET");
            record.note(Text::Path, &bytes);
            let said = value(&record);
            let expected = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!((said["method"].as_str(), said["path"].as_str().unwrap_or_default()), (Some("GET"), &*expected));
        }
    }

    #[test]
    fn a_cut_text_is_marked() {
        let mut record = Record::default();
        record.note(Text::Path, &[b'x'; 600]);
        assert_eq!(value(&record)["path"].as_str().unwrap(), format!("{}...", "x".repeat(512)));
    }

    #[test]
    fn every_key_is_in_the_documentation() {
        let mut record = Record::default();
        (record.generation, record.error) = (1, Some(ErrorReason::Timeout));
        (record.pick_ns, record.queue_ns, record.connect_ns, record.head_ns) = (Some(1), Some(1), Some(1), Some(1));
        record.hedge = Some(HedgeResult::Lost);
        for text in [Text::RequestId, Text::TraceId, Text::Listener, Text::Method, Text::Host, Text::Path, Text::Pool] {
            record.note(text, b"x");
        }
        for text in [Text::Backend, Text::Strategy, Text::UserAgent, Text::Key, Text::Reason] {
            record.note(text, b"x");
        }
        let page = include_str!("../../../docs/access-log.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let told = rows.flat_map(|row| row.split(['`', ',', ' '])).filter(|key| !key.is_empty());
        let told: std::collections::BTreeSet<&str> = told.collect();
        let value = value(&record);
        let written: std::collections::BTreeSet<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(written, told);
    }
}
