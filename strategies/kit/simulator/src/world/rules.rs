//! The rules of lb around the strategy, in the form of `lb.toml`: `[world.lb.retry]` has the keys of `[retry]`.
//!
//! The rules themselves are those of `lb-balance`; here are only their keys and defaults. As in live experiments, a
//! rule is off without its section. Keys of `lb.toml` that a simulation does not model are unknown here, and so errors.

use lb_balance::{
    BackOff, BudgetRules, Caps, CheckRules, Fallback, OutlierRules, PanicMode, PanicRules, QueueRules, Ramp, RetryOn,
    RetryRules, StatusSet, SuccessRateRule, Thresholds,
};
use serde::{Deserialize, Serialize};

const MS: u64 = 1_000_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    pub fallback: Fallback,
    pub retry: Option<RetrySection>,
    pub queue: Option<QueueSection>,
    pub outlier: Option<OutlierSection>,
    pub panic: Option<PanicSection>,
    pub slow_start: Option<SlowStartSection>,
    pub health: Option<HealthSection>,
    pub load_reports: Option<LoadReportsSection>,
    /// As `[strategy.probe]` with a path.
    pub probe: Option<ProbeSection>,
    /// As in `[limits]`; 0: no limit.
    pub requests_in_flight_per_backend: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySection {
    pub attempts: u32,
    pub on: Vec<String>,
    pub attempt_timeout_ms: u64,
    pub budget_percent: u32,
    pub budget_reserve_per_s: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSection {
    pub length: usize,
    pub wait_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutlierSection {
    pub enabled: bool,
    pub gateway_failures: u32,
    pub server_errors: u32,
    pub success_rate: bool,
    pub interval_ms: u64,
    pub eject_ms: u64,
    pub eject_max_ms: u64,
    pub max_ejected_percent: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PanicSection {
    pub below_percent: u8,
    pub from_backends: usize,
    /// `use_all` or `fail`.
    pub mode: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlowStartSection {
    pub enabled: bool,
    pub window_ms: u64,
    pub min_percent: u8,
    pub aggression: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthSection {
    pub enabled: bool,
    pub interval_ms: u64,
    /// Default: a quarter of `interval_ms`.
    pub fast_interval_ms: Option<u64>,
    pub timeout_ms: u64,
    pub down_after: u32,
    pub up_after: u32,
    pub initial: Initial,
}

/// A backend before its first check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initial {
    #[default]
    Up,
    Down,
    Wait,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoadReportsSection {
    /// Responses bring a report.
    pub enabled: bool,
    /// The time between two polls of each backend; 0: none.
    pub poll_every_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeSection {
    pub timeout_ms: u64,
}

// === impl Rules ===

impl Default for Rules {
    fn default() -> Self {
        Self {
            fallback: Fallback::LeastConnections,
            retry: None,
            queue: None,
            outlier: None,
            panic: None,
            slow_start: None,
            health: None,
            load_reports: None,
            probe: None,
            requests_in_flight_per_backend: 0,
        }
    }
}

impl Rules {
    pub(crate) fn caps(&self) -> Caps {
        let most = self.requests_in_flight_per_backend;
        Caps { requests: (most > 0).then_some(most), connections: None }
    }

    /// Without the section, one attempt and no budget. The section must have passed the check.
    pub(crate) fn retry(&self) -> (RetryRules, BudgetRules) {
        let off = RetrySection { attempts: 1, ..RetrySection::default() };
        let retry = self.retry.as_ref().unwrap_or(&off);
        let rules = RetryRules {
            attempts: retry.attempts,
            on: retry.on().unwrap_or_default(),
            per_attempt_ns: (retry.attempt_timeout_ms > 0).then_some(retry.attempt_timeout_ms * MS),
            back_off: RetryRules::default().back_off,
            ..RetryRules::default()
        };
        let (percent, reserve_per_s) = (retry.budget_percent, retry.budget_reserve_per_s);
        (rules, BudgetRules { percent, reserve_per_s })
    }

    pub(crate) fn back_off(&self) -> BackOff {
        self.retry().0.back_off
    }

    pub(crate) fn queue(&self) -> QueueRules {
        let queue = self.queue.as_ref();
        let wait_ms = queue.map_or(1, |queue| queue.wait_ms);
        QueueRules { length_max: queue.map_or(0, |queue| queue.length), wait_max_ns: wait_ms * MS }
    }

    pub(crate) fn outlier(&self) -> OutlierRules {
        let Some(rules) = self.outlier.as_ref().filter(|rules| rules.enabled) else { return OutlierRules::off() };
        OutlierRules {
            thresholds: Thresholds { gateway: rules.gateway_failures, errors: rules.server_errors },
            success_rate: rules.success_rate.then(SuccessRateRule::default),
            interval_ns: rules.interval_ms * MS,
            base_ns: rules.eject_ms * MS,
            max_ns: rules.eject_max_ms * MS,
            jitter_ns: 0,
            max_ejected_percent: rules.max_ejected_percent,
        }
    }

    pub(crate) fn panic(&self) -> PanicRules {
        let Some(rules) = &self.panic else { return PanicRules::OFF };
        PanicRules {
            below_percent: rules.below_percent,
            from_members: rules.from_backends,
            mode: if rules.mode == "fail" { PanicMode::Fail } else { PanicMode::UseAll },
        }
    }

    pub(crate) fn ramp(&self) -> Option<Ramp> {
        let rules = self.slow_start.as_ref().filter(|rules| rules.enabled)?;
        Some(Ramp {
            window_ns: rules.window_ms * MS,
            min_percent: rules.min_percent,
            aggression: rules.aggression,
            ..Ramp::default()
        })
    }

    pub(crate) fn probe_timeout_ns(&self) -> u64 {
        self.probe.as_ref().map_or(0, |probe| probe.timeout_ms * MS)
    }

    pub(crate) fn health(&self) -> Option<&HealthSection> {
        self.health.as_ref().filter(|health| health.enabled)
    }
}

// === impl RetrySection ===

impl Default for RetrySection {
    fn default() -> Self {
        let (rules, budget) = (RetryRules::default(), BudgetRules::default());
        Self {
            attempts: rules.attempts,
            on: ["connect", "reset", "timeout", "502", "503", "504"].map(str::to_owned).to_vec(),
            attempt_timeout_ms: 0,
            budget_percent: budget.percent,
            budget_reserve_per_s: budget.reserve_per_s,
        }
    }
}

impl RetrySection {
    /// `None` if a word is unknown.
    pub(super) fn on(&self) -> Option<RetryOn> {
        let mut on = RetryOn { connect: false, reset: false, timeout: false, statuses: StatusSet::default() };
        for word in &self.on {
            match word.as_str() {
                "connect" => on.connect = true,
                "reset" => on.reset = true,
                "timeout" => on.timeout = true,
                status => on.statuses.insert(status.parse().ok()?).then_some(())?,
            }
        }
        Some(on)
    }
}

// === impl QueueSection ===

impl Default for QueueSection {
    fn default() -> Self {
        Self { length: 128, wait_ms: 1_000 }
    }
}

// === impl OutlierSection ===

impl Default for OutlierSection {
    fn default() -> Self {
        let rules = OutlierRules::default();
        Self {
            enabled: true,
            gateway_failures: rules.thresholds.gateway,
            server_errors: rules.thresholds.errors,
            success_rate: true,
            interval_ms: rules.interval_ns / MS,
            eject_ms: rules.base_ns / MS,
            eject_max_ms: rules.max_ns / MS,
            max_ejected_percent: rules.max_ejected_percent,
        }
    }
}

// === impl PanicSection ===

impl Default for PanicSection {
    fn default() -> Self {
        let rules = PanicRules::default();
        Self { below_percent: rules.below_percent, from_backends: rules.from_members, mode: "use_all".to_owned() }
    }
}

// === impl SlowStartSection ===

impl Default for SlowStartSection {
    fn default() -> Self {
        let ramp = Ramp::default();
        Self {
            enabled: true,
            window_ms: ramp.window_ns / MS,
            min_percent: ramp.min_percent,
            aggression: ramp.aggression,
        }
    }
}

// === impl ProbeSection ===

impl Default for ProbeSection {
    fn default() -> Self {
        Self { timeout_ms: 1_000 }
    }
}

// === impl HealthSection ===

impl Default for HealthSection {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_ms: 1_000,
            fast_interval_ms: None,
            timeout_ms: 1_000,
            down_after: 3,
            up_after: 2,
            initial: Initial::Up,
        }
    }
}

impl HealthSection {
    pub(crate) fn rules(&self) -> CheckRules {
        CheckRules { down_after: self.down_after, up_after: self.up_after }
    }

    /// The time to the next check. `is_in_doubt`: the last one contradicted the backend's state.
    pub(crate) fn interval_ns(&self, is_in_doubt: bool) -> u64 {
        let fast_ms = self.fast_interval_ms.unwrap_or(self.interval_ms / 4).clamp(1, self.interval_ms);
        MS * if is_in_doubt { fast_ms } else { self.interval_ms }
    }
}
