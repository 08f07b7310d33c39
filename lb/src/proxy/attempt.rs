//! The guards that end each attempt and each request exactly once.
//!
//! Why guards: an attempt may end by its last byte, an error, a time-out, a tunnel's end or the client going away, and only `Drop`
//! sees all of them. Invariants: `in_flight` rises when a pick is accepted and falls once; whoever drops a guard before saying how it
//! ended says that the client is gone.

use std::rc::Rc;

use http::Method;
use lb_strategy_host::{Finish, Outcome};
use tokio::time::Instant;

use super::client::Client;
use super::notes;
use super::view::{Member, Pool};
use crate::access_log::Record;
use crate::telemetry::{ErrorReason, FallbackReason};

/// One try of a request on one backend.
pub(super) struct Attempt {
    client: Rc<Client>,
    pub(super) pool: Rc<Pool>,
    pub(super) member: Rc<Member>,
    pub(super) started: Instant,
    number: u32,
    /// Which strategy instance picked (0: the fallback did), and the word it gave.
    instance: u64,
    token: u64,
    status: Option<u16>,
    time_to_head_ns: u64,
    upgraded: bool,
    ended: bool,
}

/// What was decided before an attempt begins.
pub(super) struct Picked {
    pub(super) member: Rc<Member>,
    pub(super) instance: u64,
    pub(super) token: u64,
    /// Why the fallback picked, if it did.
    pub(super) fallback: Option<FallbackReason>,
}

/// One request of a client, from its head read to its answer's last byte.
pub(super) struct RequestGuard {
    client: Rc<Client>,
    pool: Rc<Pool>,
    method: Method,
    pub(super) started: Instant,
    /// What is noted of it, where somebody wants to know.
    pub(super) record: Option<Box<Record>>,
    ended: bool,
}

// === impl Attempt ===

impl Attempt {
    pub(super) fn begin(client: Rc<Client>, pool: Rc<Pool>, picked: Picked, number: u32, now: Instant) -> Self {
        let Picked { member, instance, token, fallback: _ } = picked;
        member.backend.attempt_begins();
        member.shard.in_flight.inc();
        Self {
            client,
            pool,
            member,
            started: now,
            number,
            instance,
            token,
            status: None,
            time_to_head_ns: 0,
            upgraded: false,
            ended: false,
        }
    }

    /// The response's head is here.
    pub(super) fn head(&mut self, status: u16, now: Instant) {
        let elapsed_ns = (now - self.started).as_nanos() as u64;
        self.status = Some(status);
        self.time_to_head_ns = elapsed_ns;
        self.member.shard.response(status, elapsed_ns);
        self.member.backend.answered(elapsed_ns, self.client.worker.clock_ns(now));
    }

    /// From now on it is a tunnel.
    pub(super) fn upgrade(&mut self) {
        self.upgraded = true;
    }

    /// It ended well, its last byte was delivered.
    pub(super) fn succeed(&mut self, now: Instant) {
        self.end(Outcome::Ok, now);
    }

    /// It ended badly.
    pub(super) fn fail(&mut self, reason: ErrorReason) {
        let outcome = match reason {
            ErrorReason::Connect | ErrorReason::ConnectTimeout => Outcome::ConnectError,
            ErrorReason::Timeout => Outcome::Timeout,
            ErrorReason::ClientAbort
            | ErrorReason::ClientTimeout
            | ErrorReason::BodyTooLarge
            | ErrorReason::BadRequest => Outcome::ClientGone,
            _ => Outcome::Reset,
        };
        if !self.ended {
            if self.status.is_none() {
                self.member.shard.error(reason);
            }
            if outcome != Outcome::ClientGone {
                self.member.backend.failed();
            }
        }
        self.end(outcome, Instant::now());
    }

    /// Nothing was sent: the backend is not to blame (a kept connection had been closed, mostly).
    pub(super) fn not_sent(&mut self, reason: ErrorReason) {
        if !self.ended && self.status.is_none() {
            self.member.shard.error(reason);
        }
        self.end(Outcome::NotSent, Instant::now());
    }

    fn end(&mut self, outcome: Outcome, now: Instant) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.member.backend.attempt_ends();
        self.member.shard.in_flight.dec();
        let current = self.pool.current();
        let Some(current) = &*current else { return };
        if current.shared.wants_finish {
            let worker = &self.client.worker;
            current.shared.picker.finish(&Finish {
                worker: Some(worker.number),
                backend_id: self.member.backend.number,
                outcome,
                http_status: self.status,
                attempt: self.number,
                own: self.instance == current.shared.picker.strategy().instance(),
                upgraded: self.upgraded,
                token: self.token,
                time_to_head_ns: self.time_to_head_ns,
                total_ns: (now - self.started).as_nanos() as u64,
                now_ns: worker.clock_ns(now),
            });
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.ended {
            self.fail(ErrorReason::ClientAbort);
        }
    }
}

// === impl RequestGuard ===

impl RequestGuard {
    pub(super) fn begin(client: Rc<Client>, pool: Rc<Pool>, method: Method, started: Instant) -> Self {
        pool.count(client.listener, |shard| shard.in_flight.inc());
        Self { client, pool, method, started, record: None, ended: false }
    }

    /// The answer's last byte was handed over. `reason`: what it failed of, if it did.
    pub(super) fn finish(&mut self, status: u16, reason: Option<ErrorReason>, now: Instant) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        // First the line, so that who sees that nothing is in flight finds it.
        if let Some(record) = self.record.take() {
            notes::end(record, &self.client, status, reason, now - self.started);
        }
        self.pool.count(self.client.listener, |shard| {
            if let Some(reason) = reason {
                shard.error(reason);
            }
            shard.request_finished(&self.method, status, (now - self.started).as_nanos() as u64);
            shard.in_flight.dec();
        });
        self.client.request_ended(now);
    }

    pub(super) fn sent(&mut self, bytes: u64) {
        if let Some(record) = &mut self.record {
            record.bytes_out += bytes;
        }
        self.pool.count(self.client.listener, |shard| shard.response_bytes.add(bytes));
    }
}

impl Drop for RequestGuard {
    /// The client went away before its answer was complete.
    fn drop(&mut self) {
        self.finish(499, Some(ErrorReason::ClientAbort), Instant::now());
    }
}
