//! The bounds of a plan: the ranges of its numbers, and combinations that are not allowed.
//!
//! Invariant: a plan that passes [`check`] runs without a panic. The same bounds apply while an experiment file is
//! read, so errors have line and key. A stored plan, which may have been edited by hand, is checked as a whole.

use std::mem::discriminant;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{ArmPlan, BlockPlan, Fault, FaultKind, LoadPlan, Plan, Rate, SimulatedPlan};
use crate::load::parse_duration;
use crate::model::{GOOD_SHARE, Safeguard};

pub(super) const SIZE: RangeInclusive<u32> = 1..=64;
/// Backends in all groups of a simulation.
pub(super) const IN_GROUPS: RangeInclusive<u32> = 1..=1000;
pub(super) const BALANCERS: RangeInclusive<u32> = 1..=10_000;
/// With this limit, the sum of a time and a moment does not overflow the clock.
pub(super) const TIME_MAX: Duration = Duration::from_secs(3_600_000);
pub(super) const CONNECTIONS: RangeInclusive<u32> = 1..=60_000;
pub(super) const REQUESTS: RangeInclusive<u64> = 1..=1_000_000_000;
/// Requests in a server or in its queue.
pub(super) const AT_A_TIME: RangeInclusive<u32> = 0..=1_000_000;
pub(super) const REPEATS: RangeInclusive<u32> = 1..=1000;
pub const RATE_RPS: RangeInclusive<f64> = 1e-3..=1e6;
pub const OF_CAPACITY: RangeInclusive<f64> = 0.01..=2.0;
pub(super) const COST_FACTOR: RangeInclusive<f64> = 0.01..=100.0;
/// For half-widths and zones of equivalence, relative.
pub(super) const WIDTH: RangeInclusive<f64> = 0.001..=1.0;
pub(super) const CONFIDENCE: RangeInclusive<f64> = 0.5..=0.999;
pub(super) const SLOW_FACTOR: RangeInclusive<f64> = 0.01..=1e6;
pub(super) const SHARE: RangeInclusive<f64> = 0.0..=1.0;
/// Times that must be above 0. The timeout has two names, in a file and in a stored plan.
const NOT_EMPTY: [&str; 5] = ["budget", "load.duration", "load.timeout", "requests.timeout", "blocks.segment"];
pub(super) const ONE_SIZE: &str = "an open loop takes one number of servers; several numbers need a closed loop";
pub(super) const NOT_IN_BLOCKS: &str = "an arm of a block needs the pool of the other arms, and this kind changes the pool; blocks may have slow, delay, stall, \
    errors and hot_key";
pub(super) const ALONE: &str =
    "good_share is judged alone: arms with other shares have good responses to other requests";
/// The measures of a comparison, by their names in reports.
pub(super) const MEASURES: [&str; 5] = ["latency_p50", "latency_p90", "latency_p99", "service_p99", GOOD_SHARE];

/// Two overlapping faults of the same kind and target, in order of their beginning. The end of one would undo the
/// other.
pub(super) fn overlap(faults: &[Fault]) -> Option<(usize, usize)> {
    let end = |fault: &Fault| fault.until.unwrap_or(Duration::MAX);
    let is_same = |a: &Fault, b: &Fault| {
        let is_same_kind = a.kind.goes_on() && discriminant(&a.kind) == discriminant(&b.kind);
        is_same_kind && (a.backend == b.backend || !a.kind.affects_one())
    };
    let pairs = (0..faults.len()).flat_map(|second| (0..second).map(move |first| (first, second)));
    pairs
        .map(|(first, second)| if faults[second].at < faults[first].at { (second, first) } else { (first, second) })
        .find(|&(first, second)| is_same(&faults[first], &faults[second]) && faults[second].at < end(&faults[first]))
}

/// Why two faults overlap, in words.
pub(super) fn overlap_in_words(first: &Fault) -> String {
    let until = first.until.map_or("the end of the load".to_owned(), |until| format!("{until:?}"));
    format!("the fault at {:?} lasts until {until}: it must end before this one begins", first.at)
}

/// Checks the whole plan. The error has the key and the reason.
pub(super) fn check(plan: &Plan) -> Result<(), String> {
    let Plan { budget, load, requests, sizes, mocks, arms, blocks, faults, .. } = plan;
    time("budget", *budget)?;
    time("requests.timeout", requests.timeout)?;
    time("requests.calm_p99", requests.calm_p99)?;
    requests.keys.check().map_err(|error| format!("requests.keys: {error}"))?;
    requests.cost.check().map_err(|error| format!("requests.cost: {error}"))?;
    service_time(&mocks.service_time).map_err(|error| format!("backends.service_time: {error}"))?;
    if sizes.is_empty() {
        return Err("sizes: at least one is needed".to_owned());
    }
    let in_groups = plan.simulated.as_ref().and_then(SimulatedPlan::size);
    let possible = if in_groups.is_some() { IN_GROUPS } else { SIZE };
    sizes.iter().try_for_each(|size| number("sizes", *size, &possible))?;
    if in_groups.is_some_and(|size| *sizes != [size]) {
        return Err("sizes: must be the number of backends in simulated.groups".to_owned());
    }
    self::load(load)?;
    if arms.is_empty() {
        return Err("arms: at least one is needed".to_owned());
    }
    arms.iter().try_for_each(|arm| number("arms.cost_factor", arm.cost_factor, &COST_FACTOR))?;
    if arms.iter().flat_map(|arm| arm.lb.keys()).any(|section| Safeguard::of(section).is_none()) {
        return Err(format!("arms.lb: an arm may set {}", Safeguard::sections().join(", ")));
    }
    let is_twice = |(at, arm): (usize, &ArmPlan)| arms[..at].iter().any(|other| other.label == arm.label);
    if arms.iter().enumerate().any(is_twice) {
        return Err("arms.label: two arms have the same label".to_owned());
    }
    blocks.as_ref().map_or(Ok(()), self::blocks)?;
    let smallest = sizes.iter().copied().min().unwrap_or(1);
    faults.iter().try_for_each(|it| fault(it, smallest))?;
    let is_closed = matches!(load, LoadPlan::Closed { .. });
    if !is_closed && sizes.len() > 1 {
        return Err(format!("sizes: {ONE_SIZE}"));
    }
    if is_closed && blocks.is_some() {
        return Err("blocks: need an open loop".to_owned());
    }
    if !faults.is_empty() && is_closed {
        return Err("faults: need an open loop".to_owned());
    }
    if blocks.is_some() && faults.iter().any(|fault| !fault.kind.goes_on()) {
        return Err(format!("faults.kind: {NOT_IN_BLOCKS}"));
    }
    match overlap(faults) {
        Some((first, _)) => Err(format!("faults.at: {}", overlap_in_words(&faults[first]))),
        None => Ok(()),
    }
}

/// The end of the load, from its start, if the plan has one; and whether it is the end of each segment.
pub(super) fn end_of_load(load: &LoadPlan, blocks: Option<&BlockPlan>) -> Option<(Duration, bool)> {
    match (load, blocks) {
        (_, Some(blocks)) => Some((blocks.segment, true)),
        (LoadPlan::Open { duration, .. }, None) => duration.map(|duration| (duration, false)),
        (LoadPlan::Closed { .. }, None) => None,
    }
}

/// Checks for a law that mock-server accepts. With another law it would not start, and lb would wait for it.
pub(super) fn service_time(text: &str) -> Result<(), String> {
    let is_time = |text: &str| text.trim() == "0" || parse_duration(text.trim()).is_some();
    let is_known = match text.split_once(':') {
        None => is_time(text),
        Some(("constant" | "exponential", time)) => is_time(time),
        Some(("lognormal", both)) => both.split_once(',').is_some_and(|(median, sigma)| {
            is_time(median) && sigma.trim().parse().is_ok_and(|sigma: f64| (0.0..=10.0).contains(&sigma))
        }),
        Some(_) => false,
    };
    let laws = "write 0, constant:5ms, exponential:10ms (mean) or lognormal:10ms,0.5 (median, sigma)";
    if is_known { Ok(()) } else { Err(format!("{text:?} is no law of service time: {laws}")) }
}

fn load(load: &LoadPlan) -> Result<(), String> {
    match load {
        LoadPlan::Closed { connections, requests, repeats } => {
            number("load.connections", *connections, &CONNECTIONS)?;
            number("load.requests", *requests, &REQUESTS)?;
            number("load.repeats", *repeats, &REPEATS)
        }
        LoadPlan::Open { rate, outstanding, warm_up, duration, .. } => {
            match rate {
                Rate::Rps(rps) => number("load.rate", *rps, &RATE_RPS)?,
                Rate::OfCapacity(part) => number("load.rate", *part, &OF_CAPACITY)?,
            }
            number("load.outstanding", *outstanding, &CONNECTIONS)?;
            time("load.warm_up", *warm_up)?;
            duration.map_or(Ok(()), |duration| time("load.duration", duration))
        }
    }
}

fn blocks(blocks: &BlockPlan) -> Result<(), String> {
    time("blocks.segment", blocks.segment)?;
    time("blocks.wash_out", blocks.wash_out)?;
    number("blocks.half_width", blocks.half_width, &WIDTH)?;
    number("blocks.equivalence", blocks.equivalence, &WIDTH)?;
    number("blocks.confidence", blocks.confidence, &CONFIDENCE)?;
    measure("blocks.primary", &blocks.primary)?;
    if blocks.verdicts.is_empty() {
        return Err("blocks.verdicts: at least one is needed".to_owned());
    }
    blocks.verdicts.iter().try_for_each(|name| measure("blocks.verdicts", name))?;
    let all = || blocks.verdicts.iter().chain([&blocks.primary]);
    match all().any(|name| name == GOOD_SHARE) && all().any(|name| name != GOOD_SHARE) {
        true => Err(format!("blocks.verdicts: {ALONE}")),
        false => Ok(()),
    }
}

fn fault(fault: &Fault, smallest: u32) -> Result<(), String> {
    time("faults.at", fault.at)?;
    // the sum of these two times must stay within the limit
    if fault.until.is_some_and(|until| until <= fault.at || until - fault.at > TIME_MAX) {
        return Err("faults.until: must be after its beginning, by 1000h at most".to_owned());
    }
    number("faults.backend", fault.backend, &(1..=smallest))?;
    match fault.kind {
        FaultKind::Slow { factor } => number("faults.factor", factor, &SLOW_FACTOR),
        FaultKind::Delay { extra } => time("faults.extra", extra),
        FaultKind::Errors { rate } => number("faults.rate", rate, &SHARE),
        FaultKind::HotKey { share } => number("faults.share", share, &SHARE),
        FaultKind::Add { n } => number("faults.n", n, &SIZE),
        FaultKind::Stall | FaultKind::Kill | FaultKind::Remove => Ok(()),
    }
}

/// Checks the time of this key.
pub(super) fn duration(key: &str, time: Duration) -> Result<(), &'static str> {
    match time {
        Duration::ZERO if NOT_EMPTY.contains(&key) => Err("is too short: it must be above 0"),
        time if time > TIME_MAX => Err("is too long: at most 1000h"),
        _ => Ok(()),
    }
}

fn measure(key: &str, name: &str) -> Result<(), String> {
    match MEASURES.contains(&name) {
        true => Ok(()),
        false => Err(format!("{key}: must be one of {}", MEASURES.join(", "))),
    }
}

fn time(key: &str, time: Duration) -> Result<(), String> {
    duration(key, time).map_err(|reason| format!("{key}: {} s {reason}", time.as_secs()))
}

fn number<T: PartialOrd + std::fmt::Display>(key: &str, number: T, range: &RangeInclusive<T>) -> Result<(), String> {
    let (low, high) = (range.start(), range.end());
    if range.contains(&number) { Ok(()) } else { Err(format!("{key}: must be from {low} to {high}, not {number}")) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn faults_that_would_undo_each_other_are_refused_at_the_line_of_the_later_one() {
        let load = "[load]\nloop = \"open\"\nrate_rps = 5\n";
        let slow = |at: &str, more: &str| format!("[[faults]]\nat = \"{at}\"\nkind = \"slow\"\nfactor = 4\n{more}\n");
        let ends = "for = \"2s\"";
        for (second, is_refused) in [
            (slow("3s", ends), true),
            (slow("4s", ends), false),
            (slow("3s", "backend = 2"), false),
            ("[[faults]]\nat = \"3s\"\nkind = \"stall\"\n".to_owned(), false),
        ] {
            let found = Plan::parse(&format!("{load}{}{second}", slow("2s", ends)), Path::new("x.toml"));
            assert_eq!(found.is_err(), is_refused, "{second}: {found:?}");
        }
        let wanted = "x.toml, line 5: faults.at: the fault at 1s lasts until the end of the load: it must end before";
        let later_first = Plan::parse(&format!("{load}{}{}", slow("3s", ""), slow("1s", "")), Path::new("x.toml"));
        let error = later_first.expect_err("a fault without an end").to_string();
        assert!(error.starts_with(wanted), "{error}");
        let hot = |at: &str| format!("[[faults]]\nat = \"{at}\"\nfor = \"2s\"\nkind = \"hot_key\"\nshare = 0.5\n");
        assert!(Plan::parse(&format!("{load}{}{}", hot("1s"), hot("2s")), Path::new("x.toml")).is_err());
    }

    #[test]
    fn a_plan_that_measures_nothing_is_refused() {
        let open = "[load]\nloop = \"open\"\nrate_rps = 5\n";
        for (text, wanted) in [
            (format!("{open}duration = \"0s\""), "line 4: load.duration: \"0s\" is too short"),
            (format!("budget = \"0s\"\n{open}"), "line 1: budget: \"0s\" is too short"),
            (format!("{open}[blocks]\nsegment = \"0s\""), "line 5: blocks.segment: \"0s\" is too short"),
            (format!("{open}[backends]\nn = [1, 2]"), "line 5: backends.n: an open loop takes one number"),
            (format!("{open}duration = \"9999h\""), "line 4: load.duration: \"9999h\" is too long: at most 1000h"),
        ] {
            let error = Plan::parse(&text, Path::new("x.toml")).expect_err(&text).to_string();
            assert!(error.starts_with(&format!("x.toml, {wanted}")), "{error}");
        }
        let no_warm_up = format!("{open}warm_up = \"0s\"\n[backends]\nn = [2]");
        assert!(Plan::parse(&no_warm_up, Path::new("x.toml")).is_ok());
    }

    #[test]
    fn faults_come_in_order_of_time() {
        let text = "[load]\nloop = \"open\"\nrate_rps = 5\n[[faults]]\nat = \"9s\"\nkind = \"kill\"\n[[faults]]\nat = \"2s\"\nfor = \"3s\"\nkind = \"stall\"\nbackend = 2";
        let faults = Plan::parse(text, Path::new("x.toml")).expect("sound").faults;
        assert_eq!(faults.iter().map(|fault| fault.at.as_secs()).collect::<Vec<_>>(), [2, 9]);
        assert_eq!((faults[0].until, faults[0].backend), (Some(Duration::from_secs(5)), 2));
    }
}
