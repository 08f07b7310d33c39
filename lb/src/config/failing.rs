//! The sections about failures: `[outlier]`, `[panic]` and `[retry]`, also those of pools and routes. Their file form,
//! and their checks.
//!
//! The rules themselves are in [`lb_balance`]. Invariant: as in [`super::file`], the structs here are the list of keys.

use lb_balance::{
    BudgetRules, OutlierRules, PanicMode, PanicRules, RetryOn, RetryRules, StatusSet, SuccessRateRule, Thresholds,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::{Fault, choices};
use super::key_path::KeyPath;
use super::section::{Scope, section};
use super::validate::{milliseconds, status_code, within};
use super::validated::RetryPolicy;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    UseAll,
    Fail,
}

const OF_BACKENDS: &str = "the rule is about backends, which belong to a pool";
const OF_A_BUDGET: &str = "the requests of all routes share the budget of their pool";

section! {
    Outlier, PartialOutlier {
        enabled: bool = true, Scope::Pool(OF_BACKENDS);
        gateway_failures: i64 = i64::from(OutlierRules::default().thresholds.gateway), Scope::Pool(OF_BACKENDS);
        server_errors: i64 = i64::from(OutlierRules::default().thresholds.errors), Scope::Pool(OF_BACKENDS);
        success_rate: bool = OutlierRules::default().success_rate.is_some(), Scope::Pool(OF_BACKENDS);
        interval_ms: i64 = ms(OutlierRules::default().interval_ns), Scope::Pool(OF_BACKENDS);
        eject_ms: i64 = ms(OutlierRules::default().base_ns), Scope::Pool(OF_BACKENDS);
        eject_max_ms: i64 = ms(OutlierRules::default().max_ns), Scope::Pool(OF_BACKENDS);
        max_ejected_percent: i64 = i64::from(OutlierRules::default().max_ejected_percent), Scope::Pool(OF_BACKENDS);
    }
}

section! {
    Panic, PartialPanic {
        below_percent: i64 = i64::from(PanicRules::default().below_percent), Scope::Pool(OF_BACKENDS);
        from_backends: i64 = PanicRules::default().from_members as i64, Scope::Pool(OF_BACKENDS);
        mode: Mode = Mode::UseAll, Scope::Pool(OF_BACKENDS);
    }
}

section! {
    Retry, PartialRetry {
        attempts: i64 = i64::from(RetryRules::default().attempts), Scope::Route;
        on: Vec<String> = words_of(RetryOn::default()), Scope::Route;
        /// 0: no limit.
        attempt_timeout_ms: i64 = 0, Scope::Route;
        idempotency_key: bool = RetryRules::default().idempotency_key, Scope::Route;
        hedge: bool = RetryRules::default().hedge, Scope::Route;
        replay_bytes: i64 = RetryRules::default().replay_bytes.cast_signed(), Scope::Route;
        budget_percent: i64 = i64::from(BudgetRules::default().percent), Scope::Pool(OF_A_BUDGET);
        budget_reserve_per_s: i64 = i64::from(BudgetRules::default().reserve_per_s), Scope::Pool(OF_A_BUDGET);
    }
}

/// More failures in a row than this are a mistake.
const IN_ROW_MAX: i64 = 100_000;
const NS_PER_MS: u64 = 1_000_000;
/// More attempts cost more than they save: the budget ends them first.
const ATTEMPTS_MAX: i64 = 5;
/// Each request that may be retried can hold this much memory.
const REPLAY_BYTES_MAX: i64 = 1 << 20;
/// A larger reserve is no limit.
const RESERVE_MAX: i64 = 1_000_000;
/// The words of `retry.on`, beside status codes.
const CAUSES: [&str; 3] = ["connect", "reset", "timeout"];

// === impl Outlier ===

impl Outlier {
    /// Checks the section at `section`.
    pub(super) fn check(&self, section: &KeyPath) -> Result<OutlierRules, Fault> {
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

impl Panic {
    /// Checks the section at `section`.
    pub(super) fn check(&self, section: &KeyPath) -> Result<PanicRules, Fault> {
        let Self { below_percent, from_backends, mode } = *self;
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

// === impl Retry ===

impl Retry {
    /// Checks the section at `section`.
    pub(super) fn check(&self, section: &KeyPath) -> Result<RetryPolicy, Fault> {
        let Self {
            attempts,
            on,
            attempt_timeout_ms,
            idempotency_key,
            hedge,
            replay_bytes,
            budget_percent,
            budget_reserve_per_s,
        } = self;
        let limit = |name: &str, value: i64, min: i64, max: i64| within(section.key(name), value, min, max);
        let attempt_ns = milliseconds(section.key("attempt_timeout_ms"), *attempt_timeout_ms, 0)?.as_nanos() as u64;
        let rules = RetryRules {
            attempts: number(limit("attempts", *attempts, 1, ATTEMPTS_MAX)?),
            on: check_on(on, &section.key("on"))?,
            per_attempt_ns: (attempt_ns > 0).then_some(attempt_ns),
            idempotency_key: *idempotency_key,
            hedge: *hedge,
            replay_bytes: limit("replay_bytes", *replay_bytes, 0, REPLAY_BYTES_MAX)?.unsigned_abs(),
            back_off: RetryRules::default().back_off,
        };
        let budget = BudgetRules {
            percent: number(limit("budget_percent", *budget_percent, 0, 100)?),
            reserve_per_s: number(limit("budget_reserve_per_s", *budget_reserve_per_s, 0, RESERVE_MAX)?),
        };
        Ok(RetryPolicy { rules, budget })
    }
}

/// Whether a slow request may get a hedge: a hedge is a second attempt, and needs the budget.
pub(super) fn has_hedges(RetryPolicy { rules, budget }: &RetryPolicy) -> bool {
    rules.hedge && rules.attempts > 1 && (budget.percent > 0 || budget.reserve_per_s > 0)
}

/// The default of `retry.on`.
fn words_of(on: RetryOn) -> Vec<String> {
    let causes = CAUSES.into_iter().zip([on.connect, on.reset, on.timeout]).filter(|(_, is_on)| *is_on);
    let statuses = (400..=599).filter(|status| on.statuses.contains(*status));
    causes.map(|(cause, _)| cause.to_owned()).chain(statuses.map(|status| status.to_string())).collect()
}

fn check_on(words: &[String], section: &KeyPath) -> Result<RetryOn, Fault> {
    let mut on = RetryOn { connect: false, reset: false, timeout: false, statuses: StatusSet::default() };
    for (index, word) in words.iter().enumerate() {
        let mut is_known = true;
        match word.as_str() {
            "connect" => on.connect = true,
            "reset" => on.reset = true,
            "timeout" => on.timeout = true,
            status => is_known = status_code(status).is_some_and(|status| on.statuses.insert(status)),
        }
        if !is_known {
            let known = [&CAUSES[..], &["400 … 599"]].concat();
            let what = format!("{word:?} is no cause of a retry{}", choices(word, "Known here", &known));
            return Err(Fault::new(section.index(index), what));
        }
    }
    Ok(on)
}

fn ms(ns: u64) -> i64 {
    (ns / NS_PER_MS).cast_signed()
}

/// For numbers that `within` has let through.
fn number(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
