//! The probes: `/healthz` (does this process work) and `/readyz` (should it get traffic).
//!
//! There are two because a balancer without backends is healthy but not ready, and a restart would not help. Invariant:
//! both respond within about a second, even if control or a worker hangs.

use std::time::Duration;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::answer::Answer;
use super::server::Shared;
use crate::generation::{Generation, SILENCE_MAX};

/// Without a reply in this time, control counts as stuck.
const ANSWER_MAX: Duration = Duration::from_secs(1);

#[derive(Serialize, JsonSchema)]
pub(super) struct NotReady<'a> {
    message: String,
    status: &'static str,
    /// The names of the pools where no backend may get a request.
    pools: Vec<&'a str>,
}

pub(super) async fn healthz(shared: &Shared) -> Answer {
    let sick = |sentence: &str| Answer::failure(StatusCode::SERVICE_UNAVAILABLE, sentence);
    match tokio::time::timeout(ANSWER_MAX, shared.handle.status()).await {
        Ok(Ok(status)) if status.builder_stuck => sick("the builder is stuck in a plugin for over a second"),
        Ok(Ok(_)) if shared.hall.stuck_workers(SILENCE_MAX) > 0 => sick(
            "a worker does not respond, so its requests hang. The likely cause is a strategy whose pick does not return; restart lb",
        ),
        Ok(Ok(_)) => Answer::text(StatusCode::OK, "ok"),
        Ok(Err(error)) => sick(&error.to_string()),
        Err(_) => sick("control does not respond"),
    }
}

pub(super) fn readyz(shared: &Shared) -> Answer {
    if shared.is_stopping() {
        return Answer::failure(StatusCode::SERVICE_UNAVAILABLE, "the load balancer is stopping");
    }
    if shared.hall.stuck_workers(SILENCE_MAX) > 0 {
        return Answer::failure(StatusCode::SERVICE_UNAVAILABLE, "a worker does not respond, so its requests hang");
    }
    let generation = shared.hall.current();
    if generation.awaited > 0 {
        let sentence = format!("backends that wait for their first health check: {}", generation.awaited);
        return Answer::failure(StatusCode::SERVICE_UNAVAILABLE, &sentence);
    }
    let pools = pools_without_eligible(&generation);
    if pools.is_empty() {
        return Answer::text(StatusCode::OK, "ok");
    }
    let message = format!("<Error> no eligible backend in: {}", pools.join(", "));
    Answer { status: StatusCode::SERVICE_UNAVAILABLE, ..Answer::json(&NotReady { message, status: "failure", pools }) }
}

fn pools_without_eligible(generation: &Generation) -> Vec<&str> {
    let empty = generation.pools.iter().filter(|pool| !pool.backends.iter().any(|backend| backend.is_eligible()));
    empty.map(|pool| &*pool.name).collect()
}
