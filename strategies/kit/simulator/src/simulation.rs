//! The loop over the events, and the state that they change.
//!
//! Its parts:
//!
//! - `requests`: the life of a request at its balancer
//! - `attempts`: the way of an attempt to a server and back
//! - `probes`: probes of strategies
//! - `control`: what happens beside requests, such as checks, ticks and changes of the pool
//!
//! Invariants: an event of a request or an attempt that has ended changes nothing. A simulation ends: when no further
//! request arrives and all have ended, or a while after the measured time, or when too many are unfinished.

mod attempts;
mod control;
mod probes;
mod requests;

use std::sync::Arc;

use lb_balance::RetryPlan;
use lb_balance::Ticket;
use lb_strategy_host::{HookError, Plugin};
use serde_json::Value;
use slab::Slab;

use crate::balancer::Balancer;
use crate::calendar::{Calendar, Event, Handle};
use crate::law::Law;
use crate::record::{Results, Stopped};
use crate::server::Server;
use crate::source::Source;
use crate::streams::{Purpose, Stream};
use crate::time::{START_NS, Time};
use crate::world::{Arrivals, World, WorldError};

/// A world with a strategy, ready to run.
pub struct Simulation {
    world: World,
    now_ns: u64,
    /// The measured time. `end_ns` may come sooner, with the last request.
    begin_ns: u64,
    end_ns: u64,
    phase: Phase,
    calendar: Calendar,
    source: Source,
    /// Requests that have arrived.
    arrived: u64,
    requests: Slab<Request>,
    attempts: Slab<Attempt>,
    probes: Slab<probes::Flight>,
    /// Messages of probes so far, which number their delays.
    probe_messages: u64,
    /// Number of the next attempt.
    next_attempt: u32,
    servers: Vec<Server>,
    balancers: Vec<Balancer>,
    changes: Vec<control::Change>,
    streams: Streams,
    results: Results,
}

/// Why a simulation cannot begin, or ended without results.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    #[error(transparent)]
    World(#[from] WorldError),
    #[error(transparent)]
    Strategy(#[from] HookError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measured,
    /// No further request arrives; those that have arrived end.
    Ending,
}

/// A request that has not ended.
struct Request {
    /// Its number among all requests.
    n: u64,
    balancer: u32,
    arrived_ns: u64,
    cost_ns: u64,
    key: Option<u64>,
    plan: RetryPlan,
    /// The attempt in progress.
    attempt: Option<u32>,
    /// Its place in the queue, and since when.
    waits: Option<(Ticket, u64)>,
    /// The end of its last attempt, if no other follows.
    last: requests::End,
    is_measured: bool,
}

/// An attempt that has not ended.
struct Attempt {
    number: u32,
    request: Handle,
    /// Its number among the attempts of its request, from 0.
    nth: u32,
    balancer: u32,
    server: u32,
    began_ns: u64,
    /// When it reached its server.
    reached_ns: u64,
    token: u64,
    /// Whether the strategy picked, and not the fallback.
    own: bool,
    place: Place,
    ending: attempts::Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    OnItsWay,
    Queued,
    InService,
    /// The server will not respond.
    Hung,
    /// Its end is on the way to the balancer.
    Returning,
}

struct Streams {
    balancers: Stream,
    picks: Stream,
    service: Stream,
    network: Stream,
    back_off: Stream,
    checks: Stream,
    think: Stream,
    probes: Stream,
}

/// How long after the measured time requests may take to end, if clients never give up.
const ENDING: Time = Time::seconds(600);

// === impl Simulation ===

impl Simulation {
    /// Each balancer of `world` gets its own instance of `plugin` with `options`.
    pub fn new(world: &World, plugin: &Arc<Plugin>, options: &Value, seed: u64) -> Result<Self, SimulationError> {
        world.check()?;
        let begin_ns = START_NS + world.warm_up.ns;
        let servers = servers(world, begin_ns, seed);
        let present: Vec<u32> =
            (0..servers.len() as u32).filter(|server| servers[*server as usize].group.joins.is_none()).collect();
        let balancer = |_| Balancer::new(world, &servers, &present, plugin, options, START_NS);
        let balancers = (0..world.balancers).map(balancer).collect::<Result<Vec<_>, _>>()?;
        let stream = |purpose| Stream::new(seed, purpose);
        let mut simulation = Self {
            now_ns: START_NS,
            begin_ns,
            end_ns: if world.duration.is_zero() { u64::MAX } else { begin_ns + world.duration.ns },
            phase: Phase::WarmUp,
            calendar: Calendar::default(),
            source: Source::new(world, seed),
            arrived: 0,
            requests: Slab::new(),
            attempts: Slab::new(),
            probes: Slab::new(),
            probe_messages: 0,
            next_attempt: 0,
            changes: control::changes(world, begin_ns),
            streams: Streams {
                balancers: stream(Purpose::Balancer),
                picks: stream(Purpose::Pick),
                service: stream(Purpose::Service),
                network: stream(Purpose::Network),
                back_off: stream(Purpose::BackOff),
                checks: stream(Purpose::Check),
                think: stream(Purpose::Think),
                probes: stream(Purpose::Probe),
            },
            results: Results::new(plugin.name(), seed),
            servers,
            balancers,
            world: world.clone(),
        };
        simulation.plan_first_events(plugin.tick_ms());
        Ok(simulation)
    }

    /// Runs until the end.
    pub fn run(mut self) -> Result<Results, SimulationError> {
        while let Some((at_ns, event)) = self.calendar.next() {
            if self.is_over(at_ns) {
                break;
            }
            self.now_ns = at_ns;
            self.results.events += 1;
            self.handle(event)?;
            if self.requests.len() > self.world.unfinished_max as usize {
                let after = Time { ns: self.now_ns.saturating_sub(self.begin_ns) };
                self.results.stopped = Some(Stopped::Overload { unfinished: self.requests.len(), after });
                break;
            }
        }
        Ok(self.finish())
    }

    fn handle(&mut self, event: Event) -> Result<(), SimulationError> {
        match event {
            Event::Arrival => self.arrival(),
            Event::Client => self.client_sends(),
            Event::Reaches(attempt) => self.reaches(attempt),
            Event::Served(attempt) => self.served(attempt),
            Event::Returns(attempt) => self.returns(attempt),
            Event::AttemptIsLate(attempt) => self.attempt_is_late(attempt),
            Event::ClientGivesUp(request) => self.client_gives_up(request),
            Event::Retry(request) => self.retry_after_pause(request),
            Event::WaitIsOver(request) => self.wait_is_over(request),
            Event::Begin => self.begin(),
            Event::End => self.end(),
            Event::Change(number) => self.change(number),
            Event::Tick { balancer } => self.tick(balancer)?,
            Event::Check { balancer, server } => self.check(balancer, server),
            Event::Checked { balancer, server, sign } => self.checked(balancer, server, sign),
            Event::Poll { balancer, server } => self.poll(balancer, server),
            Event::Round { balancer, server } => self.round(balancer, server),
            Event::ProbeReaches(probe) => self.probe_reaches(probe),
            Event::ProbeReturns(probe) => self.probe_returns(probe),
            Event::Look { balancer } => self.look(balancer),
            Event::Wake { balancer } => self.wake_each_second(balancer),
            Event::Sample => self.sample(),
        }
        Ok(())
    }

    fn plan_first_events(&mut self, tick_ms: u32) {
        self.calendar.plan(self.begin_ns, Event::Begin);
        if self.end_ns != u64::MAX {
            self.calendar.plan(self.end_ns, Event::End);
        }
        self.plan_control(tick_ms);
        match self.world.arrivals {
            Arrivals::Closed { clients, .. } => {
                (0..clients).for_each(|_| self.calendar.plan(START_NS, Event::Client));
            }
            _ => self.plan_arrival(),
        }
    }

    /// Whether nothing is left to do at this time.
    #[inline]
    fn is_over(&self, at_ns: u64) -> bool {
        if self.phase != Phase::Ending {
            return false;
        }
        self.requests.is_empty() || at_ns > self.now_ns.max(self.end_ns).saturating_add(ENDING.ns)
    }

    /// The measured time begins.
    fn begin(&mut self) {
        if self.phase == Phase::WarmUp {
            self.phase = Phase::Measured;
            self.servers.iter_mut().for_each(|server| server.account.open(self.now_ns));
        }
    }

    /// It is over, or the last request has arrived.
    fn end(&mut self) {
        if self.phase == Phase::Ending {
            return;
        }
        // With a limit of requests they may all arrive before the measured time.
        self.begin();
        self.phase = Phase::Ending;
        self.end_ns = self.now_ns;
        self.results.measured = Time { ns: self.now_ns - self.begin_ns.min(self.now_ns) };
        for server in &mut self.servers {
            let load = server.load();
            server.account.close(self.now_ns, load);
        }
    }

    fn finish(mut self) -> Results {
        self.end();
        let unfinished = self.requests.iter().filter(|(_, request)| request.is_measured).count();
        self.results.endings.unfinished += unfinished as u64;
        for balancer in &self.balancers {
            self.results.add_tally(&balancer.tally);
        }
        self.results.add_backends(&self.servers);
        self.results
    }

    /// The delay of one message of an attempt. `way` is 0 to the server and 1 back.
    #[inline]
    fn network_ns(&self, attempt_number: u64, way: u64) -> u64 {
        match self.world.network {
            Law::None => 0,
            law => law.draw(&mut self.streams.network.draws(attempt_number * 2 + way)),
        }
    }
}

/// The servers of all groups, in the order of the plan.
fn servers(world: &World, begin_ns: u64, seed: u64) -> Vec<Server> {
    let groups = world.backends.iter().flat_map(|group| std::iter::repeat_n(group, group.n as usize));
    let of = |(number, group)| {
        let is_its = |fault: &&crate::world::Fault| fault.kind.affects_one() && fault.backend as usize == number + 1;
        let faults: Vec<_> = world.faults.iter().filter(is_its).collect();
        Server::new(number, group, &faults, begin_ns, seed)
    };
    groups.enumerate().map(of).collect()
}
