//! From a plan to the world of the simulator: the same words, as virtual things.
//!
//! Invariant: a key of the plan is simulated, or it is refused, or [`left_out`] names it. An error names the key.

use std::time::Duration;

use lb_strategy_simulator::world::{Backends, HealthSection, Rules};
use lb_strategy_simulator::{Arrivals, Fault, FaultKind, Keys, Law, Time, World};
use toml::{Table, Value};

use super::super::plan::{self, ArmPlan, Plan};
use crate::lab::{merge, off};
use crate::load::{self, parse_duration};
use crate::model::sha256;

/// The load of one cell: its requests and its times.
#[derive(Clone, Debug)]
pub(super) struct CellLoad {
    pub(super) arrivals: Arrivals,
    pub(super) warm_up: Duration,
    /// 0 for a closed loop, which ends with its requests.
    pub(super) duration: Duration,
    /// 0: no limit.
    pub(super) requests: u64,
}

/// The time until lb has replaced a process that was killed: about that of a live run.
const REPLACED: Time = Time::seconds(1);
/// Sections of lb.toml about processes, sockets and files, which virtual time does not have.
const WITHOUT_EFFECT: [&str; 10] = [
    "plugin_dirs",
    "allow_group_writable",
    "proxy",
    "admin",
    "launcher",
    "timeouts",
    "reload",
    "state",
    "log",
    "access_log",
];
/// Of these, the keys that a simulation uses in another way.
const USED: [&str; 2] = ["plugin_dirs", "allow_group_writable"];

/// The world of an arm with `n` backends.
pub(super) fn world(plan: &Plan, arm: &ArmPlan, n: u32, load: &CellLoad) -> Result<World, String> {
    let own = plan.simulated.clone().unwrap_or_default();
    let (keys, hot) = keys(plan.requests.keys);
    let mut world = World {
        duration: time(load.duration),
        warm_up: time(load.warm_up),
        requests: load.requests,
        arrivals: load.arrivals.clone(),
        cost: cost(plan.requests.cost.times(arm.cost_factor)),
        keys,
        timeout: time(plan.requests.timeout),
        balancers: own.balancers,
        network: own.network,
        backends: backends(plan, n)?,
        lb: rules(plan, arm)?,
        ..World::default()
    };
    if let plan::LoadPlan::Open { outstanding, .. } = plan.load {
        world.unfinished_max = outstanding;
    }
    world.faults.extend(hot.map(|share| Fault::new(Time::ZERO, 0, FaultKind::HotKey { share })));
    for fault in &plan.faults {
        match fault.kind {
            plan::FaultKind::Add { n } => {
                let like = world.backends[0].clone();
                world.backends.push(Backends { n, joins: Some(time(fault.at)), ..like });
            }
            kind => world.faults.push(self::fault(fault, kind)),
        }
    }
    world.check().map_err(|error| error.to_string())?;
    Ok(world)
}

/// The sections of `[lb]` that have no effect in virtual time.
pub(super) fn left_out(plan: &Plan) -> Vec<String> {
    let is_left_out = |key: &&String| WITHOUT_EFFECT.contains(&key.as_str()) && !USED.contains(&key.as_str());
    plan.lb.keys().filter(is_left_out).cloned().collect()
}

/// The digest of all that an arm is configured with, apart from its library.
pub(super) fn digest(plan: &Plan, arm: &ArmPlan) -> String {
    let configured = serde_json::json!([plan.lb, arm.lb, arm.strategy, arm.options, plan.simulated]);
    sha256(configured.to_string().as_bytes())
}

pub(super) fn time(duration: Duration) -> Time {
    Time { ns: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX) }
}

fn backends(plan: &Plan, n: u32) -> Result<Vec<Backends>, String> {
    let own = plan.simulated.clone().unwrap_or_default();
    if !own.groups.is_empty() {
        let mut groups = own.groups;
        groups.iter_mut().for_each(|group| group.waves.extend(&own.waves));
        return Ok(groups);
    }
    // as with mock-server: a request that carries its cost does not get the server's own service time
    let service = match plan.requests.cost {
        load::Cost::None => service(&plan.mocks.service_time)?,
        _ => Law::None,
    };
    let (concurrency, queue) = (plan.mocks.concurrency, plan.mocks.queue);
    Ok(vec![Backends { n, service, concurrency, queue, waves: own.waves, ..Backends::default() }])
}

/// The law of a mock server's flag `--service-time`.
fn service(text: &str) -> Result<Law, String> {
    let named = match text.split_once(':') {
        Some(_) => text.to_owned(),
        None => match parse_duration(text.trim()) {
            Some(Duration::ZERO) => return Ok(Law::None),
            Some(always) => return Ok(Law::Constant { time: time(always) }),
            None => "none".to_owned(),
        },
    };
    named.parse().map_err(|error| format!("backends.service_time: {error}"))
}

fn cost(cost: load::Cost) -> Law {
    match cost {
        load::Cost::None => Law::None,
        load::Cost::Constant { time: always } => Law::Constant { time: time(always) },
        load::Cost::Exponential { mean } => Law::Exponential { mean: time(mean) },
        load::Cost::Normal { mean, deviation } => Law::Normal { mean: time(mean), deviation: time(deviation) },
        load::Cost::Pareto { mean, shape } => Law::Pareto { mean: time(mean), shape },
    }
}

/// The keys, and the share of one hot key among them.
fn keys(keys: load::Keys) -> (Keys, Option<f64>) {
    match keys {
        load::Keys::None => (Keys::None, None),
        load::Keys::Sequential => (Keys::Sequential, None),
        load::Keys::Uniform => (Keys::Course, None),
        load::Keys::Zipf { keys, exponent } => (Keys::Zipf { keys, exponent }, None),
        load::Keys::Hot { share } => (Keys::Course, Some(share)),
    }
}

fn fault(fault: &plan::Fault, kind: plan::FaultKind) -> Fault {
    let kind = match kind {
        plan::FaultKind::Slow { factor } => FaultKind::Slow { factor },
        plan::FaultKind::Delay { extra } => FaultKind::Delay { extra: time(extra) },
        plan::FaultKind::Stall => FaultKind::Stall,
        plan::FaultKind::Kill => FaultKind::Kill,
        plan::FaultKind::Errors { rate } => FaultKind::Errors { rate, status: 500, checks: false },
        plan::FaultKind::Remove | plan::FaultKind::Add { .. } => FaultKind::Remove,
        plan::FaultKind::HotKey { share } => FaultKind::HotKey { share },
    };
    let lasts = fault.until.map(|until| time(until.saturating_sub(fault.at)));
    let lasts = lasts.or((kind == FaultKind::Kill).then_some(REPLACED));
    Fault { at: time(fault.at), lasts, backend: fault.backend, kind }
}

/// The rules of lb. As in a live run, safeguards are off without their keys, and health checks are on.
fn rules(plan: &Plan, arm: &ArmPlan) -> Result<Rules, String> {
    let mut keys = off();
    merge(&mut keys, &plan.lb);
    merge(&mut keys, &arm.lb);
    keys.retain(|section, _| !WITHOUT_EFFECT.contains(&section));
    // these two sections have one key each that the simulator has above all sections
    for (section, known) in [("limits", "requests_in_flight_per_backend"), ("strategy", "fallback")] {
        if let Some(Value::Table(own)) = keys.remove(section) {
            for (key, value) in own {
                let key = match (section, key.as_str()) {
                    (_, name) if name == known => known,
                    ("strategy", "probe") => "probe",
                    ("strategy", "load_reports") => "load_reports",
                    _ => return Err(format!("lb.{section}.{key}: a simulation does not model this key: remove it")),
                };
                keys.insert(key.to_owned(), value);
            }
        }
    }
    let mut rules: Rules = Table::try_into(keys).map_err(|error| {
        format!("lb: {}; a simulation models the keys in docs/simulator.md: remove others", error.message())
    })?;
    rules.health.get_or_insert_with(HealthSection::default);
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: &str = "[load]\nloop = \"open\"\nrate_rps = 100\ncost = \"exponential:10ms\"\n";

    fn of(text: &str) -> Result<World, String> {
        let plan = Plan::parse(text, "x.toml".as_ref()).expect("a plan");
        let arrivals = Arrivals::Poisson { rps: 100.0 };
        let load = CellLoad { arrivals, warm_up: Duration::ZERO, duration: Duration::from_secs(9), requests: 0 };
        world(&plan, &plan.arms[0], plan.sizes[0], &load)
    }

    #[test]
    fn the_words_of_a_plan_mean_the_same_in_virtual_time() {
        let more = "[backends]\nn = 4\nconcurrency = 2\nqueue = 7\n[simulated]\nbalancers = 3\nnetwork = \"constant:1ms\"\n\
            [[simulated.waves]]\nperiod = \"2s\"\nshare = 0.5\nspeed = 0.5\n[[faults]]\nat = \"2s\"\nkind = \"add\"\nn = 2\n\
            [[faults]]\nat = \"1s\"\nfor = \"2s\"\nkind = \"slow\"\nfactor = 4\nbackend = 2\n[[faults]]\nat = \"5s\"\nkind = \"kill\"";
        let world = of(&format!("{OPEN}{more}")).expect("a world");
        assert_eq!((world.balancers, world.size(), world.backends.len()), (3, 6, 2));
        let group = &world.backends[0];
        assert_eq!((group.concurrency, group.queue, group.service, group.waves.len()), (2, 7, Law::None, 1));
        assert_eq!(world.cost, "exponential:10ms".parse().expect("a law"));
        let slow = Fault::new(Time::seconds(1), 2, FaultKind::Slow { factor: 4.0 }).lasting(Time::seconds(2));
        let kill = Fault::new(Time::seconds(5), 1, FaultKind::Kill).lasting(REPLACED);
        assert_eq!(world.faults, [slow, kill]);
        assert_eq!(world.backends[1].joins, Some(Time::seconds(2)));
        assert!(world.lb.health.as_ref().is_some_and(|health| health.enabled), "as in a live run");
    }

    #[test]
    fn safeguards_are_off_without_keys_and_unknown_rules_are_refused() {
        let off = of(OPEN).expect("a world").lb;
        assert_eq!(off.retry.map(|retry| retry.attempts), Some(1));
        let on = format!(
            "{OPEN}[lb.retry]\nattempts = 3\n[lb.limits]\nrequests_in_flight_per_backend = 5\n[lb.proxy]\nworkers = 1"
        );
        let rules = of(&on).expect("a world").lb;
        assert_eq!((rules.retry.map(|it| it.attempts), rules.requests_in_flight_per_backend), (Some(3), 5));
        let hedge = of(&format!("{OPEN}[lb.retry]\nhedge_ms = 3")).expect_err("not modelled");
        assert!(hedge.starts_with("lb: unknown field `hedge_ms`"), "{hedge}");
        let limit = of(&format!("{OPEN}[lb.limits]\nheaders = 3")).expect_err("not modelled");
        assert!(limit.starts_with("lb.limits.headers: a simulation does not model"), "{limit}");
    }

    #[test]
    fn service_times_are_those_of_mock_server() {
        for (text, law) in [("0", "none"), ("5ms", "constant:5ms"), ("lognormal:10ms,0.5", "lognormal:10ms,0.5")] {
            assert_eq!(service(text), Ok(law.parse().expect("a law")), "{text}");
        }
    }
}
