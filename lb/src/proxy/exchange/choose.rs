//! From a pool and a key to a place on a backend. The strategy's pick is checked once more against the live flags and
//! the caps. If it cannot be used, the host picks.
//!
//! Invariants: [`PoolGeneration::choose`](crate::generation::PoolGeneration::choose) decides, for requests and for `GET
//! /explain` alike. This module prepares the request for the strategy and counts. A picked backend's place is taken.

use std::rc::Rc;

use lb_balance::{Caps, Unchosen};
use lb_strategy_host::{Decision, PickRequest};
use tokio::time::Instant;

use super::Exchange;
use super::retry::Plan;
use super::shadows::show;
use super::slot::{Means, Slot};
use crate::generation::{Choice, PoolGeneration, RequestParts};
use crate::pool::Key;
use crate::proxy::fault::Fault;
use crate::proxy::sessions::Session;
use crate::proxy::shown::Shown;
use crate::proxy::upstream::Link;
use crate::proxy::view::MemberView;
use crate::telemetry::{FallbackReason, SessionResult};

/// The decision before an attempt begins.
pub(super) struct Picked {
    pub(super) slot: Slot,
    pub(super) means: Means,
    pub(super) at: Instant,
    /// The same on the clock of the strategies.
    pub(super) at_ns: u64,
    /// The strategy instance that picked (0: the fallback), and its token.
    pub(super) instance: u64,
    pub(super) token: u64,
    /// Why the fallback picked, if it did.
    pub(super) fallback: Option<FallbackReason>,
    /// The request's session chose, not the strategy.
    pub(super) by_session: bool,
    /// The field Set-Cookie of its response, if its session begins or moves.
    pub(super) set_cookie: Option<Box<[u8]>>,
    /// What the shadows of the pool picked.
    pub(super) shown: Option<Box<Shown>>,
}

/// Why no backend was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unpicked {
    /// Nothing to wait for.
    NoBackend,
    /// The backends that may serve are full.
    Overload,
    /// The strategy lets it wait.
    Held,
    /// Other requests took each place first.
    Raced,
}

/// After this many places that others took first, they go first.
const RACES_MAX: usize = 4;

/// Chooses for the next attempt of `plan`, and takes the place.
#[inline]
pub(super) fn choose(exchange: &Exchange, plan: &Plan, now: Instant, now_ns: u64) -> Result<Picked, Unpicked> {
    let local = &exchange.context.local;
    let current = exchange.pool.current();
    let Some(current) = &*current else { return Err(Unpicked::NoBackend) };
    if exchange.pool.is_at_limit() {
        return Err(Unpicked::Overload);
    }
    let (shared, caps, has_caps) = (&current.shared, exchange.pool.caps(), exchange.pool.has_caps());
    // The list may have changed since, so numbers are looked up in this one. Without a retry nothing is allocated.
    let index_of = |tried: &u64| shared.backends.iter().position(|backend| backend.number == *tried);
    let tried: Vec<u32> = plan.tried.iter().filter_map(index_of).map(|index| index as u32).collect();
    // The session of a hedged request stays with its first attempt.
    let sessions = current.sessions.as_ref().filter(|_| !plan.is_hedge);
    let session = sessions.map_or(Session::None, |sessions| sessions.of(&exchange.head.fields));
    if let Session::Of(index) = session
        && shared.may_serve(index, &tried)
        && current.members[index].has_room(caps)
        && let Some((slot, means)) = reserve(exchange, plan, &current.members[index], caps, now)
    {
        exchange.guard.count(|shard| shard.session(SessionResult::Kept));
        // Those of an earlier pick, which found no room.
        exchange.forget_probes();
        return Ok(Picked::by_session(slot, means, now, now_ns));
    }
    let request = PickRequest {
        worker: Some(local.number),
        attempt: plan.number,
        tried: &tried,
        key: exchange.key.as_ref().map(|key| (Key::bytes(key), key.hash)),
        random: local.random.borrow_mut().u64(..),
        now_ns,
        dry: false,
        body_length: exchange.body.length(),
        lookup: &parts(exchange, shared.wants.body),
    };
    let (mut at, mut at_ns) = (now, now_ns);
    for _ in 0..RACES_MAX {
        let has_room = |index: usize| !has_caps || current.members[index].has_room(caps);
        let choice = ask_for(exchange, plan, shared, &request, has_room)?;
        if !current.shadows.is_empty() && plan.number == 0 && !plan.is_hedge {
            (at, at_ns) = show(exchange, current, &request, choice.index);
        }
        let Some((slot, means)) = reserve(exchange, plan, &current.members[choice.index], caps, now) else { continue };
        let instance = match choice.fallback {
            None => shared.picker.strategy().instance(),
            Some(reason) => {
                exchange.guard.count(|shard| shard.fallback(reason));
                exchange.forget_probes();
                0
            }
        };
        let set_cookie = sessions.map(|sessions| {
            count_session(exchange, session);
            sessions.set_cookie(choice.index)
        });
        return Ok(Picked {
            slot,
            means,
            at,
            at_ns,
            instance,
            token: choice.token,
            fallback: choice.fallback,
            by_session: false,
            set_cookie,
            shown: exchange.shown.take(),
        });
    }
    Err(Unpicked::Raced)
}

/// A session begins or moves.
fn count_session(exchange: &Exchange, before: Session) {
    let result = if before == Session::None { SessionResult::New } else { SessionResult::Moved };
    exchange.guard.count(|shard| shard.session(result));
}

/// The parts of the request that a strategy may look up, with at most `body_bytes` bytes of the body.
#[inline]
pub(super) fn parts(exchange: &Exchange, body_bytes: u32) -> RequestParts<'_> {
    RequestParts {
        method: &exchange.head.method,
        target: &exchange.head.target,
        fields: &exchange.head.fields,
        client: &exchange.context.peer.client,
        body: exchange.body.prefix(body_bytes),
    }
}

/// The strategy's choice. Without a queue, the host chooses for a request that the strategy lets wait.
#[inline]
fn ask_for(
    exchange: &Exchange,
    plan: &Plan,
    shared: &PoolGeneration,
    request: &PickRequest<'_>,
    has_room: impl Fn(usize) -> bool,
) -> Result<Choice, Unpicked> {
    let mut choice = shared.choose(request, &has_room, |request| ask(exchange, shared, request));
    // A hedge is not made then.
    if choice == Err(Unchosen::Wait) && !plan.is_hedge && !exchange.pool.line.has_queue() {
        choice = shared.choose_without_queue(request, has_room);
    }
    choice.map_err(|none| match none {
        Unchosen::NoBackend | Unchosen::AllTried => Unpicked::NoBackend,
        Unchosen::Overload => Unpicked::Overload,
        Unchosen::Wait => {
            exchange.pool.line.note_strategy_wait();
            Unpicked::Held
        }
    })
}

/// The strategy's pick, counted, and sometimes timed.
#[inline]
fn ask(exchange: &Exchange, shared: &PoolGeneration, request: &PickRequest<'_>) -> Decision {
    let guard = &exchange.guard;
    let is_timed = guard.count(|shard| shard.pick_begins(request.now_ns)).unwrap_or_default();
    let began = is_timed.then(std::time::Instant::now);
    let decision = match &shared.probe {
        None => shared.picker.pick(request),
        Some(_) => exchange.pick_and_probe(shared, request),
    };
    if let Some(began) = began {
        guard.count(|shard| shard.pick_timed(began.elapsed()));
    }
    decision
}

/// Takes a place on a backend; `None` if another request took the last one.
#[inline]
fn reserve(
    exchange: &Exchange,
    plan: &Plan,
    member: &Rc<MemberView>,
    caps: Caps,
    now: Instant,
) -> Option<(Slot, Means)> {
    let slot = Slot::take(&exchange.pool, member, caps.requests)?;
    let means = match caps.connections {
        None => Means::Any,
        Some(most) => reserve_connection(exchange, plan, member, most, now)?,
    };
    Some((slot, means))
}

/// A waiting connection, else the place of a new one. A retry needs a new one: at the cap it replaces an idle one.
#[cold]
fn reserve_connection(
    exchange: &Exchange,
    plan: &Plan,
    member: &Rc<MemberView>,
    most: u32,
    now: Instant,
) -> Option<Means> {
    if let Some(upstream) = exchange.waiting_connection(member, plan, now) {
        return Some(Means::Waiting(upstream));
    }
    let link = || Link::within(&member.backend, &exchange.pool.line, most);
    link().or_else(|| member.idle.close_oldest().then(link)?).map(Means::New)
}

// === impl Picked ===

impl Picked {
    fn by_session(slot: Slot, means: Means, at: Instant, at_ns: u64) -> Self {
        Self {
            slot,
            means,
            at,
            at_ns,
            instance: 0,
            token: 0,
            fallback: None,
            by_session: true,
            set_cookie: None,
            shown: None,
        }
    }
}

// === impl Unpicked ===

impl From<Unpicked> for Fault {
    fn from(unpicked: Unpicked) -> Self {
        match unpicked {
            Unpicked::NoBackend => Self::NoBackend,
            Unpicked::Overload | Unpicked::Held | Unpicked::Raced => Self::BackendsBusy,
        }
    }
}
