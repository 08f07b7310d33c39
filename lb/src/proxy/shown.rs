//! What the shadows of a pool picked for a request, kept from the pick to the end of the attempt.
//!
//! Invariant: it names instances and backends by their numbers, so it stays right over reloads and changes of members.

use crate::config::SHADOWS_MAX;

/// See the module.
#[derive(Default)]
pub(super) struct Shown {
    picks: [Option<ShadowPick>; SHADOWS_MAX],
}

/// The pick of one shadow.
#[derive(Clone, Copy)]
pub(super) struct ShadowPick {
    pub(super) instance: u64,
    /// [`Backend::number`](crate::pool::Backend::number).
    pub(super) backend: u64,
    pub(super) token: u64,
}

// === impl Shown ===

impl Shown {
    /// Takes the picks of the next request, one for each shadow.
    pub(super) fn take(&mut self, picks: impl Iterator<Item = Option<ShadowPick>>) {
        self.picks = [None; SHADOWS_MAX];
        self.picks.iter_mut().zip(picks).for_each(|(own, pick)| *own = pick);
    }

    /// The token of the pick of `instance`, if it picked `backend`.
    pub(super) fn token(&self, instance: u64, backend: u64) -> Option<u64> {
        let mut picks = self.picks.iter().flatten();
        picks.find(|pick| pick.instance == instance && pick.backend == backend).map(|pick| pick.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pick_is_an_instances_own_only_for_its_backend_and_until_the_next_request() {
        let pick = |instance, backend, token| Some(ShadowPick { instance, backend, token });
        let mut shown = Shown::default();
        shown.take([pick(1, 7, 70), None, pick(2, 8, 80)].into_iter());
        assert_eq!([shown.token(1, 7), shown.token(2, 8)], [Some(70), Some(80)]);
        assert_eq!([shown.token(1, 8), shown.token(3, 7)], [None, None]);
        shown.take([None].into_iter());
        assert_eq!([shown.token(1, 7), shown.token(2, 8)], [None, None]);
    }
}
