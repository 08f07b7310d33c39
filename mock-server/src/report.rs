//! Load reports in responses, in the forms of ORCA (cncf/xds, `OrcaLoadReport`).
//!
//! A balancer reads them from the head or the trailers of a response. Invariant: a chunked response has its report at
//! one of the two places, and all other responses have it in the head.

use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::TRAILER;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use crate::answer::Answer;
use crate::load::{Load, ReportForm};
use crate::shared::Session;

const FIELD: HeaderName = HeaderName::from_static("endpoint-load-metrics");

/// Adds the load now to a response, or arranges for its trailers to have the load then.
pub(crate) fn add(session: &Rc<Session>, form: ReportForm, answer: &mut Answer) {
    let local = session.local.clone();
    if local.shared.options.load_report_trailer && answer.body().is_chunked() {
        // hyper only sends trailers that the head names.
        answer.headers_mut().insert(TRAILER, HeaderValue::from_name(FIELD));
        let trailers = move || HeaderMap::from_iter([(FIELD, value(form, &local.load()))]);
        answer.body_mut().end_with(Box::new(trailers));
    } else {
        answer.headers_mut().insert(FIELD, value(form, &local.load()));
    }
}

fn value(form: ReportForm, load: &Load) -> HeaderValue {
    let Load { utilization, in_flight, queued, rps, eps, latency_ms: _ } = *load;
    let text = match form {
        ReportForm::Text => format!(
            "TEXT application_utilization={utilization}, rps_fractional={rps}, eps={eps}, \
             named_metrics.in_flight={in_flight}, named_metrics.queued={queued}"
        ),
        ReportForm::Json => {
            let named = json!({ "in_flight": in_flight, "queued": queued });
            let report = json!({
                "application_utilization": utilization, "rps_fractional": rps, "eps": eps, "named_metrics": named
            });
            format!("JSON {report}")
        }
        ReportForm::Binary => format!("BIN {}", STANDARD.encode(message(load))),
    };
    HeaderValue::try_from(text).expect("numbers and names in ASCII")
}

/// The protobuf message, by hand: it has three numbers and one map.
fn message(load: &Load) -> Vec<u8> {
    let mut message = Vec::with_capacity(80);
    double(&mut message, 6, load.rps);
    double(&mut message, 7, load.eps);
    for (key, number) in [("in_flight", load.in_flight), ("queued", load.queued)] {
        let mut entry = Vec::with_capacity(32);
        bytes(&mut entry, 1, key.as_bytes());
        double(&mut entry, 2, number as f64);
        bytes(&mut message, 8, &entry);
    }
    double(&mut message, 9, load.utilization);
    message
}

fn double(message: &mut Vec<u8>, field: u8, value: f64) {
    message.push(field << 3 | 1);
    message.extend_from_slice(&value.to_le_bytes());
}

/// `value` has at most 127 bytes, so its length has one.
fn bytes(message: &mut Vec<u8>, field: u8, value: &[u8]) {
    message.extend_from_slice(&[field << 3 | 2, value.len() as u8]);
    message.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_the_figures() {
        let load = Load { utilization: 0.25, in_flight: 2, queued: 0, rps: 10.5, eps: 0.0, latency_ms: 1.0 };
        let text = |form| value(form, &load).to_str().unwrap().to_owned();
        assert_eq!(
            text(ReportForm::Text),
            "TEXT application_utilization=0.25, rps_fractional=10.5, eps=0, named_metrics.in_flight=2, \
             named_metrics.queued=0"
        );
        let json = text(ReportForm::Json);
        let json: serde_json::Value = serde_json::from_str(json.strip_prefix("JSON ").unwrap()).unwrap();
        assert_eq!(json["application_utilization"], 0.25);
        assert_eq!(json["named_metrics"]["in_flight"], 2);
        let binary = STANDARD.decode(text(ReportForm::Binary).strip_prefix("BIN ").unwrap()).unwrap();
        let rps = [&[0x31_u8][..], &10.5_f64.to_le_bytes()].concat();
        let queued = [&b"\x42\x11\x0a\x06queued\x11"[..], &0_f64.to_le_bytes()].concat();
        for part in [&rps, &queued] {
            assert!(binary.windows(part.len()).any(|window| window == part), "{binary:x?}");
        }
    }
}
