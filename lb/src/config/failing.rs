//! The sections about backends that fail: `[outlier]` and `[panic]`. Their file form, and their checks.
//!
//! The rules themselves are in [`lb_balance`]. Invariant: as in [`super::file`], the structs here are the list of keys.

use lb_balance::{OutlierRules, PanicMode, PanicRules, SuccessRateRule, Thresholds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::key_path::KeyPath;
use super::validate::{milliseconds, within};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Outlier {
    enabled: bool,
    gateway_failures: i64,
    server_errors: i64,
    success_rate: bool,
    interval_ms: i64,
    eject_ms: i64,
    eject_max_ms: i64,
    max_ejected_percent: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Panic {
    below_percent: i64,
    from_backends: i64,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    UseAll,
    Fail,
}

/// More failures in a row than this are a mistake.
const IN_ROW_MAX: i64 = 100_000;
const NS_PER_MS: u64 = 1_000_000;

// === impl Outlier ===

impl Default for Outlier {
    fn default() -> Self {
        let rules = OutlierRules::default();
        let ms = |ns: u64| (ns / NS_PER_MS).cast_signed();
        Self {
            enabled: true,
            gateway_failures: i64::from(rules.thresholds.gateway),
            server_errors: i64::from(rules.thresholds.errors),
            success_rate: rules.success_rate.is_some(),
            interval_ms: ms(rules.interval_ns),
            eject_ms: ms(rules.base_ns),
            eject_max_ms: ms(rules.max_ns),
            max_ejected_percent: i64::from(rules.max_ejected_percent),
        }
    }
}

impl Outlier {
    pub(super) fn check(&self) -> Result<OutlierRules, Fault> {
        let Self {
            enabled,
            gateway_failures,
            server_errors,
            success_rate,
            interval_ms,
            eject_ms,
            eject_max_ms,
            max_ejected_percent,
        } = *self;
        let section = KeyPath::of(&["outlier"]);
        let in_row = |name: &str, value: i64| within(section.key(name), value, 0, IN_ROW_MAX).map(number);
        let ns = |name: &str, value: i64, min: i64| {
            milliseconds(section.key(name), value, min).map(|time| time.as_nanos() as u64)
        };
        let percent = within(section.key("max_ejected_percent"), max_ejected_percent, 0, 100)?;
        let rules = OutlierRules {
            thresholds: Thresholds {
                gateway: in_row("gateway_failures", gateway_failures)?,
                errors: in_row("server_errors", server_errors)?,
            },
            success_rate: success_rate.then(SuccessRateRule::default),
            interval_ns: ns("interval_ms", interval_ms, 100)?,
            base_ns: ns("eject_ms", eject_ms, 10)?,
            max_ns: ns("eject_max_ms", eject_max_ms, 10)?,
            jitter_ns: 0,
            max_ejected_percent: percent as u8,
        };
        if eject_max_ms < eject_ms {
            let what = format!("must not be shorter than eject_ms, which is {eject_ms}");
            return Err(Fault::new(section.key("eject_max_ms"), what));
        }
        Ok(if enabled { rules } else { OutlierRules::off() })
    }
}

// === impl Panic ===

impl Default for Panic {
    fn default() -> Self {
        let PanicRules { below_percent, from_members, mode } = PanicRules::default();
        Self {
            below_percent: i64::from(below_percent),
            from_backends: from_members as i64,
            mode: match mode {
                PanicMode::UseAll => Mode::UseAll,
                PanicMode::Fail => Mode::Fail,
            },
        }
    }
}

impl Panic {
    pub(super) fn check(&self) -> Result<PanicRules, Fault> {
        let Self { below_percent, from_backends, mode } = *self;
        let section = KeyPath::of(&["panic"]);
        Ok(PanicRules {
            below_percent: within(section.key("below_percent"), below_percent, 0, 100)? as u8,
            from_members: within(section.key("from_backends"), from_backends, 1, 4_096)? as usize,
            mode: match mode {
                Mode::UseAll => PanicMode::UseAll,
                Mode::Fail => PanicMode::Fail,
            },
        })
    }
}

/// For numbers that `within` has let through.
fn number(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
