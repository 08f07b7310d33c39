//! From a strategy's decision to a backend, with the pool's list, its fallback and its limit.
//!
//! Both wings use it: a worker for each request, and control for an explanation. So an explanation shows the pick that
//! a worker would make.

use lb_balance::{Choice, Chooser, NoChoice};
use lb_strategy_host::{Decision, Headers, PickRequest};

use super::PoolGeneration;
use crate::http1::Fields;

/// A request's headers, for a strategy.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a>(pub &'a Fields);

// === impl PoolGeneration ===

impl PoolGeneration {
    /// The backend for `decision`, which the picker returned for `request`. `limit` is the number of requests that may
    /// be in flight on one backend.
    #[inline]
    pub fn choose(
        &self,
        decision: Decision,
        request: &PickRequest<'_>,
        limit: Option<u32>,
    ) -> Result<Choice, NoChoice> {
        let chooser = Chooser {
            backends: &self.backends,
            fallback: self.fallback,
            cursor: &self.fallback_cursor,
            wants_hash: self.wants_hash,
            limit,
        };
        chooser.choose(decision, request)
    }

    /// Whether the backend at `index` may get a request that has tried `tried`, without a pick of the strategy.
    pub fn may_serve(&self, index: usize, tried: &[u32], limit: Option<u32>) -> bool {
        let backend = &self.backends[index];
        let has_room = limit.is_none_or(|limit| backend.in_flight() < limit);
        backend.is_eligible() && has_room && !tried.contains(&(index as u32))
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
