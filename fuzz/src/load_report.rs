//! The invariants of `lb::load_report`: no value of a report is unusable, and a report that was read can be written as
//! text and read again.

use std::fmt::Write;

use lb::load_report::{LIMIT, LoadReport, Metrics, of_binary, of_value};

/// The listed metrics: one of each kind.
const NAMES: [&str; 4] = ["foo", "utilization.total", "request_cost.tokens", "mem_utilization"];
/// The names of the same values in the text form.
const TEXTS: [&str; 4] = ["named_metrics.foo", "utilization.total", "request_cost.tokens", "mem_utilization"];

/// One value of a field, in any form.
pub fn check(data: &[u8]) {
    let metrics = Metrics::new(&NAMES).expect("a valid list");
    for report in [of_value(data, &metrics), of_binary(data, &metrics)] {
        let Ok(report) = report else { continue };
        assert!(data.len() <= LIMIT);
        let LoadReport { utilization, qps, eps, named } = report;
        let is_usable = |value: &f64| value.is_finite() && value.is_sign_positive();
        assert!([utilization, qps, eps].iter().chain(&named).all(is_usable), "{report:?}");
        let mut text = format!("TEXT cpu_utilization={utilization:e},rps_fractional={qps:e},eps={eps:e}");
        for (name, value) in TEXTS.iter().zip(named) {
            write!(text, ",{name}={value:e}").expect("a String takes all");
        }
        assert_eq!(of_value(text.as_bytes(), &metrics), Ok(report), "{text}");
    }
}
