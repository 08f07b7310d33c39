//! Full backends: the strategy is asked again without them, then the request may wait.
//!
//! Why ask again and not let the fallback pick: a strategy with affinity, such as a ring, then degrades step by step.
//! The second backend of a key is the same for each of its requests. A retry works the same way, with the backends that
//! failed. Why only three times: after four full backends a key has no useful affinity left, and each pick costs time.
//!
//! Invariants: a choice is never a backend that was tried, is full or may not serve. While another backend is eligible,
//! no backend gets a second attempt: [`Unchosen::AllTried`] is the only permission for it. If the strategy's first pick
//! has room, caps cost one comparison.

use lb_strategy_host::{Decision, PickRequest};

use crate::{Choice, Chooser};

/// How often the strategy is asked again after a full pick.
pub const ASKS_AGAIN_MAX: usize = 3;

/// The caps of one backend, over all workers. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// Requests in flight.
    pub requests: Option<u32>,
    /// Open connections, idle ones included.
    pub connections: Option<u32>,
}

/// Why no backend was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unchosen {
    /// No backend is eligible, or the list of the strategy has no eligible one and the strategy returned none.
    NoBackend,
    /// Every eligible backend was tried for this request. A retry may begin again with none tried, after the
    /// [back-off](crate::BackOff).
    AllTried,
    /// The eligible and untried backends that were asked for are full. The request may wait in the queue.
    Overload,
    /// The strategy lets the request wait in the queue. Without a queue [`Chooser::choose_without_queue`] is next.
    Wait,
}

// === impl Caps ===

impl Caps {
    /// Whether a backend has room for one more request. `connections` are open in all workers, and `idle` of them wait
    /// in this worker: a request takes an idle one first.
    #[inline]
    pub fn has_room(&self, in_flight: u32, connections: u32, idle: usize) -> bool {
        self.requests.is_none_or(|most| in_flight < most)
            && (idle > 0 || self.connections.is_none_or(|most| connections < most))
    }

    /// The room of a backend for more requests, for [`to_wake`](crate::to_wake); `None` if it has no limit.
    pub fn room(&self, in_flight: u32, connections: u32, idle: usize) -> Option<usize> {
        let requests = self.requests.map(|most| most.saturating_sub(in_flight) as usize);
        let connections = self.connections.map(|most| most.saturating_sub(connections) as usize + idle);
        [requests, connections].into_iter().flatten().min()
    }
}

// === impl Chooser ===

impl Chooser<'_> {
    /// Chooses a backend with the strategy, which `ask` asks. `has_room` applies the caps.
    ///
    /// A full pick counts as tried, and the strategy is asked again, at most [`ASKS_AGAIN_MAX`] times. After that, a
    /// request with affinity (its key counts) is not spread further. Without affinity the fallback picks a backend with
    /// room, so that no room is left unused while requests wait.
    #[inline]
    pub fn choose(
        &self,
        request: &PickRequest<'_>,
        has_room: impl Fn(usize) -> bool,
        mut ask: impl FnMut(&PickRequest<'_>) -> Decision,
    ) -> Result<Choice, Unchosen> {
        match ask(request) {
            Decision::Backend { index, token } if self.backends[index].is_eligible() && has_room(index) => {
                Ok(Choice { index, token, fallback: None })
            }
            decision => self.choose_again(decision, request, &has_room, &mut ask),
        }
    }

    /// Continues after a first decision that cannot be used as it is.
    #[cold]
    fn choose_again(
        &self,
        mut decision: Decision,
        request: &PickRequest<'_>,
        has_room: &dyn Fn(usize) -> bool,
        ask: &mut dyn FnMut(&PickRequest<'_>) -> Decision,
    ) -> Result<Choice, Unchosen> {
        let may_serve = |index: usize| self.backends[index].is_eligible() && has_room(index);
        let has_affinity = self.wants_hash && request.key.is_some();
        let mut tried = request.tried.to_vec();
        let mut asks = 0;
        // The strategy's picks until one is not a full backend.
        while let Decision::Backend { index, token } = decision {
            if may_serve(index) {
                return Ok(Choice { index, token, fallback: None });
            }
            if !self.backends[index].is_eligible() {
                break;
            }
            if asks == ASKS_AGAIN_MAX && has_affinity {
                return Err(Unchosen::Overload);
            }
            if asks == ASKS_AGAIN_MAX {
                break;
            }
            asks += 1;
            tried.push(index as u32);
            decision = ask(&PickRequest { tried: &tried, ..*request });
        }
        let chosen = match decision {
            Decision::NoBackend => None,
            Decision::Wait => return Err(self.why_wait(request)),
            _ => self.fall_back(decision, &PickRequest { tried: &tried, ..*request }, may_serve),
        };
        // The list of the strategy is empty for this request, and no full backend was the cause.
        let has_none = decision == Decision::NoBackend && asks == 0;
        chosen.ok_or_else(|| self.why_unchosen(request, has_none))
    }

    /// The choice for a request that may not wait although the strategy wants it to: the pool has no queue.
    #[cold]
    pub fn choose_without_queue(
        &self,
        request: &PickRequest<'_>,
        has_room: impl Fn(usize) -> bool,
    ) -> Result<Choice, Unchosen> {
        let may_serve = |index: usize| self.backends[index].is_eligible() && has_room(index);
        let chosen = self.fall_back(Decision::Wait, request, may_serve);
        chosen.ok_or_else(|| self.why_unchosen(request, false))
    }

    /// A first attempt may wait for a backend that is down. For a retry that is too long: it needs an untried backend
    /// that is up.
    fn why_wait(&self, request: &PickRequest<'_>) -> Unchosen {
        match request.tried.is_empty() || self.has_untried(request) {
            true => Unchosen::Wait,
            false => self.why_unchosen(request, false),
        }
    }

    fn why_unchosen(&self, request: &PickRequest<'_>, has_none: bool) -> Unchosen {
        match self.has_untried(request) {
            true if has_none => Unchosen::NoBackend,
            true => Unchosen::Overload,
            false if self.backends.iter().any(|backend| backend.is_eligible()) => Unchosen::AllTried,
            false => Unchosen::NoBackend,
        }
    }
}

#[cfg(test)]
mod tests;
