//! Times, failures and ends of duties. The tests say what time it is, so they wait for nothing.

use lb_strategy::abi::LbStrategyTable;
use lb_strategy::{Backends, Error, Host, Metrics as Sink, Pick, Request, Tick};
use lb_strategy_host::plugin_from_table;
use serde::Deserialize;
use serde_json::json;

use super::*;

static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<Chore>("0", "test");

/// The calls of all instances: the option `id`, the hook, and the clock of a tick.
static CALLS: Mutex<Vec<(u64, DutyHook, u64)>> = Mutex::new(Vec::new());

const TICK: Duration = Duration::from_millis(50);

/// Records its calls, and does what its options say.
struct Chore(Options);

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Options {
    id: u64,
    rebuilds: bool,
    panics: bool,
    /// How long a tick takes.
    spins_ms: u64,
}

impl lb_strategy::Strategy for Chore {
    const NAME: &'static str = "chore";
    const TICK_MS: u32 = TICK.as_millis() as u32;
    const METRICS: bool = true;
    type Config = Options;
    type Picker = ();

    fn new(options: Options, _: Host) -> Result<Self, Error> {
        Ok(Self(options))
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), _: &Backends<'_>, _: &Request<'_>) -> Pick {
        Pick::NoBackend
    }

    fn tick(&self, now_ns: u64) -> Tick {
        CALLS.lock().push((self.0.id, DutyHook::Tick, now_ns));
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(self.0.spins_ms) {}
        assert!(!self.0.panics, "as the options ask for");
        if self.0.rebuilds { Tick::Rebuild } else { Tick::Keep }
    }

    fn metrics(&self, metrics: &mut Sink<'_>) {
        CALLS.lock().push((self.0.id, DutyHook::Metrics, 0));
        metrics.gauge("id", "Its id.", self.0.id as f64);
        metrics.gauge("nothing", "Not a number.", f64::NAN);
        assert!(!self.0.panics, "as the options ask for");
    }
}

/// Duties without a builder, and the time.
struct Stand {
    duties: Duties,
    office: Arc<Office>,
    opened: Instant,
}

fn post(pool: &str, options: serde_json::Value) -> Post {
    let strategy = Strategy::new(plugin_from_table(&TABLE, 1).unwrap(), &options).unwrap();
    Post { pool: PoolKey::DEFAULT, name: pool.into(), label: "chore".into(), strategy }
}

// === impl Stand ===

impl Stand {
    fn new() -> Self {
        let opened = Instant::now();
        let office = Office { metrics: Metrics::new(), rebuilds: Rebuilds::default(), opened };
        Self { duties: Duties::default(), office: Arc::new(office), opened }
    }

    fn at(&self, milliseconds: u64) -> Instant {
        self.opened + Duration::from_millis(milliseconds)
    }

    fn replace(&mut self, posts: &[&Post], milliseconds: u64) {
        self.duties.replace(posts.iter().copied().cloned().collect(), &self.office, self.at(milliseconds));
    }

    /// Runs the builder's loop at this time: everything that is due.
    fn run(&mut self, milliseconds: u64) {
        let now = self.at(milliseconds);
        while self.duties.next_due().is_some_and(|due| due <= now) {
            self.duties.run_one(now);
        }
    }

    fn value(&self, series: &str) -> Option<f64> {
        let text = self.office.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.map(|value| value.trim().parse().unwrap())
    }
}

/// The times of this instance's ticks in milliseconds.
fn ticks(id: u64) -> Vec<u64> {
    let calls = CALLS.lock();
    let own = calls.iter().filter(|(of, hook, _)| *of == id && *hook == DutyHook::Tick);
    own.map(|(_, _, now_ns)| now_ns / 1_000_000).collect()
}

fn collections(id: u64) -> usize {
    CALLS.lock().iter().filter(|(of, hook, _)| *of == id && *hook == DutyHook::Metrics).count()
}

#[test]
fn ticks_come_at_their_times_and_late_ones_are_not_made_up_for() {
    let (mut stand, post) = (Stand::new(), post("p", json!({ "id": 1 })));
    stand.replace(&[&post], 0);
    for now in [0, 49, 50, 99, 107, 149, 150, 1_000, 1_001, 1_049, 1_060] {
        stand.run(now);
    }
    // 107 is late, and the next one is in time all the same. After the gap there is one tick.
    assert_eq!(ticks(1), [50, 107, 150, 1_000, 1_060]);
    assert_eq!(collections(1), 2, "metrics at once, and after a second");
}

#[test]
fn one_call_runs_at_a_time_and_the_one_that_is_due_longest_is_first() {
    let mut stand = Stand::new();
    let posts = [post("p", json!({ "id": 21 })), post("q", json!({ "id": 22 }))];
    stand.replace(&[&posts[0], &posts[1]], 0);
    stand.run(0);
    let now = stand.at(60);
    stand.duties.run_one(now);
    assert_eq!((ticks(21).len(), ticks(22).len()), (1, 0));
    stand.duties.run_one(now);
    stand.duties.run_one(now);
    assert_eq!((ticks(21).len(), ticks(22).len()), (1, 1));
}

#[test]
fn after_a_slow_tick_the_builder_is_free_for_as_long() {
    let (mut stand, post) = (Stand::new(), post("p", json!({ "id": 3, "spins_ms": 60 })));
    stand.replace(&[&post], 0);
    stand.run(0);
    stand.duties.run_one(stand.at(50));
    let due = stand.duties.regular.iter().find(|duty| duty.hook == DutyHook::Tick).unwrap().due;
    assert!(due >= stand.at(50 + 60 + 60), "the next tick is due {:?} after the start", due - stand.opened);
}

#[test]
fn duties_of_a_replaced_instance_end_and_its_metrics_go() {
    let mut stand = Stand::new();
    let [old, new, other] = [41, 42, 43].map(|id| post(if id == 43 { "q" } else { "p" }, json!({ "id": id })));
    stand.replace(&[&old, &other], 0);
    stand.run(0);
    let id = |pool: &str| format!("lb_plugin_id{{pool=\"{pool}\",strategy=\"chore\"}}");
    assert_eq!((stand.value(&id("p")), stand.value(&id("q"))), (Some(41.0), Some(43.0)));
    stand.replace(&[&new, &other], 40);
    assert_eq!((stand.value(&id("p")), stand.value(&id("q"))), (None, Some(43.0)));
    stand.run(60);
    assert_eq!(stand.value(&id("p")), Some(42.0));
    stand.run(90);
    assert_eq!(
        (ticks(41), ticks(42), ticks(43)),
        (vec![], vec![90], vec![60]),
        "an instance that stays keeps its times"
    );
    stand.replace(&[], 95);
    assert_eq!((stand.duties.next_due(), stand.value(&id("q"))), (None, None));
}

#[tokio::test]
async fn however_often_a_strategy_asks_for_a_picker_the_actor_gets_one_request() {
    let (mut stand, post) = (Stand::new(), post("p", json!({ "id": 5, "rebuilds": true })));
    stand.replace(&[&post], 0);
    for turn in 1..=10 {
        stand.run(turn * 50);
    }
    let rebuilds = &stand.office.rebuilds;
    rebuilds.asked().await;
    assert_eq!(rebuilds.take(), [(PoolKey::DEFAULT, post.strategy.instance())]);
    let again = tokio::time::timeout(Duration::ZERO, rebuilds.asked()).await;
    assert!(again.is_err() && rebuilds.take().is_empty(), "ten ticks are one request");
    stand.run(550);
    stand.office.rebuilds.asked().await;
}

#[test]
fn failures_are_counted_by_hook_and_a_failed_collection_shows_no_old_numbers() {
    let mut stand = Stand::new();
    let [sound, broken] = [false, true].map(|panics| post("p", json!({ "id": 6, "panics": panics })));
    let failures = |stand: &Stand, hook: &str| {
        stand.value(&format!("lb_strategy_hook_failures_total{{pool=\"p\",strategy=\"chore\",hook=\"{hook}\"}}"))
    };
    stand.replace(&[&sound], 0);
    stand.run(50);
    assert_eq!((failures(&stand, "tick"), failures(&stand, "metrics")), (Some(0.0), Some(0.0)));
    let dropped = "lb_plugin_metrics_dropped_total{pool=\"p\",strategy=\"chore\"}";
    assert_eq!(stand.value(dropped), Some(1.0), "a value that is not a number");
    stand.replace(&[&broken], 50);
    stand.run(150);
    stand.run(220);
    assert_eq!((failures(&stand, "tick"), failures(&stand, "metrics")), (Some(2.0), Some(1.0)));
    assert_eq!(stand.value("lb_plugin_id{pool=\"p\",strategy=\"chore\"}"), None);
}
