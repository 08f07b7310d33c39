//! A pool in virtual time: clients that send a request as soon as the response to their last one has arrived.
//!
//! Why: a strategy that decides by load or by latency can only be judged with feedback. Here its picks change the load,
//! and the loads and latencies that it sees follow from its picks. Twenty thousand requests take milliseconds.
//!
//! Invariants: the numbers of a backend change as in `lb`, by the same code ([`Backend`]). Of each request: the request
//! in flight is counted and the strategy is told its start. The response updates the average of latencies, the count is
//! lowered, and then the strategy gets its finish. Ticks come in virtual time. A probe ends right after its pick.
//! Each header that the strategy names is then the number of requests in flight on the backend, and the body tells it,
//! too. All random numbers come from the seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use lb_balance::{Backend, Eligibility};
use lb_strategy_host::{Answered, Decision, Finish, Outcome, Picker, Probe, Start, Strategy};

use crate::request::Requests;
use crate::world::World;

/// The default mean time that a backend needs for a request.
const SERVICE_MS: u64 = 50;
/// The clock moves by this for a request without a backend, so that time does not stand still.
const REFUSED_NS: u64 = 1_000_000;

/// The time to the response of a backend that fails at once.
const FAILURE_NS: u64 = 1_000_000;
/// The time of a probe.
const PROBE_NS: u64 = 100_000;

/// The length of each response's body.
const RESPONSE_BYTES: u64 = 1_000;

/// Clients, backends with their service times, and a clock. Each backend serves all its requests at the same time.
pub struct ClosedLoop {
    strategy: Arc<Strategy>,
    world: World,
    picker: Picker,
    backends: Vec<Arc<Backend>>,
    /// The mean of each backend.
    service_ns: Vec<u64>,
    /// Which backends fail at once.
    failing: Vec<bool>,
    clients: usize,
    requests: Requests,
    random: fastrand::Rng,
    now_ns: u64,
    next_tick_ns: u64,
    /// The requests in flight, the one that ends first on top.
    running: BinaryHeap<Reverse<Running>>,
    begun: u64,
}

/// A request in flight. The order is that of the ends; of equal ends the one that began first is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Running {
    ends_ns: u64,
    number: u64,
    index: usize,
    token: u64,
    took_ns: u64,
    status: u16,
}

// === impl ClosedLoop ===

impl ClosedLoop {
    /// A pool with the backends of `world`. By default one client sends requests, and each backend needs 50 ms.
    pub fn new(strategy: &Arc<Strategy>, world: World, seed: u64) -> Result<Self, String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let backend = |spec: &lb_strategy_host::BackendSpec| {
            let eligibility = Eligibility::of(true, false, spec.weight as u16);
            Backend::new(&spec.name, &spec.address, address, spec.stats.clone(), eligibility)
        };
        Ok(Self {
            picker: world.picker(strategy)?,
            backends: world.list().specs().iter().map(backend).collect(),
            service_ns: vec![SERVICE_MS * 1_000_000; world.len()],
            failing: vec![false; world.len()],
            strategy: strategy.clone(),
            world,
            clients: 1,
            requests: Requests::seeded(seed),
            random: fastrand::Rng::with_seed(seed.rotate_left(32)),
            now_ns: 1,
            next_tick_ns: 1,
            running: BinaryHeap::new(),
            begun: 0,
        })
    }

    /// The number of clients, and so the most requests in flight. With one client the pool is idle at every pick.
    #[must_use]
    pub fn clients(mut self, clients: usize) -> Self {
        assert!(clients > 0, "one client at least");
        self.clients = clients;
        self
    }

    /// The mean service time of each backend in milliseconds. A request takes 0.5 to 1.5 times as long, each time drawn
    /// anew.
    #[must_use]
    pub fn service_ms(mut self, means: &[u64]) -> Self {
        self.set_service_ms(means);
        self
    }

    /// The same between two runs: a backend becomes slow or recovers. Requests in flight keep their ends.
    pub fn set_service_ms(&mut self, means: &[u64]) {
        assert_eq!(means.len(), self.world.len(), "one service time for each backend");
        self.service_ns = means.iter().map(|ms| ms * 1_000_000).collect();
    }

    /// Which backends fail from now on: with a 500 after 1 ms.
    pub fn set_failing(&mut self, failing: &[bool]) {
        assert_eq!(failing.len(), self.world.len(), "one value for each backend");
        self.failing = failing.to_vec();
    }

    /// Which backends are healthy from now on. The strategy gets a new list, as when a backend joins or recovers.
    pub fn set_up(&mut self, up: &[bool]) -> Result<(), String> {
        self.world = self.world.clone().up(up);
        self.picker = self.world.picker(&self.strategy)?;
        Ok(())
    }

    /// The time on the clock of the pool.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Sends `n` requests more. Returns how many of them each backend got. An error if most got none.
    pub fn run(&mut self, n: usize) -> Result<Vec<u64>, String> {
        let mut counts = vec![0; self.world.len()];
        let mut refused = 0;
        for _ in 0..n {
            if self.running.len() >= self.clients {
                self.end_one();
            }
            self.tick()?;
            match self.begin() {
                Some(index) => counts[index] += 1,
                None => {
                    refused += 1;
                    self.now_ns += REFUSED_NS;
                }
            }
        }
        if refused > n / 2 {
            return Err(format!("{refused} of {n} picks named no backend that may serve: too few to judge"));
        }
        Ok(counts)
    }

    /// As in `lb`, the strategy is asked again for a request that waits when another one ends.
    fn begin(&mut self) -> Option<usize> {
        let (index, token) = loop {
            let (decision, probes) = self.requests.ask().at(self.now_ns).pick_and_probe(&self.picker);
            match decision {
                Decision::Backend { index, token } => {
                    probes.indexes().iter().for_each(|index| self.probe(*index as usize));
                    break (index, token);
                }
                Decision::Wait if !self.running.is_empty() => self.end_one(),
                _ => return None,
            }
        };
        self.backends[index].attempt_begins();
        let mean = self.service_ns[index];
        let drawn_ns = mean / 2 + self.random.u64(0..=mean);
        let (took_ns, status) = if self.failing[index] { (FAILURE_NS, 500) } else { (drawn_ns, 200) };
        if self.strategy.plugin().wants().start {
            self.picker.start(&Start {
                worker: Some(0),
                backend_id: self.backends[index].number,
                attempt: 0,
                own: true,
                token,
                body_length: Some(0),
                now_ns: self.now_ns,
            });
        }
        self.begun += 1;
        self.running.push(Reverse(Running {
            ends_ns: self.now_ns + took_ns,
            number: self.begun,
            index,
            token,
            took_ns,
            status,
        }));
        Some(index)
    }

    fn probe(&self, index: usize) {
        let backend = &self.backends[index];
        let in_flight = backend.in_flight().to_string();
        let took_ns = if self.failing[index] { FAILURE_NS } else { self.service_ns[index] };
        let latency_ms = (took_ns as f64 / 1e6).to_string();
        let body = format!("{{\"in_flight\":{in_flight},\"latency_ms\":{latency_ms}}}");
        let is_latency = |name: &[u8]| name.windows(7).any(|part| part == b"latency");
        let told = |name: &[u8]| if is_latency(name) { &latency_ms } else { &in_flight };
        let names = self.strategy.plugin().response_headers().iter();
        let values: Vec<_> = names.map(|name| Some(told(name).as_bytes())).collect();
        self.picker.probe(&Probe {
            worker: Some(0),
            backend_id: backend.number,
            outcome: Outcome::Ok,
            http_status: Some(200),
            latency_ns: PROBE_NS,
            now_ns: self.now_ns,
            headers: &values,
            body: body.as_bytes(),
        });
    }

    fn end_one(&mut self) {
        let Some(Reverse(ended)) = self.running.pop() else { return };
        self.now_ns = self.now_ns.max(ended.ends_ns);
        let backend = &self.backends[ended.index];
        backend.answered(ended.took_ns, self.now_ns);
        backend.attempt_ends();
        if self.strategy.plugin().wants().finish {
            let finish = Finish {
                worker: Some(0),
                backend_id: backend.number,
                outcome: Outcome::Ok,
                http_status: Some(ended.status),
                attempt: 0,
                own: true,
                upgraded: false,
                token: ended.token,
                time_to_head_ns: ended.took_ns,
                total_ns: ended.took_ns,
                now_ns: self.now_ns,
            };
            // Requests without a body, responses with a small one.
            let answered = Answered { bytes_out: RESPONSE_BYTES, first_body_ns: ended.took_ns, ..Answered::default() };
            self.picker.finish_with(&finish, &answered);
        }
    }

    /// Calls `tick` if it is due, and makes the picker that the strategy asks for.
    fn tick(&mut self) -> Result<(), String> {
        let tick_ns = u64::from(self.strategy.plugin().tick_ms()) * 1_000_000;
        if tick_ns == 0 || self.now_ns < self.next_tick_ns {
            return Ok(());
        }
        self.next_tick_ns = self.now_ns + tick_ns;
        if self.strategy.tick(self.now_ns).map_err(|error| error.to_string())? {
            self.picker = self.world.picker(&self.strategy)?;
        }
        Ok(())
    }
}
