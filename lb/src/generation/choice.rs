//! From a strategy's answer to a backend: the answer is checked against the live flags, and where it does not count the host picks.
//!
//! In the hall, because both wings ask: a worker for each request, and control when somebody wants to know where a request would go;
//! what is explained is what happens. Invariants: health acts at once, whatever list the strategy saw; a broken strategy costs a better
//! choice, never a request; a dry request changes nothing that a later one sees.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use lb_strategy_host::{Decision, Headers, PickRequest, Refusal};

use super::PoolGeneration;
use crate::http1::Fields;
use crate::pool::fallback_pick;
use crate::telemetry::FallbackReason;

/// A backend for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Of the generation's list.
    pub index: usize,
    /// The strategy's word for its finish; 0 of the fallback.
    pub token: u64,
    /// Why the fallback picked, if it did.
    pub fallback: Option<FallbackReason>,
}

/// Why there is no backend for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoChoice {
    /// None may get requests, or none that was not tried already.
    NoBackend,
    /// Those that may and were not tried are at their limit.
    Overload,
}

/// A request's fields, as a strategy may look them up.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a>(pub &'a Fields);

// === impl PoolGeneration ===

impl PoolGeneration {
    /// What becomes of `decision`, which the picker gave for `request`. `limit`: requests in flight on one backend.
    #[inline]
    pub fn settle(
        &self,
        decision: Decision,
        request: &PickRequest<'_>,
        limit: Option<u32>,
    ) -> Result<Choice, NoChoice> {
        let reason = match decision {
            Decision::Backend { index, token } if self.is_usable(index, limit) => {
                return Ok(Choice { index, token, fallback: None });
            }
            Decision::Backend { .. } => FallbackReason::NotEligible,
            Decision::NoBackend => return Err(NoChoice::NoBackend),
            Decision::Refused(Refusal::Undecided) if self.wants_hash && request.key.is_none() => FallbackReason::NoKey,
            Decision::Refused(Refusal::Undecided) => FallbackReason::Undecided,
            Decision::Refused(Refusal::Panic) => FallbackReason::Panic,
            Decision::Refused(Refusal::BadIndex) => FallbackReason::BadIndex,
            Decision::Refused(Refusal::AlreadyTried) => FallbackReason::AlreadyTried,
            Decision::Refused(Refusal::NotEligible) => FallbackReason::NotEligible,
            Decision::Refused(Refusal::Error) => FallbackReason::Error,
        };
        let is_tried = |index: usize| request.tried.contains(&(index as u32));
        let may_serve = |index: usize| !is_tried(index) && self.is_usable(index, limit);
        let pick = |cursor| fallback_pick(self.fallback, &self.backends, may_serve, request.random, cursor);
        let picked = match request.dry {
            false => pick(&self.fallback_cursor),
            true => pick(&AtomicUsize::new(self.fallback_cursor.load(Relaxed))),
        };
        match picked {
            Some(index) => Ok(Choice { index, token: 0, fallback: Some(reason) }),
            // One that is eligible and was not tried, and yet may not serve, is at its limit.
            None if limit.is_some()
                && (0..self.backends.len()).any(|index| !is_tried(index) && self.backends[index].is_eligible()) =>
            {
                Err(NoChoice::Overload)
            }
            None => Err(NoChoice::NoBackend),
        }
    }

    #[inline]
    fn is_usable(&self, index: usize, limit: Option<u32>) -> bool {
        let backend = &self.backends[index];
        backend.is_eligible() && limit.is_none_or(|limit| backend.in_flight() < limit)
    }
}

// === impl Lookup ===

impl Headers for Lookup<'_> {
    fn get(&self, name: &[u8], nth: usize) -> Option<&[u8]> {
        let mut named = self.0.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        named.nth(nth).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_finds_every_value_of_a_name_in_any_case() {
        let fields = [("Host", "a"), ("x-key", "1"), ("X-Key", "2"), ("x-keys", "3")].into_iter().collect();
        let lookup = Lookup(&fields);
        for name in [&b"x-key"[..], b"X-KEY"] {
            let found = [0, 1, 2].map(|nth| lookup.get(name, nth));
            assert_eq!(found, [Some(&b"1"[..]), Some(b"2"), None]);
        }
        assert_eq!(
            [&b"x"[..], b"", b"\xff", b"host"].map(|name| lookup.get(name, 0)),
            [None, None, None, Some(&b"a"[..])]
        );
    }
}
