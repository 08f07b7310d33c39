//! All rules together: one worker with a pool of backends that fail in every way, in virtual time.
//!
//! Why: each rule has its own tests. This one checks that a caller can combine them, and that the accounts are exact.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use http::Method;
use lb_balance::{
    Backend, BodyState, BudgetRules, Caps, Choice, Chooser, Eligibility, FailureCause, Fallback, Full, Queue,
    QueueRules, RequestProgress, RetryBudget, RetryRules, ShedRules, Shedder, Ticket, Unchosen,
};
use lb_strategy_host::{Decision, PickRequest};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const CAPS: Caps = Caps { requests: Some(4), connections: None };
const QUEUE: QueueRules = QueueRules { length_max: 16, wait_max_ns: 500 * MS };
const SERVICE: u64 = 20 * MS;

/// How a backend responds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Well,
    /// Fails with this cause, and whether bytes of the request were sent.
    Failing(FailureCause, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    /// The attempt of this request ends on this backend.
    End {
        request: usize,
        backend: usize,
    },
    /// The back-off of this request is over.
    Again {
        request: usize,
    },
}

struct Request {
    key: u64,
    is_post: bool,
    attempt: u32,
    tried: Vec<u32>,
    /// Backends that got a byte of it.
    reached: u32,
    /// How the present attempt will end.
    mode: Mode,
    ticket: Option<Ticket>,
    ends: u32,
}

#[derive(Debug, Default)]
struct Counts {
    served: usize,
    failed: usize,
    refused: usize,
    expired: usize,
    retries: usize,
}

struct Pool {
    backends: Vec<Arc<Backend>>,
    modes: Vec<Mode>,
    has_affinity: bool,
    turn: usize,
    rules: RetryRules,
    budget: RetryBudget,
    queue: Queue<usize>,
    shedder: Shedder,
    requests: Vec<Request>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    now: u64,
    random: fastrand::Rng,
    counts: Counts,
}

impl Pool {
    fn new(backends: usize, has_affinity: bool, seed: u64) -> Self {
        let eligibility = Eligibility::of(true, false, 1);
        let socket = "127.0.0.1:1".parse().unwrap();
        let backend = |_| Backend::new("b", "127.0.0.1:1", socket, Arc::default(), eligibility);
        Self {
            backends: (0..backends).map(backend).collect(),
            modes: vec![Mode::Well; backends],
            has_affinity,
            turn: 0,
            rules: RetryRules { attempts: 3, ..RetryRules::default() },
            budget: RetryBudget::new(BudgetRules::default(), 1, 0),
            queue: Queue::new(QUEUE),
            shedder: Shedder::new(ShedRules::default(), QUEUE.length_max, [0, 1]),
            requests: Vec::new(),
            events: BinaryHeap::new(),
            now: 0,
            random: fastrand::Rng::with_seed(seed),
            counts: Counts::default(),
        }
    }

    fn after(&mut self, wait: u64, event: Event) {
        let order = self.random.u64(..); // of simultaneous events
        self.events.push(Reverse((self.now + wait, order, event)));
    }

    fn exponential(&mut self, mean: u64) -> u64 {
        (-(1.0 - self.random.f64()).ln() * mean as f64) as u64
    }

    /// Requests at `rate` for `seconds`, then until all have ended. `change` sets the modes each second.
    fn run(&mut self, rate: u64, seconds: u64, mut change: impl FnMut(&mut [Mode], &mut fastrand::Rng)) {
        let mut second = 0;
        self.after(0, Event::Arrival);
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            self.now = at;
            if at / SECOND >= second {
                second = at / SECOND + 1;
                change(&mut self.modes, &mut self.random);
            }
            for late in self.queue.expire(at).collect::<Vec<_>>() {
                self.requests[late].ends += 1;
                self.counts.expired += 1;
            }
            match event {
                Event::Arrival if at < seconds * SECOND => self.arrive(rate),
                Event::Arrival => {}
                Event::End { request, backend } => self.end(request, backend),
                Event::Again { request } => self.place(request),
            }
        }
        self.check();
    }

    fn arrive(&mut self, rate: u64) {
        self.budget.request(self.now);
        let key = self.random.u64(..);
        self.requests.push(Request {
            key,
            // The ring uses the low bits.
            is_post: key >> 63 == 1,
            attempt: 0,
            tried: Vec::new(),
            reached: 0,
            mode: Mode::Well,
            ticket: None,
            ends: 0,
        });
        self.place(self.requests.len() - 1);
        let wait = self.exponential(SECOND / rate);
        self.after(wait, Event::Arrival);
    }

    /// Begins an attempt, or lets the request wait. A woken request that does not fit passes the wake on.
    fn place(&mut self, request: usize) {
        let mut next = Some(request);
        let mut steps = 0;
        while let Some(request) = next.take() {
            steps += 1;
            assert!(steps <= 1 + QUEUE.length_max, "a wake that is passed on comes to an end");
            let priority = u8::from(self.requests[request].is_post);
            let is_new = self.requests[request].ticket.is_none();
            if is_new && !self.has_affinity && self.queue.must_wait(priority) {
                return self.wait(request, priority);
            }
            match (self.choose(request), self.requests[request].ticket) {
                (Ok(choice), _) => self.begin(request, choice.index),
                (Err(Unchosen::Overload), None) => self.wait(request, priority),
                (Err(Unchosen::Overload), Some(ticket)) => {
                    let behind = self.queue.pass_on(self.now, ticket, |_| true);
                    next = behind.map(|(_, value)| *value);
                }
                (Err(Unchosen::AllTried), _) => {
                    self.requests[request].tried.clear();
                    let wait = self.rules.back_off.wait_ns(0, self.random.u64(..));
                    self.after(wait, Event::Again { request });
                }
                (Err(Unchosen::NoBackend | Unchosen::Wait), _) => unreachable!("all are eligible, and none waits"),
            }
        }
    }

    fn choose(&mut self, request: usize) -> Result<Choice, Unchosen> {
        let Request { key, tried, attempt, .. } = &self.requests[request];
        let chooser = Chooser {
            backends: &self.backends,
            fallback: Fallback::LeastConnections,
            cursor: &AtomicUsize::new(0),
            wants_hash: self.has_affinity,
        };
        let request = PickRequest {
            worker: Some(0),
            attempt: *attempt,
            tried,
            key: self.has_affinity.then_some((b"key", *key)),
            random: self.random.u64(..),
            now_ns: self.now,
            dry: false,
            body_length: Some(0),
            lookup: &(),
        };
        self.turn += 1;
        let first = if self.has_affinity { *key as usize } else { self.turn };
        let n = self.backends.len();
        let strategy = |request: &PickRequest<'_>| {
            let order = (0..n).map(|step| first.wrapping_add(step) % n);
            let untried = order.into_iter().find(|index| !request.tried.contains(&(*index as u32)));
            untried.map_or(Decision::NoBackend, |index| Decision::Backend { index, token: 0 })
        };
        let has_room = |index: usize| CAPS.has_room(self.backends[index].in_flight(), 0, 0);
        chooser.choose(&request, has_room, strategy)
    }

    fn wait(&mut self, request: usize, priority: u8) {
        let may_wait = self.shedder.may_wait(priority, self.queue.len());
        let pushed = if may_wait { self.queue.push(self.now, priority, request) } else { Err(Full(request)) };
        match pushed {
            Ok(ticket) => self.requests[request].ticket = Some(ticket),
            Err(Full(_)) => {
                self.counts.refused += 1;
                self.requests[request].ends += 1;
            }
        }
    }

    fn begin(&mut self, request: usize, backend: usize) {
        let one = &mut self.requests[request];
        if let Some(ticket) = one.ticket.take() {
            assert_eq!(self.queue.cancel(ticket), Some(request));
        }
        assert!(!one.tried.contains(&(backend as u32)), "no backend twice");
        one.mode = self.modes[backend];
        one.reached += u32::from(!matches!(one.mode, Mode::Failing(_, false)));
        self.backends[backend].attempt_begins();
        assert!(self.backends[backend].in_flight() <= CAPS.requests.unwrap());
        let time = if one.mode == Mode::Well { self.exponential(SERVICE) } else { MS };
        self.after(time, Event::End { request, backend });
    }

    fn end(&mut self, request: usize, backend: usize) {
        self.backends[backend].attempt_ends();
        let one = &mut self.requests[request];
        let method = if one.is_post { Method::POST } else { Method::GET };
        match one.mode {
            Mode::Well => {
                self.counts.served += 1;
                one.ends += 1;
            }
            Mode::Failing(cause, was_sent) => {
                let progress = RequestProgress {
                    attempt: one.attempt,
                    was_sent,
                    idempotency: self.rules.idempotency(&method, false),
                    body: BodyState::Absent,
                    has_response_begun: false,
                };
                if self.rules.may_retry(cause, progress) && self.budget.take(self.now) {
                    self.counts.retries += 1;
                    one.attempt += 1;
                    one.tried.push(backend as u32);
                    self.place(request);
                } else {
                    self.counts.failed += 1;
                    one.ends += 1;
                }
            }
        }
        if let Some((_, value)) = self.queue.wake(self.now) {
            let woken = *value;
            self.place(woken);
        }
    }

    fn check(&self) {
        assert!(self.queue.is_empty(), "no wake was lost");
        let Counts { served, failed, refused, expired, retries } = self.counts;
        assert_eq!(served + failed + refused + expired, self.requests.len(), "each ends: {:?}", self.counts);
        assert!(self.requests.iter().all(|one| one.ends == 1), "and none twice");
        assert!(self.requests.iter().all(|one| one.reached <= if one.is_post { 1 } else { 3 }));
        assert!(self.backends.iter().all(|backend| backend.in_flight() == 0));
        assert!(retries as f64 <= 0.2 * self.requests.len() as f64 + 100.0, "{:?}", self.counts);
    }
}

const FAILURES: [Mode; 6] = [
    Mode::Failing(FailureCause::Connect, false),
    Mode::Failing(FailureCause::Reset, false),
    Mode::Failing(FailureCause::Reset, true),
    Mode::Failing(FailureCause::Timeout, true),
    Mode::Failing(FailureCause::Status(503), true),
    Mode::Failing(FailureCause::Status(500), true),
];

#[test]
fn a_storm_in_which_all_backends_fail_gets_no_more_retries_than_its_budget() {
    for mode in FAILURES {
        for rate in [5, 100, 400] {
            let mut pool = Pool::new(5, false, rate);
            pool.run(rate, 60, |modes, _| modes.fill(mode));
            assert_eq!(pool.counts.served, 0);
            assert!(pool.counts.retries > 0 || mode == FAILURES[5], "{mode:?}");
        }
    }
}

#[test]
fn accounts_are_exact_while_backends_fail_in_every_way() {
    for seed in 0..30 {
        let mut pool = Pool::new(5, seed % 2 == 0, seed);
        pool.run(600, 20, |modes, random| {
            for mode in modes {
                *mode = if random.u8(..3) == 0 { FAILURES[random.usize(..6)] } else { Mode::Well };
            }
        });
        assert!(pool.counts.served > 0 && pool.counts.retries > 0, "seed {seed}: {:?}", pool.counts);
    }
}

#[test]
fn an_overloaded_pool_uses_its_capacity_and_no_request_waits_too_long() {
    for has_affinity in [false, true] {
        let mut pool = Pool::new(8, has_affinity, 16);
        // 8 backends with 4 requests of 20 ms serve 1,600 a second.
        pool.run(3_200, 20, |_, _| {});
        let share = pool.counts.served as f64 / (1_600.0 * 20.0);
        assert!((0.95..1.05).contains(&share), "{share} of the capacity, affinity {has_affinity}: {:?}", pool.counts);
        let refused =
            |is_post: bool| pool.requests.iter().filter(|one| one.is_post == is_post && one.reached == 0).count();
        assert!(refused(false) > 2 * refused(true), "the lower priority first: {} {}", refused(false), refused(true));
    }
}
