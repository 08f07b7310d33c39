//! Ends of probes: their order, the builder's free time, and strategies that are no longer in charge.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use lb_strategy::abi::LbStrategyTable;
use lb_strategy::{Backends, Error, Host, NoOptions, Outcome, Pick, Request};
use lb_strategy_host::{BackendList, BackendSpec, Picker, Strategy, backend_id, plugin_from_table};
use parking_lot::Mutex;
use tokio::sync::oneshot::error::TryRecvError;

use super::super::Duties;
use super::*;
use crate::config::{Fallback, HashFunction};
use crate::control::pools::PoolKey;

static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<Listener>("0", "test");

/// What a strategy was told.
#[derive(Debug, PartialEq)]
struct Told {
    backend_id: u64,
    has_slot: bool,
    is_periodic: bool,
    status: Option<u16>,
    latency_ns: u64,
    now_ns: u64,
    headers: [Option<Vec<u8>>; 2],
    body: Vec<u8>,
}

static TOLD: Mutex<Vec<Told>> = Mutex::new(Vec::new());
/// The tests share `TOLD`.
static TURN: Mutex<()> = Mutex::new(());
/// How long a call for the latency of 1 ns takes.
const SLOW: Duration = Duration::from_millis(30);

struct Listener;

impl lb_strategy::Strategy for Listener {
    const NAME: &'static str = "listener";
    const PROBE_MS: u32 = 10;
    const RESPONSE_HEADERS: &'static [&'static str] = &["x-load", "x-none"];
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), _: &Backends<'_>, _: &Request<'_>) -> Pick {
        Pick::NoBackend
    }

    fn on_probe(&self, probe: &lb_strategy::Probe<'_>) {
        let began = Instant::now();
        while probe.latency_ns() == 1 && began.elapsed() < SLOW {}
        TOLD.lock().push(Told {
            backend_id: probe.backend_id(),
            has_slot: probe.slot().is_some(),
            is_periodic: probe.is_periodic(),
            status: probe.http_status(),
            latency_ns: probe.latency_ns(),
            now_ns: probe.now_ns(),
            headers: [0, 1].map(|index| probe.response_header(index).map(<[u8]>::to_vec)),
            body: probe.body().to_vec(),
        });
    }
}

/// A pool of the backend `b1` whose strategy is a new instance, and its post.
fn pool() -> (Arc<PoolGeneration>, Post) {
    let strategy = Strategy::new(plugin_from_table(&TABLE, 1).unwrap(), &serde_json::json!({})).unwrap();
    let spec = BackendSpec {
        name: "b1".into(),
        address: "a:1".into(),
        labels: Arc::default(),
        weight: 1,
        effective: 1000,
        flags: 3,
        stats: Arc::default(),
        slot: Arc::default(),
    };
    let pool = PoolGeneration {
        name: "p".into(),
        picker: Picker::new(strategy.clone(), BackendList::new(vec![spec], 1, 1)).unwrap(),
        backends: Vec::new(),
        hash_on: Vec::new(),
        hash: HashFunction::Xxh3,
        fallback: Fallback::LeastConnections,
        fallback_cursor: AtomicUsize::new(0),
        wants: strategy.plugin().wants(),
        shadows: Vec::new(),
        tells: strategy.plugin().wants(),
        thresholds: lb_balance::Thresholds::OFF,
        load_reports: None,
        probe: None,
    };
    (Arc::new(pool), Post { pool: PoolKey::DEFAULT, name: "p".into(), label: "listener".into(), strategy })
}

/// The end of a probe of this backend, and the message that its strategy was told.
fn probed(pool: &Arc<PoolGeneration>, backend: &str, latency_ns: u64) -> (Probed, oneshot::Receiver<()>) {
    let end = ProbeEnd {
        outcome: Outcome::Ok,
        status: Some(200),
        latency: Duration::from_nanos(latency_ns),
        ended: Instant::now(),
        headers: vec![Some(b"0.5".to_vec()), None],
        body: b"body".to_vec(),
    };
    let (told, is_told) = oneshot::channel();
    (Probed { pool: pool.clone(), backend_id: backend_id(backend), end, now_ns: 9, told }, is_told)
}

#[test]
fn the_strategy_is_told_of_each_end_whole_and_in_order_one_for_each_call() {
    let _turn = TURN.lock();
    let ((pool, _), mut duties, now) = (pool(), Duties::default(), Instant::now());
    let (first, mut is_first_told) = probed(&pool, "b1", 70);
    let (second, mut is_second_told) = probed(&pool, "gone", 80);
    duties.probed(first, now);
    duties.probed(second, now);
    duties.run_one(now);
    assert_eq!((is_first_told.try_recv(), is_second_told.try_recv()), (Ok(()), Err(TryRecvError::Empty)));
    duties.run_one(duties.next_due().unwrap());
    assert_eq!((is_second_told.try_recv(), duties.next_due()), (Ok(()), None));
    let told = |backend: &str, has_slot, latency_ns| Told {
        backend_id: backend_id(backend),
        has_slot,
        is_periodic: true,
        status: Some(200),
        latency_ns,
        now_ns: 9,
        headers: [Some(b"0.5".to_vec()), None],
        body: b"body".to_vec(),
    };
    assert_eq!(std::mem::take(&mut *TOLD.lock()), [told("b1", true, 70), told("gone", false, 80)]);
}

#[test]
fn after_a_slow_call_the_builder_is_free_for_as_long() {
    let _turn = TURN.lock();
    let ((pool, _), mut duties, now) = (pool(), Duties::default(), Instant::now());
    let (slow, _slow) = probed(&pool, "b1", 1);
    let (next, _next) = probed(&pool, "b1", 2);
    duties.probed(slow, now);
    duties.probed(next, now);
    duties.run_one(now);
    let due = duties.next_due().unwrap();
    assert!(due >= now + SLOW + SLOW, "due after {:?}", due - now);
    duties.run_one(now + SLOW);
    assert_eq!(duties.next_due(), Some(due), "not before its time");
    TOLD.lock().clear();
}

#[test]
fn an_instance_that_is_no_longer_in_charge_is_not_told() {
    let _turn = TURN.lock();
    let ((old, _), (new, post), mut duties, now) = (pool(), pool(), Duties::default(), Instant::now());
    let office = super::super::Office {
        metrics: crate::telemetry::Metrics::new(),
        rebuilds: super::super::Rebuilds::default(),
        opened: now,
    };
    let (of_old, mut is_old_told) = probed(&old, "b1", 3);
    let (of_new, mut is_new_told) = probed(&new, "b1", 4);
    duties.probed(of_old, now);
    duties.probed(of_new, now);
    duties.replace(vec![post], &Arc::new(office), now);
    assert_eq!(is_old_told.try_recv(), Err(TryRecvError::Closed));
    duties.run_one(now);
    assert_eq!((is_new_told.try_recv(), duties.next_due()), (Ok(()), None));
    let latencies: Vec<_> = TOLD.lock().drain(..).map(|told| told.latency_ns).collect();
    assert_eq!(latencies, [4]);
}
