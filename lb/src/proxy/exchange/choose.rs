//! From a pool and a key to a backend: the strategy's pick, checked once more against the live flags, else the host's
//! own.
//!
//! Invariant: [`PoolGeneration::choose`](crate::generation::PoolGeneration::choose) decides, for requests and for `GET
//! /explain` alike. This module prepares the request for the strategy and counts.

use std::rc::Rc;

use lb_strategy_host::PickRequest;

use super::Exchange;
use crate::generation::{Choice, Lookup, NoChoice};
use crate::pool::Key;
use crate::proxy::fault::Fault;
use crate::proxy::sessions::Session;
use crate::proxy::view::MemberView;
use crate::telemetry::{FallbackReason, SessionResult};

/// The decision before an attempt begins.
pub(super) struct Picked {
    pub(super) member: Rc<MemberView>,
    /// The strategy instance that picked (0: the fallback), and its token.
    pub(super) instance: u64,
    pub(super) token: u64,
    /// Why the fallback picked, if it did.
    pub(super) fallback: Option<FallbackReason>,
    /// The request's session chose, not the strategy.
    pub(super) by_session: bool,
    /// The field Set-Cookie of its response, if its session begins or moves.
    pub(super) set_cookie: Option<Vec<u8>>,
}

/// Chooses for attempt `number`; `tried` are the contract's numbers of the backends that failed before.
pub(super) fn choose(exchange: &Exchange, number: u32, tried: &[u64], now_ns: u64) -> Result<Picked, Fault> {
    let (local, guard) = (&exchange.context.local, &exchange.guard);
    let current = exchange.pool.current();
    let Some(current) = &*current else { return Err(Fault::NoBackend) };
    let shared = &current.shared;
    let limit = exchange.policy.limits.requests_in_flight_per_backend;
    // The list may have changed since, so numbers are looked up in this one. Without a retry nothing is allocated.
    let index_of = |tried: &u64| shared.backends.iter().position(|backend| backend.number == *tried);
    let tried: Vec<u32> = tried.iter().filter_map(index_of).map(|index| index as u32).collect();
    let sessions = current.sessions.as_ref();
    let session = sessions.map_or(Session::None, |sessions| sessions.of(&exchange.head.fields));
    if let Session::Of(index) = session
        && shared.may_serve(index, &tried, limit)
    {
        guard.count(|shard| shard.session(SessionResult::Kept));
        return Ok(Picked::by_session(current.members[index].clone()));
    }
    let random = local.random.borrow_mut().u64(..);
    let is_timed = guard.count(|shard| shard.pick_begins(now_ns)).unwrap_or_default();
    let began = is_timed.then(std::time::Instant::now);
    let request = PickRequest {
        worker: Some(local.number),
        attempt: number,
        tried: &tried,
        key: exchange.key.as_ref().map(|key| (Key::bytes(key), key.hash)),
        random,
        now_ns,
        dry: false,
        headers: &Lookup(&exchange.head.fields),
    };
    let decision = shared.picker.pick(&request);
    if let Some(began) = began {
        guard.count(|shard| shard.pick_timed(began.elapsed()));
    }
    let choice = shared.choose(decision, &request, limit).map_err(|none| match none {
        NoChoice::NoBackend => Fault::NoBackend,
        NoChoice::Overload => Fault::BackendsBusy,
    })?;
    let instance = match choice.fallback {
        None => shared.picker.strategy().instance(),
        Some(reason) => {
            guard.count(|shard| shard.fallback(reason));
            0
        }
    };
    let set_cookie = sessions.map(|sessions| {
        let result = if session == Session::None { SessionResult::New } else { SessionResult::Moved };
        guard.count(|shard| shard.session(result));
        sessions.set_cookie(choice.index)
    });
    let member = current.members[choice.index].clone();
    let Choice { index: _, token, fallback } = choice;
    Ok(Picked { member, instance, token, fallback, by_session: false, set_cookie })
}

// === impl Picked ===

impl Picked {
    fn by_session(member: Rc<MemberView>) -> Self {
        Self { member, instance: 0, token: 0, fallback: None, by_session: true, set_cookie: None }
    }
}
