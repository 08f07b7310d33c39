//! The course's routes on the proxy's port: workers send calls, and control carries them out.

use std::sync::Arc;

use http::{Method, request};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::answer;
use crate::control::Handle;
use crate::generation::{Call, CallAnswer};

/// Calls that are carried out at one time. More wait in the channel.
const CALLS_MAX: usize = 64;

/// Carries calls out until all senders are dropped; the hall's generations hold them. `check` applies the admin port's
/// rules on Host and origin.
pub async fn serve_calls(
    mut calls: mpsc::Receiver<Call>,
    handle: Handle,
    check: impl Fn(&request::Parts) -> Result<(), CallAnswer> + Send + Sync + 'static,
) {
    let check = Arc::new(check);
    let mut working = JoinSet::new();
    while let Some(call) = calls.recv().await {
        while working.try_join_next().is_some() {}
        if working.len() >= CALLS_MAX {
            working.join_next().await;
        }
        let (handle, check) = (handle.clone(), check.clone());
        // Each in a task of its own: an /add that waits for a replica must not hold up a /rep.
        working.spawn(async move {
            let (method, path) = (&call.head.method, call.head.uri.path());
            let answer = match check(&call.head) {
                Ok(()) => answer(&handle, method, path, &call.body).await,
                Err(refusal) => refusal,
            };
            if method != Method::GET {
                tracing::info!(peer = %call.peer, %method, path, status = answer.status.as_u16(), "course call");
            }
            let _ = call.answer.send(answer);
        });
    }
    while working.join_next().await.is_some() {}
}
