//! A check of the machine, one second before a run: whether it is idle enough for the measurement.
//!
//! The load engine judges each load afterwards, by its requests. This check comes first and can save minutes. Its
//! bounds are those of the engine ([`crate::load`], `validity`), applied to the smallest cost of a request. A thread
//! that wakes late by more than a tenth of that cost, at the same percentile, cannot measure it.
//!
//! It runs before the balancer and the servers start, so that it measures only other programs.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::time::{ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{clock_gettime, timerfd_create, timerfd_settime};

use super::host::CpuTimes;
use super::plan::{LoadPlan, Plan};
use crate::lab::Interrupt;
use crate::load::Cost;
use crate::model::{Host, Mark, Severity};
use crate::report::format::{decimals, list, percent};

/// The measurements of one second.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Machine {
    cores: u32,
    /// Load average of the last minute.
    load: f64,
    /// The lateness of each wake in nanoseconds, ascending. A timer wakes the thread every millisecond, as in the load
    /// engine.
    lateness_ns: Vec<u64>,
    /// Idle cores; `None` if the kernel does not report them.
    idle: Option<f64>,
    /// The part of a core that a busy thread got.
    share: f64,
}

/// The time for measuring wakes, and the interval between them.
const WAKING: Duration = Duration::from_millis(800);
const PERIOD_NS: u64 = 1_000_000;
/// The time for measuring the share of a core.
const SPINNING: Duration = Duration::from_millis(200);

/// A wake may be late by this part of the cost of a request at the same percentile, …
const LATE_SHARE: f64 = 0.10;
/// … and by this time in any case.
const LATE_FLOOR_NS: f64 = 200_000.0;
const PERCENTILES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];
/// With fewer free cores, the parts of an experiment wait for each other. Each request needs generator, balancer and
/// server at nearly the same moment.
const IDLE_LEAST: f64 = 0.5;
/// A busy thread with a smaller part of a core shares it with another program, or has a quota.
const SHARE_LEAST: f64 = 0.8;

/// Measures for a second, or until an interrupt.
pub(super) fn look(host: &Host, interrupt: &Interrupt) -> Machine {
    let before = CpuTimes::now();
    let lateness_ns = wakes(interrupt).unwrap_or_default();
    let idle = before.zip(CpuTimes::now()).and_then(|(before, now)| now.idle_share_since(&before));
    let idle = idle.map(|share| share * f64::from(host.cores));
    Machine { cores: host.cores, load: host.load_before, lateness_ns, idle, share: spin(interrupt) }
}

/// The finding as the run's mark.
pub(super) fn judge(machine: &Machine, plan: &Plan) -> Mark {
    let objections = objections(machine, plan);
    if objections.is_empty() {
        return Mark::passed("machine", machine.in_words());
    }
    let lower = match plan.load {
        LoadPlan::Open { .. } if plan.is_quick => ", or use a lower rate (--rate, --of-capacity)",
        LoadPlan::Open { .. } => ", or use a lower rate (--rate, --of-capacity), or p50 and p90 alone (--quick)",
        LoadPlan::Closed { .. } => "",
    };
    let stands = match (&plan.blocks, &plan.load) {
        (Some(_), _) => {
            "milliseconds are those of a busy machine. Ratios of arms stay valid if the check of the generator passes: a disturbance affects \
             all arms of a block"
        }
        (None, LoadPlan::Closed { .. }) => {
            "milliseconds are those of a busy machine. The shares of the servers stay valid"
        }
        (None, LoadPlan::Open { .. }) => {
            "milliseconds are those of a busy machine. Shares, failures and recovery stay valid"
        }
    };
    let reason = format!(
        "in a check of one second before the run, {}: {stands}. To fix it, end other programs{lower}. Measured: {}",
        list(&objections),
        machine.in_words()
    );
    Mark::warning("machine", reason)
}

/// Whether the mark advises against the experiment.
pub(super) fn advises_against(mark: &Mark) -> bool {
    mark.severity != Severity::Passed
}

fn objections(machine: &Machine, plan: &Plan) -> Vec<String> {
    let mut objections = Vec::new();
    let is_open = matches!(plan.load, LoadPlan::Open { .. });
    let late = PERCENTILES.into_iter().find_map(|(name, quantile)| {
        let late_ns = machine.late_ns(quantile)? as f64;
        let allowed_ns = (cost_ns(&plan.requests.cost, quantile) * LATE_SHARE).max(LATE_FLOOR_NS);
        (is_open && late_ns > allowed_ns).then(|| {
            let (late, allowed) = (decimals(late_ns / 1e6, 2), decimals(allowed_ns / 1e6, 2));
            format!("a thread woke {late} ms late at {name}, where {allowed} ms are allowed")
        })
    });
    objections.extend(late);
    if let Some(idle) = machine.idle.filter(|idle| *idle < IDLE_LEAST) {
        objections.push(format!("{} of {} cores were free", decimals(idle, 1), machine.cores));
    }
    if machine.share < SHARE_LEAST {
        objections.push(format!("a thread that wanted a core got {} of one", percent(machine.share)));
    }
    if machine.load > f64::from(machine.cores) {
        let load = decimals(machine.load, 1);
        objections.push(format!(
            "in the minute before, {load} processes on average used or waited for the {} cores",
            machine.cores
        ));
    }
    objections
}

/// The least cost of a request at this percentile; 0 if the plan does not have it.
fn cost_ns(cost: &Cost, quantile: f64) -> f64 {
    let ns = |time: Duration| time.as_nanos() as f64;
    match *cost {
        Cost::None => 0.0,
        Cost::Constant { time } => ns(time),
        Cost::Exponential { mean } => -(1.0 - quantile).ln() * ns(mean),
        // its upper half is close to this, and the lower half does not matter here
        Cost::Normal { mean, .. } => ns(mean),
        Cost::Pareto { mean, shape } => ns(mean) * (shape - 1.0) / shape * (1.0 - quantile).powf(-1.0 / shape),
    }
}

/// The lateness of each wake of a timer, ascending.
fn wakes(interrupt: &Interrupt) -> Result<Vec<u64>, Errno> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
    let begin_ns = monotonic_ns();
    let mut lateness_ns = Vec::new();
    for number in 1..=WAKING.as_nanos() as u64 / PERIOD_NS {
        let due_ns = begin_ns + number * PERIOD_NS;
        let it_value = Timespec { tv_sec: (due_ns / 1_000_000_000) as i64, tv_nsec: (due_ns % 1_000_000_000) as i64 };
        let once = Itimerspec { it_interval: Timespec::default(), it_value };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &once)?;
        rustix::io::retry_on_intr(|| rustix::io::read(&timer, &mut [0; 8]))?;
        lateness_ns.push(monotonic_ns().saturating_sub(due_ns));
        if interrupt.is_raised() {
            break;
        }
    }
    lateness_ns.sort_unstable();
    Ok(lateness_ns)
}

/// The part of a core that a busy thread gets.
fn spin(interrupt: &Interrupt) -> f64 {
    let (began, cpu_began) = (Instant::now(), thread_cpu());
    while began.elapsed() < SPINNING && !interrupt.is_raised() {
        std::hint::spin_loop();
    }
    let wall = began.elapsed().as_secs_f64();
    if wall > 0.0 { ((thread_cpu() - cpu_began).as_secs_f64() / wall).min(1.0) } else { 1.0 }
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

// === impl Machine ===

impl Machine {
    fn late_ns(&self, quantile: f64) -> Option<u64> {
        let last = self.lateness_ns.len().checked_sub(1)?;
        self.lateness_ns.get((last as f64 * quantile).round() as usize).copied()
    }

    fn in_words(&self) -> String {
        let late = |quantile| self.late_ns(quantile).map_or("?".to_owned(), |ns| decimals(ns as f64 / 1e6, 2));
        let idle = self
            .idle
            .map_or(String::new(), |idle| format!("{} of {} cores were free, ", decimals(idle, 1), self.cores));
        format!(
            "a thread woke {} ms late at p50 and {} ms at p99, {idle}a busy one got {} of a core",
            late(0.5),
            late(0.99),
            percent(self.share)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Scenario;

    /// All wakes are late by `late_us`, except for `tail` of 800 that are late by 20 ms.
    fn machine(late_us: u64, tail: usize) -> Machine {
        let mut lateness_ns = vec![late_us * 1_000; 800 - tail];
        lateness_ns.extend(vec![20_000_000; tail]);
        Machine { cores: 2, load: 0.3, lateness_ns, idle: Some(1.9), share: 1.0 }
    }

    fn plan(scenario: Scenario) -> Plan {
        Plan::of(scenario).expect("shipped")
    }

    #[test]
    fn a_punctual_idle_machine_is_reported_and_passes() {
        let mark = judge(&machine(80, 0), &plan(Scenario::B));
        assert_eq!(mark.severity, Severity::Passed, "{mark:?}");
        assert_eq!(
            mark.reason.replace('\u{a0}', " "),
            "a thread woke 0.08 ms late at p50 and 0.08 ms at p99, 1.9 of 2 cores were free, a busy one got 100.0 % of a core"
        );
    }

    #[test]
    fn each_percentile_of_lateness_is_compared_with_the_cost_of_requests() {
        // b: exponential costs of 10 ms, so 6.9 ms at p50 and 46 ms at p99
        let objections = |machine: &Machine, scenario| objections(machine, &plan(scenario));
        assert_eq!(objections(&machine(650, 0), Scenario::B), Vec::<String>::new());
        let late = objections(&machine(720, 0), Scenario::B);
        assert!(late.len() == 1 && late[0].contains("woke 0.72 ms late at p50, where 0.69 ms are allowed"), "{late:?}");
        let late = objections(&machine(80, 10), Scenario::B);
        assert!(late.len() == 1 && late[0].contains("20.00 ms late at p99, where 4.61 ms are allowed"), "{late:?}");
        assert_eq!(objections(&machine(80, 5), Scenario::B), Vec::<String>::new(), "5 of 800 are beyond p99");
        assert_eq!(objections(&machine(5_000, 0), Scenario::A1), Vec::<String>::new(), "a closed loop has no schedule");
    }

    #[test]
    fn a_busy_machine_is_advised_against_with_the_remedy() {
        for (machine, word) in [
            (Machine { idle: Some(0.4), ..machine(80, 0) }, "0.4 of 2 cores were free"),
            (Machine { share: 0.5, ..machine(80, 0) }, "got 50.0 % of one"),
            (Machine { load: 2.1, ..machine(80, 0) }, "2.1 processes on average used or waited for the 2 cores"),
        ] {
            let mark = judge(&machine, &plan(Scenario::B));
            let reason = mark.reason.replace('\u{a0}', " ");
            assert!(advises_against(&mark) && reason.contains(word), "{reason}");
            assert!(["--rate", "--of-capacity", "--quick"].iter().all(|flag| reason.contains(flag)), "{reason}");
        }
        let enough = Machine { idle: Some(0.5), share: 0.8, load: 2.0, ..machine(80, 0) };
        assert!(!advises_against(&judge(&enough, &plan(Scenario::B))), "values at the bounds pass");
        let unknown = Machine { idle: None, lateness_ns: Vec::new(), ..machine(80, 0) };
        assert!(!advises_against(&judge(&unknown, &plan(Scenario::B))), "an unknown value is no objection");
    }

    #[test]
    fn one_second_gives_all_measurements() {
        let host = crate::experiment::host();
        let machine = look(&host, &Interrupt::default());
        assert_eq!(machine.lateness_ns.len(), 800);
        assert!(machine.lateness_ns.is_sorted() && machine.share > 0.0 && machine.share <= 1.0, "{machine:?}");
        assert!(machine.idle.is_some_and(|idle| (0.0..=f64::from(machine.cores)).contains(&idle)), "{machine:?}");
    }
}
