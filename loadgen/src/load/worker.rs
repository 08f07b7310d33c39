//! One sending thread: an event loop that sends scheduled requests, reads responses, and counts both.
//!
//! Why pacing and sending in one loop: the thread's own [`Alarm`] wakes it for the next request. A separate pacing
//! thread would cost a switch for each request and, on two cores, processor time of the target. The clock is checked
//! between any two responses, so a request waits at most for the handling of one response.
//!
//! Invariants: an open loop never waits for responses. Each request ends in exactly one of answered, error, unsent,
//! unfinished.

mod effort;
mod upkeep;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;

use super::alarm::Alarm;
use super::clock::{Clock, Now, nanos, timespec};
use super::collector::{Collector, WINDOW_NS};
use super::connection::{Reading, Received, UnderWay};
use super::orders::Orders;
use super::outcome::ErrorKind;
use super::pacing;
use super::plan::Plan;
use super::pool::{ConnectionPool, Token};
use super::recorder::{Answered, Recorded, Recorder};
use super::sequence::Sequence;
use super::source::{Due, Source};
use effort::{Ended, waited};

/// The place of one thread in a load: its number, and the data that all threads share.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) thread: usize,
    pub(super) plan: Arc<Plan>,
    pub(super) orders: Arc<Orders>,
    pub(super) collector: Arc<Collector>,
    /// Readable when there are orders.
    pub(super) bell: Arc<OwnedFd>,
    pub(super) clock: Clock,
}

pub(super) struct Worker {
    seat: Seat,
    sequence: Sequence,
    source: Source,
    alarm: Alarm,
    pool: ConnectionPool,
    recorder: Recorder,
    /// Requests that are due while all connections are busy.
    waiting: VecDeque<Due>,
    under_way: usize,
    connections_max: usize,
    outstanding_max: usize,
    next_address: usize,
    /// Closed loop: the number of clients that may send.
    ready: usize,
    /// Closed loop: for each client that could not connect, the time of its next try.
    resting: VecDeque<u64>,
    window: u64,
    tick_ns: u64,
    next_tick_ns: u64,
    cuts_taken: usize,
    sending_ended: Option<Ended>,
    /// The time that the thread had waited for a processor when it started.
    waited_before: Option<Duration>,
    aborted: bool,
    output: Vec<u8>,
    input: Box<[u8]>,
}

/// The result of a thread.
pub(super) struct Finished {
    pub(super) recorded: Recorded,
    /// The processor time until sending ended.
    pub(super) cpu_s: f64,
    pub(super) waited: Option<Duration>,
    pub(super) sending_s: f64,
    pub(super) ended_ns: u64,
    pub(super) aborted: bool,
}

/// The schedule begins this long after the clock, so that all threads have started.
pub(crate) const LEAD_NS: u64 = 1_000_000;
const BELL: u64 = u64::MAX;
const EVENTS: usize = 256;
const INPUT_BYTES: usize = 64 * 1024;
/// The wait of a closed-loop client that could not connect. Without it, an unreachable target would cause a busy loop.
const REST_NS: u64 = 100_000_000;
/// The interval of the search for timed-out requests: a twentieth of the timeout, within these bounds.
const TICK_NS: std::ops::RangeInclusive<u64> = 1_000_000..=100_000_000;

// === impl Worker ===

impl Worker {
    pub(super) fn new(seat: Seat) -> io::Result<Self> {
        let plan = &seat.plan;
        let pool = ConnectionPool::new()?;
        epoll::add(pool.epoll(), &*seat.bell, EventData::new_u64(BELL), EventFlags::IN)?;
        let alarm = Alarm::new(seat.clock, pool.epoll())?;
        let share = |whole: usize| whole / plan.threads + usize::from(seat.thread < whole % plan.threads);
        let (connections_max, outstanding_max, ready) = match plan.arrivals {
            super::Arrivals::Closed { connections } => (share(connections), share(connections), share(connections)),
            _ => (share(plan.connections).max(1), share(plan.outstanding).max(1), 0),
        };
        let mut recorder = Recorder::new(LEAD_NS, plan.arrivals.is_closed());
        if !plan.warm_up.is_zero() {
            recorder.begin_segment(LEAD_NS.saturating_add(nanos(plan.warm_up)));
        }
        let tick_ns = (nanos(plan.timeout) / 20).clamp(*TICK_NS.start(), *TICK_NS.end());
        Ok(Self {
            sequence: Sequence::new(plan, LEAD_NS),
            source: Source::new(plan, seat.thread, LEAD_NS),
            alarm,
            pool,
            recorder,
            waiting: VecDeque::new(),
            under_way: 0,
            connections_max,
            outstanding_max,
            next_address: seat.thread,
            ready,
            resting: VecDeque::new(),
            window: 0,
            tick_ns,
            next_tick_ns: tick_ns,
            cuts_taken: 0,
            sending_ended: None,
            waited_before: None,
            aborted: false,
            output: Vec::new(),
            input: vec![0; INPUT_BYTES].into_boxed_slice(),
            seat,
        })
    }

    /// Runs to the end of the load.
    pub(super) fn run(mut self) -> Finished {
        self.waited_before = waited();
        let mut events = Vec::with_capacity(EVENTS);
        let mut now = self.seat.clock.now();
        while !self.is_over(now) {
            let timeout = timespec(self.sleeps_until(now).saturating_sub(now));
            match epoll::wait(self.pool.epoll(), rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                // No other error is possible: the descriptor is ours and the buffer has room.
                Err(_) => self.seat.orders.abort(),
            }
            now = self.seat.clock.now();
            // closed connections first: a request that is due now must not use them
            for event in events.extract_if(.., |event: &mut Event| is_end(event.flags)) {
                now = self.handle(event.flags, event.data, now);
            }
            self.send_due(now);
            for event in events.drain(..) {
                now = self.handle(event.flags, event.data, now);
                if !self.source.is_closed() {
                    self.send_due(now);
                }
            }
            self.keep_time(now);
            self.send_due(now);
        }
        self.finish()
    }

    fn is_over(&mut self, now: u64) -> bool {
        if self.source.peek(now).is_none() && self.sending_ended.is_none() {
            self.sending_ended = Some(Ended::at(now));
        }
        self.aborted || (self.sending_ended.is_some() && self.under_way == 0 && self.waiting.is_empty())
    }

    /// The time of the next periodic work. Scheduled requests, responses and orders wake the loop earlier.
    fn sleeps_until(&mut self, now: u64) -> u64 {
        let window_end = (self.window + 1) * WINDOW_NS;
        let until = window_end.min(self.next_tick_ns);
        match self.source.peek(now) {
            // Only at the start: later, clients that become ready send in the same round.
            Some(_) if self.source.is_closed() && self.ready > 0 => LEAD_NS.max(now),
            _ if self.source.is_closed() => until,
            Some(due_ns) if due_ns <= now => now,
            // Not expected: the timers are ours and the moments are valid. Without a timer, poll, so that no request is
            // late.
            Some(_) if self.alarm.set(self.source.ahead()).is_err() => now,
            _ => until,
        }
    }

    /// Sends all requests that are due.
    fn send_due(&mut self, now: u64) {
        if self.source.is_closed() {
            while self.ready > 0 && now >= LEAD_NS {
                // Each has its own time, so that the last of a row does not include the sends before it.
                let now = self.seat.clock.now();
                let Some(due) = self.source.pop(now) else { return };
                self.ready -= 1;
                self.recorder.due(due.intended_ns, now);
                self.assign(due, false, now);
            }
            return;
        }
        while !self.waiting.is_empty() && (self.pool.has_idle() || self.pool.open() < self.connections_max) {
            let Some(due) = self.waiting.pop_front() else { break };
            self.assign(due, false, now);
        }
        while let Some(due) = pacing::take(&mut self.source, &mut self.recorder, &self.seat.clock, now) {
            self.assign(due, false, due.begun_ns);
        }
    }

    /// Finds a connection for a request, or queues it to wait for one.
    fn assign(&mut self, due: Due, is_repetition: bool, now: u64) {
        if self.under_way + self.waiting.len() >= self.outstanding_max {
            return self.recorder.unsent(due.intended_ns);
        }
        let request = UnderWay { due, taken_ns: now, sent_ns: 0, bytes: 0, is_repetition };
        // a retry needs a new connection, which the server cannot have closed yet
        let idle = if is_repetition { None } else { self.pool.unpark() };
        if let Some(token) = idle {
            if let Some(connection) = self.pool.get(token) {
                connection.request = Some(request);
                self.under_way += 1;
                self.write(token, now);
            }
        } else if self.pool.open() < self.connections_max {
            self.connect(request, now);
        } else {
            self.waiting.push_back(due);
        }
    }

    fn connect(&mut self, request: UnderWay, now: u64) {
        let addresses = &self.seat.plan.target.addresses;
        let address = addresses[self.next_address % addresses.len()];
        self.next_address = self.next_address.wrapping_add(1);
        match self.pool.connect(address) {
            Ok(token) => {
                if let Some(connection) = self.pool.get(token) {
                    connection.request = Some(request);
                    self.under_way += 1;
                }
            }
            Err(error) => {
                let kind = kind_of_connect(&error);
                self.recorder.error(request.due.intended_ns, kind, false, now, || format!("{address}: {error}"));
                self.client_is_free(kind, now);
            }
        }
    }

    /// Writes the connection's request.
    fn write(&mut self, token: Token, now: u64) {
        let Some(connection) = self.pool.get(token) else { return };
        let Some(request) = &mut connection.request else { return };
        let UnderWay { due, is_repetition, .. } = *request;
        self.output.clear();
        self.sequence.render(due.seed, due.index, due.intended_ns, &mut self.output);
        request.sent_ns = self.seat.clock.now();
        let sent = connection.send(&self.output);
        let was_kept = connection.is_kept();
        self.recorder.sent(due.intended_ns, is_repetition);
        if let Err(error) = sent.and_then(|()| self.pool.update(token)) {
            let kind = if was_kept { ErrorKind::Closed } else { ErrorKind::Reset };
            self.fail(token, kind, error.to_string(), now);
        }
    }

    /// Handles one event of epoll; returns the time afterwards.
    fn handle(&mut self, flags: EventFlags, data: EventData, now: u64) -> u64 {
        if data.u64() == BELL {
            // `keep_time` handles the orders in this round
            let _ = rustix::io::read(&*self.seat.bell, &mut [0; 8]);
            return now;
        }
        if self.alarm.has_fired(data.u64()) {
            return now; // scheduled requests are sent after every event
        }
        let token = Token::of(data);
        let Some(connection) = self.pool.get(token) else { return now };
        if connection.is_connecting() {
            match connection.connected() {
                Ok(()) => self.write(token, now),
                Err(error) => self.fail(token, kind_of_connect(&error), error.to_string(), now),
            }
            return self.seat.clock.now();
        }
        if flags.contains(EventFlags::OUT) && connection.write_on().is_ok() {
            // If writing fails, reading returns the reason.
            let _ = self.pool.update(token);
        }
        if flags.contains(EventFlags::IN) || is_end(flags) {
            return self.receive(token, is_end(flags));
        }
        now
    }

    /// `is_last`: the other side has closed, perhaps after a response.
    fn receive(&mut self, token: Token, is_last: bool) -> u64 {
        let Some(connection) = self.pool.get(token) else { return self.seat.clock.now() };
        let mut reading = Reading {
            buffer: &mut self.input,
            names: self.recorder.names(),
            backend_header: &self.seat.plan.backend_header,
            is_head: connection.request.is_some_and(|request| self.sequence.is_head(request.due.index)),
        };
        let received = connection.receive(&mut reading);
        let done_ns = self.seat.clock.now();
        match received {
            Received::Nothing => {}
            Received::Gone => self.pool.close(token),
            Received::Failed(kind, message) => self.fail(token, kind, message, done_ns),
            Received::Answer { status, backend, keep } => {
                if let Some(request) = connection.request.take() {
                    self.under_way -= 1;
                    let UnderWay { due: Due { intended_ns, begun_ns, .. }, sent_ns, bytes, .. } = request;
                    let answered = Answered { intended_ns, begun_ns, sent_ns, done_ns, status, backend, bytes };
                    self.recorder.answered(&answered);
                    self.ready += usize::from(self.source.is_closed());
                }
                if keep && !is_last {
                    self.pool.park(token);
                } else {
                    self.pool.close(token);
                }
            }
        }
        done_ns
    }

    /// Ends the request on this connection without a response: a retry or an error.
    fn fail(&mut self, token: Token, kind: ErrorKind, message: String, now: u64) {
        let Some(connection) = self.pool.get(token) else { return };
        let (request, was_kept) = (connection.request.take(), connection.is_kept());
        self.pool.close(token);
        let Some(request) = request else { return };
        self.under_way -= 1;
        let UnderWay { due, is_repetition, .. } = request;
        let may_repeat = self.seat.plan.resend_closed && self.sequence.is_repeatable(due.index) && !is_repetition;
        // a server that closes while our bytes are in transit sends a reset
        let was_closed = matches!(kind, ErrorKind::Closed | ErrorKind::Reset) && request.bytes == 0;
        if was_closed && was_kept && may_repeat {
            return self.assign(due, true, now);
        }
        self.recorder.error(due.intended_ns, kind, request.sent_ns > 0, now, || message);
        self.client_is_free(kind, now);
    }

    fn client_is_free(&mut self, kind: ErrorKind, now: u64) {
        if !self.source.is_closed() {
            return;
        }
        if matches!(kind, ErrorKind::Connect | ErrorKind::Local) {
            self.resting.push_back(now + REST_NS);
        } else {
            self.ready += 1;
        }
    }
}

/// Whether the other side has closed, or the connection has failed.
fn is_end(flags: EventFlags) -> bool {
    flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
}

/// Whether this machine or the target caused a failed connect.
fn kind_of_connect(error: &io::Error) -> ErrorKind {
    let local = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    let is_local = error.raw_os_error().is_some_and(|code| local.iter().any(|errno| errno.raw_os_error() == code));
    if is_local { ErrorKind::Local } else { ErrorKind::Connect }
}
