//! The section `[slow_start]`, also that of a pool: its file form and its check. The rule is [`lb_balance::SlowStart`].

use lb_balance::Ramp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::key_path::KeyPath;
use super::section::{Scope, section};
use super::validate::{milliseconds, within};

const OF_BACKENDS: &str = "the rule is about backends, which belong to a pool";
/// Beyond these the curve is a step.
const AGGRESSION: std::ops::RangeInclusive<f64> = 0.1..=10.0;

section! {
    SlowStart, PartialSlowStart {
        enabled: bool = false, Scope::Pool(OF_BACKENDS);
        window_ms: i64 = (Ramp::default().window_ns / 1_000_000).cast_signed(), Scope::Pool(OF_BACKENDS);
        min_percent: i64 = i64::from(Ramp::default().min_percent), Scope::Pool(OF_BACKENDS);
        aggression: f64 = Ramp::default().aggression, Scope::Pool(OF_BACKENDS);
    }
}

// === impl SlowStart ===

impl SlowStart {
    /// Checks the section at `section`. `None` is off.
    pub(super) fn check(&self, section: &KeyPath) -> Result<Option<Ramp>, Fault> {
        let Self { enabled, window_ms, min_percent, aggression } = *self;
        if !AGGRESSION.contains(&aggression) {
            let (min, max) = (AGGRESSION.start(), AGGRESSION.end());
            let what = format!("must be from {min:.1} to {max:.1}, not {aggression}");
            return Err(Fault::new(section.key("aggression"), what));
        }
        let ramp = Ramp {
            window_ns: milliseconds(section.key("window_ms"), window_ms, 10)?.as_nanos() as u64,
            min_percent: within(section.key("min_percent"), min_percent, 1, 100)? as u8,
            aggression,
            steps: Ramp::default().steps,
        };
        Ok(enabled.then_some(ramp))
    }
}
