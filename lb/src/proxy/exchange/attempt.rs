//! One try of a request on one backend: pick, connection, send, head. Its guard ends it exactly once.
//!
//! Why a guard: an attempt may end by its last byte, an error, a time-out, a tunnel's end or the loss of the client.
//! Only `Drop` sees all of them. Invariants: `in_flight` rises when a backend is picked and falls once. A guard that is
//! dropped without a recorded outcome counts the client as gone, unless another attempt has responded first.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use http::StatusCode;
use lb_strategy_host::{Finish, Outcome, Start};
use tokio::time::Instant;

use super::choose::{Picked, Unpicked, choose};
use super::hedge::Race;
use super::pace::Pace;
use super::retry::{After, Failed, Plan, Retry};
use super::slot::{Means, Slot};
use super::{Context, Exchange, notes};
use crate::http1::ResponseHead;
use crate::proxy::fault::Fault;
use crate::proxy::upstream::{Link, Upstream};
use crate::proxy::view::MemberView;

/// The response of a backend, with everything that ends with it.
pub(super) struct Answer {
    pub(super) head: Box<ResponseHead>,
    pub(super) upstream: Box<Upstream>,
    pub(super) attempt: Attempt,
}

/// The guard.
pub(super) struct Attempt {
    pub(super) context: Rc<Context>,
    pub(super) slot: Slot,
    /// When it began, on the clock of the strategies.
    started_ns: u64,
    number: u32,
    /// [`Backend::cuts`](crate::pool::Backend::cuts) when it began.
    cuts: u32,
    /// The strategy instance that picked (0: the fallback), and its token.
    instance: u64,
    token: u64,
    /// For the response: its session begins or moves.
    pub(super) set_cookie: Option<Box<[u8]>>,
    status: Option<u16>,
    pub(super) time_to_head_ns: u64,
    is_tunnel: bool,
    has_ended: bool,
}

// === impl Exchange: one attempt ===

impl Exchange {
    /// Sends the request to the picked backend and waits for the head of its response. `HEDGED`: another attempt may
    /// run beside it. This is a parameter of the type, so that requests without hedges have code with one caller, which
    /// the compiler puts into that caller.
    pub(super) async fn attempt<const HEDGED: bool>(&mut self, plan: &Plan, picked: Picked) -> Result<Answer, Failed> {
        let began = picked.at;
        let (mut attempt, means) = Attempt::begin(self, picked, plan.number);
        let (is_repeatable, losses) = (self.is_repeatable(plan), attempt.member().waiting.losses());
        let connected = self.connect::<HEDGED>(attempt.member(), means, plan, began).await;
        let (fault, was_sent, was_kept_and_silent) = match connected {
            // The deadline passed while it connected: another backend can get the whole request.
            Ok(_) if attempt.is_cut() => (Fault::Drained, false, false),
            Ok(mut upstream) => match self.ask::<HEDGED>(&mut upstream, &attempt, began, is_repeatable, losses).await {
                Ok(head) => {
                    let now = Instant::now();
                    attempt.head(&head, now);
                    if let Some(record) = &mut self.guard.record {
                        record.head_ns = Some(attempt.time_to_head_ns);
                    }
                    return Ok(Answer { head, upstream, attempt });
                }
                Err(fault) => (fault, upstream.has_sent(), upstream.was_kept_and_silent()),
            },
            Err(fault) => (fault, false, false),
        };
        let of = (attempt.member().backend.number, began);
        let retry = self.retry_after(plan, fault, of, was_sent, was_kept_and_silent);
        match retry {
            // The backend closed a connection that was not in use; that is no failure of it.
            Some(Retry { after: After::ClosedConnection, .. }) => attempt.end(Outcome::NotSent, Instant::now()),
            _ => attempt.fail(fault),
        }
        Err(Failed { fault, retry })
    }

    #[inline]
    pub(super) fn pick(&mut self, plan: &Plan, now: Instant, now_ns: u64) -> Result<Picked, Unpicked> {
        let began = self.guard.record.is_some().then(Instant::now);
        let picked = choose(self, plan, now, now_ns);
        // A retry without a pick leaves the request as it is, so its record describes the attempt before.
        if let Some(began) = began
            && (picked.is_ok() || plan.number == 0)
        {
            notes::note_pick(self, picked.as_ref().map_err(|unpicked| (*unpicked).into()), began.elapsed());
        }
        picked
    }

    /// The same for a pick after the first.
    pub(super) fn pick_now(&mut self, plan: &Plan, now: Instant) -> Result<Picked, Unpicked> {
        self.pick(plan, now, self.context.local.clock_ns(now))
    }

    /// A waiting connection for the attempt. A retry always opens a new connection; a hedge does not, because another
    /// attempt runs. For a request that cannot be retried, `Idle::take` also checks the socket.
    #[inline]
    pub(super) fn waiting_connection(&self, member: &MemberView, plan: &Plan, now: Instant) -> Option<Box<Upstream>> {
        if plan.number > 0 && !plan.is_hedge {
            return None;
        }
        let oldest = now.checked_sub(self.policy.timeouts.upstream_idle).unwrap_or(now);
        member.idle.take(oldest, !self.can_be_sent_again(plan))
    }

    /// A waiting connection, else a new one.
    async fn connect<const HEDGED: bool>(
        &mut self,
        member: &MemberView,
        means: Means,
        plan: &Plan,
        now: Instant,
    ) -> Result<Box<Upstream>, Fault> {
        let link = match means {
            Means::Waiting(upstream) => return Ok(upstream),
            Means::New(link) => link,
            Means::Any => match self.waiting_connection(member, plan, now) {
                Some(upstream) => return Ok(upstream),
                None => Link::new(&member.backend, &self.pool.line),
            },
        };
        let timeouts = &self.policy.timeouts;
        let began = self.guard.record.is_some().then(Instant::now);
        let descriptor = self.context.local.descriptor().ok_or(Fault::NoDescriptor)?;
        let (socket, buffers) = (member.backend.socket, &self.context.local.buffers);
        // Rare, and large: boxed so that a request on a kept connection does not contain it.
        let within = self.policy.retry.attempt_within(timeouts.connect);
        let left = timeouts.total.map(|total| (self.guard.started + total).saturating_duration_since(Instant::now()));
        let within = left.map_or(within, |left| within.min(left));
        let upstream = Box::pin(Upstream::connect(socket, &member.shard, buffers, within, descriptor, link)).await;
        if let (Some(record), Some(began)) = (&mut self.guard.record, began) {
            record.connect_ns = Some(began.elapsed().as_nanos() as u64);
        }
        upstream
    }

    /// Sends the request and waits for the final head; interim ones go to the client at once. The time limit restarts
    /// at each byte of the request's body; [`Pace`] sets the limit while the body is incomplete. While the client takes
    /// no interim response, its own limit `idle` runs instead of the backend's: lb does not read from the backend then.
    /// The wait also ends if the backend is lost, or if the deadline of its drain passes. An ejection ends only
    /// requests that get another attempt.
    async fn ask<const HEDGED: bool>(
        &mut self,
        upstream: &mut Upstream,
        attempt: &Attempt,
        began: Instant,
        is_repeatable: bool,
        losses: u64,
    ) -> Result<Box<ResponseHead>, Fault> {
        upstream.begin(&self.head, &self.body, &attempt.member().backend.address);
        let Self { context, pool, policy, head, body, guard, has_interim_begun, .. } = self;
        let (timeouts, interim, timer) = (&policy.timeouts, &context.interim, &context.timer);
        let total = timeouts.total.map(|total| guard.started + total);
        let head_within = policy.retry.attempt_within(timeouts.response_head);
        let mut response = context.local.responses.take();
        let mut pace = Pace::new(body.bytes(), began, timeouts, &policy.limits);
        let mut held_up_since = None;
        let mut wait = attempt.member().waiting.begin(losses);
        poll_fn(|cx| {
            // The last flush did not make room: the client takes no interim response.
            held_up_since = (!interim.has_room()).then(|| held_up_since.unwrap_or_else(Instant::now));
            if let Poll::Ready(Err(fault)) = upstream.poll_send(cx, body) {
                return Poll::Ready(Err(fault));
            }
            let mut left = INTERIM_PER_POLL;
            while interim.has_room() {
                if left == 0 {
                    cx.waker().wake_by_ref();
                    break;
                }
                left -= 1;
                match upstream.poll_head(cx, &head.method, &mut response) {
                    Poll::Ready(Ok(())) if is_interim(response.status) => {
                        super::headers::forward_interim(&mut response);
                        *has_interim_begun |= interim.send(&response);
                    }
                    Poll::Ready(answered) => return Poll::Ready(answered),
                    Poll::Pending => break,
                }
            }
            let is_sent_again = || {
                is_repeatable
                    && !(HEDGED && context.race.get() == Race::Last)
                    && policy.retry.rules.on.timeout
                    && !*has_interim_begun
                    && body.can_be_sent_again()
                    && pool.has_retry(context.local.clock_ns(Instant::now()))
            };
            if wait.poll_lost(cx, is_sent_again).is_ready() {
                return Poll::Ready(Err(Fault::BackendLost));
            }
            if attempt.is_cut() {
                return Poll::Ready(Err(Fault::Drained));
            }
            guard.received(body.bytes());
            let is_open = !body.has_ended();
            let is_awaited = is_open && body.is_awaited();
            pace.note(body.bytes(), is_awaited);
            let deadline = match held_up_since {
                Some(since) => since + timeouts.idle,
                None if is_open => pace.deadline(),
                None => pace.since() + head_within,
            };
            let deadline = total.map_or(deadline, |total| total.min(deadline));
            let late = if is_awaited || held_up_since.is_some() { Fault::SlowBody } else { Fault::BackendTimeout };
            timer.poll(cx, deadline).map(|()| Err(late))
        })
        .await
        .map(|()| response)
    }
}

/// After this many, the worker's other tasks run: a backend may send very many.
const INTERIM_PER_POLL: u32 = 32;

fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

// === impl Attempt ===

impl Attempt {
    /// Takes over the place of the picked backend.
    fn begin(exchange: &Exchange, picked: Picked, number: u32) -> (Self, Means) {
        let Picked { slot, means, at: _, at_ns, instance, token, fallback: _, by_session: _, set_cookie } = picked;
        let cuts = slot.member.backend.cuts();
        let attempt = Self {
            context: exchange.context.clone(),
            slot,
            started_ns: at_ns,
            number,
            cuts,
            instance,
            token,
            set_cookie,
            status: None,
            time_to_head_ns: 0,
            is_tunnel: false,
            has_ended: false,
        };
        attempt.tell_start(exchange.body.exact());
        (attempt, means)
    }

    /// Tells the strategy in charge that the attempt begins, if it wants to know.
    #[inline]
    fn tell_start(&self, body_length: Option<u64>) {
        let current = self.slot.pool.current();
        let Some(current) = &*current else { return };
        if current.shared.wants.start {
            current.shared.picker.start(&Start {
                worker: Some(self.context.local.number),
                backend_id: self.member().backend.number,
                attempt: self.number,
                own: self.instance == current.shared.picker.strategy().instance(),
                token: self.token,
                body_length,
                now_ns: self.started_ns,
            });
        }
    }

    #[inline]
    pub(super) fn member(&self) -> &MemberView {
        &self.slot.member
    }

    /// Keeps its connection for another request. It has ended.
    #[inline]
    pub(super) fn keep(&self, upstream: Box<Upstream>, now: Instant, most: usize) {
        self.slot.keep(upstream, now, most);
    }

    /// The response's head has arrived.
    fn head(&mut self, head: &ResponseHead, now: Instant) {
        let status = head.status.as_u16();
        let now_ns = self.context.local.clock_ns(now);
        let elapsed_ns = now_ns.saturating_sub(self.started_ns);
        self.status = Some(status);
        self.time_to_head_ns = elapsed_ns;
        self.member().shard.response(status, elapsed_ns);
        self.member().backend.answered(elapsed_ns, now_ns);
        self.take_report(&head.fields, || now_ns);
        self.slot.pool.sample(now_ns, elapsed_ns);
        if self.member().backend.head_arrived(status, self.member().thresholds.get()) {
            self.context.local.alarm.notify_one();
        }
    }

    /// Whether the deadline of the backend's drain has passed since it began. The task is woken for a look.
    #[inline]
    pub(super) fn is_cut(&self) -> bool {
        self.member().backend.cuts() != self.cuts
    }

    /// The attempt becomes a tunnel.
    pub(super) fn upgrade(&mut self) {
        self.is_tunnel = true;
    }

    /// It succeeded: its last byte was taken from the backend's connection.
    pub(super) fn succeed(&mut self, now: Instant) {
        self.member().backend.body_is_complete();
        self.end(Outcome::Ok, now);
    }

    /// It failed.
    pub(super) fn fail(&mut self, fault: Fault) {
        let outcome = fault.outcome();
        if !self.has_ended {
            if self.status.is_none() {
                self.member().shard.error(fault.reason());
                if fault == Fault::BackendTimeout {
                    let now_ns = self.context.local.clock_ns(Instant::now());
                    self.slot.pool.sample(now_ns, now_ns.saturating_sub(self.started_ns));
                }
            }
            if !matches!(outcome, Outcome::ClientGone | Outcome::NotSent) {
                let (backend, thresholds) = (&self.member().backend, self.member().thresholds.get());
                backend.failed();
                let is_reached = match self.status {
                    None => backend.attempt_failed(thresholds),
                    Some(_) => backend.body_broke_off(thresholds),
                };
                if is_reached {
                    self.context.local.alarm.notify_one();
                }
            }
        }
        self.end(outcome, Instant::now());
    }

    fn end(&mut self, outcome: Outcome, now: Instant) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        self.slot.give_back();
        let current = self.slot.pool.current();
        let Some(current) = &*current else { return };
        if current.shared.wants.finish {
            let local = &self.context.local;
            let now_ns = local.clock_ns(now);
            current.shared.picker.finish(&Finish {
                worker: Some(local.number),
                backend_id: self.member().backend.number,
                outcome,
                http_status: self.status,
                attempt: self.number,
                own: self.instance == current.shared.picker.strategy().instance(),
                upgraded: self.is_tunnel,
                token: self.token,
                time_to_head_ns: self.time_to_head_ns,
                total_ns: now_ns.saturating_sub(self.started_ns),
                now_ns,
            });
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.has_ended {
            match self.context.race.get() {
                Race::Lost => self.end(Outcome::ClientGone, Instant::now()),
                Race::Open | Race::Last => self.fail(Fault::ClientGone),
            }
        }
    }
}
