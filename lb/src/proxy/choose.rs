//! From a pool and a key to a backend: the strategy's pick, checked once more against the live flags, else the host's own.
//!
//! Invariants: health acts at once, whatever list the strategy saw; a broken strategy costs a better choice, never a request.

use std::rc::Rc;

use http::HeaderMap;
use lb_strategy_host::{Decision, Headers, PickRequest, Refusal};
use tokio::time::Instant;

use super::attempt::Picked;
use super::client::Client;
use super::error::Failure;
use super::key::Key;
use super::view::{Current, Pool};
use crate::pool::fallback_pick;
use crate::telemetry::{ErrorReason, FallbackReason};

/// A request's headers, as a strategy may look them up.
struct Lookup<'a>(&'a HeaderMap);

pub(super) const NO_BACKEND: Failure = Failure::new(ErrorReason::NoBackend, "no backend is available");
const OVERLOAD: Failure = Failure::new(ErrorReason::Overload, "every backend is at its limit of requests");

/// Chooses for attempt `number`; `tried` is the contract's number of the backend that failed before.
pub(super) fn choose(
    client: &Client,
    pool: &Rc<Pool>,
    key: Option<&Key>,
    headers: &HeaderMap,
    number: u32,
    tried: Option<u64>,
    now: Instant,
) -> Result<Picked, Failure> {
    let worker = &client.worker;
    let current = pool.current();
    let Some(current) = &*current else { return Err(NO_BACKEND) };
    let shared = &current.shared;
    let limit = worker.view.borrow().settings.limits.requests_in_flight_per_backend;
    // The list may have changed since: a number is looked up in this one.
    let tried_index = tried.and_then(|tried| shared.backends.iter().position(|backend| backend.number == tried));
    let tried_list = tried_index.map(|index| [index as u32]);
    let tried_list = tried_list.as_ref().map_or(&[][..], |list| list);
    let random = worker.random.borrow_mut().u64(..);
    // The clock of this machine: tokio's may stand still in a test, and a plugin does not.
    let now_ns = worker.clock_ns(now);
    let is_timed = pool.count(client.listener, |shard| shard.pick_begins(now_ns)).unwrap_or_default();
    let began = is_timed.then(std::time::Instant::now);
    let decision = shared.picker.pick(&PickRequest {
        worker: Some(worker.number),
        attempt: number,
        tried: tried_list,
        key: key.map(|key| (key.bytes(), key.hash)),
        random,
        now_ns,
        dry: false,
        headers: &Lookup(headers),
    });
    if let Some(began) = began {
        pool.count(client.listener, |shard| shard.pick_timed(began.elapsed()));
    }
    let reason = match decision {
        Decision::Backend { index, token } if usable(current, index, limit) => {
            let instance = shared.picker.strategy().instance();
            return Ok(Picked { member: current.members[index].clone(), instance, token });
        }
        Decision::Backend { .. } => FallbackReason::NotEligible,
        Decision::NoBackend => return Err(NO_BACKEND),
        Decision::Refused(Refusal::Undecided) if shared.wants_hash && key.is_none() => FallbackReason::NoKey,
        Decision::Refused(Refusal::Undecided) => FallbackReason::Undecided,
        Decision::Refused(Refusal::Panic) => FallbackReason::Panic,
        Decision::Refused(Refusal::BadIndex) => FallbackReason::BadIndex,
        Decision::Refused(Refusal::AlreadyTried) => FallbackReason::AlreadyTried,
        Decision::Refused(Refusal::NotEligible) => FallbackReason::NotEligible,
        Decision::Refused(Refusal::Error) => FallbackReason::Error,
    };
    let may_serve = |index: usize| !tried_list.contains(&(index as u32)) && usable(current, index, limit);
    match fallback_pick(shared.fallback, &shared.backends, may_serve, random, &shared.fallback_cursor) {
        Some(index) => {
            pool.count(client.listener, |shard| shard.fallback(reason));
            Ok(Picked { member: current.members[index].clone(), instance: 0, token: 0 })
        }
        None if shared.backends.iter().any(|backend| backend.is_eligible()) && limit.is_some() => Err(OVERLOAD),
        None => Err(NO_BACKEND),
    }
}

#[inline]
fn usable(current: &Current, index: usize, limit: Option<u32>) -> bool {
    let backend = &current.shared.backends[index];
    backend.is_eligible() && limit.is_none_or(|limit| backend.in_flight() < limit)
}

impl Headers for Lookup<'_> {
    fn get(&self, name: &[u8], nth: usize) -> Option<&[u8]> {
        let name = std::str::from_utf8(name).ok()?;
        self.0.get_all(name).iter().nth(nth).map(http::HeaderValue::as_bytes)
    }
}
