//! Writes numbers and times, the same in both formats, without the machinery of `format!`.
//!
//! Why: a line has a dozen of them, and on a machine with few cores the writer's time is taken from the workers.
//! Invariant: appended bytes are ASCII.

use std::io::Write;

use http::Version;
use jiff::Timestamp;

use crate::config::LogFormat;

/// The time stamps of successive lines; the part that is constant for a second is made once a second.
pub(super) struct Stamp {
    format: LogFormat,
    /// When the second of `text` began, in milliseconds since 1970.
    second_ms: u64,
    text: Vec<u8>,
}

#[inline]
pub(super) fn number(out: &mut Vec<u8>, number: u64) {
    if number < 10 {
        return out.push(b'0' + number as u8);
    }
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// With three decimal digits.
pub(super) fn milliseconds(out: &mut Vec<u8>, ns: u64) {
    let microseconds = ns.saturating_add(500) / 1000;
    number(out, microseconds / 1000);
    out.push(b'.');
    out.extend_from_slice(&three_digits(microseconds % 1000));
}

/// `HTTP/1.1`
pub(super) fn version(out: &mut Vec<u8>, version: Version) {
    match version {
        Version::HTTP_11 => out.extend_from_slice(b"HTTP/1.1"),
        Version::HTTP_10 => out.extend_from_slice(b"HTTP/1.0"),
        _ => drop(write!(out, "{version:?}")),
    }
}

fn three_digits(number: u64) -> [u8; 3] {
    [number / 100, number / 10 % 10, number % 10].map(|digit| b'0' + digit as u8)
}

// === impl Stamp ===

impl Stamp {
    pub(super) fn new(format: LogFormat) -> Self {
        Self { format, second_ms: 0, text: Vec::new() }
    }

    /// `2026-01-31T12:00:00.000Z` (RFC 3339) or `31/Jan/2026:12:00:00 +0000`. `at_ms`: since 1970.
    #[inline]
    pub(super) fn of(&mut self, at_ms: u64) -> &[u8] {
        const MILLISECONDS: std::ops::Range<usize> = 20..23;
        if self.text.is_empty() || !(self.second_ms..self.second_ms + 1000).contains(&at_ms) {
            self.begin_second(at_ms / 1000);
        }
        if self.format == LogFormat::Json {
            self.text[MILLISECONDS].copy_from_slice(&three_digits(at_ms - self.second_ms));
        }
        &self.text
    }

    #[cold]
    fn begin_second(&mut self, second: u64) {
        let at = Timestamp::from_second(second as i64).unwrap_or_default();
        let pattern = match self.format {
            LogFormat::Json => "%Y-%m-%dT%H:%M:%S.000Z",
            LogFormat::Text => "%d/%b/%Y:%H:%M:%S +0000",
        };
        self.second_ms = second * 1000;
        self.text = at.strftime(pattern).to_string().into_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_made_anew_every_second_and_its_milliseconds_every_time() {
        let [mut json, mut text] = [LogFormat::Json, LogFormat::Text].map(Stamp::new);
        for (ms, wanted) in [
            (1_763_836_507_123, "07.123"),
            (1_763_836_507_999, "07.999"),
            (1_763_836_508_004, "08.004"),
            (1_763_836_507_000, "07.000"),
        ] {
            assert_eq!(json.of(ms), format!("2025-11-22T18:35:{wanted}Z").as_bytes());
            assert_eq!(text.of(ms), format!("22/Nov/2025:18:35:{} +0000", &wanted[..2]).as_bytes());
        }
    }

    #[test]
    fn numbers_and_versions_are_spelt_as_the_standard_library_does() {
        for (wanted, version_of) in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX].into_iter().zip(
            [Version::HTTP_09, Version::HTTP_10, Version::HTTP_11, Version::HTTP_2, Version::HTTP_3]
                .into_iter()
                .cycle(),
        ) {
            let mut out = Vec::new();
            number(&mut out, wanted);
            version(&mut out, version_of);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{wanted}{version_of:?}"));
        }
    }

    #[test]
    fn milliseconds_have_three_digits_and_are_rounded() {
        let spelt = |ns| {
            let mut out = Vec::new();
            milliseconds(&mut out, ns);
            String::from_utf8(out).unwrap()
        };
        let all = [0, 499, 500, 999_499, 999_500, 1_234_567, 60_000_000_000].map(spelt);
        assert_eq!(all, ["0.000", "0.000", "0.001", "0.999", "1.000", "1.235", "60000.000"]);
        assert!(spelt(u64::MAX).starts_with("18446744073709"));
    }
}
