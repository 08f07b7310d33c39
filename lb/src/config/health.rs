//! The checks of `[health]`, and of `[pools.NAME.health]`.
//!
//! Invariant: keys that contradict each other are refused only if they are set in one section. So a pool may switch to
//! TCP without a word about the inherited path.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::Fault;
use super::file;
use super::key_path::KeyPath;
use super::section::Partial;
use super::validate::{milliseconds, small, status_code, within};
use super::validated::{CheckKind, Health, InitialState};

/// Between two checks of a backend.
const INTERVAL_MIN_MS: i64 = 10;
const STATUSES_MAX: usize = 64;
const BODY_TEXT_MAX_BYTES: usize = 256;
/// The keys that a TCP check has no use for.
const HTTP_KEYS: [&str; 4] = ["path", "host", "expect_status", "expect_body"];

/// Checks `form`, which is the section at `section` in full form; `own` are the keys that are set in it.
pub(super) fn check_health(form: &file::Health, own: &file::PartialHealth, section: &KeyPath) -> Result<Health, Fault> {
    let file::Health {
        enabled,
        kind,
        path,
        host,
        port,
        expect_status,
        expect_body,
        interval_ms,
        fast_interval_ms,
        timeout_ms,
        down_after,
        up_after,
        initial,
    } = form;
    let at = |name: &str| section.key(name);
    check_together(form, own, section)?;
    let interval = milliseconds(at("interval_ms"), *interval_ms, INTERVAL_MIN_MS)?;
    let fast_interval = match fast_interval_ms {
        Some(fast) => milliseconds(at("fast_interval_ms"), *fast, INTERVAL_MIN_MS)?,
        None => (interval / 4).max(Duration::from_millis(INTERVAL_MIN_MS.unsigned_abs())),
    };
    if fast_interval > interval {
        let fast_ms = fast_interval.as_millis();
        let what = format!("must not be longer than interval_ms, which is {interval_ms}, and is {fast_ms}");
        return Err(Fault::new(at("fast_interval_ms"), what));
    }
    let checks = |name: &str, value: i64| within(at(name), value, 1, 1_000).map(small);
    let port = within(at("port"), *port, 0, i64::from(u16::MAX))?;
    Ok(Health {
        enabled: *enabled,
        kind: *kind,
        path: check_path(path).map_err(|what| Fault::new(at("path"), what))?,
        host: check_host(host).map_err(|what| Fault::new(at("host"), what))?,
        port: u16::try_from(port).ok().filter(|port| *port > 0),
        expect_status: check_statuses(expect_status, &at("expect_status"))?,
        expect_body: check_body(expect_body).map_err(|what| Fault::new(at("expect_body"), what))?,
        interval,
        fast_interval,
        timeout: milliseconds(at("timeout_ms"), *timeout_ms, INTERVAL_MIN_MS)?,
        down_after: checks("down_after", *down_after)?,
        up_after: checks("up_after", *up_after)?,
        initial: if *enabled { *initial } else { InitialState::Up },
    })
}

/// Keys that have no meaning beside another.
fn check_together(form: &file::Health, own: &file::PartialHealth, section: &KeyPath) -> Result<(), Fault> {
    let useless = HTTP_KEYS.into_iter().find(|key| form.kind == CheckKind::Tcp && own.is_set(key));
    if let Some(key) = useless {
        let what = "a check of kind \"tcp\" sends no request; remove this key, or set kind = \"http\" here";
        return Err(Fault::new(section.key(key), what));
    }
    match own.initial {
        Some(initial @ (InitialState::Down | InitialState::Wait)) if !form.enabled => {
            let name = if initial == InitialState::Down { "down" } else { "wait" };
            let what = format!("{name:?} needs checks, and enabled is false; set enabled = true, or initial = \"up\"");
            Err(Fault::new(section.key("initial"), what))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_path(path: &str) -> Result<String, String> {
    let is_text = !path.bytes().any(|byte| byte.is_ascii_control());
    if !path.starts_with('/') || !is_text || path.parse::<http::uri::PathAndQuery>().is_err() {
        return Err(format!("{path:?} is not a path, such as \"/heartbeat\""));
    }
    Ok(path.to_owned())
}

fn check_host(host: &str) -> Result<Option<String>, String> {
    if host.is_empty() {
        return Ok(None);
    }
    if host.contains('@') || host.parse::<http::uri::Authority>().is_err() {
        return Err(format!("{host:?} is not a host, such as \"api.example.org\" or \"api.example.org:8080\""));
    }
    Ok(Some(host.to_owned()))
}

fn check_body(text: &str) -> Result<Option<String>, String> {
    if text.len() > BODY_TEXT_MAX_BYTES {
        return Err(format!("must have at most {BODY_TEXT_MAX_BYTES} bytes, not {}", text.len()));
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

fn check_statuses(texts: &[String], key: &KeyPath) -> Result<Vec<RangeInclusive<u16>>, Fault> {
    if texts.is_empty() || texts.len() > STATUSES_MAX {
        let what = format!("must be 1 to {STATUSES_MAX} statuses or ranges, not {}", texts.len());
        return Err(Fault::new(key.clone(), what));
    }
    let statuses = texts.iter().enumerate();
    statuses.map(|(index, text)| check_status(text).map_err(|what| Fault::new(key.index(index), what))).collect()
}

/// `"200"` or `"200-399"`.
fn check_status(text: &str) -> Result<RangeInclusive<u16>, String> {
    let status = |text: &str| status_code(text).filter(|status| (100..=599).contains(status));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => {
            Err(format!("{text:?} is not a status from 100 to 599 or a range of them, such as \"204\" or \"200-399\""))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_code_or_a_range() {
        assert_eq!(check_status("204"), Ok(204..=204));
        assert_eq!(check_status("200-399"), Ok(200..=399));
        for wrong in [
            "",
            "-",
            "200-",
            "-200",
            "399-200",
            "99",
            "600",
            "2xx",
            "200 - 399",
            "200-300-400",
            "+200",
            "200-+299",
            "0200",
        ] {
            assert!(check_status(wrong).is_err(), "{wrong}");
        }
    }
}
