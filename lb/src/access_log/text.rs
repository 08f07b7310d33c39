//! A record as one line of text: the "combined" format of web servers, then `key=value` pairs for the data that only a
//! balancer has.
//!
//! Invariants: a missing field is `-`. Text from clients and backends stands in quotes. In it `"`, `\` and every byte
//! that is not printable ASCII is `\xHH`, so it cannot end a line or a field.

use super::plain::{hex, plain_length};
use super::record::{Record, Text};
use super::{address, spell};

/// Appends the line. `stamp`: when the request began. The referer is not recorded, so its place has `"-"`.
pub(super) fn line(out: &mut Vec<u8>, record: &Record, stamp: &[u8]) {
    address::ip(out, record.client.ip().to_canonical());
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(stamp);
    out.extend_from_slice(b"] \"");
    bytes_of(out, record, Text::Method);
    out.push(b' ');
    bytes_of(out, record, Text::Path);
    out.push(b' ');
    spell::version(out, record.version);
    number(out, b"\" ", Some(record.status.into()));
    number(out, b" ", Some(record.bytes_out));
    quoted(out, b" \"-\" \"", record, Text::UserAgent);
    quoted(out, b" host=\"", record, Text::Host);
    quoted(out, b" pool=\"", record, Text::Pool);
    quoted(out, b" backend=\"", record, Text::Backend);
    quoted(out, b" strategy=\"", record, Text::Strategy);
    number(out, b" attempts=", Some(record.attempts.into()));
    out.extend_from_slice(b" hedge=");
    out.extend_from_slice(record.hedge.map_or("-", |hedge| hedge.as_str()).as_bytes());
    number(out, b" generation=", Some(record.generation));
    number(out, b" bytes_in=", Some(record.bytes_in));
    milliseconds(out, b" total_ms=", Some(record.total_ns));
    number(out, b" pick_ns=", record.pick_ns);
    milliseconds(out, b" queue_ms=", record.queue_ns);
    milliseconds(out, b" connect_ms=", record.connect_ns);
    milliseconds(out, b" head_ms=", record.head_ns);
    out.extend_from_slice(b" error=");
    out.extend_from_slice(record.error.map_or("-", |error| error.as_str()).as_bytes());
    quoted(out, b" request_id=\"", record, Text::RequestId);
    quoted(out, b" trace_id=\"", record, Text::TraceId);
    quoted(out, b" listener=\"", record, Text::Listener);
    out.push(b'\n');
}

/// `key` ends with the quote that begins the text.
fn quoted(out: &mut Vec<u8>, key: &[u8], record: &Record, text: Text) {
    out.extend_from_slice(key);
    bytes_of(out, record, text);
    out.push(b'"');
}

fn bytes_of(out: &mut Vec<u8>, record: &Record, text: Text) {
    let Some((mut bytes, is_cut)) = record.text(text) else { return out.push(b'-') };
    loop {
        let (plain, rest) = bytes.split_at(plain_length(bytes));
        out.extend_from_slice(plain);
        let [byte, rest @ ..] = rest else { break };
        let [high, low] = hex(*byte);
        out.extend_from_slice(&[b'\\', b'x', high, low]);
        bytes = rest;
    }
    if is_cut {
        out.extend_from_slice(b"...");
    }
}

fn number(out: &mut Vec<u8>, key: &[u8], number: Option<u64>) {
    out.extend_from_slice(key);
    match number {
        Some(number) => spell::number(out, number),
        None => out.push(b'-'),
    }
}

fn milliseconds(out: &mut Vec<u8>, key: &[u8], ns: Option<u64>) {
    out.extend_from_slice(key);
    match ns {
        Some(ns) => spell::milliseconds(out, ns),
        None => out.push(b'-'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::ErrorReason;

    fn text(record: &Record) -> String {
        let mut out = Vec::new();
        line(&mut out, record, b"22/Nov/2025:18:35:07 +0000");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_begins_as_the_combined_format_and_goes_on_with_pairs() {
        let mut record = Record::default();
        (record.status, record.attempts, record.generation, record.total_ns) = (503, 2, 3, 1_234_567);
        record.client = "[::ffff:10.1.2.3]:9".parse().unwrap();
        record.error = Some(ErrorReason::Connect);
        for (what, bytes) in
            [(Text::Method, "GET"), (Text::Path, "/a?b"), (Text::Backend, "Server 1"), (Text::Pool, "p")]
        {
            record.note(what, bytes.as_bytes());
        }
        let wanted = "10.1.2.3 - - [22/Nov/2025:18:35:07 +0000] \"GET /a?b HTTP/1.1\" 503 0 \"-\" \"-\" host=\"-\" pool=\"p\" \
                      backend=\"Server 1\" strategy=\"-\" attempts=2 hedge=- generation=3 bytes_in=0 total_ms=1.235 \
                      pick_ns=- queue_ms=- connect_ms=- head_ms=- error=connect request_id=\"-\" trace_id=\"-\" listener=\"-\"\n";
        assert_eq!(text(&record), wanted);
    }

    #[test]
    fn hostile_bytes_stay_inside_their_field() {
        let mut record = Record::default();
        let hostile: Vec<u8> = (0..=255).collect();
        record.note(Text::UserAgent, &hostile);
        record.note(Text::Path, b"/\" 200 0\r\n127.0.0.1 \\");
        let line = text(&record);
        assert!(line.is_ascii() && line.lines().count() == 1, "{line:?}");
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte) || byte == b'\n'), "{line:?}");
        assert!(line.contains(r#""- /\x22 200 0\x0d\x0a127.0.0.1 \x5c HTTP/1.1" 0 0"#), "{line}");
        assert!(
            line.contains(r#""\x00\x01"#) && line.contains(r"!\x22#") && line.contains(r#"\xfe\xff" host="#),
            "{line}"
        );
    }
}
