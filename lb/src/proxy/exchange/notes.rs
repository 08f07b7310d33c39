//! The record of a request: for its line in the access log, and for the response to `x-lb-explain: 1`.
//!
//! Both read the same [`Record`], which the request's guard holds. Invariants: if there is no log and `explain_header`
//! is off, no record exists, and recording costs one branch. Text from a client is copied up to a limit and never
//! trusted.

use std::time::Duration;

use tokio::time::Instant;

use super::choose::Picked;
use super::{Context, Exchange};
use crate::access_log::{Record, Text};
use crate::generation::Settings;
use crate::http1::{Fields, RequestHead};
use crate::pool::Key;
use crate::proxy::fault::Fault;
use crate::proxy::view::PoolView;
use crate::telemetry::{ErrorReason, HedgeResult};

pub(super) const X_LB_EXPLAIN: &[u8] = b"x-lb-explain";

/// The record of a new request; `None` if neither a log nor the client needs one.
#[inline]
pub(super) fn begin(
    context: &Context,
    pool: &PoolView,
    settings: &Settings,
    head: &RequestHead,
    started: Instant,
) -> Option<Box<Record>> {
    if settings.access_log.is_none() && !settings.explain_header {
        return None;
    }
    let logged = settings.access_log.as_ref().and_then(|log| log.begin(context.local.number));
    let is_asked = settings.explain_header && head.fields.get(X_LB_EXPLAIN) == Some(b"1");
    let mut record = match logged {
        Some(record) => record,
        None if is_asked => Box::default(),
        None => return None,
    };
    // Its memory may be reused, so its time is set here.
    record.started = started.into_std();
    record.is_asked = is_asked;
    let with_query = settings.access_log.as_ref().is_none_or(|log| log.config().query);
    note_request(&mut record, context, pool, settings, head, with_query);
    Some(record)
}

fn note_request(
    record: &mut Record,
    context: &Context,
    pool: &PoolView,
    settings: &Settings,
    head: &RequestHead,
    with_query: bool,
) {
    let (target, fields) = (&head.target, &head.fields);
    record.client = context.peer.address;
    record.version = head.version;
    record.bytes_in = 0;
    context.local.with_listener(context.peer.listener, |name| record.note(Text::Listener, name.as_bytes()));
    record.note(Text::Pool, pool.name.as_bytes());
    record.note(Text::Method, head.method.as_str().as_bytes());
    let host = target.authority().map(str::as_bytes).or_else(|| fields.get(b"host"));
    record.note(Text::Host, host.unwrap_or_default());
    let path = if with_query { target.path_and_query() } else { target.path() };
    record.note(Text::Path, path.as_bytes());
    if let Some(agent) = fields.get(b"user-agent") {
        record.note(Text::UserAgent, agent);
    }
    // Exists by now, if every request has an id.
    if settings.request_id
        && let Some(id) = fields.get(b"x-request-id")
    {
        record.note(Text::RequestId, id);
    }
    if let Some(id) = trace_id(fields) {
        record.note(Text::TraceId, id);
    }
}

/// Records an attempt's pick.
pub(super) fn note_pick(exchange: &mut Exchange, picked: Result<&Picked, Fault>, took: Duration) {
    let Exchange { context, pool, key, guard, .. } = exchange;
    let Some(record) = &mut guard.record else { return };
    record.pick_ns = Some(took.as_nanos() as u64);
    record.generation = context.local.view.borrow().generation.number;
    if let Some(current) = &*pool.current() {
        record.note(Text::Strategy, current.shared.picker.strategy().plugin().name().as_bytes());
    }
    // Without a further pick, the line describes the attempt before.
    if let Ok(picked) = picked {
        record.attempts += 1;
        (record.connect_ns, record.head_ns) = (None, None);
        record.note(Text::Backend, picked.slot.member.backend.id.as_bytes());
    }
    if record.is_asked {
        record.note(Text::Key, key.as_ref().map_or(b"", Key::bytes));
        let reason = picked.map_or_else(
            |fault| fault.reason().as_str(),
            |picked| match picked.fallback {
                _ if picked.by_session => "session",
                None => "strategy",
                Some(reason) => reason.as_str(),
            },
        );
        record.note(Text::Reason, reason.as_bytes());
        record.is_fallback = picked.is_ok_and(|picked| picked.fallback.is_some());
    }
}

/// Records a hedge. `twin`: its own record, if it ended last, so that the line describes it.
pub(super) fn note_hedge(record: &mut Record, result: HedgeResult, twin: Option<&Record>) {
    record.hedge = Some(result);
    record.attempts += 1;
    let Some(twin) = twin else { return };
    (record.pick_ns, record.connect_ns, record.head_ns) = (twin.pick_ns, twin.connect_ns, twin.head_ns);
    (record.generation, record.is_fallback) = (twin.generation, twin.is_fallback);
    for text in [Text::Backend, Text::Strategy, Text::Reason] {
        record.note(text, twin.text(text).map_or(b"", |(bytes, _)| bytes));
    }
}

/// The request is over: writes a line of the log, if its settings have one.
pub(super) fn end(
    mut record: Box<Record>,
    context: &Context,
    settings: &Settings,
    status: u16,
    error: Option<ErrorReason>,
    took: Duration,
) {
    let Some(log) = &settings.access_log else { return };
    record.status = status;
    record.error = error;
    record.total_ns = took.as_nanos() as u64;
    log.end(context.local.number, record);
}

/// The value for `x-lb-explain: 1`: `pool=…; strategy=…; backend=…; generation=…; attempt=…; hedge=…; queue_ms=…;
/// key=…; reason=…`. `hedge` is only there if a hedge began, and `queue_ms` if the request waited. `reason` is
/// `strategy`, `session`, `fallback` with its word, or the fault of the request.
pub(super) fn explanation(record: Option<&Record>, fault: Option<Fault>) -> Option<Vec<u8>> {
    let record = record.filter(|record| record.is_asked)?;
    let mut words = Vec::with_capacity(160);
    let number = |number: u64| number.to_string().into_bytes();
    let text = |text: Text| record.text(text).map(|(bytes, _)| bytes.to_vec());
    let reason = match (fault, record.is_fallback) {
        (Some(fault), _) => Some(fault.reason().as_str().into()),
        (None, true) => text(Text::Reason).map(|reason| [b"fallback ", &reason[..]].concat()),
        (None, false) => text(Text::Reason),
    };
    let pairs = [
        ("pool", text(Text::Pool)),
        ("strategy", text(Text::Strategy)),
        ("backend", text(Text::Backend)),
        ("generation", Some(number(record.generation))),
        ("attempt", Some(number(u64::from(record.attempts)))),
        ("hedge", record.hedge.map(|result| result.as_str().into())),
        ("queue_ms", record.queue_ns.map(|ns| number(ns / 1_000_000))),
        ("key", text(Text::Key)),
        ("reason", reason),
    ];
    for (key, value) in pairs.iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
        if !words.is_empty() {
            words.extend_from_slice(b"; ");
        }
        words.extend_from_slice(key.as_bytes());
        words.push(b'=');
        value.iter().for_each(|byte| push_escaped(&mut words, *byte));
    }
    Some(words)
}

/// Escaped as in a URL: a key may be any bytes, and `;` ends a value here.
fn push_escaped(words: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    match byte {
        b' '..=b'~' if !b";%\"".contains(&byte) => words.push(byte),
        _ => words.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]),
    }
}

/// The request's trace, by W3C Trace Context (section 3.2). An invalid field is forwarded and gives `None`.
fn trace_id(fields: &Fields) -> Option<&[u8]> {
    let mut given = fields.all(b"traceparent");
    let (Some(bytes), None) = (given.next(), given.next()) else { return None };
    let is_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_some = |part: &[u8]| is_hex(part) && part.iter().any(|byte| *byte != b'0');
    let (version, rest) = bytes.split_at_checked(2)?;
    // A later version may have more behind a dash.
    let has_its_length = bytes.len() == 55 || (bytes.len() > 55 && version != b"00" && bytes[55] == b'-');
    if !has_its_length || !is_hex(version) || version == b"ff" || [rest[0], rest[33], rest[50]] != *b"---" {
        return None;
    }
    let (trace, parent, flags) = (&rest[1..33], &rest[34..50], &rest[51..53]);
    (is_some(trace) && is_some(parent) && is_hex(flags)).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace_of(given: &[&str]) -> Option<String> {
        let fields: Fields = given.iter().map(|one| ("traceparent", *one)).collect();
        trace_id(&fields).map(|id| String::from_utf8(id.to_vec()).unwrap())
    }

    #[test]
    fn a_trace_id_is_taken_from_what_follows_the_recommendation_alone() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        for good in
            ["00-ID-00f067aa0ba902b7-01", "cc-ID-00f067aa0ba902b7-01", "01-ID-00f067aa0ba902b7-00-what-is-to-come"]
        {
            assert_eq!(trace_of(&[&good.replace("ID", id)]).as_deref(), Some(id), "{good}");
        }
        let zeros = "0".repeat(32);
        for bad in [
            "",
            "0",
            "00",
            "00-",
            "nonsense",
            "ff-ID-00f067aa0ba902b7-01",
            "00-ID-00f067aa0ba902b7-01-more",
            "01-ID-00f067aa0ba902b7-01.more",
            "00-ID-00f067aa0ba902b7-0",
            "00-ID-00f067aa0ba902b7-0g",
            "00-ID-0000000000000000-01",
            "00-ZEROS-00f067aa0ba902b7-01",
            "00_ID-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(trace_of(&[&bad.replace("ID", id).replace("ZEROS", &zeros)]), None, "{bad}");
        }
        let good = format!("00-{id}-00f067aa0ba902b7-01");
        assert_eq!(trace_of(&[&good, &good]), None, "which of two?");
        assert_eq!(trace_of(&[]), None);
    }

    #[test]
    fn an_explanation_is_a_header_whatever_the_key_is() {
        let mut record = Record::default();
        (record.is_asked, record.attempts, record.generation) = (true, 1, 7);
        record.note(Text::Pool, b"default");
        record.note(Text::Backend, b"Server 1");
        record.note(Text::Key, b"a;b%\"\x00\xff\r\n=");
        record.note(Text::Reason, b"strategy");
        let said = explanation(Some(&record), None).unwrap();
        let wanted =
            "pool=default; backend=Server 1; generation=7; attempt=1; key=a%3Bb%25%22%00%FF%0D%0A=; reason=strategy";
        assert_eq!(String::from_utf8(said).unwrap(), wanted);
        record.is_asked = false;
        assert!(explanation(Some(&record), None).is_none() && explanation(None, None).is_none());
    }
}
