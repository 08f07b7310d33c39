//! A record as one JSON object on one line.
//!
//! Invariants: ASCII alone, everything else as `\u` escapes, so that no byte of a client's means anything to a terminal or a parser; a
//! key without a value is left out; keys are in a fixed order.

use std::io::Write;

use super::record::{Record, Text};
use super::spell;

/// Appends the line. `stamp`: when the request began.
pub(super) fn line(out: &mut Vec<u8>, record: &Record, stamp: &[u8]) {
    out.extend_from_slice(b"{\"ts\":\"");
    out.extend_from_slice(stamp);
    out.push(b'"');
    text(out, "request_id", record, Text::RequestId);
    text(out, "trace_id", record, Text::TraceId);
    text(out, "listener", record, Text::Listener);
    let _ = write!(out, ",\"client\":\"{}\"", record.client);
    text(out, "method", record, Text::Method);
    text(out, "host", record, Text::Host);
    text(out, "path", record, Text::Path);
    let _ = write!(out, ",\"protocol\":\"{:?}\"", record.version);
    number(out, "status", Some(record.status.into()));
    number(out, "bytes_in", Some(record.bytes_in));
    number(out, "bytes_out", Some(record.bytes_out));
    text(out, "pool", record, Text::Pool);
    text(out, "backend", record, Text::Backend);
    number(out, "attempts", Some(record.attempts.into()));
    text(out, "strategy", record, Text::Strategy);
    number(out, "generation", Some(record.generation).filter(|generation| *generation > 0));
    milliseconds(out, "total_ms", Some(record.total_ns));
    number(out, "pick_ns", record.pick_ns);
    milliseconds(out, "connect_ms", record.connect_ns);
    milliseconds(out, "head_ms", record.head_ns);
    if let Some(error) = record.error {
        key(out, "error");
        out.push(b'"');
        out.extend_from_slice(error.as_str().as_bytes());
        out.push(b'"');
    }
    text(out, "user_agent", record, Text::UserAgent);
    out.extend_from_slice(b"}\n");
}

fn key(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text(out: &mut Vec<u8>, name: &str, record: &Record, text: Text) {
    let Some((bytes, is_cut)) = record.text(text) else { return };
    key(out, name);
    out.push(b'"');
    string(out, bytes);
    out.extend_from_slice(if is_cut { b"...\"" } else { b"\"" });
}

fn number(out: &mut Vec<u8>, name: &str, number: Option<u64>) {
    if let Some(number) = number {
        key(out, name);
        spell::number(out, number);
    }
}

fn milliseconds(out: &mut Vec<u8>, name: &str, ns: Option<u64>) {
    if let Some(ns) = ns {
        key(out, name);
        spell::milliseconds(out, ns);
    }
}

/// What stands between the quotes. Bytes that are no UTF-8 become U+FFFD, as JSON has no way to say them.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if bytes.iter().all(is_plain) {
        return out.extend_from_slice(bytes);
    }
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
                ' '..='~' => out.push(character as u8),
                _ => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::telemetry::ErrorReason;

    fn value(record: &Record) -> Value {
        let mut out = Vec::new();
        line(&mut out, record, b"2025-11-22T18:35:07.123Z");
        let text = String::from_utf8(out).unwrap();
        assert!(text.is_ascii() && text.ends_with("}\n") && text.lines().count() == 1, "{text:?}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_line_has_what_is_known_and_leaves_out_what_is_not() {
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
        let all = value(&record);
        let found = [&all["error"], &all["pick_ns"], &all["connect_ms"], &all["head_ms"]];
        assert_eq!(found, [&json!("timeout"), &json!(40), &json!(0.1), &json!(1.0)]);
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

    #[test]
    fn what_was_cut_shows_it() {
        let mut record = Record::default();
        record.note(Text::Path, &[b'x'; 600]);
        assert_eq!(value(&record)["path"].as_str().unwrap(), format!("{}...", "x".repeat(512)));
    }

    #[test]
    fn every_key_is_in_the_documentation() {
        let mut record = Record::default();
        (record.generation, record.error) = (1, Some(ErrorReason::Timeout));
        (record.pick_ns, record.connect_ns, record.head_ns) = (Some(1), Some(1), Some(1));
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
