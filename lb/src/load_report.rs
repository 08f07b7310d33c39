//! Load reports of backends in the form of ORCA: response fields that carry a message `OrcaLoadReport`.
//!
//! A leaf: no I/O and no clock, so that fuzzing reaches all of it. Source of the message: cncf/xds,
//! `xds/data/orca/v3/orca_load_report.proto`. The forms of the fields:
//!
//! | field | value |
//! |---|---|
//! | `endpoint-load-metrics` | `TEXT name=number, …` (an older form: `name:number`), `JSON {…}`, or `BIN` and base64 |
//! | `endpoint-load-metrics` | the text form without a prefix, which older servers send |
//! | `endpoint-load-metrics-bin` | base64 of the message, as gRPC sends it |
//!
//! Invariants: no bytes cause a panic. A number in a [`LoadReport`] is finite and not negative. Reading a valid report
//! allocates nothing, unless names in JSON have escapes. A number that a report does not have is 0, as in the message.

mod base64;
mod draft;
mod json;
mod message;
mod metrics;
mod text;

#[cfg(test)]
mod tests;

use thiserror::Error;

use draft::Draft;
pub use metrics::{BadMetric, Metrics};

/// The field of a response with a report in one of three forms.
pub const FIELD: &[u8] = b"endpoint-load-metrics";
/// The older field, with the binary form alone.
pub const FIELD_BINARY: &[u8] = b"endpoint-load-metrics-bin";
/// The field of a request that asks for reports. Some servers, such as vLLM and Triton, report only then.
pub const FIELD_REQUEST: &[u8] = b"endpoint-load-metrics-format";
/// The form that lb asks for: each server with this request field has it.
pub const REQUESTED_FORM: &[u8] = b"text";
/// The number of metrics that a pool may list.
pub const METRICS_MAX: usize = 4;
/// The longest value of a field, in bytes.
pub const LIMIT: usize = 4096;

/// What one report says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// A share of the capacity, 1 = full; it may be above 1. `application_utilization`, else `cpu_utilization`.
    pub utilization: f64,
    /// Requests a second: `rps_fractional`, else `rps`.
    pub qps: f64,
    /// Errors a second.
    pub eps: f64,
    /// The metrics that the pool lists, in the order of its list.
    pub named: [f64; METRICS_MAX],
}

/// Why a report was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    #[error("the report is longer than {LIMIT} bytes: report fewer metrics")]
    TooLong,
    #[error("an entry of the text is not name=number: separate entries with commas")]
    Entry,
    #[error("a value is negative, infinite or not a number: report finite values from 0 on")]
    Value,
    #[error("the text behind JSON is not an object with the fields of OrcaLoadReport")]
    Json,
    #[error("the text behind BIN is not base64 of the standard alphabet")]
    Base64,
    #[error("the binary report is not a valid message OrcaLoadReport")]
    Message,
    #[error(
        "the report has no utilisation, no rate and none of the listed metrics: list metrics that the backend sends"
    )]
    NothingUsed,
}

/// The report in a section of fields, if it has one. `first` returns the first value of a field. If both fields are
/// there, the binary one counts.
#[inline]
pub fn of_fields<'f>(
    first: impl Fn(&[u8]) -> Option<&'f [u8]>,
    metrics: &Metrics,
) -> Option<Result<LoadReport, Malformed>> {
    match first(FIELD_BINARY) {
        Some(value) => Some(of_binary(value, metrics)),
        None => first(FIELD).map(|value| of_value(value, metrics)),
    }
}

/// The report in a value of [`FIELD`].
pub fn of_value(value: &[u8], metrics: &Metrics) -> Result<LoadReport, Malformed> {
    let value = checked_length(value)?;
    let (form, rest) = split_form(value);
    let mut draft = Draft::new(metrics);
    match form {
        Form::Text => text::read(rest, &mut draft)?,
        Form::Json => json::read(rest, &mut draft)?,
        Form::Binary => return binary(rest, metrics),
    }
    if draft.is_empty() { Err(Malformed::NothingUsed) } else { Ok(draft.finish()) }
}

/// The report in a value of [`FIELD_BINARY`].
pub fn of_binary(value: &[u8], metrics: &Metrics) -> Result<LoadReport, Malformed> {
    binary(checked_length(value)?, metrics)
}

/// The forms of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json,
    Binary,
}

fn checked_length(value: &[u8]) -> Result<&[u8], Malformed> {
    if value.len() > LIMIT { Err(Malformed::TooLong) } else { Ok(value.trim_ascii()) }
}

/// The form and the bytes behind its prefix. A value without a prefix is text.
fn split_form(value: &[u8]) -> (Form, &[u8]) {
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let rest = value[end..].trim_ascii_start();
    match &value[..end] {
        b"TEXT" => (Form::Text, rest),
        b"JSON" => (Form::Json, rest),
        b"BIN" => (Form::Binary, rest),
        _ => (Form::Text, value),
    }
}

/// An empty message is valid: protobuf leaves out each number that is 0.
fn binary(base64: &[u8], metrics: &Metrics) -> Result<LoadReport, Malformed> {
    let mut buffer = [0; base64::decoded_max(LIMIT)];
    let message = base64::decode(base64, &mut buffer).ok_or(Malformed::Base64)?;
    let mut draft = Draft::new(metrics);
    message::read(message, &mut draft)?;
    Ok(draft.finish())
}
