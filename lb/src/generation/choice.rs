//! From a strategy's pick to a backend, with the pool's list and its fallback.
//!
//! Both wings use it: a worker for each request, and control for an explanation. So an explanation shows the pick that
//! a worker would make.

use lb_balance::{Choice, Chooser, Unchosen};
use lb_strategy_host::{Decision, Headers, PickRequest};

use super::PoolGeneration;
use crate::http1::Fields;

/// A request's headers, for a strategy.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a>(pub &'a Fields);

// === impl PoolGeneration ===

impl PoolGeneration {
    /// The backend for `request`. `ask` asks the picker, `has_room` is about the backend at an index.
    #[inline]
    pub fn choose(
        &self,
        request: &PickRequest<'_>,
        has_room: impl Fn(usize) -> bool,
        ask: impl FnMut(&PickRequest<'_>) -> Decision,
    ) -> Result<Choice, Unchosen> {
        let chooser = Chooser {
            backends: &self.backends,
            fallback: self.fallback,
            cursor: &self.fallback_cursor,
            wants_hash: self.wants_hash,
        };
        chooser.choose(request, has_room, ask)
    }

    /// Whether the backend at `index` may get a request that has tried `tried`, without a pick of the strategy.
    pub fn may_serve(&self, index: usize, tried: &[u32]) -> bool {
        self.backends[index].is_eligible() && !tried.contains(&(index as u32))
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
