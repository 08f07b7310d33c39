//! The way of an attempt: to a server, through its queue and its service, and back to the balancer.
//!
//! The account at the balancer has the order of the proxy (`lb`, module `exchange::attempt`). The response's head
//! updates the averages. Then the count of requests in flight is lowered, the strategy gets its finish, and a waiting
//! request is woken. Without a delay of the network no events are needed for the ways.

use lb_balance::{Choice, FailureCause};
use lb_strategy_host::Outcome;

use super::requests::End;
use super::{Attempt, Place, Simulation};
use crate::balancer::Told;
use crate::calendar::{Event, Handle, Lane};
use crate::server::Meeting;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Status(u16),
    Refused,
    Reset,
    /// Its own limit, or its backend is down and silent.
    TimedOut,
    ClientGone,
}

// === impl Simulation: attempts ===

impl Simulation {
    /// The attempt of a request begins.
    #[inline]
    pub(super) fn begin_attempt(&mut self, request: Handle, choice: Choice, server: u32) {
        let Choice { index: _, token, fallback } = choice;
        let state = &mut self.requests[request.key as usize];
        let (n, number) = (state.n, state.plan.number);
        let balancer_number = state.balancer;
        let own = fallback.is_none();
        self.next_attempt = self.next_attempt.wrapping_add(1);
        let attempt = Attempt {
            number: self.next_attempt,
            request,
            nth: number,
            balancer: balancer_number,
            server,
            began_ns: self.now_ns,
            reached_ns: self.now_ns,
            token,
            own,
            place: Place::OnItsWay,
            ending: Ending::ClientGone,
        };
        let handle = Handle { key: self.attempts.insert(attempt) as u32, number: self.next_attempt };
        state.attempt = Some(handle.key);
        let balancer = &self.balancers[balancer_number as usize];
        let backend = balancer.members.backend(server);
        backend.attempt_begins();
        balancer.tell_start(backend, Told { number, token, own, began_ns: self.now_ns, now_ns: self.now_ns });
        if let Some(limit_ns) = balancer.retry.per_attempt_ns {
            let attempts = &self.attempts;
            let is_over = |event| match event {
                Event::AttemptIsLate(handle) => {
                    attempts.get(handle.key as usize).is_none_or(|one| one.number != handle.number)
                }
                _ => true,
            };
            let at_ns = self.now_ns + limit_ns;
            self.calendar.plan_in(Lane::Attempt, at_ns, Event::AttemptIsLate(handle), is_over);
        }
        let has_probes = !balancer.asked.is_empty();
        match self.network_ns(common_number(n, number), 0) {
            0 => self.reaches(handle),
            delay_ns => self.calendar.plan(self.now_ns + delay_ns, Event::Reaches(handle)),
        }
        if has_probes {
            self.begin_asked_probes(balancer_number);
        }
    }

    /// An attempt reaches its server.
    pub(super) fn reaches(&mut self, handle: Handle) {
        let Some(attempt) = live(&self.attempts, handle) else { return };
        let server_number = attempt.server as usize;
        let number = self.common_number_of(attempt);
        let work_ns = self.work_ns(attempt, number);
        self.attempts[handle.key as usize].reached_ns = self.now_ns;
        match self.servers[server_number].meet(self.now_ns, handle, number, work_ns) {
            Meeting::Starts { ends_ns } => self.is_in_service_until(handle, ends_ns),
            Meeting::Waits => self.attempts[handle.key as usize].place = Place::Queued,
            Meeting::Hangs => self.attempts[handle.key as usize].place = Place::Hung,
            Meeting::Refused => self.sends_back(handle, Ending::Refused),
            Meeting::Resets => self.sends_back(handle, Ending::Reset),
            Meeting::Responds { status } => self.sends_back(handle, Ending::Status(status)),
        }
    }

    /// A worker has finished an attempt.
    pub(super) fn served(&mut self, handle: Handle) {
        // The end of one whose server was killed may still be on its way to the balancer.
        let is_served = |attempt: &&Attempt| attempt.place == Place::InService;
        let Some(attempt) = live(&self.attempts, handle).filter(is_served) else { return };
        let (server, took_ns) = (attempt.server, self.now_ns - attempt.reached_ns);
        self.servers[server as usize].served(self.now_ns, took_ns);
        self.attempts[handle.key as usize].place = Place::Returning;
        self.serve_next(server);
        self.sends_back(handle, Ending::Status(200));
    }

    /// The end of an attempt reaches its balancer.
    pub(super) fn returns(&mut self, handle: Handle) {
        let Some(attempt) = live(&self.attempts, handle) else { return };
        let ending = attempt.ending;
        self.take_ending(handle, ending);
    }

    pub(super) fn attempt_is_late(&mut self, handle: Handle) {
        if live(&self.attempts, handle).is_some() {
            self.take_ending(handle, Ending::TimedOut);
        }
    }

    /// The process of a server has ended: its attempts are reset.
    pub(super) fn kill(&mut self, server: u32) {
        self.servers[server as usize].dies(self.now_ns);
        let is_there = |attempt: &Attempt| {
            attempt.server == server && matches!(attempt.place, Place::Queued | Place::InService | Place::Hung)
        };
        for handle in self.attempts_where(is_there) {
            self.attempts[handle.key as usize].place = Place::Returning;
            self.sends_back(handle, Ending::Reset);
        }
    }

    /// The attempts of a balancer at a server that is down and silent are lost.
    pub(super) fn lose(&mut self, balancer: u32, server: u32) {
        for handle in self.attempts_where(|attempt| attempt.server == server && attempt.balancer == balancer) {
            if live(&self.attempts, handle).is_some() {
                self.take_ending(handle, Ending::TimedOut);
            }
        }
    }

    /// An attempt ends at its balancer. What follows for its request is not decided here.
    pub(super) fn conclude(&mut self, handle: Handle, ending: Ending) {
        let attempt = self.attempts.remove(handle.key as usize);
        match attempt.place {
            Place::InService => {
                self.servers[attempt.server as usize].leaves_service(self.now_ns);
                self.serve_next(attempt.server);
            }
            Place::Queued => self.servers[attempt.server as usize].leaves_queue(self.now_ns),
            Place::OnItsWay | Place::Hung | Place::Returning => {}
        }
        let request = &mut self.requests[attempt.request.key as usize];
        if request.attempt == Some(handle.key) {
            request.attempt = None;
        }
        let (outcome, status) = match ending {
            Ending::Status(status) => (Outcome::Ok, Some(status)),
            Ending::Refused => (Outcome::ConnectError, None),
            Ending::Reset => (Outcome::Reset, None),
            Ending::TimedOut => (Outcome::Timeout, None),
            Ending::ClientGone => (Outcome::ClientGone, None),
        };
        let balancer = &mut self.balancers[attempt.balancer as usize];
        let is_look_due = match ending {
            // The head was counted when it arrived.
            Ending::Status(_) => {
                balancer.members.backend(attempt.server).body_is_complete();
                false
            }
            Ending::ClientGone => false,
            Ending::Refused | Ending::Reset | Ending::TimedOut => balancer.members.attempt_failed(attempt.server),
        };
        let backend = balancer.members.backend(attempt.server);
        backend.attempt_ends();
        let Attempt { nth, token, own, began_ns, .. } = attempt;
        balancer.tell_finish(backend, Told { number: nth, token, own, began_ns, now_ns: self.now_ns }, outcome, status);
        if is_look_due {
            self.look_now(attempt.balancer);
        }
        if !self.balancers[attempt.balancer as usize].queue.is_empty() {
            self.wake_one(attempt.balancer);
        }
    }

    /// Tells the balancer the end of an attempt, after the delay of the network.
    fn sends_back(&mut self, handle: Handle, ending: Ending) {
        let attempt = &mut self.attempts[handle.key as usize];
        attempt.place = Place::Returning;
        attempt.ending = ending;
        if self.world.network.is_none() {
            return self.take_ending(handle, ending);
        }
        let number = self.common_number_of(&self.attempts[handle.key as usize]);
        let at_ns = self.now_ns + self.network_ns(number, 1);
        self.calendar.plan(at_ns, Event::Returns(handle));
    }

    /// The balancer sees the end of an attempt: its request ends, or another attempt follows.
    fn take_ending(&mut self, handle: Handle, ending: Ending) {
        let Attempt { request, server, balancer, began_ns, .. } = self.attempts[handle.key as usize];
        match ending {
            Ending::Status(status) => {
                self.take_head(balancer, server, status, self.now_ns - began_ns);
                let is_replaced = self.replace_response(request, server, status);
                self.conclude(handle, ending);
                if !is_replaced {
                    self.count_response(request, server, status);
                    self.end_request(request, End::Status(status));
                }
            }
            Ending::Refused => self.fail(handle, ending, FailureCause::Connect, false, End::Refused),
            Ending::Reset => self.fail(handle, ending, FailureCause::Reset, true, End::Reset),
            Ending::TimedOut => self.fail(handle, ending, FailureCause::Timeout, true, End::TimedOut),
            Ending::ClientGone => self.conclude(handle, ending),
        }
    }

    /// The response of a server goes to the client of a request.
    fn count_response(&mut self, request: Handle, server: u32, status: u16) {
        if self.request(request).is_some_and(|request| request.is_measured) {
            let account = &mut self.servers[server as usize].account;
            account.responses += 1;
            account.error_responses += u64::from(status >= 400);
        }
    }

    fn fail(&mut self, handle: Handle, ending: Ending, cause: FailureCause, was_sent: bool, end: End) {
        let Attempt { request, server, .. } = self.attempts[handle.key as usize];
        self.conclude(handle, ending);
        self.after_failure(request, server, cause, was_sent, end);
    }

    /// A response's head has arrived, and with it a load report.
    fn take_head(&mut self, balancer: u32, server: u32, status: u16, took_ns: u64) {
        let members = &mut self.balancers[balancer as usize].members;
        members.backend(server).answered(took_ns, self.now_ns);
        let is_look_due = members.head_arrived(server, status);
        if self.world.lb.load_reports.as_ref().is_some_and(|reports| reports.enabled) {
            self.take_report(balancer, server);
        }
        if is_look_due {
            self.look_now(balancer);
        }
    }

    fn is_in_service_until(&mut self, handle: Handle, ends_ns: u64) {
        self.attempts[handle.key as usize].place = Place::InService;
        if ends_ns != u64::MAX {
            self.calendar.plan(ends_ns, Event::Served(handle));
        }
    }

    /// A worker of a server is free: the next of its queue begins.
    fn serve_next(&mut self, server: u32) {
        while let Some(handle) = self.servers[server as usize].next_of_queue() {
            let Some(attempt) = live(&self.attempts, handle) else { continue };
            let work_ns = self.work_ns(attempt, self.common_number_of(attempt));
            let ends_ns = self.servers[server as usize].starts_queued(self.now_ns, work_ns);
            self.is_in_service_until(handle, ends_ns);
        }
    }

    fn work_ns(&self, attempt: &Attempt, number: u64) -> u64 {
        let cost_ns = self.requests[attempt.request.key as usize].cost_ns;
        cost_ns + self.servers[attempt.server as usize].draw_service(|| self.streams.service.draws(number))
    }

    /// A number of the attempt that is the same in every arm.
    fn common_number_of(&self, attempt: &Attempt) -> u64 {
        common_number(self.requests[attempt.request.key as usize].n, attempt.nth)
    }

    fn attempts_where(&self, is_wanted: impl Fn(&Attempt) -> bool) -> Vec<Handle> {
        let handle = |(key, attempt): (usize, &Attempt)| Handle { key: key as u32, number: attempt.number };
        let mut found: Vec<Handle> =
            self.attempts.iter().filter(|(_, attempt)| is_wanted(attempt)).map(handle).collect();
        found.sort_unstable_by_key(|handle| handle.number);
        found
    }
}

fn common_number(n: u64, attempt: u32) -> u64 {
    n.wrapping_mul(8) + u64::from(attempt)
}

/// The attempt of a handle, if it has not ended.
#[inline]
fn live(attempts: &slab::Slab<Attempt>, handle: Handle) -> Option<&Attempt> {
    attempts.get(handle.key as usize).filter(|attempt| attempt.number == handle.number)
}
