//! Strategies of these tests that let requests wait: by the key, or as long as the test wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use lb::config::KeySource;
use lb_strategy::abi::LbStrategyTable;
use lb_strategy::{Backends, Error, Host, NoOptions, Pick, Request};
use lb_strategy_host::{Strategy, plugin_from_table};
use lb_test_support::{Client, request, wait_until};
use serde_json::json;

use super::{ALL_WAIT, both, comes_to_rest, fallbacks, queued, setup, start};
use crate::queue::{Gated, refused, waiting};
use crate::support::{Balancer, Setup, WORKERS, ms};

static HOMES: LbStrategyTable = lb_strategy::ffi::hooks::table::<Homes>("0", "test");
static CLOSED: LbStrategyTable = lb_strategy::ffi::hooks::table::<Closed>("0", "test");
static NEVER: LbStrategyTable = lb_strategy::ffi::hooks::table::<Never>("0", "test");

/// Whether `Closed` picks. Only one test uses it.
static IS_OPEN: AtomicBool = AtomicBool::new(false);

/// The key is the index of the only backend for a request, which waits while that one is busy.
struct Homes;

/// Lets every request wait until `IS_OPEN`, although all backends are idle.
struct Closed;

/// Lets every request wait, whatever room there is.
struct Never;

impl lb_strategy::Strategy for Homes {
    const NAME: &'static str = "homes";
    const WANTS_HASH: bool = true;
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let Some(key) = request.key() else { return Pick::Fallback };
        let home = usize::from(key[0] - b'0');
        match backends.get(home) {
            Some(backend) if backend.in_flight() == 0 => Pick::Backend(home),
            Some(_) => Pick::Wait,
            None => Pick::NoBackend,
        }
    }
}

impl lb_strategy::Strategy for Closed {
    const NAME: &'static str = "closed";
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        match backends.candidate(request, 0) {
            Some((index, _)) if IS_OPEN.load(SeqCst) => Pick::Backend(index),
            _ => Pick::Wait,
        }
    }
}

impl lb_strategy::Strategy for Never {
    const NAME: &'static str = "never";
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), _: &Backends<'_>, _: &Request<'_>) -> Pick {
        Pick::Wait
    }
}

fn instance(table: &'static LbStrategyTable) -> Arc<Strategy> {
    Strategy::new(plugin_from_table(table, WORKERS).unwrap(), &json!({})).unwrap()
}

fn keyed(lb: &Balancer, path: &str, key: usize) -> Client {
    let mut client = lb.client();
    client.send(&request("GET", path, &[&format!("x-key: {key}")]));
    client
}

#[test]
fn a_request_with_a_key_does_not_block_those_with_other_keys() {
    let servers = [Gated::start(), Gated::start()];
    let lb = start(
        setup(&servers.each_ref(), &instance(&HOMES), 100)
            .with(|setup| setup.pools[0].hash_on = vec![KeySource::Header("x-key".parse().unwrap())]),
    );
    let mut held: Vec<Client> = [0, 1].map(|key| keyed(&lb, "/hold", key)).into();
    wait_until("each backend to have a request", || servers.iter().all(|one| one.server.heads().len() == 1));
    let behind = |key: usize, path: &str| {
        let before = waiting(&lb);
        let client = keyed(&lb, path, key);
        wait_until(ALL_WAIT, || waiting(&lb) == before + 1.0);
        client
    };
    let mut first = [behind(0, "/a"), behind(0, "/b")];
    let mut second = [behind(1, "/c"), behind(1, "/d")];
    servers[1].open();
    assert!(second.iter_mut().all(|client| client.answer().status() == 200));
    assert_eq!((servers[1].served(), waiting(&lb)), (vec!["/c".to_owned(), "/d".to_owned()], 2.0));
    // A new one overtakes those that wait for the other backend.
    assert_eq!(keyed(&lb, "/e", 1).answer().status(), 200);
    servers[0].open();
    assert!(first.iter_mut().chain(&mut held).all(|client| client.answer().status() == 200));
    assert_eq!(servers[0].served(), ["/a", "/b"]);
    comes_to_rest(&lb);
    assert_eq!(fallbacks(&lb), 0.0);
}

#[test]
fn without_an_end_or_a_publish_the_strategy_is_asked_again_each_second() {
    let gated = Gated::start();
    let lb = start(setup(&[&gated], &instance(&CLOSED), 100));
    let paths: Vec<String> = (0..6).map(|number| format!("/{number}")).collect();
    let mut clients: Vec<Client> = paths.iter().map(|path| queued(&lb, path)).collect();
    IS_OPEN.store(true, SeqCst);
    assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
    assert_eq!(gated.served().len(), 6);
    comes_to_rest(&lb);
}

/// The pool's counts of waits that were too long: the strategy is to blame, or not.
fn too_long(lb: &Balancer) -> [f64; 2] {
    ["held", "expired"].map(|reason| refused(lb, reason))
}

fn impatient(setup: Setup) -> Setup {
    setup.with(|setup| {
        setup.workers = 1;
        setup.pools[0].queue.wait = ms(50);
    })
}

#[test]
fn a_wait_that_is_too_long_is_a_fault_of_the_strategy_only_if_a_backend_was_idle() {
    // Requests behind the first one are not asked about. Their wait is as long.
    let servers = [Gated::start(), Gated::start()];
    let lb = start(impatient(setup(&servers.each_ref(), &instance(&NEVER), 100)));
    let mut clients: Vec<Client> = (0..4).map(|_| keyed(&lb, "/", 0)).collect();
    wait_until("a request to be held", || lb.metrics.queue_totals("default").held > 0);
    clients.iter_mut().for_each(|client| client.answer().is_own(503, "overload"));
    // While the first one is asked about again, those behind it do not count.
    let [by_strategy, others] = too_long(&lb);
    assert!(by_strategy >= 1.0 && by_strategy + others == 4.0, "{by_strategy}, {others}");
    assert_eq!(lb.metrics.pick_totals("default").held, by_strategy as u64);
    comes_to_rest(&lb);
    assert_eq!(lb.metrics.queue_totals("default").held, 0);

    // All backends are busy: the same strategy would be right.
    for strategy in both() {
        let gated = Gated::start();
        let lb = start(impatient(setup(&[&gated], &strategy, 100)));
        let mut held = keyed(&lb, "/hold", 0);
        wait_until("the backend to have a request", || gated.server.heads().len() == 1);
        let mut clients: Vec<Client> = (0..4).map(|_| keyed(&lb, "/", 0)).collect();
        clients.iter_mut().for_each(|client| client.answer().is_own(503, "overload"));
        assert_eq!(too_long(&lb), [0.0, 4.0]);
        gated.open();
        assert_eq!(held.answer().status(), 200);
    }
}

#[test]
fn a_strategy_is_not_to_blame_if_the_backend_of_a_key_is_busy() {
    let servers = [Gated::start(), Gated::start()];
    let setup = setup(&servers.each_ref(), &instance(&HOMES), 100)
        .with(|setup| setup.pools[0].hash_on = vec![KeySource::Header("x-key".parse().unwrap())]);
    let lb = start(impatient(setup));
    let mut held = keyed(&lb, "/hold", 0);
    wait_until("the backend to have a request", || servers[0].server.heads().len() == 1);
    keyed(&lb, "/", 0).answer().is_own(503, "overload");
    assert_eq!(too_long(&lb), [0.0, 1.0], "the other backend is idle");
    servers[0].open();
    assert_eq!(held.answer().status(), 200);
    comes_to_rest(&lb);
}
