//! Probes of strategies: those of a pick, and periodic ones. They move no count of requests and no average.
//!
//! A server responds at once, as `mock-server --probe-path` does: the load as JSON, and the headers `x-in-flight` and
//! `x-latency-ms`. Invariants: an instance has one probe of its picks on its way to a server at most. A server that is
//! not eligible gets none. A probe ends within its time-out.

use lb_strategy_host::{Outcome, Probe};

use super::Simulation;
use crate::calendar::{CheckSign, Event};
use crate::meter::Figures;

/// A probe that has not ended.
pub(super) struct Flight {
    balancer: u32,
    server: u32,
    began_ns: u64,
    is_periodic: bool,
    answer: Answer,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Load(Figures),
    Refused,
    Late,
}

/// The shortest time between two periodic probes of a backend, as in lb.
const INTERVAL_MIN_NS: u64 = 10_000_000;

// === impl Simulation: probes ===

impl Simulation {
    /// The periodic probes of a new member begin, at a random time of their interval.
    pub(super) fn plan_probes(&mut self, balancer: u32, server: u32) {
        let every_ns = self.balancers[balancer as usize].probe_ns();
        if every_ns > 0 && self.world.lb.probe.is_some() {
            let number = u64::from(balancer) * self.servers.len() as u64 + u64::from(server);
            let phase_ns = self.streams.probes.below(number + (1 << 61), every_ns);
            self.calendar.plan(self.now_ns + phase_ns, Event::Round { balancer, server });
        }
    }

    /// A periodic probe is due.
    pub(super) fn round(&mut self, balancer: u32, server: u32) {
        let members = &self.balancers[balancer as usize].members;
        if !members.iter().any(|member| member.server == server) {
            return;
        }
        if members.backend(server).is_eligible() {
            self.begin_probe(balancer, server, true);
        } else {
            self.plan_round(balancer, server, self.now_ns);
        }
    }

    /// The probes that the last pick of a balancer asked for.
    #[cold]
    pub(super) fn begin_asked_probes(&mut self, balancer: u32) {
        for server in std::mem::take(&mut self.balancers[balancer as usize].asked) {
            let state = &mut self.balancers[balancer as usize];
            if state.members.backend(server).is_eligible() && state.probing.insert(server) {
                self.begin_probe(balancer, server, false);
            }
        }
    }

    fn begin_probe(&mut self, balancer: u32, server: u32, is_periodic: bool) {
        let flight = Flight { balancer, server, began_ns: self.now_ns, is_periodic, answer: Answer::Late };
        let key = self.probes.insert(flight) as u32;
        let delay_ns = self.probe_delay_ns();
        self.calendar.plan(self.now_ns + delay_ns, Event::ProbeReaches(key));
    }

    /// A probe reaches its server.
    pub(super) fn probe_reaches(&mut self, key: u32) {
        let Flight { server, began_ns, .. } = self.probes[key as usize];
        let server = &mut self.servers[server as usize];
        let load = server.load();
        let answer = match server.check(self.now_ns) {
            CheckSign::Absent => Answer::Refused,
            CheckSign::Silent => Answer::Late,
            CheckSign::Good | CheckSign::Bad => {
                Answer::Load(server.meter.figures(self.now_ns, load, server.group.concurrency))
            }
        };
        let late_ns = began_ns + self.world.lb.probe_timeout_ns();
        let back_ns = self.now_ns + self.probe_delay_ns();
        let is_late = matches!(answer, Answer::Late) || back_ns > late_ns;
        self.probes[key as usize].answer = if is_late { Answer::Late } else { answer };
        let at_ns = if is_late { late_ns.max(self.now_ns) } else { back_ns };
        self.calendar.plan(at_ns, Event::ProbeReturns(key));
    }

    /// The end of a probe reaches its balancer, which tells the strategy.
    pub(super) fn probe_returns(&mut self, key: u32) {
        let Flight { balancer, server, began_ns, is_periodic, answer } = self.probes.remove(key as usize);
        let state = &mut self.balancers[balancer as usize];
        if !is_periodic {
            state.probing.remove(&server);
        }
        self.results.probes += 1;
        let figures = if let Answer::Load(figures) = answer { Some(figures) } else { None };
        let (in_flight, latency) = figures.map(|figures| figures.headers()).unwrap_or_default();
        let body = figures.map(|figures| figures.to_json()).unwrap_or_default();
        let value = |name: &[u8]| match name {
            _ if figures.is_none() => None,
            b"x-in-flight" => Some(in_flight.as_bytes()),
            b"x-latency-ms" => Some(latency.as_bytes()),
            _ => None,
        };
        let headers: Vec<_> = state.response_headers().iter().map(|name| value(&name.to_ascii_lowercase())).collect();
        state.tell_probe(&Probe {
            worker: (!is_periodic).then_some(0),
            backend_id: state.members.backend(server).number,
            outcome: match answer {
                Answer::Load(_) => Outcome::Ok,
                Answer::Refused => Outcome::ConnectError,
                Answer::Late => Outcome::Timeout,
            },
            http_status: figures.map(|_| 200),
            latency_ns: figures.map_or(0, |_| (self.now_ns - began_ns).max(1)),
            now_ns: self.now_ns,
            headers: &headers,
            body: body.as_bytes(),
        });
        if is_periodic {
            self.plan_round(balancer, server, began_ns);
        }
    }

    /// The next periodic probe of a server, after one that began at this time.
    fn plan_round(&mut self, balancer: u32, server: u32, began_ns: u64) {
        let every_ns = self.balancers[balancer as usize].probe_ns();
        let at_ns = (began_ns + every_ns).max(self.now_ns + INTERVAL_MIN_NS);
        self.calendar.plan(at_ns, Event::Round { balancer, server });
    }

    fn probe_delay_ns(&mut self) -> u64 {
        self.probe_messages += 1;
        self.world.network.draw(&mut self.streams.probes.draws(self.probe_messages))
    }
}
