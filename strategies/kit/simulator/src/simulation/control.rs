//! What happens beside requests: changes of the pool, health checks, polls of load reports and samples. Also ticks of
//! the strategy, and looks of outlier detection and slow start.

use super::{Phase, Simulation, SimulationError};
use crate::calendar::{CheckSign, Event};
use crate::record::Sample;
use crate::time::{START_NS, Time};
use crate::world::{FaultKind, World};

/// A change of the pool or of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    at_ns: u64,
    server: u32,
    kind: ChangeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChangeKind {
    Join,
    Leave,
    /// Its process ends.
    Kill,
}

/// All changes of a plan.
pub(super) fn changes(world: &World, begin_ns: u64) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut server = 0;
    for group in &world.backends {
        for _ in 0..group.n {
            let moments = [(group.joins, ChangeKind::Join), (group.leaves, ChangeKind::Leave)];
            let change = |(at, kind): (Option<Time>, _)| Some(Change { at_ns: begin_ns + at?.ns, server, kind });
            changes.extend(moments.into_iter().filter_map(change));
            server += 1;
        }
    }
    for fault in &world.faults {
        let (at_ns, server) = (begin_ns + fault.at.ns, fault.backend.wrapping_sub(1));
        match fault.kind {
            FaultKind::Kill => changes.push(Change { at_ns, server, kind: ChangeKind::Kill }),
            FaultKind::Remove => {
                changes.push(Change { at_ns, server, kind: ChangeKind::Leave });
                let back = |lasts: Time| Change { at_ns: at_ns + lasts.ns, server, kind: ChangeKind::Join };
                changes.extend(fault.lasts.map(back));
            }
            _ => {}
        }
    }
    changes
}

// === impl Simulation: control ===

impl Simulation {
    pub(super) fn plan_control(&mut self, tick_ms: u32) {
        for (number, change) in self.changes.iter().enumerate() {
            self.calendar.plan(change.at_ns, Event::Change(number as u32));
        }
        if !self.world.sample.is_zero() {
            self.calendar.plan(START_NS + self.world.sample.ns, Event::Sample);
        }
        for balancer in 0..self.balancers.len() as u32 {
            if tick_ms > 0 {
                self.calendar.plan(START_NS + u64::from(tick_ms) * 1_000_000, Event::Tick { balancer });
            }
            self.plan_look(balancer);
            for server in 0..self.servers.len() as u32 {
                if self.servers[server as usize].group.joins.is_none() {
                    self.plan_checks(balancer, server);
                }
            }
        }
    }

    /// The checks, polls and probes of a new member begin, at a random time of their interval.
    fn plan_checks(&mut self, balancer: u32, server: u32) {
        let number = u64::from(balancer) * self.servers.len() as u64 + u64::from(server);
        if let Some(health) = self.world.lb.health() {
            let phase_ns = self.streams.checks.below(number * 2, health.interval_ns(false));
            self.calendar.plan(self.now_ns + phase_ns, Event::Check { balancer, server });
        }
        self.plan_probes(balancer, server);
        if let Some(every_ns) = self.poll_ns() {
            let phase_ns = self.streams.checks.below(number * 2 + 1, every_ns);
            self.calendar.plan(self.now_ns + phase_ns, Event::Poll { balancer, server });
        }
    }

    fn poll_ns(&self) -> Option<u64> {
        let reports = self.world.lb.load_reports.as_ref()?;
        (reports.poll_every_ms > 0).then_some(reports.poll_every_ms * 1_000_000)
    }

    pub(super) fn change(&mut self, number: u32) {
        let Change { server, kind, .. } = self.changes[number as usize];
        if kind == ChangeKind::Kill {
            return self.kill(server);
        }
        for balancer in 0..self.balancers.len() as u32 {
            let members = &mut self.balancers[balancer as usize].members;
            let has_changed = match kind {
                ChangeKind::Join => members.join(server, &self.servers),
                _ => members.leave(server),
            };
            if !has_changed {
                continue;
            }
            members.settle(self.now_ns);
            self.publish(balancer, true);
            self.plan_look(balancer);
            if kind == ChangeKind::Join {
                self.plan_checks(balancer, server);
            }
        }
    }

    fn publish(&mut self, number: u32, has_new_members: bool) {
        self.balancers[number as usize].publish(&self.servers, has_new_members);
        self.wake_all(number);
    }

    pub(super) fn tick(&mut self, number: u32) -> Result<(), SimulationError> {
        let balancer = &self.balancers[number as usize];
        if balancer.tick(self.now_ns)? {
            self.publish(number, false);
        }
        let tick_ns = self.balancers[number as usize].tick_ns();
        self.calendar.plan(self.now_ns + tick_ns, Event::Tick { balancer: number });
        Ok(())
    }

    /// A threshold of outlier detection is reached.
    pub(super) fn look_now(&mut self, number: u32) {
        self.take_a_look(number);
    }

    pub(super) fn look(&mut self, number: u32) {
        let balancer = &mut self.balancers[number as usize];
        if balancer.look_ns > self.now_ns {
            return;
        }
        balancer.look_ns = u64::MAX;
        self.take_a_look(number);
    }

    fn take_a_look(&mut self, number: u32) {
        let balancer = &mut self.balancers[number as usize];
        let looked = balancer.members.look(self.now_ns);
        balancer.tally.ejections += looked.ejections;
        balancer.tally.returns += looked.returns;
        if looked.has_changed {
            self.publish(number, false);
        }
        self.plan_look(number);
    }

    fn plan_look(&mut self, number: u32) {
        let balancer = &mut self.balancers[number as usize];
        let due_ns = balancer.members.next_look_ns(self.now_ns);
        if due_ns < balancer.look_ns {
            balancer.look_ns = due_ns.max(self.now_ns + 1);
            self.calendar.plan(balancer.look_ns, Event::Look { balancer: number });
        }
    }

    /// A health check of a server begins.
    pub(super) fn check(&mut self, balancer: u32, server: u32) {
        let Some(health) = self.world.lb.health() else { return };
        let sign = self.servers[server as usize].check(self.now_ns);
        let takes_ns = if sign == CheckSign::Silent { health.timeout_ms * 1_000_000 } else { 0 };
        self.calendar.plan(self.now_ns + takes_ns, Event::Checked { balancer, server, sign });
    }

    pub(super) fn checked(&mut self, number: u32, server: u32, sign: CheckSign) {
        let members = &mut self.balancers[number as usize].members;
        // Checks of a server that has left end here.
        let Some(has_health_changed) = members.checked(server, sign) else { return };
        let (is_in_doubt, is_lost) = members.doubt_and_loss(server);
        if has_health_changed {
            let has_changed = members.settle(self.now_ns);
            self.balancers[number as usize].tally.health_changes += 1;
            if has_changed {
                self.publish(number, false);
            }
            self.take_a_look(number);
        }
        if is_lost {
            self.lose(number, server);
        }
        if let Some(health) = self.world.lb.health() {
            let at_ns = self.now_ns + health.interval_ns(is_in_doubt);
            self.calendar.plan(at_ns, Event::Check { balancer: number, server });
        }
    }

    /// A poll of the load report of a server.
    pub(super) fn poll(&mut self, balancer: u32, server: u32) {
        let is_member = self.balancers[balancer as usize].members.iter().any(|member| member.server == server);
        let Some(every_ns) = self.poll_ns().filter(|_| is_member) else { return };
        if self.servers[server as usize].check(self.now_ns) == CheckSign::Good {
            self.take_report(balancer, server);
        }
        self.calendar.plan(self.now_ns + every_ns, Event::Poll { balancer, server });
    }

    /// A load report of a server arrives.
    pub(super) fn take_report(&mut self, balancer: u32, number: u32) {
        let server = &mut self.servers[number as usize];
        let load = server.load();
        let report = server.meter.report(self.now_ns, load, server.group.concurrency);
        self.balancers[balancer as usize].members.backend(number).reported(&report, self.now_ns);
    }

    pub(super) fn sample(&mut self) {
        let load = |server: &mut crate::server::Server| {
            let (in_service, queued) = server.load();
            (in_service, queued, std::mem::take(&mut server.account.fresh))
        };
        let loads = self.servers.iter_mut().map(load).collect();
        self.results.samples.push(Sample { at: Time { ns: self.now_ns - START_NS }, loads });
        if self.phase != Phase::Ending {
            self.calendar.plan(self.now_ns + self.world.sample.ns, Event::Sample);
        }
    }
}
