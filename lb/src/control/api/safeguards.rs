//! The rules of a pool for failing backends that are in force, by section and key of the configuration.
//!
//! Why: a client of `/status`, such as an experiment, must know whether lb ejects backends or retries requests. The
//! file may have changed since the last reload, and flags and variables may override it. Invariants: keys and values
//! are those of lb.toml. A section that is switched off has only the key that says so.

use lb_balance::{OutlierRules, PanicMode, PanicRules, RetryOn};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::RetryPolicy;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Safeguards {
    pub outlier: OutlierInForce,
    pub panic: PanicInForce,
    /// Of requests without a route that has its own.
    pub retry: RetryInForce,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OutlierInForce {
    /// `false` also if no rule can eject a backend.
    pub enabled: bool,
    #[serde(flatten)]
    pub rules: Option<OutlierKeys>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OutlierKeys {
    pub gateway_failures: u32,
    pub server_errors: u32,
    pub success_rate: bool,
    pub interval_ms: u64,
    pub eject_ms: u64,
    pub eject_max_ms: u64,
    pub max_ejected_percent: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PanicInForce {
    /// 0: off.
    pub below_percent: u8,
    #[serde(flatten)]
    pub rules: Option<PanicKeys>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PanicKeys {
    pub from_backends: usize,
    /// "use_all" or "fail".
    pub mode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RetryInForce {
    /// 1: no retries.
    pub attempts: u32,
    #[serde(flatten)]
    pub rules: Option<RetryKeys>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RetryKeys {
    /// In the order of lb.toml, statuses ascending.
    pub on: Vec<String>,
    pub attempt_timeout_ms: u64,
    pub idempotency_key: bool,
    pub replay_bytes: u64,
    pub budget_percent: u32,
    pub budget_reserve_per_s: u32,
}

const NS_PER_MS: u64 = 1_000_000;

// === impl Safeguards ===

impl Safeguards {
    pub(in crate::control) fn of(outlier: &OutlierRules, panic: &PanicRules, retry: &RetryPolicy) -> Self {
        let (thresholds, rules) = (outlier.thresholds, retry.rules);
        Self {
            outlier: OutlierInForce {
                enabled: !outlier.is_off(),
                rules: (!outlier.is_off()).then(|| OutlierKeys {
                    gateway_failures: thresholds.gateway,
                    server_errors: thresholds.errors,
                    success_rate: outlier.success_rate.is_some(),
                    interval_ms: outlier.interval_ns / NS_PER_MS,
                    eject_ms: outlier.base_ns / NS_PER_MS,
                    eject_max_ms: outlier.max_ns / NS_PER_MS,
                    max_ejected_percent: outlier.max_ejected_percent,
                }),
            },
            panic: PanicInForce {
                below_percent: panic.below_percent,
                rules: (panic.below_percent > 0).then_some(PanicKeys {
                    from_backends: panic.from_members,
                    mode: match panic.mode {
                        PanicMode::UseAll => "use_all",
                        PanicMode::Fail => "fail",
                    },
                }),
            },
            retry: RetryInForce {
                attempts: rules.attempts,
                rules: (rules.attempts > 1).then(|| RetryKeys {
                    on: words(rules.on),
                    attempt_timeout_ms: rules.per_attempt_ns.unwrap_or(0) / NS_PER_MS,
                    idempotency_key: rules.idempotency_key,
                    replay_bytes: rules.replay_bytes,
                    budget_percent: retry.budget.percent,
                    budget_reserve_per_s: retry.budget.reserve_per_s,
                }),
            },
        }
    }
}

fn words(RetryOn { connect, reset, timeout, statuses }: RetryOn) -> Vec<String> {
    let causes = [("connect", connect), ("reset", reset), ("timeout", timeout)];
    let causes = causes.into_iter().filter(|(_, is_on)| *is_on).map(|(cause, _)| cause.to_owned());
    let statuses = (400..=599).filter(|status| statuses.contains(*status)).map(|status| status.to_string());
    causes.chain(statuses).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::{Source, load_text};

    fn of(text: &str) -> Value {
        let source = Source { path: "/nowhere/lb.toml".into(), ..Source::default() };
        let config = load_text(&source, text).unwrap().config;
        let (pool, retry) = (&config.pools[0], &config.policies[0].retry);
        serde_json::to_value(Safeguards::of(&pool.outlier, &pool.panic, retry)).unwrap()
    }

    /// The key is in lb.toml with another value; so the test finds a key that is shown as another one, or not at all.
    #[test]
    fn every_key_of_a_safeguard_is_shown_as_it_was_written() {
        let text = "[outlier]\ngateway_failures = 3\nserver_errors = 4\nsuccess_rate = false\ninterval_ms = 5000\n\
                    eject_ms = 6000\neject_max_ms = 7000\nmax_ejected_percent = 8\n[panic]\nbelow_percent = 9\n\
                    from_backends = 10\nmode = \"fail\"\n[retry]\nattempts = 3\non = [\"reset\", \"418\", \"503\"]\n\
                    attempt_timeout_ms = 11\nidempotency_key = true\nreplay_bytes = 12\nbudget_percent = 13\n\
                    budget_reserve_per_s = 14\n";
        let mut written: Value = toml::from_str(text).unwrap();
        written["outlier"]["enabled"] = true.into();
        assert_eq!(of(text), written);
    }

    #[test]
    fn a_safeguard_that_is_off_has_only_the_key_that_says_so() {
        let off =
            json!({ "outlier": { "enabled": false }, "panic": { "below_percent": 0 }, "retry": { "attempts": 1 } });
        assert_eq!(of("[outlier]\nenabled = false\n[panic]\nbelow_percent = 0\n[retry]\nattempts = 1\n"), off);
        let no_rule = "[outlier]\ngateway_failures = 0\nserver_errors = 0\nsuccess_rate = false\n";
        assert_eq!(of(no_rule)["outlier"], off["outlier"]);
    }
}
