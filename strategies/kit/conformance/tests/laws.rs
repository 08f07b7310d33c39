//! The laws `by_load` and `by_latency` are judged in a closed loop: strategies that follow them pass, others fail.
//!
//! Invariant: every check has a fixed seed.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use lb_strategy::abi::LbStrategyTable;
use lb_strategy::ffi::hooks::table;
use lb_strategy::{Backend, Backends, Error, Finish, Host, NoOptions, Pick, Request, Strategy, Tick};
use lb_strategy_conformance::scorecard::{Check, Row, Verdict, row};
use lb_strategy_conformance::{ClosedLoop, World, json, strategy};

const SEEDS: [u64; 5] = [1, 2, 3, 11, 4_711];

const TURNS: u8 = 0;
const OWN_COUNT: u8 = 1;
const MEASURES: u8 = 2;
const MEASURES_AND_COUNTS: u8 = 3;
const HOST_AVERAGE: u8 = 4;
const FAVOURS_THE_SLOW: u8 = 5;
const FLEES: u8 = 6;

/// Picks by one of the figures above; declares `by_load` or `by_latency`.
struct By<const FIGURE: u8, const LATENCY: bool> {
    turn: AtomicU64,
    ticks: AtomicU64,
}

/// Two backends, drawn from the random bits; the one with the smaller figure is picked.
fn lighter(backends: &Backends<'_>, request: &Request<'_>, figure: impl Fn(&Backend<'_>) -> u64) -> Pick {
    let candidates: Vec<_> = backends.candidates(request).collect();
    let n = candidates.len() as u64;
    if n == 0 {
        return Pick::NoBackend;
    }
    let first = ((request.random() >> 32) * n) >> 32;
    let second = if n == 1 { first } else { (first + 1 + (((request.random() & 0xFFFF_FFFF) * (n - 1)) >> 32)) % n };
    let [one, two] = [first, second].map(|drawn| &candidates[drawn as usize]);
    Pick::Backend(if figure(&two.1) < figure(&one.1) { two.0 } else { one.0 })
}

/// One request in 16 goes to a random backend, so that a recovery is noticed.
fn explores(request: &Request<'_>) -> bool {
    request.random().count_ones().is_multiple_of(16)
}

/// Own moving average of the time to the head.
fn learn(finish: &Finish<'_>) {
    if let Some(slot) = finish.slot() {
        let old = slot.word(0).load(Relaxed);
        slot.word(0).store(old - old / 8 + finish.time_to_head_ns() / 8, Relaxed);
    }
}

impl<const FIGURE: u8, const LATENCY: bool> Strategy for By<FIGURE, LATENCY> {
    const NAME: &'static str = "by";
    const WANTS_FINISH: bool = true;
    const TICK_MS: u32 = 100;
    const EXPECTATION: &'static str = if LATENCY { r#"{"balance":"by_latency"}"# } else { r#"{"balance":"by_load"}"# };
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self { turn: AtomicU64::new(0), ticks: AtomicU64::new(0) })
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let measured = |backend: &Backend<'_>| backend.slot().word(0).load(Relaxed);
        match FIGURE {
            TURNS => {
                let turn = self.turn.fetch_add(1, Relaxed) as usize % backends.candidates(request).count().max(1);
                backends.candidates(request).nth(turn).map_or(Pick::NoBackend, |(index, _)| Pick::Backend(index))
            }
            OWN_COUNT => {
                let pick = lighter(backends, request, |backend| backend.slot().word(1).load(Relaxed));
                if let Pick::Backend(index) = pick
                    && !request.is_dry()
                {
                    backends.get(index).expect("picked").slot().word(1).fetch_add(1, Relaxed);
                }
                pick
            }
            MEASURES if explores(request) => lighter(backends, request, |_| 0),
            HOST_AVERAGE if explores(request) => lighter(backends, request, |_| 0),
            MEASURES => lighter(backends, request, measured),
            MEASURES_AND_COUNTS => {
                lighter(backends, request, |backend| measured(backend) * (1 + u64::from(backend.in_flight())))
            }
            HOST_AVERAGE => lighter(backends, request, |backend| backend.ewma_latency_ns().unwrap_or(0)),
            FAVOURS_THE_SLOW => lighter(backends, request, |backend| u64::MAX - measured(backend)),
            _ => {
                let least = backends.candidates(request).min_by_key(|(_, backend)| measured(backend));
                least.map_or(Pick::NoBackend, |(index, _)| Pick::Backend(index))
            }
        }
    }

    fn on_finish(&self, finish: &Finish<'_>) {
        learn(finish);
        if let (OWN_COUNT, Some(slot)) = (FIGURE, finish.slot()) {
            slot.word(1).fetch_sub(1, Relaxed);
        }
    }

    fn tick(&self, _: u64) -> Tick {
        self.ticks.fetch_add(1, Relaxed);
        Tick::Rebuild
    }
}

static OWN_COUNT_BY_LOAD: LbStrategyTable = table::<By<OWN_COUNT, false>>("0", "test");
static TURNS_BY_LOAD: LbStrategyTable = table::<By<TURNS, false>>("0", "test");
static TURNS_BY_LATENCY: LbStrategyTable = table::<By<TURNS, true>>("0", "test");
static MEASURES_BY_LATENCY: LbStrategyTable = table::<By<MEASURES, true>>("0", "test");
static BOTH_BY_LATENCY: LbStrategyTable = table::<By<MEASURES_AND_COUNTS, true>>("0", "test");
static HOST_AVERAGE_BY_LATENCY: LbStrategyTable = table::<By<HOST_AVERAGE, true>>("0", "test");
static FAVOURS_BY_LATENCY: LbStrategyTable = table::<By<FAVOURS_THE_SLOW, true>>("0", "test");
static FLEES_BY_LATENCY: LbStrategyTable = table::<By<FLEES, true>>("0", "test");

fn rows(check: Check, strategy: &'static LbStrategyTable) -> Vec<Row> {
    SEEDS.iter().map(|seed| row(check, strategy, &json!({}), *seed)).collect()
}

#[track_caller]
fn assert_all(check: Check, strategy: &'static LbStrategyTable, verdict: Verdict) {
    for row in rows(check, strategy) {
        println!("{row:?}");
        assert_eq!(row.verdict, verdict, "{row:?}");
    }
}

/// Without finishes its counts would only grow.
#[test]
fn a_strategy_that_counts_by_its_finishes_passes_by_load() {
    for check in [Check::Expectation, Check::Fairness] {
        assert_all(check, &OWN_COUNT_BY_LOAD, Verdict::Pass);
    }
}

#[test]
fn turns_are_not_by_load_and_not_by_latency() {
    assert_all(Check::Expectation, &TURNS_BY_LOAD, Verdict::Fail);
    assert_all(Check::Expectation, &TURNS_BY_LATENCY, Verdict::Fail);
}

#[test]
fn strategies_that_measure_latencies_pass_by_latency() {
    for strategy in [&MEASURES_BY_LATENCY, &BOTH_BY_LATENCY, &HOST_AVERAGE_BY_LATENCY] {
        for check in [Check::Expectation, Check::Fairness] {
            assert_all(check, strategy, Verdict::Pass);
        }
    }
}

#[test]
fn a_strategy_that_prefers_the_slow_fails_by_latency() {
    assert_all(Check::Expectation, &FAVOURS_BY_LATENCY, Verdict::Fail);
}

#[test]
fn a_strategy_that_never_returns_to_a_slow_backend_is_warned_of() {
    assert_all(Check::Expectation, &FLEES_BY_LATENCY, Verdict::Warn);
    assert_all(Check::Fairness, &FLEES_BY_LATENCY, Verdict::Fail);
}

#[test]
fn the_loop_keeps_the_numbers_of_lb_and_its_own_clock() {
    let instance = strategy(&TURNS_BY_LOAD, &json!({})).unwrap();
    let world = World::of(2);
    let mut pool = ClosedLoop::new(&instance, world.clone(), 5).unwrap().clients(4).service_ms(&[100, 300]);
    assert_eq!(pool.run(1_000), Ok(vec![500, 500]));
    assert_eq!(world.load(0) + world.load(1), 4, "one request of each client is in flight");
    let average = |index: usize| world.list().specs()[index].stats.ewma_latency_ns.load(Relaxed) / 1_000_000;
    assert!((80..120).contains(&average(0)) && (240..360).contains(&average(1)), "{} {}", average(0), average(1));
    // Four clients, 200 ms on average: 1,000 requests take 50 s.
    assert!((45..55).contains(&(pool.now_ns() / 1_000_000_000)), "{} ns", pool.now_ns());
}
