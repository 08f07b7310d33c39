//! A second attempt beside a slow first one: a hedge.
//!
//! If the first attempt of a request has no response head after the pool's 95th percentile, a second one begins on
//! another backend. The first response that is no failure by `retry.on` wins, and the other attempt ends at once. The
//! rules are [`RetryRules::may_hedge`](lb_balance::RetryRules::may_hedge) and [`Hedge`]. Only requests without a body
//! are hedged, so a copy of the head is all that a second attempt needs.
//!
//! Two attempts at once need two exchanges. The second one is a twin: it counts no request, writes no line of the log
//! and passes no interim response on. Both are polled by the client's task, so one timer serves both.
//!
//! Invariants: a request has at most one hedge, out of the pool's budget of retries, on a backend with room. A hedge
//! never waits in the queue. An attempt that lost is neither a failure nor a success of its backend. A client that got
//! an interim response gets the final one of the same backend.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use lb_balance::{FailureCause, Hedge, RetryRules};
use tokio::time::Instant;

use super::attempt::Answer;
use super::choose::Picked;
use super::retry::{Failed, Plan};
use super::{Context, Exchange, notes, response};
use crate::access_log::Record;
use crate::http1::ResponseHead;
use crate::proxy::body::RequestBody;
use crate::proxy::interim::Interim;
use crate::proxy::view::PoolView;
use crate::telemetry::{HedgeResult, PoolShard, RetryReason};

/// The state of an attempt among those of its request that run at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) enum Race {
    /// It is alone, or the other one runs too.
    #[default]
    Open,
    /// The other one has failed, and no attempt may follow this one.
    Last,
    /// The other one has responded.
    Lost,
}

type Attempted = Result<Answer, Failed>;

/// A second attempt that may begin.
struct Second {
    twin: Exchange,
    plan: Plan,
    due: Instant,
    /// The context of the first attempt.
    first: Rc<Context>,
    watch: Rc<Watch>,
    /// The first attempt begins or moves the session of the request.
    sets_cookie: bool,
}

/// Passes the interim responses of the first attempt on, and remembers that.
struct Watch {
    client: Rc<dyn Interim>,
    has_begun: Cell<bool>,
}

/// Drops the interim responses of the second attempt.
struct Dropped;

/// One of the two attempts.
#[derive(Clone, Copy)]
struct Runner {
    is_hedge: bool,
    backend: u64,
    began: Instant,
}

/// The next event of two attempts.
enum Event {
    FirstEnded(Attempted),
    SecondEnded(Attempted),
    /// The client got an interim response.
    InterimBegan,
}

enum Ended {
    /// No hedge began.
    Alone(Attempted),
    Both(Box<Both>),
}

/// The end of two attempts.
struct Both {
    /// The attempt that decides, and its end.
    last: Runner,
    attempted: Attempted,
    other: Runner,
    /// How the other one failed; `None`: it lost.
    failed: Option<Attempted>,
    /// The other one's time to head.
    other_time: Option<u64>,
    counted: Counted,
}

/// The result of a hedge that began. It is counted on drop, because the client may leave.
struct Counted {
    shard: Option<Arc<PoolShard>>,
    result: HedgeResult,
}

// === impl Exchange: hedges ===

impl Exchange {
    /// Makes an attempt, and another one beside it if it is slow. If both fail, the last failure counts, and `plan` has
    /// both backends.
    #[cold]
    #[inline(never)]
    pub(super) fn attempt_hedged<'e>(
        &'e mut self,
        plan: &'e mut Plan,
        picked: Picked,
    ) -> Pin<Box<dyn Future<Output = Attempted> + 'e>> {
        Box::pin(async move {
            if !self.may_hedge(plan) {
                return self.attempt::<true>(plan, picked).await;
            }
            let runner = Runner::new(&picked, false);
            let attempted = match after(&self.pool) {
                None => self.attempt::<true>(plan, picked).await,
                Some(after) => {
                    let mut second = Second::new(self, &picked, after);
                    let own = std::mem::replace(&mut self.context, second.first.clone());
                    let ended = run(self, plan, picked, &mut second).await;
                    self.context = own;
                    match ended {
                        Ended::Alone(attempted) => attempted,
                        Ended::Both(both) => return self.settle(plan, *both, &second).await,
                    }
                }
            };
            self.record(runner.time_to_head(Some(&attempted)));
            attempted
        })
    }

    /// Whether the present attempt may get a hedge. Not if it may become a tunnel.
    fn may_hedge(&self, plan: &Plan) -> bool {
        let progress = self.progress(plan, true);
        self.body.has_ended() && self.upgrade.is_none() && self.policy.retry.rules.may_hedge(progress)
    }

    /// Makes the hedge one of the attempts of `plan`, and ends a response that is not passed on.
    async fn settle(&mut self, plan: &mut Plan, both: Both, second: &Second) -> Attempted {
        let Both { last, mut attempted, other, failed, other_time, counted } = both;
        self.record(last.time_to_head(Some(&attempted)));
        self.record(other_time);
        if let Some(record) = &mut self.guard.record {
            let twin = second.twin.guard.record.as_deref().filter(|_| last.is_hedge);
            notes::note_hedge(record, counted.result, twin);
        }
        plan.number += 1;
        if let Some(failed) = failed {
            plan.tried.push(other.backend);
            if let Ok(answer) = failed {
                response::put_away(answer, &self.context, &self.policy).await;
            }
        }
        if let Err(failed) = &mut attempted
            && is_last(&self.policy.retry.rules, plan)
        {
            failed.retry = None;
        }
        attempted
    }

    fn record(&self, time: Option<u64>) {
        let Some(time) = time else { return };
        let now_ns = self.context.local.clock_ns(Instant::now());
        self.pool.hedge.borrow_mut().get_or_insert_with(|| Hedge::new(now_ns)).record(now_ns, time);
    }
}

/// The time after which a hedge begins; `None` if too little is known.
fn after(pool: &PoolView) -> Option<Duration> {
    pool.hedge.borrow().as_ref()?.after_ns().map(Duration::from_nanos)
}

/// Whether no attempt may follow that of `plan`.
fn is_last(rules: &RetryRules, plan: &Plan) -> bool {
    plan.number + 1 >= rules.attempts
}

/// Whether the response is one for the client.
fn has_won(rules: &RetryRules, attempted: &Attempted) -> bool {
    let is_failure = |answer: &Answer| rules.on.contains(FailureCause::Status(answer.head.status.as_u16()));
    attempted.as_ref().is_ok_and(|answer| !is_failure(answer))
}

/// Makes the first attempt, and the second one when it is due. The attempt that loses is dropped before this returns.
async fn run(exchange: &mut Exchange, plan: &Plan, picked: Picked, second: &mut Second) -> Ended {
    let (policy, watch, due) = (exchange.policy.clone(), second.watch.clone(), second.due);
    let contexts = (second.first.clone(), second.twin.context.clone());
    let runner = Runner::new(&picked, false);
    let mut first = pin!(exchange.attempt::<true>(plan, picked));
    let early = poll_fn(|cx| match first.as_mut().poll(cx) {
        Poll::Ready(attempted) => Poll::Ready(Some(attempted)),
        Poll::Pending => contexts.0.timer.poll(cx, due).map(|()| None),
    });
    if let Some(attempted) = early.await {
        return Ended::Alone(attempted);
    }
    let Some((picked, mut counted)) = second.pick() else { return Ended::Alone(first.await) };
    let hedge = Runner::new(&picked, true);
    // Rare, and it must end before the first one if that goes on alone.
    let mut other = Box::pin(second.twin.attempt::<true>(&second.plan, picked));
    let event = poll_fn(|cx| {
        if let Poll::Ready(attempted) = first.as_mut().poll(cx) {
            return Poll::Ready(Event::FirstEnded(attempted));
        }
        match watch.has_begun.get() {
            true => Poll::Ready(Event::InterimBegan),
            false => other.as_mut().poll(cx).map(Event::SecondEnded),
        }
    });
    let rules = &policy.retry.rules;
    // An attempt goes on alone; the state tells it whether a further one may follow.
    let alone = if is_last(rules, &second.plan) { Race::Last } else { Race::Open };
    let (last, attempted, other_end) = match event.await {
        Event::FirstEnded(attempted) if has_won(rules, &attempted) => {
            contexts.1.race.set(Race::Lost);
            (runner, attempted, (hedge, hedge.time_to_head(None), None))
        }
        Event::SecondEnded(attempted) if has_won(rules, &attempted) => {
            contexts.0.race.set(Race::Lost);
            (hedge, attempted, (runner, runner.time_to_head(None), None))
        }
        Event::InterimBegan => {
            contexts.1.race.set(Race::Lost);
            drop(other);
            let time = hedge.time_to_head(None);
            (runner, first.await, (hedge, time, None))
        }
        Event::FirstEnded(failed) => {
            let time = runner.time_to_head(Some(&failed));
            contexts.1.race.set(alone);
            (hedge, other.await, (runner, time, Some(failed)))
        }
        Event::SecondEnded(failed) => {
            let time = hedge.time_to_head(Some(&failed));
            contexts.0.race.set(alone);
            (runner, first.await, (hedge, time, Some(failed)))
        }
    };
    if last.is_hedge && has_won(rules, &attempted) {
        counted.result = HedgeResult::Won;
    }
    let (other, other_time, failed) = other_end;
    Ended::Both(Box::new(Both { last, attempted, other, failed, other_time, counted }))
}

// === impl Second ===

impl Second {
    /// For the first attempt of `exchange`, which begins with `picked`.
    fn new(exchange: &Exchange, picked: &Picked, after: Duration) -> Self {
        let Exchange { context, pool, policy, head, key, idempotency, guard, .. } = exchange;
        let with = |interim: Rc<dyn Interim>| {
            let Context { local, peer, timer, .. } = &**context;
            let (local, peer, timer) = (local.clone(), peer.clone(), timer.clone());
            Rc::new(Context { local, peer, timer, interim, race: Cell::default() })
        };
        let watch = Rc::new(Watch { client: context.interim.clone(), has_begun: Cell::new(false) });
        let mut guard = guard.twin();
        guard.record = exchange.guard.record.as_ref().map(|record| {
            let mut own = Box::<Record>::default();
            own.is_asked = record.is_asked;
            own
        });
        let twin = Exchange {
            context: with(Rc::new(Dropped)),
            pool: pool.clone(),
            policy: policy.clone(),
            head: head.clone(),
            body: RequestBody::empty(),
            key: key.clone(),
            idempotency: *idempotency,
            has_interim_begun: false,
            upgrade: None,
            asked: Cell::new(None),
            shown: Cell::new(None),
            guard,
        };
        let plan = Plan::of_hedge(picked.slot.member.backend.number);
        let sets_cookie = picked.set_cookie.is_some();
        Self { twin, plan, due: picked.at + after, first: with(watch.clone()), watch, sets_cookie }
    }

    /// Picks its backend; `None` if it may not begin. Requests that wait in the queue go first.
    fn pick(&mut self) -> Option<(Picked, Counted)> {
        let Self { twin, plan, watch, .. } = self;
        if watch.has_begun.get() || twin.pool.is_behind() || !twin.has_untried(&plan.tried) {
            return None;
        }
        let now = Instant::now();
        let now_ns = twin.context.local.clock_ns(now);
        let Some(taken) = twin.pool.take_retry(now_ns) else {
            twin.guard.count(|shard| shard.hedge(HedgeResult::Denied));
            return None;
        };
        let mut picked = twin.pick(plan, now, now_ns).ok()?;
        taken.spend();
        twin.guard.count(|shard| shard.retry(RetryReason::Hedge));
        if self.sets_cookie {
            picked.set_cookie = cookie(&twin.pool, &picked);
        }
        Some((picked, Counted { shard: twin.guard.shard(), result: HedgeResult::Lost }))
    }
}

/// The field Set-Cookie that names the picked backend.
fn cookie(pool: &PoolView, picked: &Picked) -> Option<Box<[u8]>> {
    let current = pool.current();
    let current = current.as_ref()?;
    let place = current.members.iter().position(|member| Rc::ptr_eq(member, &picked.slot.member))?;
    Some(current.sessions.as_ref()?.set_cookie(place))
}

// === impl Runner ===

impl Runner {
    fn new(picked: &Picked, is_hedge: bool) -> Self {
        Self { is_hedge, backend: picked.slot.member.backend.number, began: picked.at }
    }

    /// The time to head of an attempt that ended now, or the time until now if it lost or timed out. `None` for other
    /// failures: they say nothing about it.
    fn time_to_head(&self, attempted: Option<&Attempted>) -> Option<u64> {
        let until_now = || self.began.elapsed().as_nanos() as u64;
        match attempted {
            None => Some(until_now()),
            Some(Ok(answer)) => Some(answer.attempt.time_to_head_ns),
            Some(Err(failed)) => (failed.fault.cause() == Some(FailureCause::Timeout)).then(until_now),
        }
    }
}

// === impl Watch, Dropped ===

impl Interim for Watch {
    fn has_room(&self) -> bool {
        self.client.has_room()
    }

    fn send(&self, head: &ResponseHead) -> bool {
        let is_sent = self.client.send(head);
        self.has_begun.set(self.has_begun.get() || is_sent);
        is_sent
    }
}

impl Interim for Dropped {
    fn has_room(&self) -> bool {
        true
    }

    fn send(&self, _: &ResponseHead) -> bool {
        false
    }
}

// === impl Counted ===

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(shard) = &self.shard {
            shard.hedge(self.result);
        }
    }
}
