//! From a strategy's pick to a backend. The pick is checked against the live flags. If it cannot be used, the host
//! picks. [`Chooser::choose`], which also passes full backends by, is in `caps`.
//!
//! Invariants: health acts at once, even if the strategy's list is older. If a plugin fails, a built-in policy picks;
//! the request proceeds. A dry request changes nothing that a later request sees.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use lb_strategy_host::{Decision, PickRequest, Refusal};

use crate::{Backend, Fallback, fallback_pick};

/// The backend for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its index in [`Chooser::backends`].
    pub index: usize,
    /// The strategy's token, for its finish; 0 if the fallback picked.
    pub token: u64,
    /// Why the fallback picked, if it did.
    pub fallback: Option<FallbackReason>,
}

/// Why the built-in fallback picked instead of the strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FallbackReason {
    /// The strategy left this pick to the host.
    Undecided,
    /// The request has no key and the strategy needs one. This is no fault of the strategy.
    NoKey,
    /// The strategy panicked.
    Panic,
    /// The pick is outside the list.
    BadIndex,
    /// The pick was already tried for this request.
    AlreadyTried,
    /// The picked backend may not get requests now, or is full.
    NotEligible,
    /// The strategy returned no backend, although its list has an eligible, untried one.
    Declined,
    /// The strategy returned an error.
    Error,
    /// The strategy lets the request wait, but the pool has no queue. This is no fault of the strategy.
    NoQueue,
}

/// The data of a pool that turns picks into choices.
#[derive(Clone, Copy, Debug)]
pub struct Chooser<'a> {
    /// In the order of the list that the strategy picks from.
    pub backends: &'a [Arc<Backend>],
    pub fallback: Fallback,
    /// The next turn of the fallback `round_robin`.
    pub cursor: &'a AtomicUsize,
    /// Whether the strategy wants a hash.
    pub wants_hash: bool,
}

fn is_tried(request: &PickRequest<'_>, index: usize) -> bool {
    request.tried.contains(&(index as u32))
}

// === impl Chooser ===

impl Chooser<'_> {
    /// The fallback's choice among the untried backends that `may_serve`, because of a decision that cannot be used.
    pub(crate) fn fall_back(
        &self,
        decision: Decision,
        request: &PickRequest<'_>,
        may_serve: impl Fn(usize) -> bool,
    ) -> Option<Choice> {
        let reason = match decision {
            Decision::Backend { .. } | Decision::NoBackend => FallbackReason::NotEligible,
            Decision::Wait => FallbackReason::NoQueue,
            Decision::Refused(Refusal::Undecided) if self.wants_hash && request.key.is_none() => FallbackReason::NoKey,
            Decision::Refused(Refusal::Undecided) => FallbackReason::Undecided,
            Decision::Refused(Refusal::Panic) => FallbackReason::Panic,
            Decision::Refused(Refusal::BadIndex) => FallbackReason::BadIndex,
            Decision::Refused(Refusal::AlreadyTried) => FallbackReason::AlreadyTried,
            Decision::Refused(Refusal::NotEligible) => FallbackReason::NotEligible,
            Decision::Refused(Refusal::Declined) => FallbackReason::Declined,
            Decision::Refused(Refusal::Error) => FallbackReason::Error,
        };
        let may_serve = |index: usize| !is_tried(request, index) && may_serve(index);
        let pick = |cursor| fallback_pick(self.fallback, self.backends, may_serve, request.random, cursor);
        let index = match request.dry {
            false => pick(self.cursor),
            true => pick(&AtomicUsize::new(self.cursor.load(Relaxed))),
        }?;
        Some(Choice { index, token: 0, fallback: Some(reason) })
    }

    /// Whether a backend is eligible and untried.
    pub(crate) fn has_untried(&self, request: &PickRequest<'_>) -> bool {
        (0..self.backends.len()).any(|index| !is_tried(request, index) && self.backends[index].is_eligible())
    }
}

// === impl FallbackReason ===

impl FallbackReason {
    /// In the order of the variants, so `reason as usize` is the index here.
    pub const ALL: &'static [Self] = &[
        Self::Undecided,
        Self::NoKey,
        Self::Panic,
        Self::BadIndex,
        Self::AlreadyTried,
        Self::NotEligible,
        Self::Declined,
        Self::Error,
        Self::NoQueue,
    ];
    pub const COUNT: usize = Self::ALL.len();

    /// The name of the reason in metrics, logs and responses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::NoKey => "no_key",
            Self::Panic => "panic",
            Self::BadIndex => "bad_index",
            Self::AlreadyTried => "already_tried",
            Self::NotEligible => "not_eligible",
            Self::Declined => "declined",
            Self::Error => "error",
            Self::NoQueue => "no_queue",
        }
    }
}

impl std::fmt::Display for FallbackReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::{Eligibility, Unchosen};

    fn request(tried: &[u32], dry: bool) -> PickRequest<'_> {
        PickRequest {
            worker: None,
            attempt: 0,
            tried,
            key: None,
            random: 1,
            now_ns: 1,
            dry,
            body_length: Some(0),
            lookup: &(),
        }
    }

    /// Backends by health and requests in flight.
    fn backends(states: &[(bool, u32)]) -> Vec<Arc<Backend>> {
        let of = |(healthy, load): &(bool, u32)| {
            let eligibility = Eligibility::of(*healthy, false, 1);
            let socket = "127.0.0.1:1".parse().unwrap();
            let backend = Backend::new("b", "127.0.0.1:1", socket, Arc::default(), eligibility);
            (0..*load).for_each(|_| backend.attempt_begins());
            backend
        };
        states.iter().map(of).collect()
    }

    fn chooser<'a>(backends: &'a [Arc<Backend>], cursor: &'a AtomicUsize) -> Chooser<'a> {
        Chooser { backends, fallback: Fallback::RoundRobin, cursor, wants_hash: false }
    }

    /// Chooses with a strategy that always decides alike, and a cap of requests in flight.
    fn choose(
        chooser: Chooser<'_>,
        decision: Decision,
        request: &PickRequest<'_>,
        cap: Option<u32>,
    ) -> Result<Choice, Unchosen> {
        let has_room = |index: usize| cap.is_none_or(|most| chooser.backends[index].in_flight() < most);
        chooser.choose(request, has_room, |_| decision)
    }

    #[test]
    fn a_pick_counts_if_its_backend_is_eligible_now_and_has_room() {
        let (backends, cursor) = (backends(&[(true, 0), (false, 0), (true, 2)]), AtomicUsize::new(0));
        let choose = |index, cap| {
            cursor.store(0, Relaxed);
            let decision = Decision::Backend { index, token: 9 };
            choose(chooser(&backends, &cursor), decision, &request(&[], false), cap)
        };
        let other = Ok(Choice { index: 0, token: 0, fallback: Some(FallbackReason::NotEligible) });
        assert_eq!(choose(2, None), Ok(Choice { index: 2, token: 9, fallback: None }));
        assert_eq!(choose(2, Some(3)), Ok(Choice { index: 2, token: 9, fallback: None }));
        assert_eq!(choose(2, Some(2)), other, "full, and the strategy insists");
        assert_eq!(choose(1, None), other, "not healthy");
    }

    #[test]
    fn a_refused_pick_gives_the_reason_for_the_fallback() {
        let (backends, cursor) = (backends(&[(true, 0)]), AtomicUsize::new(0));
        let reason = |refusal, wants_hash| {
            let chooser = Chooser { wants_hash, ..chooser(&backends, &cursor) };
            let choice = choose(chooser, Decision::Refused(refusal), &request(&[], false), None);
            choice.unwrap().fallback.unwrap().as_str()
        };
        assert_eq!(reason(Refusal::Undecided, true), "no_key");
        assert_eq!(reason(Refusal::Undecided, false), "undecided");
        assert_eq!(reason(Refusal::Panic, true), "panic");
        assert_eq!(reason(Refusal::BadIndex, true), "bad_index");
        assert_eq!(reason(Refusal::AlreadyTried, true), "already_tried");
        assert_eq!(reason(Refusal::NotEligible, true), "not_eligible");
        assert_eq!(reason(Refusal::Declined, true), "declined");
        assert_eq!(reason(Refusal::Error, true), "error");
    }

    #[test]
    fn without_a_backend_it_is_overload_only_if_an_untried_one_is_full() {
        let cursor = AtomicUsize::new(0);
        let why = |states: &[(bool, u32)], tried: &[u32], cap| {
            let backends = backends(states);
            let refused = Decision::Refused(Refusal::Error);
            choose(chooser(&backends, &cursor), refused, &request(tried, false), cap).unwrap_err()
        };
        assert_eq!(why(&[(true, 1), (false, 0)], &[], Some(1)), Unchosen::Overload);
        assert_eq!(why(&[(true, 1), (false, 0)], &[0], Some(1)), Unchosen::AllTried);
        assert_eq!(why(&[(false, 1)], &[], Some(1)), Unchosen::NoBackend);
        assert_eq!(why(&[(true, 0)], &[0], None), Unchosen::AllTried);
        let (backends, all) = (backends(&[(true, 0)]), request(&[], false));
        let says_none = choose(chooser(&backends, &cursor), Decision::NoBackend, &all, None);
        assert_eq!(says_none, Err(Unchosen::NoBackend), "its list had none, so the fallback does not pick");
    }

    #[test]
    fn a_dry_request_takes_no_turn() {
        let (backends, cursor) = (backends(&[(true, 0), (true, 0)]), AtomicUsize::new(0));
        let index = |dry| {
            let refused = Decision::Refused(Refusal::Undecided);
            choose(chooser(&backends, &cursor), refused, &request(&[], dry), None).unwrap().index
        };
        assert_eq!([index(true), index(true), index(false), index(true), index(false)], [0, 0, 0, 1, 1]);
    }

    #[test]
    fn the_number_of_a_reason_is_its_place_in_all() {
        assert!(FallbackReason::ALL.iter().enumerate().all(|(i, reason)| *reason as usize == i));
    }
}
