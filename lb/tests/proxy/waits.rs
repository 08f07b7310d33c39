//! Strategies that let requests wait: the order, the wakes, and the ends of a wait.
//!
//! The strategy is `central_queue`, in Rust and in C: at most one request in flight of each backend. Backends have no
//! limit of their own, so only the strategy knows whether there is room. The backends are those of [`queue`].

mod own;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};

use lb::config::QueuePolicy;
use lb_strategy_host::{Loader, Plugin, Strategy, Wanted};
use lb_test_support::{Client, Hostile, closed_address, compile, wait_until};
use serde_json::json;

use crate::queue::{Gated, fill, send, waiting};
use crate::support::{Balancer, DOWN, PoolSetup, Setup, UP, WORKERS, backend, ms, strategy};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const ALL_WAIT: &str = "the request to wait";

/// The strategy in both languages.
fn both() -> [Arc<Strategy>; 2] {
    static IN_C: OnceLock<Mutex<(Loader, Arc<Plugin>)>> = OnceLock::new();
    let in_c = IN_C.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("waits-plugins");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("libcentral_queue.so");
        compile("examples/central_queue.c", &[], &path);
        let loader = Loader::new(folder.join("copies"), WORKERS);
        let plugin = loader.load(&Wanted { path: &path, name: Some("central_queue"), sha256: None }).unwrap();
        Mutex::new((loader, plugin))
    });
    let plugin = in_c.lock().unwrap().1.clone();
    [strategy("central_queue"), Strategy::new(plugin, &json!({})).unwrap()]
}

/// A pool without limits, with this strategy and a queue of this length.
fn setup(servers: &[&Gated], strategy: &Arc<Strategy>, length: usize) -> Setup {
    Setup::new(&servers.iter().map(|gated| gated.server.addr).collect::<Vec<_>>())
        .queue(length)
        .with(|setup| setup.pools[0].strategy = strategy.clone())
}

/// Starts it so that picks are counted for the strategy.
fn start(setup: Setup) -> Balancer {
    let lb = setup.start();
    lb.metrics.set_strategy("default", "central_queue", "1");
    lb
}

/// Sends a request that waits.
fn queued(lb: &Balancer, path: &str) -> Client {
    let before = waiting(lb);
    let client = send(lb, path);
    wait_until(ALL_WAIT, || waiting(lb) == before + 1.0);
    client
}

fn fallbacks(lb: &Balancer) -> f64 {
    lb.metric("lb_strategy_fallbacks_total", &[])
}

fn comes_to_rest(lb: &Balancer) {
    lb.comes_to_rest();
    assert_eq!(waiting(lb), 0.0);
}

#[test]
fn requests_of_all_workers_get_the_idle_backend_in_the_order_of_their_arrival() {
    for (strategy, workers) in both().into_iter().flat_map(|one| [(one.clone(), 1), (one, 4)]) {
        let gated = Gated::start();
        let lb = start(setup(&[&gated], &strategy, 100).with(|setup| setup.workers = workers));
        let mut held = fill(&lb, &[&gated]);
        let paths: Vec<String> = (0..12).map(|number| format!("/{number}")).collect();
        let mut clients: Vec<Client> = paths.iter().map(|path| queued(&lb, path)).collect();
        assert_eq!(lb.backends[0].in_flight(), 1);
        gated.open();
        assert!(clients.iter_mut().chain(&mut held).all(|client| client.answer().status() == 200));
        let mut served = gated.served();
        if workers > 1 {
            // Two workers that ask at the same moment may both find the backend idle, or one may miss its turn.
            served.sort_by_key(|path| paths.iter().position(|one| one == path));
        }
        assert_eq!(served, paths, "{workers} workers");
        comes_to_rest(&lb);
        assert_eq!((lb.metric("lb_queue_entries_total", &[]), fallbacks(&lb)), (12.0, 0.0));
        assert!(lb.metric("lb_queue_wait_seconds_total", &[]) > 0.0);
    }
}

/// Backends that note how many requests they had at the same time.
fn counting(most: &Arc<AtomicUsize>) -> [Hostile; 3] {
    std::array::from_fn(|_| {
        let (now, most) = (AtomicUsize::new(0), most.clone());
        Hostile::start(move |_, wire| {
            while wire.head().is_some() {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                std::thread::yield_now();
                now.fetch_sub(1, SeqCst);
                wire.write(OK);
            }
        })
    })
}

#[test]
fn under_load_no_request_is_lost_and_no_backend_has_two() {
    const CLIENTS: usize = 12;
    const REQUESTS: usize = 50;
    let cases = both().into_iter().flat_map(|one| [(one.clone(), 1, None), (one, 2, Some(1))]);
    for (strategy, workers, cap) in cases {
        let most = Arc::new(AtomicUsize::new(0));
        let servers = counting(&most);
        let setup = Setup::new(&servers.each_ref().map(|server| server.addr))
            .limits(|limits| limits.requests_in_flight_per_backend = cap)
            .queue(100)
            .with(|setup| (setup.pools[0].strategy, setup.workers) = (strategy.clone(), workers));
        let lb = start(setup);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                let address = lb.address;
                scope.spawn(move || {
                    let mut client = Client::connect(address);
                    (0..REQUESTS).for_each(|_| assert_eq!(client.get("/").status(), 200));
                });
            }
        });
        comes_to_rest(&lb);
        assert_eq!((lb.ended_with(200), fallbacks(&lb)), ((CLIENTS * REQUESTS) as u64, 0.0));
        assert!(lb.metric("lb_queue_entries_total", &[]) > 0.0);
        assert_eq!(most.load(SeqCst), 1, "workers {workers}, limit {cap:?}");
    }
}

#[test]
fn a_backend_that_recovers_serves_the_requests_that_wait() {
    for strategy in both() {
        let servers = [Gated::start(), Gated::start()];
        let wanted = setup(&servers.each_ref(), &strategy, 100);
        let pool = wanted.pools[0].clone();
        pool.backends[1].set_eligibility(DOWN);
        let lb = start(wanted);
        let mut held = send(&lb, "/hold");
        wait_until("the backend to have a request", || servers[0].server.heads().len() == 1);
        let mut clients: Vec<Client> = (0..5).map(|_| queued(&lb, "/")).collect();
        lb.backends[1].set_eligibility(UP);
        lb.publish(&[pool]);
        assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
        assert_eq!((servers[0].served().len(), servers[1].served().len()), (0, 5));
        servers[0].open();
        assert_eq!(held.answer().status(), 200);
        comes_to_rest(&lb);
    }
}

#[test]
fn a_publish_of_another_strategy_serves_the_requests_that_wait() {
    for old in both() {
        let gated = Gated::start();
        let wanted = setup(&[&gated], &old, 100);
        let pool = PoolSetup { strategy: strategy("round_robin"), ..wanted.pools[0].clone() };
        let lb = start(wanted);
        let mut held = fill(&lb, &[&gated]);
        let mut clients: Vec<Client> = (0..6).map(|_| queued(&lb, "/")).collect();
        lb.publish(&[pool]);
        assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
        gated.open();
        assert_eq!(held[0].answer().status(), 200);
        comes_to_rest(&lb);
    }
}

#[test]
fn a_wait_ends_after_its_time_or_at_once_if_the_queue_is_full_with_503_overload() {
    for strategy in both() {
        let gated = Gated::start();
        let wanted = setup(&[&gated], &strategy, 1).with(|setup| setup.workers = 1);
        let pool = wanted.pools[0].clone();
        let lb = start(wanted);
        let mut held = fill(&lb, &[&gated]);
        let mut first = queued(&lb, "/first");
        let refused = |reason: &str| lb.metric("lb_queue_refusals_total", &[&format!("reason={reason:?}")]);
        let full = lb.client().get("/");
        full.is_own(503, "overload");
        assert_eq!((full.field("retry-after").as_deref(), refused("full")), (Some("1"), 1.0));
        let hasty = PoolSetup { queue: QueuePolicy { wait: ms(50), length: 2, ..pool.queue }, ..pool };
        let number = lb.publish(&[hasty]);
        wait_until("the workers to follow", || lb.hall.is_taken_up(number));
        let late = lb.client().get("/late");
        late.is_own(503, "overload");
        assert_eq!((late.field("retry-after").as_deref(), refused("expired")), (Some("1"), 1.0));
        gated.open();
        assert!([&mut first, &mut held[0]].into_iter().all(|client| client.answer().status() == 200));
        assert_eq!(gated.served(), ["/first"], "its limit is the one that it began with");
        comes_to_rest(&lb);
        assert_eq!(fallbacks(&lb), 0.0);
    }
}

#[test]
fn without_a_queue_the_fallback_picks_and_says_so() {
    for strategy in both() {
        let gated = Gated::start();
        let lb = start(setup(&[&gated], &strategy, 0));
        let mut held = fill(&lb, &[&gated]);
        assert!((0..5).all(|_| lb.client().get("/").status() == 200));
        gated.open();
        assert_eq!(held[0].answer().status(), 200);
        comes_to_rest(&lb);
        assert_eq!((lb.metric("lb_strategy_fallbacks_total", &["reason=\"no_queue\""]), fallbacks(&lb)), (5.0, 5.0));
        assert_eq!(lb.metric("lb_queue_entries_total", &[]), 0.0);
    }
}

#[test]
fn a_queue_that_is_switched_off_gives_its_requests_to_the_fallback() {
    for strategy in both() {
        let gated = Gated::start();
        let wanted = setup(&[&gated], &strategy, 100);
        let pool = wanted.pools[0].clone();
        let lb = start(wanted);
        let mut held = fill(&lb, &[&gated]);
        let mut clients: Vec<Client> = (0..4).map(|_| queued(&lb, "/")).collect();
        lb.publish(&[PoolSetup { queue: QueuePolicy { length: 0, ..pool.queue }, ..pool }]);
        assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
        gated.open();
        assert_eq!(held[0].answer().status(), 200);
        comes_to_rest(&lb);
        assert_eq!(lb.metric("lb_strategy_fallbacks_total", &["reason=\"no_queue\""]), 4.0);
    }
}

#[test]
fn a_retry_waits_for_the_other_backend_and_blocks_none_behind_it() {
    for strategy in both() {
        let gated = Gated::start();
        let wanted = setup(&[&gated], &strategy, 100).attempts(3);
        let lb = start(wanted.with(|setup| setup.pools[0].backends.push(backend("closed", closed_address()))));
        let mut held = send(&lb, "/hold");
        wait_until("the backend to have a request", || gated.server.heads().len() == 1);
        let before = tries(&lb);
        let mut clients: Vec<Client> = (0..4).map(|_| send(&lb, "/")).collect();
        wait_until("each of them to have tried the other one", || tries(&lb) == before + 4.0);
        wait_until("the retries to wait", || waiting(&lb) == 4.0);
        gated.open();
        assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
        assert_eq!((held.answer().status(), tries(&lb)), (200, before + 4.0));
        comes_to_rest(&lb);
        assert_eq!(fallbacks(&lb), 0.0);
    }
}

/// Attempts that could not connect.
fn tries(lb: &Balancer) -> f64 {
    lb.metric("lb_backend_errors_total", &["reason=\"connect\""])
}
