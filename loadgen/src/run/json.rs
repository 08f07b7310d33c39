//! The report as JSON on stdout. Field names are for scripts and do not change.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;

use super::summary::{Summary, Times};
use super::threshold::Verdict;
use crate::load::{BackendTally, ErrorKind, Punctuality, Window};

/// A new value tells scripts that they must change.
const SCHEMA: &str = "loadgen-run-2";

#[derive(Serialize)]
struct Report<'a> {
    schema: &'a str,
    url: &'a str,
    /// The kind of load, in words.
    load: String,
    arrivals: &'a crate::load::Arrivals,
    keys: &'a crate::load::Keys,
    cost: &'a crate::load::Cost,
    seed: u64,
    /// Whether the run ended early.
    interrupted: bool,
    /// Whether `doubts` is empty.
    valid: bool,
    doubts: Vec<&'a str>,
    /// Whether the generator sent on schedule: `on_time`, `late` or `not_judged`.
    punctuality: &'static str,
    /// How late it was, or why lateness was not judged; null if it was on time.
    punctuality_reason: Option<&'a str>,
    seconds: f64,
    due: u64,
    sent: u64,
    answered: u64,
    /// Responses with a status below 400.
    ok: u64,
    unsent: u64,
    unfinished: u64,
    resent: u64,
    bytes: u64,
    answers_per_second: f64,
    /// The share of requests without a good response, from 0 to 1.
    failure_share: f64,
    statuses: &'a BTreeMap<u16, u64>,
    errors: BTreeMap<&'static str, Error<'a>>,
    /// Good responses, from the scheduled send time.
    latency_ms: &'a Times,
    /// Good responses, from the actual send.
    service_time_ms: &'a Times,
    /// Latency of responses with a status of 400 or above.
    failed_latency_ms: Times,
    /// How late the load generator sent.
    send_lag_ms: Times,
    backends: &'a BTreeMap<String, BackendTally>,
    /// The processor time of each sending thread.
    cpu_seconds: &'a [f64],
    thresholds: Vec<Judged<'a>>,
    /// The names for `backends` of the windows.
    window_backends: &'a [String],
    windows: &'a [Window],
}

#[derive(Serialize)]
struct Error<'a> {
    count: u64,
    first: Option<&'a str>,
    /// For timeouts: the number in each phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    phases: Option<BTreeMap<&'static str, u64>>,
}

#[derive(Serialize)]
struct Judged<'a> {
    threshold: &'a str,
    kept: bool,
    /// Milliseconds, a share or requests per second; null if it is infinite or unknown.
    value: Option<f64>,
    found: &'a str,
}

pub(super) fn print(summary: &Summary<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &report(summary))?;
    io::Write::write_all(&mut out, b"\n")
}

fn report<'a>(summary: &'a Summary<'_>) -> Report<'a> {
    let Summary { url, plan, outcome, total, latency, service, verdicts } = summary;
    let first = |kind: ErrorKind| outcome.first_errors.get(&kind).map(String::as_str);
    let (punctuality, punctuality_reason) = match &outcome.punctuality {
        Punctuality::OnTime => ("on_time", None),
        Punctuality::Late(reason) => ("late", Some(reason.as_str())),
        Punctuality::NotJudged(reason) => ("not_judged", Some(reason.as_str())),
    };
    let phases = |kind: ErrorKind| {
        let counts = || total.timeouts.iter().map(|(phase, count)| (phase.name(), count)).collect();
        (kind == ErrorKind::Timeout).then(counts)
    };
    Report {
        schema: SCHEMA,
        url,
        load: plan.arrivals.in_words(),
        arrivals: &plan.arrivals,
        keys: &plan.keys,
        cost: &plan.cost,
        seed: plan.seed,
        interrupted: outcome.aborted,
        valid: outcome.doubts.is_empty(),
        doubts: outcome.doubts.iter().map(|doubt| doubt.reason.as_str()).collect(),
        punctuality,
        punctuality_reason,
        seconds: total.seconds(),
        due: total.due,
        sent: total.sent,
        answered: total.answered,
        ok: total.ok(),
        unsent: total.unsent,
        unfinished: total.unfinished,
        resent: total.resent,
        bytes: total.bytes,
        answers_per_second: total.rps(),
        failure_share: total.failure_share(),
        statuses: &total.statuses,
        errors: total
            .errors
            .iter()
            .map(|(kind, count)| (kind.name(), Error { count, first: first(kind), phases: phases(kind) }))
            .collect(),
        latency_ms: latency,
        service_time_ms: service,
        failed_latency_ms: Times::of(&total.failed),
        send_lag_ms: Times::of(&total.lag),
        backends: &total.backends,
        cpu_seconds: &outcome.cpu_s,
        thresholds: verdicts.iter().map(judged).collect(),
        window_backends: &outcome.backends,
        windows: &outcome.windows,
    }
}

fn judged(verdict: &Verdict) -> Judged<'_> {
    let Verdict { threshold, is_kept, value, found } = verdict;
    Judged { threshold, kept: *is_kept, value: value.filter(|value| value.is_finite()), found }
}
