//! From a pool and a key to a backend: the strategy's pick, checked once more against the live flags, else the host's own.
//!
//! Invariant: what is decided is decided by [`PoolGeneration::settle`](crate::generation::PoolGeneration::settle), as where somebody
//! only asks; what is here is the worker's part: the request as a strategy sees it, and the counting.

use std::rc::Rc;

use http::HeaderMap;
use lb_strategy_host::PickRequest;
use tokio::time::Instant;

use super::attempt::Picked;
use super::client::Client;
use super::error::Failure;
use super::view::Pool;
use crate::generation::{Lookup, NoChoice};
use crate::pool::Key;
use crate::telemetry::ErrorReason;

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
    let request = PickRequest {
        worker: Some(worker.number),
        attempt: number,
        tried: tried_list,
        key: key.map(|key| (key.bytes(), key.hash)),
        random,
        now_ns,
        dry: false,
        headers: &Lookup(headers),
    };
    let decision = shared.picker.pick(&request);
    if let Some(began) = began {
        pool.count(client.listener, |shard| shard.pick_timed(began.elapsed()));
    }
    let choice = shared.settle(decision, &request, limit).map_err(|none| match none {
        NoChoice::NoBackend => NO_BACKEND,
        NoChoice::Overload => OVERLOAD,
    })?;
    let instance = match choice.fallback {
        None => shared.picker.strategy().instance(),
        Some(reason) => {
            pool.count(client.listener, |shard| shard.fallback(reason));
            0
        }
    };
    let member = current.members[choice.index].clone();
    Ok(Picked { member, instance, token: choice.token, fallback: choice.fallback })
}
