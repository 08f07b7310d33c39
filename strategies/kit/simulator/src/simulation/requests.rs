//! The life of a request at its balancer: arrival, choice, wait, retries, end. The order of the steps is that of the
//! proxy (`lb`, module `exchange`).

use lb_balance::{After, Begin, BodyState, FailureCause, Idempotency, Left, RequestProgress, Unchosen, to_wake};

use super::attempts::Ending;
use super::{Phase, Request, Simulation};
use crate::balancer::Ask;
use crate::calendar::{Event, Handle, Lane};
use crate::time::SECOND_NS;
use crate::world::Arrivals;

/// The end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Status(u16),
    TimedOut,
    Refused,
    Reset,
    NoBackend,
    Busy,
}

/// The priority of all requests in the queue.
const PRIORITY: u8 = 100;
/// Numbers of a request for each of its attempts.
const ATTEMPTS: u64 = 8;

// === impl Simulation: requests ===

impl Simulation {
    /// Plans the next arrival of an open loop.
    pub(super) fn plan_arrival(&mut self) {
        match self.source.arrival(self.arrived) {
            Some(at_ns) if at_ns < self.end_ns => self.calendar.plan(at_ns, Event::Arrival),
            // The last one of a trace.
            None if self.end_ns == u64::MAX => self.calendar.plan(self.now_ns, Event::End),
            _ => {}
        }
    }

    pub(super) fn arrival(&mut self) {
        self.begin_request();
        if self.phase != Phase::Ending {
            self.plan_arrival();
        }
    }

    /// A client of a closed loop sends its next request.
    pub(super) fn client_sends(&mut self) {
        if self.phase != Phase::Ending {
            self.begin_request();
        }
    }

    fn begin_request(&mut self) {
        let n = self.arrived;
        self.arrived += 1;
        let balancer = match self.balancers.len() {
            1 => 0,
            count => self.streams.balancers.below(n, count as u64) as u32,
        };
        let is_measured = self.phase == Phase::Measured;
        self.results.requests += u64::from(is_measured);
        let request = Request {
            n,
            balancer,
            arrived_ns: self.now_ns,
            cost_ns: self.source.cost_ns(n),
            key: self.source.key(n, self.now_ns),
            plan: lb_balance::RetryPlan::default(),
            attempt: None,
            waits: None,
            last: End::NoBackend,
            is_measured,
        };
        let key = self.requests.insert(request) as u32;
        let handle = Handle { key, number: n as u32 };
        if !self.world.timeout.is_zero() {
            let requests = &self.requests;
            let is_over = |event| match event {
                Event::ClientGivesUp(handle) => {
                    requests.get(handle.key as usize).is_none_or(|one| one.n as u32 != handle.number)
                }
                _ => true,
            };
            let at_ns = self.now_ns + self.world.timeout.ns;
            self.calendar.plan_in(Lane::Client, at_ns, Event::ClientGivesUp(handle), is_over);
        }
        let state = &mut self.balancers[balancer as usize];
        state.budget.request(self.now_ns);
        let has_affinity = state.wants.hash && self.requests[key as usize].key.is_some();
        if !has_affinity && state.queue.must_wait(PRIORITY) {
            self.wait(handle);
        } else {
            self.choose_first(handle);
        }
        if self.arrived == self.world.requests {
            self.end();
        }
    }

    fn choose_first(&mut self, handle: Handle) {
        match self.choose(handle) {
            Ok(()) => {}
            Err(Unchosen::NoBackend | Unchosen::AllTried) => self.end_request(handle, End::NoBackend),
            Err(Unchosen::Overload | Unchosen::Wait) => self.wait(handle),
        }
    }

    /// Asks the strategy, and begins the attempt.
    #[inline]
    pub(super) fn choose(&mut self, handle: Handle) -> Result<(), Unchosen> {
        let request = &self.requests[handle.key as usize];
        let random = self.streams.picks.bits(request.n * ATTEMPTS + u64::from(request.plan.number));
        let ask = Ask { plan: &request.plan, key: request.key, random, now_ns: self.now_ns };
        let (choice, server) = self.balancers[request.balancer as usize].choose(&ask)?;
        self.begin_attempt(handle, choice, server);
        Ok(())
    }

    /// The request waits for a backend with room, or ends if it may not.
    fn wait(&mut self, handle: Handle) {
        let request = &mut self.requests[handle.key as usize];
        let number = request.balancer;
        let balancer = &mut self.balancers[number as usize];
        match balancer.queue.push(self.now_ns, PRIORITY, handle) {
            Ok(ticket) => {
                balancer.tally.waits += 1;
                request.waits = Some((ticket, self.now_ns));
                let requests = &self.requests;
                let is_over = |event| match event {
                    Event::WaitIsOver(handle) => requests
                        .get(handle.key as usize)
                        .is_none_or(|one| one.n as u32 != handle.number || one.waits.is_none()),
                    _ => true,
                };
                let at_ns = self.now_ns + self.world.lb.queue().wait_max_ns;
                self.calendar.plan_in(Lane::Wait, at_ns, Event::WaitIsOver(handle), is_over);
                if !std::mem::replace(&mut self.balancers[number as usize].is_wake_planned, true) {
                    self.calendar.plan(self.now_ns + SECOND_NS, Event::Wake { balancer: number });
                }
            }
            Err(_) => self.end_request(handle, End::Busy),
        }
    }

    pub(super) fn wait_is_over(&mut self, handle: Handle) {
        let Some(request) = self.request(handle) else { return };
        // It may have left the queue and entered it again.
        let limit_ns = self.world.lb.queue().wait_max_ns;
        if request.waits.is_some_and(|(_, since_ns)| since_ns + limit_ns <= self.now_ns) {
            self.leave_queue(handle);
            self.end_request(handle, End::Busy);
        }
    }

    fn leave_queue(&mut self, handle: Handle) {
        let request = &mut self.requests[handle.key as usize];
        if let Some((ticket, _)) = request.waits.take() {
            self.balancers[request.balancer as usize].queue.cancel(ticket);
        }
    }

    /// Waiting requests are asked again each second, because a strategy may let them wait for a time.
    pub(super) fn wake_each_second(&mut self, number: u32) {
        self.wake_all(number);
        let balancer = &mut self.balancers[number as usize];
        balancer.is_wake_planned = !balancer.queue.is_empty();
        if balancer.is_wake_planned {
            self.calendar.plan(self.now_ns + SECOND_NS, Event::Wake { balancer: number });
        }
    }

    /// Wakes as many waiting requests as there may be room for.
    pub(super) fn wake_all(&mut self, number: u32) {
        let balancer = &self.balancers[number as usize];
        if !balancer.queue.is_empty() {
            let count = to_wake(balancer.room(), balancer.queue.waiting());
            (0..count).for_each(|_| self.wake_one(number));
        }
    }

    /// An attempt has ended: a request that waits may have room.
    pub(super) fn wake_one(&mut self, number: u32) {
        let balancer = &mut self.balancers[number as usize];
        let Some((mut ticket, &mut mut handle)) = balancer.queue.wake(self.now_ns) else { return };
        loop {
            match self.choose(handle) {
                Ok(()) => return self.leave_queue_for_a_backend(handle),
                Err(Unchosen::NoBackend | Unchosen::AllTried) => {
                    self.leave_queue(handle);
                    return self.end_request(handle, End::NoBackend);
                }
                Err(Unchosen::Overload | Unchosen::Wait) => {}
            }
            // With affinity, a later request may have room where this one has none.
            let (requests, now_ns) = (&self.requests, self.now_ns);
            let balancer = &mut self.balancers[number as usize];
            let key = requests[handle.key as usize].key;
            if !balancer.wants.hash {
                return balancer.queue.wait_again(ticket);
            }
            let has_other_key = |other: &Handle| requests[other.key as usize].key != key;
            let Some((next, &mut other)) = balancer.queue.pass_on(now_ns, ticket, has_other_key) else { return };
            (ticket, handle) = (next, other);
        }
    }

    fn leave_queue_for_a_backend(&mut self, handle: Handle) {
        let request = &self.requests[handle.key as usize];
        if let (Some((_, since_ns)), true) = (request.waits, request.is_measured) {
            self.results.waits.record(self.now_ns - since_ns);
        }
        if request.plan.number > 0 {
            self.balancers[request.balancer as usize].tally.retries += 1;
        }
        self.leave_queue(handle);
    }

    /// An attempt has ended without a response for the client: a retry follows, or the request ends.
    pub(super) fn after_failure(&mut self, handle: Handle, server: u32, cause: FailureCause, was_sent: bool, end: End) {
        let request = &mut self.requests[handle.key as usize];
        request.last = end;
        let (attempt, number) = (request.plan.number, request.balancer as usize);
        if !self.balancers[number].retry.may_retry(cause, self.progress(attempt, was_sent)) {
            return self.end_request(handle, end);
        }
        match self.follow(handle, server, After::Failure) {
            None => self.end_request(handle, end),
            Some(Begin::Now) => self.retry(handle),
            Some(Begin::AfterPause(round)) => {
                let n = self.requests[handle.key as usize].n;
                let random = self.streams.back_off.bits(n * ATTEMPTS + u64::from(round));
                let pause_ns = self.world.lb.back_off().wait_ns(round, random);
                self.calendar.plan(self.now_ns + pause_ns, Event::Retry(handle));
            }
        }
    }

    /// A response arrived. Returns whether another attempt replaces it; that one has begun.
    pub(super) fn replace_response(&mut self, handle: Handle, server: u32, status: u16) -> bool {
        let request = &self.requests[handle.key as usize];
        let rules = &self.balancers[request.balancer as usize].retry;
        let cause = FailureCause::Status(status);
        if !rules.on.contains(cause) || !rules.may_retry(cause, self.progress(request.plan.number, true)) {
            return false;
        }
        let number = request.balancer as usize;
        if self.follow(handle, server, After::Response).is_none() {
            return false;
        }
        // The response stays the client's until the next attempt has its place.
        let before = self.requests[handle.key as usize].attempt.take();
        if self.choose(handle).is_ok() {
            self.balancers[number].tally.retries += 1;
            return true;
        }
        self.balancers[number].budget.put_back();
        self.requests[handle.key as usize].attempt = before;
        false
    }

    /// Takes a retry out of the budget, and decides where it may go.
    fn follow(&mut self, handle: Handle, server: u32, after: After) -> Option<Begin> {
        let request = &mut self.requests[handle.key as usize];
        let balancer = &mut self.balancers[request.balancer as usize];
        let failed = balancer.members.backend(server).number;
        let backends = balancer.backends();
        let begin = request.plan.follow(failed, after, |tried| Left::of(backends, tried))?;
        if !balancer.budget.take(self.now_ns) {
            balancer.tally.retries_denied += 1;
            return None;
        }
        Some(begin)
    }

    pub(super) fn retry_after_pause(&mut self, handle: Handle) {
        if self.request(handle).is_none() {
            return;
        }
        let request = &mut self.requests[handle.key as usize];
        let backends = self.balancers[request.balancer as usize].backends();
        request.plan.after_pause(|tried| Left::of(backends, tried));
        self.retry(handle);
    }

    fn retry(&mut self, handle: Handle) {
        let Request { balancer, last, .. } = self.requests[handle.key as usize];
        match self.choose(handle) {
            Err(Unchosen::NoBackend | Unchosen::AllTried) => {
                self.balancers[balancer as usize].budget.put_back();
                self.end_request(handle, last);
            }
            Err(Unchosen::Overload | Unchosen::Wait) => self.wait(handle),
            Ok(()) => self.balancers[balancer as usize].tally.retries += 1,
        }
    }

    fn progress(&self, attempt: u32, was_sent: bool) -> RequestProgress {
        RequestProgress {
            attempt,
            was_sent,
            idempotency: if self.world.idempotent { Idempotency::ByMethod } else { Idempotency::No },
            body: BodyState::Absent,
            has_response_begun: false,
        }
    }

    pub(super) fn client_gives_up(&mut self, handle: Handle) {
        let Some(request) = self.request(handle) else { return };
        match request.attempt {
            Some(key) => {
                let number = self.attempts[key as usize].number;
                self.conclude(Handle { key, number }, Ending::ClientGone);
            }
            None => self.leave_queue(handle),
        }
        self.end_request(handle, End::TimedOut);
    }

    /// The request has ended.
    pub(super) fn end_request(&mut self, handle: Handle, end: End) {
        let request = self.requests.remove(handle.key as usize);
        if request.is_measured {
            let endings = &mut self.results.endings;
            match end {
                End::Status(..400) => {
                    endings.good += 1;
                    self.results.latency.record(self.now_ns - request.arrived_ns);
                }
                End::Status(_) => endings.errors += 1,
                End::TimedOut => endings.timed_out += 1,
                End::Refused => endings.refused += 1,
                End::Reset => endings.reset += 1,
                End::NoBackend => endings.no_backend += 1,
                End::Busy => endings.busy += 1,
            }
        }
        if let Arrivals::Closed { think, .. } = self.world.arrivals {
            let pause_ns = think.draw(&mut self.streams.think.draws(request.n));
            // A client that gets an error at once would stop the clock.
            let pause_ns = if end == End::Status(200) { pause_ns } else { pause_ns.max(1_000_000) };
            self.calendar.plan(self.now_ns + pause_ns, Event::Client);
        }
    }

    /// The request of a handle, if it has not ended.
    #[inline]
    pub(super) fn request(&self, handle: Handle) -> Option<&Request> {
        self.requests.get(handle.key as usize).filter(|request| request.n as u32 == handle.number)
    }
}
