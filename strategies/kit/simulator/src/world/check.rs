//! Whether a world can be simulated. Each error names the key, the value and the remedy.

use super::{Arrivals, Backends, Fault, FaultKind, Keys, World};
use crate::time::Time;

/// A key of a world that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("world.{key}: {reason}")]
pub struct WorldError {
    pub key: String,
    pub reason: String,
}

const BACKENDS_MAX: usize = 100_000;
const BALANCERS_MAX: u32 = 10_000;
const RPS_MAX: f64 = 1e9;
/// The most requests of one simulation.
const REQUESTS_MAX: f64 = 1e10;

type Checked = Result<(), WorldError>;

fn wrong(key: impl Into<String>, reason: impl Into<String>) -> Checked {
    Err(WorldError { key: key.into(), reason: reason.into() })
}

fn number(key: &str, value: f64, range: std::ops::RangeInclusive<f64>) -> Checked {
    match range.contains(&value) {
        true => Ok(()),
        false => wrong(key, format!("{value} is not from {} to {}", range.start(), range.end())),
    }
}

// === impl World ===

impl World {
    /// The first error, if there is one.
    pub fn check(&self) -> Checked {
        let n = self.size();
        if !(1..=BACKENDS_MAX).contains(&n) {
            return wrong("backends", format!("{n} backends: 1 to {BACKENDS_MAX} are possible"));
        }
        if !(1..=BALANCERS_MAX).contains(&self.balancers) {
            return wrong("balancers", format!("{} is not from 1 to {BALANCERS_MAX}", self.balancers));
        }
        if self.duration.is_zero() && self.requests == 0 {
            return wrong("duration", "the simulation has no end: set duration or requests");
        }
        if self.unfinished_max == 0 {
            return wrong("unfinished_max", "0 permits no request: write at least 1");
        }
        self.backends.iter().enumerate().try_for_each(|(at, group)| group.check(&format!("backends[{at}]")))?;
        self.faults.iter().enumerate().try_for_each(|(at, fault)| fault.check(&format!("faults[{at}]"), n))?;
        self.arrivals.check()?;
        self.keys.check()?;
        self.check_end()?;
        self.check_rules()
    }

    fn check_end(&self) -> Checked {
        let seconds = (self.duration.ns + self.warm_up.ns) as f64 / 1e9;
        let requests = self.arrivals.highest_rps().map_or(0.0, |rps| rps * seconds);
        if self.requests == 0 && requests > REQUESTS_MAX {
            return wrong(
                "duration",
                format!("about {requests:.1e} requests: at most {REQUESTS_MAX:.0e} are possible"),
            );
        }
        let waits_at_once = matches!(self.arrivals, Arrivals::Closed { think, .. } if think.is_none());
        let is_instant = self.backends.iter().any(|group| group.service.is_none()) && self.cost.is_none();
        if waits_at_once && is_instant && self.network.is_none() && self.requests == 0 {
            let reason = "requests take no time, so a closed loop never reaches the end: set requests, cost or service";
            return wrong("arrivals", reason);
        }
        Ok(())
    }

    fn check_rules(&self) -> Checked {
        let lb = &self.lb;
        if let Some(retry) = &lb.retry {
            number("lb.retry.attempts", f64::from(retry.attempts), 1.0..=5.0)?;
            number("lb.retry.budget_percent", f64::from(retry.budget_percent), 0.0..=100.0)?;
            if retry.on().is_none() {
                let reason = format!("{:?}: write connect, reset, timeout or statuses from 400 to 599", retry.on);
                return wrong("lb.retry.on", reason);
            }
        }
        if let Some(outlier) = &lb.outlier {
            number("lb.outlier.eject_ms", outlier.eject_ms as f64, 10.0..=86_400_000.0)?;
            number("lb.outlier.interval_ms", outlier.interval_ms as f64, 100.0..=86_400_000.0)?;
            number("lb.outlier.max_ejected_percent", f64::from(outlier.max_ejected_percent), 0.0..=100.0)?;
        }
        if let Some(panic) = &lb.panic {
            number("lb.panic.below_percent", f64::from(panic.below_percent), 0.0..=100.0)?;
            if !["use_all", "fail"].contains(&panic.mode.as_str()) {
                return wrong("lb.panic.mode", format!("{:?}: write use_all or fail", panic.mode));
            }
        }
        if let Some(ramp) = &lb.slow_start {
            number("lb.slow_start.window_ms", ramp.window_ms as f64, 10.0..=86_400_000.0)?;
            number("lb.slow_start.min_percent", f64::from(ramp.min_percent), 1.0..=100.0)?;
            number("lb.slow_start.aggression", ramp.aggression, 0.1..=10.0)?;
        }
        if let Some(queue) = &lb.queue {
            number("lb.queue.wait_ms", queue.wait_ms as f64, 1.0..=600_000.0)?;
            number("lb.queue.length", queue.length as f64, 0.0..=1e6)?;
        }
        if let Some(health) = &lb.health {
            number("lb.health.interval_ms", health.interval_ms as f64, 10.0..=86_400_000.0)?;
            number("lb.health.timeout_ms", health.timeout_ms as f64, 10.0..=86_400_000.0)?;
            number("lb.health.down_after", f64::from(health.down_after), 1.0..=1_000.0)?;
            number("lb.health.up_after", f64::from(health.up_after), 1.0..=1_000.0)?;
        }
        if let Some(probe) = &lb.probe {
            number("lb.probe.timeout_ms", probe.timeout_ms as f64, 1.0..=60_000.0)?;
        }
        match &lb.load_reports {
            Some(reports) if reports.poll_every_ms > 0 => {
                number("lb.load_reports.poll_every_ms", reports.poll_every_ms as f64, 10.0..=3_600_000.0)
            }
            _ => Ok(()),
        }
    }
}

// === impl Arrivals ===

impl Arrivals {
    fn check(&self) -> Checked {
        let rate = |key: &str, rps: f64, least: f64| number(&format!("arrivals.{key}"), rps, least..=RPS_MAX);
        match self {
            Self::Poisson { rps } | Self::Constant { rps } => rate("rps", *rps, 1e-6),
            Self::Ramp { from, to, over } if over.is_zero() => {
                wrong("arrivals.over", format!("0: a ramp from {from} to {to} needs a time"))
            }
            Self::Ramp { from, to, .. } => rate("from", *from, 0.0).and(rate("to", *to, 1e-6)),
            Self::Bursts { low, high, period, share } => {
                if period.is_zero() {
                    return wrong("arrivals.period", "0: bursts need a time");
                }
                number("arrivals.share", *share, 1e-3..=1.0)?;
                rate("low", *low, 0.0).and(rate("high", *high, 1e-6))
            }
            Self::Trace { times } if !times.is_sorted() => wrong("arrivals.times", "they must not decrease"),
            Self::Trace { .. } => Ok(()),
            Self::Closed { clients, .. } => number("arrivals.clients", f64::from(*clients), 1.0..=1e6),
        }
    }
}

// === impl Keys ===

impl Keys {
    fn check(&self) -> Checked {
        match *self {
            Self::Uniform { keys } => number("keys.keys", f64::from(keys), 1.0..=1e9),
            Self::Zipf { keys, exponent } => {
                number("keys.exponent", exponent, 0.01..=10.0)?;
                number("keys.keys", f64::from(keys), 1.0..=1e7)
            }
            Self::None | Self::Sequential | Self::Course => Ok(()),
        }
    }
}

// === impl Backends ===

impl Backends {
    fn check(&self, key: &str) -> Checked {
        number(&format!("{key}.speed"), self.speed, 1e-6..=1e6)?;
        number(&format!("{key}.weight"), f64::from(self.weight), 0.0..=256.0)?;
        for wave in &self.waves {
            number(&format!("{key}.waves.share"), wave.share, 0.0..=1.0)?;
            number(&format!("{key}.waves.speed"), wave.speed, 1e-6..=1e6)?;
            if wave.period < Time::ms(1) {
                return wrong(format!("{key}.waves.period"), format!("{}: write at least 1ms", wave.period));
            }
        }
        match (self.joins, self.leaves) {
            (Some(joins), Some(leaves)) if leaves <= joins => {
                wrong(format!("{key}.leaves"), format!("{leaves} is not after {joins}, when they join"))
            }
            _ => Ok(()),
        }
    }
}

// === impl Fault ===

impl Fault {
    fn check(&self, key: &str, backends: usize) -> Checked {
        if self.kind.affects_one() && !(1..=backends).contains(&(self.backend as usize)) {
            return wrong(
                format!("{key}.backend"),
                format!("{}: there are the backends 1 to {backends}", self.backend),
            );
        }
        if self.lasts.is_some_and(Time::is_zero) {
            return wrong(format!("{key}.for"), "0: the fault would have no effect");
        }
        match self.kind {
            FaultKind::Slow { factor } => number(&format!("{key}.factor"), factor, 1e-3..=1e6),
            FaultKind::Errors { rate, status, .. } => {
                number(&format!("{key}.status"), f64::from(status), 400.0..=599.0)?;
                number(&format!("{key}.rate"), rate, 0.0..=1.0)
            }
            FaultKind::Reset { rate } | FaultKind::HotKey { share: rate } => {
                number(&format!("{key}.rate"), rate, 0.0..=1.0)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(change: impl FnOnce(&mut World)) -> String {
        let mut world = World::of(3, "exponential:10ms".parse().unwrap());
        world.check().unwrap();
        change(&mut world);
        world.check().unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_value_is_told_with_its_key_and_the_remedy() {
        let none = told(|world| world.backends.clear());
        assert_eq!(none, "world.backends: 0 backends: 1 to 100000 are possible");
        let endless = told(|world| world.duration = Time::ZERO);
        assert!(endless.contains("set duration or requests"), "{endless}");
        let huge = told(|world| (world.arrivals, world.duration) = (Arrivals::Poisson { rps: 1e9 }, Time::seconds(60)));
        assert!(huge.contains("at most 1e10"), "{huge}");
        let loops = told(|world| {
            world.backends[0].service = "none".parse().unwrap();
            world.arrivals = Arrivals::Closed { clients: 1, think: "none".parse().unwrap() };
        });
        assert!(loops.contains("never reaches the end"), "{loops}");
        let nan = told(|world| world.arrivals = Arrivals::Poisson { rps: f64::NAN });
        assert!(nan.contains("arrivals.rps: NaN"), "{nan}");
        let absent = told(|world| world.faults.push(Fault::new(Time::ZERO, 4, FaultKind::Stall)));
        assert_eq!(absent, "world.faults[0].backend: 4: there are the backends 1 to 3");
        let early =
            told(|world| (world.backends[0].joins, world.backends[0].leaves) = (Some(Time::ms(2)), Some(Time::ms(1))));
        assert!(early.contains("backends[0].leaves: 1ms is not after 2ms"), "{early}");
    }

    #[test]
    fn the_sections_have_the_keys_of_lb_toml() {
        let text = r#"
            duration = "60s"
            cost = "normal:167ms,5ms"
            arrivals = { kind = "poisson", rps = 1000.0 }
            keys = { kind = "zipf", keys = 1000, exponent = 1.1 }
            [[backends]]
            n = 11
            concurrency = 0
            waves = [{ period = "20s", share = 0.6, speed = 0.4 }]
            [[faults]]
            at = "15s"
            for = "30s"
            kind = "delay"
            extra = "1833ms"
            backend = 4
            [lb]
            requests_in_flight_per_backend = 10
            [lb.retry]
            on = ["connect", "500"]
            [lb.outlier]
            eject_ms = 10000
            [lb.panic]
            mode = "fail"
            [lb.slow_start]
            window_ms = 5000
            [lb.health]
            interval_ms = 500
            [lb.queue]
            length = 10
        "#;
        let world: World = toml::from_str(text).unwrap();
        world.check().unwrap();
        assert_eq!(toml::from_str::<World>(&toml::to_string(&world).unwrap()).unwrap(), world);
        let (rules, budget) = world.lb.retry();
        assert!(rules.on.statuses.contains(500) && !rules.on.reset && rules.attempts == 2 && budget.percent == 20);
        assert_eq!(world.lb.outlier().base_ns, 10_000_000_000);
        let unknown = toml::from_str::<World>("[lb.retry]\nhedge = true").unwrap_err().to_string();
        assert!(unknown.contains("unknown field `hedge`"), "{unknown}");
    }

    #[test]
    fn the_load_of_a_world_is_known_before_it_runs() {
        let mut world = World::of(4, "exponential:10ms".parse().unwrap());
        world.arrivals = Arrivals::Poisson { rps: 200.0 };
        assert_eq!(world.load(), Some(0.5));
        world.backends[0].concurrency = 0;
        assert_eq!(world.load(), None);
    }
}
