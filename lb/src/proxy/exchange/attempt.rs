//! One try of a request on one backend, from the pick to the head. Its guard ends it exactly once. `send` has the way
//! between: connection, request, response head.
//!
//! Why a guard: an attempt may end by its last byte, an error, a time-out, a tunnel's end or the loss of the client.
//! Only `Drop` sees all of them. Invariants: `in_flight` rises when a backend is picked and falls once. A guard that is
//! dropped without a recorded outcome counts the client as gone, unless another attempt has responded first.

use std::rc::Rc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::fence;

use lb_strategy_host::{Finish, Outcome, Start};
use tokio::time::Instant;

use super::account::Account;
use super::choose::{Picked, Unpicked, choose};
use super::hedge::Race;
use super::retry::{After, Failed, Plan, Retry};
use super::slot::{Means, Slot};
use super::{Context, Exchange, notes, shadows};
use crate::http1::{Fields, ResponseHead};
use crate::proxy::fault::Fault;
use crate::proxy::shown::Shown;
use crate::proxy::upstream::Upstream;
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
    /// What its response is, if the strategy asks for that.
    account: Option<Box<Account>>,
    /// What the shadows of the pool picked.
    shown: Option<Box<Shown>>,
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
        self.begin_probes(attempt.member());
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
        attempt.received(self.body.bytes());
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
}

// === impl Attempt ===

impl Attempt {
    /// Takes over the place of the picked backend.
    fn begin(exchange: &Exchange, picked: Picked, number: u32) -> (Self, Means) {
        let Picked { slot, means, at: _, at_ns, instance, token, fallback: _, by_session: _, set_cookie, shown } =
            picked;
        let cuts = slot.member.backend.cuts();
        let mut attempt = Self {
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
            account: None,
            shown,
        };
        attempt.tell_start(exchange);
        (attempt, means)
    }

    /// Tells the strategy in charge and the shadows that the attempt begins, and opens its account, if they want that.
    #[inline]
    fn tell_start(&mut self, exchange: &Exchange) {
        let current = exchange.pool.current();
        let Some(current) = &*current else { return };
        let shared = &current.shared;
        if shared.tells.answer {
            self.account = Some(Account::of_pool(shared));
        }
        if shared.tells.start {
            let start = Start {
                worker: Some(self.context.local.number),
                backend_id: self.member().backend.number,
                attempt: self.number,
                own: self.instance == shared.picker.strategy().instance(),
                token: self.token,
                body_length: exchange.body.length(),
                now_ns: self.started_ns,
            };
            if shared.wants.start {
                shared.picker.start(&start);
            }
            if !shared.shadows.is_empty() {
                shadows::tell_start(current, self.shown.as_deref(), &start);
            }
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
        if let Some(account) = &mut self.account {
            account.take(&head.fields);
        }
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

    /// Bytes of the request's body so far.
    #[inline]
    pub(super) fn received(&mut self, bytes: u64) {
        if let Some(account) = &mut self.account {
            account.received(bytes);
        }
    }

    /// More bytes of the response's body go on to the client.
    #[inline]
    pub(super) fn sent(&mut self, bytes: u64) {
        if let Some(account) = &mut self.account {
            let elapsed_ns = || self.context.local.clock_ns(Instant::now()).saturating_sub(self.started_ns);
            account.sent(bytes, elapsed_ns);
        }
    }

    /// The response's trailers, before any is removed.
    #[inline]
    pub(super) fn trailers(&mut self, trailers: &Fields) {
        if let Some(account) = &mut self.account {
            account.take(trailers);
        }
        self.take_report(trailers, || self.context.local.clock_ns(Instant::now()));
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
        self.tell_finish(outcome, now);
        self.slot.wake_next();
    }

    /// Tells the strategy in charge and the shadows that the attempt has ended, if they want to know.
    #[inline]
    fn tell_finish(&mut self, outcome: Outcome, now: Instant) {
        let current = self.slot.pool.current();
        let Some(current) = &*current else { return };
        let shared = &current.shared;
        if shared.tells.finish {
            let local = &self.context.local;
            let now_ns = local.clock_ns(now);
            let instance = shared.picker.strategy().instance();
            let finish = Finish {
                worker: Some(local.number),
                backend_id: self.member().backend.number,
                outcome,
                http_status: self.status,
                attempt: self.number,
                own: self.instance == instance,
                upgraded: self.is_tunnel,
                token: self.token,
                time_to_head_ns: self.time_to_head_ns,
                total_ns: now_ns.saturating_sub(self.started_ns),
                now_ns,
            };
            let picker = &shared.picker;
            match &self.account {
                _ if !shared.wants.finish => {}
                Some(account) if shared.wants.answer => {
                    account.with(instance, |answered| picker.finish_with(&finish, answered));
                }
                _ => picker.finish(&finish),
            }
            if !shared.shadows.is_empty() {
                let shown = self.shown.take();
                shadows::tell_finish(current, shown.as_deref(), &finish, self.account.as_deref());
                shown.into_iter().for_each(|shown| local.shown.put(shown));
            }
            // Before the look for a request that waits: the strategy's own counts may be relaxed.
            fence(SeqCst);
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
