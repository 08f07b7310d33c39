//! A balancer with hedges in front of scripted backends, and the counts since the end of its warm-up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use lb::config::KeySource;
use lb_test_support::{Client, Hostile, Wire, request, wait_until};

use crate::support::{Balancer, Setup, ms, strategy};

pub(super) const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
pub(super) const HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\n\r\n";
/// The worker estimates the usual time at the first sample after this time, of at least 100 samples.
const ESTIMATE: Duration = ms(1_000);
/// Enough samples also after they are halved.
const SAMPLES: usize = 400;

/// Backends whose `/slow` requests run a script.
pub(super) struct Stand<const N: usize> {
    pub(super) servers: [Hostile; N],
    pub(super) events: Events,
}

/// What a script may wait for, over all backends.
#[derive(Clone, Default)]
pub(super) struct Events {
    /// The number of `/slow` requests.
    asked: Arc<AtomicUsize>,
    gate: Arc<AtomicBool>,
}

// === impl Events ===

impl Events {
    /// Until this number of attempts has arrived.
    pub(super) fn await_attempts(&self, number: usize) {
        wait_until("the attempts to arrive", || self.asked() >= number);
    }

    /// Until the test opens the gate.
    pub(super) fn await_gate(&self) {
        wait_until("the gate to open", || self.is_open());
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    pub(super) fn is_open(&self) -> bool {
        self.gate.load(SeqCst)
    }

    pub(super) fn open(&self) {
        self.gate.store(true, SeqCst);
    }
}

// === impl Stand ===

impl<const N: usize> Stand<N> {
    /// `script` gets `true` on b1, where the first attempts are.
    pub(super) fn new(script: impl Fn(bool, &mut Wire, &Events) + Send + Sync + 'static) -> Self {
        let (script, events) = (Arc::new(script), Events::default());
        let servers = std::array::from_fn(|place| {
            let (script, events) = (script.clone(), events.clone());
            Hostile::start(move |_, wire| {
                while let Some(head) = wire.head() {
                    if head.contains(" /slow ") {
                        events.asked.fetch_add(1, SeqCst);
                        script(place == 0, wire, &events);
                    } else {
                        wire.write(OK);
                    }
                }
            })
        });
        Self { servers, events }
    }

    /// One worker with hedges in front of all of them.
    pub(super) fn setup(&self) -> Setup {
        let setup = Setup::new(&self.servers.each_ref().map(|server| server.addr)).with(|setup| {
            setup.workers = 1;
            setup.pools[0].strategy = strategy("consistent_hash");
            setup.pools[0].hash_on = vec![KeySource::Header("x-key".parse().unwrap())];
        });
        setup.retry(|retry| retry.rules.hedge = true)
    }

    /// How often each backend got a `/slow` request.
    pub(super) fn tries(&self) -> [usize; N] {
        let is_slow = |head: &String| head.contains(" /slow ");
        self.servers.each_ref().map(|server| server.heads().iter().filter(|head| is_slow(head)).count())
    }

    /// Sends requests until the worker knows the usual time.
    pub(super) fn warm_up(&self, setup: Setup) -> Warm {
        let lb = setup.start();
        let mut client = lb.client();
        let get = |client: &mut Client, key: &str| assert_eq!(client.ask("GET", "/", &[key]).status(), 200);
        let is_first = |key: &String| {
            get(&mut client, key);
            self.servers[0].heads().iter().any(|head| head.contains(&**key))
        };
        let key = (100..).map(|number| format!("x-key: {number}")).find(is_first).unwrap();
        (0..SAMPLES).for_each(|_| get(&mut client, &key));
        let began = Instant::now();
        while began.elapsed() < ESTIMATE {
            get(&mut client, &key);
        }
        get(&mut client, &key);
        drop(client);
        lb.comes_to_rest();
        let mut warm = Warm { lb, key, before: [0.0; 4] };
        warm.before = warm.since();
        warm
    }
}

/// A balancer that may hedge. Its counts begin at the end of the warm-up.
pub(super) struct Warm {
    pub(super) lb: Balancer,
    /// A field with a key that leads to b1.
    pub(super) key: String,
    before: [f64; 4],
}

// === impl Warm ===

impl Warm {
    /// Hedges that won, lost and were denied, and errors of backends.
    pub(super) fn since(&self) -> [f64; 4] {
        let hedges = |result: &str| self.lb.metric("lb_hedges_total", &[&format!("result={result:?}")]);
        let now = [hedges("won"), hedges("lost"), hedges("denied"), self.lb.metric("lb_backend_errors_total", &[])];
        std::array::from_fn(|at| now[at] - self.before[at])
    }

    pub(super) fn hedges(&self) -> [f64; 3] {
        let [won, lost, denied, _] = self.since();
        [won, lost, denied]
    }

    /// A client that has asked for `/slow`.
    pub(super) fn client(&self, method: &str) -> Client {
        let mut client = self.lb.client();
        client.send(&request(method, "/slow", &[&self.key]));
        client
    }

    pub(super) fn errors(&self, reason: &str) -> f64 {
        self.lb.metric("lb_backend_errors_total", &[&format!("reason={reason:?}")])
    }

    pub(super) fn retries(&self, reason: &str) -> f64 {
        self.lb.metric("lb_retries_total", &[&format!("reason={reason:?}")])
    }

    pub(super) fn responses(&self, code: &str) -> f64 {
        self.lb.metric("lb_backend_requests_total", &[&format!("code={code:?}")])
    }
}
