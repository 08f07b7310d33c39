//! `GET /strategies` and `GET /ring`: the strategies that lb can load, and the ring of the one in charge.
//!
//! Invariant: `/ring` waits at most [`RING_TIME_MAX`] for the builder; if a plugin keeps it busy, the response is 503.

use std::time::Duration;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::answer::Answer;
use super::backends::pool_of;
use crate::control::{Handle, OfferedStrategy, Status};

/// The time limit for the builder, which may be busy with other work.
const RING_TIME_MAX: Duration = Duration::from_secs(5);

#[derive(Serialize, JsonSchema)]
pub(super) struct Strategies<'a> {
    strategies: Vec<OfferedStrategy>,
    in_charge: Vec<InCharge<'a>>,
}

#[derive(Serialize, JsonSchema)]
struct InCharge<'a> {
    pool: &'a str,
    name: &'a str,
    version: &'a str,
}

pub(super) async fn list(handle: &Handle) -> Answer {
    let (strategies, status) = match (handle.strategies().await, handle.status().await) {
        (Ok(strategies), Ok(status)) => (strategies, status),
        (Err(error), _) | (_, Err(error)) => return error.into(),
    };
    Answer::json(&Strategies { strategies, in_charge: in_charge(&status) })
}

pub(super) async fn ring(handle: &Handle, query: Option<&str>) -> Answer {
    let pool = match pool_of(query) {
        Ok(pool) => pool,
        Err(sentence) => return Answer::failure(StatusCode::BAD_REQUEST, &sentence),
    };
    match tokio::time::timeout(RING_TIME_MAX, handle.ring(&pool)).await {
        Ok(Ok(ring)) => Answer::json(&ring),
        Ok(Err(error)) => error.into(),
        Err(_) => Answer::failure(StatusCode::SERVICE_UNAVAILABLE, "a strategy keeps the builder busy"),
    }
}

fn in_charge(status: &Status) -> Vec<InCharge<'_>> {
    let pools = status.pools.iter();
    pools.map(|pool| InCharge { pool: &pool.name, name: &pool.strategy, version: &pool.strategy_version }).collect()
}
