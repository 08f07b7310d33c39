//! The shadows of a pool: each picks for a request that the strategy in charge has picked for, and is told about
//! attempts.
//!
//! Why before the place is taken: a shadow then sees the same requests in flight as the strategy in charge did.
//!
//! Invariants: a shadow changes nothing that the request does. Only first attempts that the strategy was asked for are
//! shown: no retry, no hedge, no session. An attempt is a shadow's own if it is the shown one and the shadow picked its
//! backend. Memory is kept for the next attempt, so shadows cost no allocation.

use lb_strategy_host::{Decision, Finish, PickRequest, Refusal, Start};
use tokio::time::Instant;

use super::Exchange;
use super::account::Account;
use super::choose::parts;
use crate::generation::{PoolGeneration, Shadow};
use crate::pool::{Key, key};
use crate::proxy::shown::{ShadowPick, Shown};
use crate::proxy::view::{Current, ShadowView};
use crate::telemetry::ShadowResult;

/// Has each shadow pick for the request that gets the backend at `routed`. A request that then finds no room is not
/// shown again. Returns the time after it, which is the begin of the attempt.
#[cold]
pub(super) fn show(exchange: &Exchange, current: &Current, request: &PickRequest<'_>, routed: usize) -> (Instant, u64) {
    let shown = exchange.shown.take().unwrap_or_else(|| picks_of(exchange, current, request, routed));
    exchange.shown.set(Some(shown));
    let now = Instant::now();
    (now, exchange.context.local.clock_ns(now))
}

fn picks_of(exchange: &Exchange, current: &Current, request: &PickRequest<'_>, routed: usize) -> Box<Shown> {
    let mut shown = exchange.context.local.shown.take().unwrap_or_default();
    let own_key = own_key(exchange, &current.shared);
    let key = exchange.key.as_ref().or(own_key.as_ref()).map(|key| (Key::bytes(key), key.hash));
    let shadows = current.shared.shadows.iter().zip(&current.shadows);
    shown.take(shadows.map(|(shadow, view)| {
        let key = key.filter(|_| shadow.wants.hash);
        let request = PickRequest { key, lookup: &parts(exchange, shadow.wants.body), ..*request };
        pick_of(shadow, view, &current.shared, &request, routed)
    }));
    shown
}

/// The key of a request if only shadows ask for it.
fn own_key(exchange: &Exchange, shared: &PoolGeneration) -> Option<Key> {
    if shared.wants.hash || !shared.shadows.iter().any(|shadow| shadow.wants.hash) {
        return None;
    }
    let mut random = exchange.context.local.random.borrow_mut();
    let (target, fields) = (&exchange.head.target, &exchange.head.fields);
    key::of(&shared.hash_on, shared.hash, target, fields, &exchange.context.peer.text, &mut random)
}

fn pick_of(
    shadow: &Shadow,
    view: &ShadowView,
    shared: &PoolGeneration,
    request: &PickRequest<'_>,
    routed: usize,
) -> Option<ShadowPick> {
    let decision = view.shard.pick(request.now_ns, || shadow.picker.pick_as_shadow(request));
    view.backends[routed].routed.inc();
    let Decision::Backend { index, token } = decision else {
        view.shard.result(result_of(decision));
        if decision == Decision::Refused(Refusal::Panic) {
            view.shard.panicked();
        }
        return None;
    };
    view.shard.result(if index == routed { ShadowResult::Same } else { ShadowResult::Other });
    view.backends[index].picked.inc();
    Some(ShadowPick { instance: shadow.picker.strategy().instance(), backend: shared.backends[index].number, token })
}

/// The result of a decision without a backend.
fn result_of(decision: Decision) -> ShadowResult {
    match decision {
        Decision::Wait => ShadowResult::Wait,
        Decision::NoBackend => ShadowResult::None,
        Decision::Refused(Refusal::Undecided) => ShadowResult::Undecided,
        Decision::Backend { .. } | Decision::Refused(_) => ShadowResult::Fault,
    }
}

/// Tells the shadows that ask for it that an attempt begins.
#[cold]
pub(super) fn tell_start(current: &Current, shown: Option<&Shown>, start: &Start) {
    let shadows = current.shared.shadows.iter().zip(&current.shadows);
    for (shadow, view) in shadows.filter(|(shadow, _)| shadow.wants.start) {
        let token = own_token(shadow, shown, start.backend_id);
        let start = Start { own: token.is_some(), token: token.unwrap_or_default(), ..*start };
        view.shard.inside(start.now_ns, || shadow.picker.start(&start));
    }
}

/// The same for its end, with the response if they ask for that.
#[cold]
pub(super) fn tell_finish(current: &Current, shown: Option<&Shown>, finish: &Finish, account: Option<&Account>) {
    let shadows = current.shared.shadows.iter().zip(&current.shadows);
    for (shadow, view) in shadows.filter(|(shadow, _)| shadow.wants.finish) {
        let token = own_token(shadow, shown, finish.backend_id);
        let finish = Finish { own: token.is_some(), token: token.unwrap_or_default(), ..*finish };
        let instance = shadow.picker.strategy().instance();
        view.shard.inside(finish.now_ns, || match account.filter(|_| shadow.wants.answer) {
            Some(account) => account.with(instance, |answered| shadow.picker.finish_with(&finish, answered)),
            None => shadow.picker.finish(&finish),
        });
    }
}

/// The token of the shadow's pick, if it picked this backend for this attempt.
fn own_token(shadow: &Shadow, shown: Option<&Shown>, backend: u64) -> Option<u64> {
    shown?.token(shadow.picker.strategy().instance(), backend)
}
