//! The rules of a pool for failing backends that are in force, by section and key of the configuration.
//!
//! Why: a client of `/status`, such as an experiment, must know whether lb ejects backends or retries requests. The
//! file may have changed since the last reload, and flags and variables may override it. Invariants: keys and values
//! are those of lb.toml. A section that is switched off has only the key that says so.

use lb_balance::{OutlierRules, PanicMode, PanicRules, Ramp, RetryOn};
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::{Policy, PoolConfig, QueuePolicy, RetryPolicy};

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Safeguards {
    pub outlier: OutlierInForce,
    pub panic: PanicInForce,
    pub slow_start: SlowStartInForce,
    /// Of requests without a route that has its own.
    pub retry: RetryInForce,
    pub queue: QueueInForce,
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
    pub hedge: bool,
    pub replay_bytes: u64,
    pub budget_percent: u32,
    pub budget_reserve_per_s: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SlowStartInForce {
    pub enabled: bool,
    #[serde(flatten)]
    pub rules: Option<SlowStartKeys>,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SlowStartKeys {
    pub window_ms: u64,
    pub min_percent: u8,
    pub aggression: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct QueueInForce {
    /// 0: no request waits. Otherwise requests wait if backends or pool have a limit, or if the strategy says so.
    pub length: usize,
    #[serde(flatten)]
    pub rules: Option<QueueKeys>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct QueueKeys {
    pub wait_ms: u64,
    pub shed_from_percent: u32,
    pub adaptive: bool,
}

const NS_PER_MS: u64 = 1_000_000;

// === impl QueueInForce ===

impl QueueInForce {
    /// Whether requests may wait for room, or are limited by their latency. Without a limit only a strategy lets them
    /// wait.
    pub(in crate::control) fn is_in_use(&self, Policy { limits, queue, .. }: &Policy) -> bool {
        let has_caps = limits.requests_in_flight_per_backend.is_some() || limits.connections_per_backend.is_some();
        self.rules.is_some() && (has_caps || queue.adaptive)
    }
}

// === impl Safeguards ===

impl Safeguards {
    pub(in crate::control) fn of(pool: &PoolConfig, policy: &Policy) -> Self {
        Self {
            outlier: outlier(&pool.outlier),
            panic: panic(&pool.panic),
            slow_start: slow_start(pool.slow_start.as_ref()),
            retry: retry(&policy.retry),
            queue: queue(&policy.queue),
        }
    }
}

fn outlier(rules: &OutlierRules) -> OutlierInForce {
    let keys = || OutlierKeys {
        gateway_failures: rules.thresholds.gateway,
        server_errors: rules.thresholds.errors,
        success_rate: rules.success_rate.is_some(),
        interval_ms: rules.interval_ns / NS_PER_MS,
        eject_ms: rules.base_ns / NS_PER_MS,
        eject_max_ms: rules.max_ns / NS_PER_MS,
        max_ejected_percent: rules.max_ejected_percent,
    };
    OutlierInForce { enabled: !rules.is_off(), rules: (!rules.is_off()).then(keys) }
}

fn panic(rules: &PanicRules) -> PanicInForce {
    let mode = match rules.mode {
        PanicMode::UseAll => "use_all",
        PanicMode::Fail => "fail",
    };
    let keys = PanicKeys { from_backends: rules.from_members, mode };
    PanicInForce { below_percent: rules.below_percent, rules: (rules.below_percent > 0).then_some(keys) }
}

fn slow_start(ramp: Option<&Ramp>) -> SlowStartInForce {
    let keys = |ramp: &Ramp| SlowStartKeys {
        window_ms: ramp.window_ns / NS_PER_MS,
        min_percent: ramp.min_percent,
        aggression: ramp.aggression,
    };
    SlowStartInForce { enabled: ramp.is_some(), rules: ramp.map(keys) }
}

fn retry(RetryPolicy { rules, budget }: &RetryPolicy) -> RetryInForce {
    let keys = || RetryKeys {
        on: words(rules.on),
        attempt_timeout_ms: rules.per_attempt_ns.unwrap_or(0) / NS_PER_MS,
        idempotency_key: rules.idempotency_key,
        hedge: rules.hedge,
        replay_bytes: rules.replay_bytes,
        budget_percent: budget.percent,
        budget_reserve_per_s: budget.reserve_per_s,
    };
    RetryInForce { attempts: rules.attempts, rules: (rules.attempts > 1).then(keys) }
}

fn queue(queue: &QueuePolicy) -> QueueInForce {
    let length = queue.length;
    let keys = || QueueKeys {
        wait_ms: queue.wait.as_millis() as u64,
        shed_from_percent: queue.shed.from_percent,
        adaptive: queue.adaptive,
    };
    QueueInForce { length, rules: (length > 0 || queue.adaptive).then(keys) }
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
        serde_json::to_value(Safeguards::of(&config.pools[0], &config.policies[0])).unwrap()
    }

    /// The key is in lb.toml with another value; so the test finds a key that is shown as another one, or not at all.
    #[test]
    fn every_key_of_a_safeguard_is_shown_as_it_was_written() {
        let text = "[outlier]\ngateway_failures = 3\nserver_errors = 4\nsuccess_rate = false\ninterval_ms = 5000\n\
                    eject_ms = 6000\neject_max_ms = 7000\nmax_ejected_percent = 8\n[panic]\nbelow_percent = 9\n\
                    from_backends = 10\nmode = \"fail\"\n[retry]\nattempts = 3\non = [\"reset\", \"418\", \"503\"]\n\
                    attempt_timeout_ms = 11\nidempotency_key = true\nhedge = true\nreplay_bytes = 12\nbudget_percent = 13\n\
                    budget_reserve_per_s = 14\n[slow_start]\nenabled = true\nwindow_ms = 15000\nmin_percent = 16\n\
                    aggression = 1.5\n[queue]\nlength = 17\nwait_ms = 18\nshed_from_percent = 19\n\
                    adaptive = true\n";
        let mut written: Value = toml::from_str(text).unwrap();
        written["outlier"]["enabled"] = true.into();
        assert_eq!(of(text), written);
    }

    #[test]
    fn a_safeguard_that_is_off_has_only_the_key_that_says_so() {
        let off = json!({
            "outlier": { "enabled": false }, "panic": { "below_percent": 0 }, "slow_start": { "enabled": false },
            "retry": { "attempts": 1 }, "queue": { "length": 0 },
        });
        let text =
            "[outlier]\nenabled = false\n[panic]\nbelow_percent = 0\n[retry]\nattempts = 1\n[queue]\nlength = 0\n";
        assert_eq!(of(text), off);
        assert_eq!(
            of("[queue]\nlength = 3\n")["queue"]["length"],
            3,
            "without a limit, a strategy makes requests wait"
        );
        let no_rule = "[outlier]\ngateway_failures = 0\nserver_errors = 0\nsuccess_rate = false\n";
        assert_eq!(of(no_rule)["outlier"], off["outlier"]);
    }
}
