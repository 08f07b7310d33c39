//! Explains where a request would go, and why. It uses the generation in force and sends nothing.
//!
//! A dry pick uses the strategy, list, live flags and host's fallback that a worker would use. The same code decides:
//! [`PoolGeneration::choose`](crate::generation::PoolGeneration::choose). Invariants: no later request sees a change,
//! and no counter moves. Plugin code runs on the builder, and the generation is dropped there.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::Method;
use lb_balance::Caps;
use lb_strategy_host::{PickRequest, Picker};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::wait::{Cause, Wait};
use crate::config::normal_path;
use crate::control::api::ControlError;
use crate::generation::{
    Choice, Generation, Hall, Place, PoolGeneration, RequestParts, Unchosen, client_bytes, without_port,
};
use crate::http1::{Fields, Target};
use crate::pool::{Key, key};
use crate::telemetry::Metrics;

/// A hypothetical request.
#[derive(Clone, Debug)]
pub struct ExplainRequest {
    /// `None`: the pool of the matching route.
    pub pool: Option<String>,
    /// The key; `None`: the one that `hash_on` finds.
    pub key: Option<Vec<u8>>,
    pub method: Method,
    /// Path and query.
    pub target: Target,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub client_ip: IpAddr,
}

/// The result of a dry pick.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Explanation {
    pub pool: String,
    pub generation: u64,
    pub strategy: String,
    pub strategy_version: String,
    /// As text; bytes that are not UTF-8 are replaced.
    pub key: Option<String>,
    /// The key's hash, as the strategy gets it, in hexadecimal; `None` if the strategy asks for no key or there is
    /// none.
    pub hash: Option<String>,
    /// `None`: the request would wait, or the response would be a 503.
    pub backend: Option<String>,
    /// How the request would wait in the queue. The reason is "overload" then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// "strategy" or "fallback"; `None` without a backend.
    pub picked_by: Option<&'static str>,
    /// Why the fallback was used, or why no backend was picked.
    pub reason: Option<&'static str>,
    /// Backends that may get requests now, in the order of the list.
    pub eligible: Vec<String>,
    /// The data that strategies read, of all backends.
    pub backends: Vec<Candidate>,
    /// The strategy's own explanation, if it has one.
    pub strategy_says: Option<Value>,
    /// How the strategy failed to explain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy_failed: Option<String>,
}

#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Candidate {
    pub backend: String,
    pub eligible: bool,
    pub weight: u32,
    /// The weight to pick by; less than `weight` while the backend starts slowly.
    pub effective_weight: f64,
    pub in_flight: u32,
    /// Time to the head of a response; `None` before the first.
    pub ewma_latency_ms: Option<f64>,
}

/// Explains with the generation in force. Runs plugin code.
pub(in crate::control) fn explain(
    hall: &Hall,
    metrics: &Metrics,
    request: &ExplainRequest,
) -> Result<Explanation, ControlError> {
    let ExplainRequest { target, fields, .. } = request;
    let generation = hall.current();
    let place = find_place(&generation, request)?;
    let (pool, policy) = (&generation.pools[place.pool], &generation.policies[place.policy]);
    let now_ns = hall.opened().elapsed().as_nanos() as u64;
    let mut random = fastrand::Rng::new();
    let peer = request.client_ip.to_canonical().to_string();
    let found = match (&request.key, pool.wants.hash) {
        (None, true) => key::of(&pool.hash_on, pool.hash, target, fields, &peer, &mut random),
        _ => None,
    };
    let key = request.key.as_deref().or_else(|| found.as_ref().map(Key::bytes));
    let hashed = key.filter(|_| pool.wants.hash).map(|bytes| (bytes, key::hash(pool.hash, bytes)));
    let client = client_bytes(request.client_ip);
    let asked = PickRequest {
        worker: None,
        attempt: 0,
        tried: &[],
        key: hashed,
        random: random.u64(..),
        now_ns,
        dry: true,
        body_length: Some(request.body.len() as u64),
        lookup: &parts(request, &client, pool.wants.body),
    };
    // Idle connections belong to workers, so only a worker knows whether it can use one.
    let caps = Caps { requests: policy.limits.requests_in_flight_per_backend, connections: None };
    let has_room = |index: usize| caps.has_room(pool.backends[index].in_flight(), 0, 0);
    let mut choice = pool.choose(&asked, has_room, |asked| pool.picker.pick(asked));
    if choice == Err(Unchosen::Wait) && policy.queue.length == 0 {
        choice = pool.choose_without_queue(&asked, has_room);
    }
    let (strategy_says, strategy_failed) = ask_strategy(&pool.picker, &asked);
    let plugin = pool.picker.strategy().plugin();
    let queue = metrics.queue_totals(&pool.name);
    let choice = choice.map_err(|none| match none {
        Unchosen::NoBackend | Unchosen::AllTried => None,
        Unchosen::Overload => Some(Cause::Full),
        Unchosen::Wait => Some(Cause::Strategy),
    });
    let choice = choice.and_then(|choice| match Cause::despite_room(pool, queue, hashed.is_some()) {
        None => Ok(choice),
        cause => Err(cause),
    });
    let (backend, picked_by, reason) = outcome(choice);
    let wait = choice.err().flatten().and_then(|cause| Wait::of(cause, &policy.queue, queue));
    let backends = candidates(pool);
    Ok(Explanation {
        pool: pool.name.to_string(),
        generation: generation.number,
        strategy: plugin.name().to_owned(),
        strategy_version: plugin.version().to_owned(),
        key: key.map(|bytes| String::from_utf8_lossy(bytes).into_owned()),
        hash: hashed.map(|(_, hash)| format!("{hash:016x}")),
        backend: backend.map(|index| pool.backends[index].id.to_string()),
        wait,
        picked_by,
        reason,
        eligible: backends.iter().filter(|one| one.eligible).map(|one| one.backend.clone()).collect(),
        backends,
        strategy_says,
        strategy_failed,
    })
}

/// The strategy's own explanation, or how it failed to explain.
fn ask_strategy(picker: &Picker, asked: &PickRequest<'_>) -> (Option<Value>, Option<String>) {
    match picker.explain(asked) {
        None => (None, None),
        Some(Ok(text)) => (Some(serde_json::from_str(&text).unwrap_or_else(|_| text.into())), None),
        Some(Err(error)) => (None, Some(error.to_string())),
    }
}

/// The parts of the request that a strategy may look up, with at most `body_bytes` bytes of the body.
fn parts<'a>(request: &'a ExplainRequest, client: &'a [u8; 16], body_bytes: u32) -> RequestParts<'a> {
    RequestParts {
        method: &request.method,
        target: &request.target,
        fields: &request.fields,
        client,
        body: &request.body[..request.body.len().min(body_bytes as usize)],
    }
}

/// The backend's index, what picked it, and why it was not the strategy.
fn outcome(choice: Result<Choice, Option<Cause>>) -> (Option<usize>, Option<&'static str>, Option<&'static str>) {
    match choice {
        Ok(Choice { index, fallback: None, .. }) => (Some(index), Some("strategy"), None),
        Ok(Choice { index, fallback: Some(reason), .. }) => (Some(index), Some("fallback"), Some(reason.as_str())),
        Err(None) => (None, None, Some("no_backend")),
        Err(Some(_)) => (None, None, Some("overload")),
    }
}

fn find_place(generation: &Generation, request: &ExplainRequest) -> Result<Place, ControlError> {
    match &request.pool {
        Some(name) => generation
            .pools
            .iter()
            .position(|pool| *pool.name == **name)
            .map(|pool| Place { pool, policy: pool })
            .ok_or_else(|| ControlError::NotFound(format!("there is no pool {name:?}"))),
        None => {
            let host = request.fields.get(b"host").and_then(|host| std::str::from_utf8(host).ok()).unwrap_or_default();
            let path = normal_path(request.target.path()).map_err(|what| {
                ControlError::Refused(format!("{}: {what}; lb would respond with 400", request.target.path()))
            })?;
            Ok(generation.route(|| without_port(host), &path))
        }
    }
}

fn candidates(pool: &PoolGeneration) -> Vec<Candidate> {
    let of = |(backend, spec): (&Arc<crate::pool::Backend>, &lb_strategy_host::BackendSpec)| {
        let latency_ns = backend.stats.ewma_latency_ns.load(Relaxed);
        Candidate {
            backend: backend.id.to_string(),
            eligible: backend.is_eligible(),
            weight: spec.weight,
            effective_weight: f64::from(spec.effective) / 1e3,
            in_flight: backend.in_flight(),
            ewma_latency_ms: (latency_ns > 0).then_some(latency_ns as f64 / 1e6),
        }
    };
    pool.backends.iter().zip(pool.picker.backends().specs()).map(of).collect()
}

// === impl ExplainRequest ===

impl Default for ExplainRequest {
    /// A GET of `/` by a client on this machine.
    fn default() -> Self {
        Self {
            pool: None,
            key: None,
            method: Method::GET,
            target: Target::default(),
            fields: Fields::new(),
            body: Vec::new(),
            client_ip: Ipv4Addr::LOCALHOST.into(),
        }
    }
}
