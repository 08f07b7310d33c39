//! The room of a pool's backends, and the requests that wait for it.
//!
//! Room that no end of an attempt reports appears here: backends that recover, caps that rise, and idle connections of
//! another worker.

use lb_balance::{Caps, to_wake};

use super::{MemberView, PoolView};
use crate::proxy::queue::Turn;

/// The room of all backends that may serve.
pub(in crate::proxy) struct Room {
    has_eligible: bool,
    /// For this number of requests; `None`: no limit.
    free: Option<usize>,
}

// === impl Room ===

impl Room {
    /// Whether a request that looks now may end its wait. Without an eligible backend it ends with a fault.
    pub(in crate::proxy) fn is_worth_a_look(&self) -> bool {
        !self.has_eligible || self.free != Some(0)
    }
}

// === impl PoolView: room ===

impl PoolView {
    /// The newest caps of its backends, for requests of older generations, too.
    #[inline]
    pub(in crate::proxy) fn caps(&self) -> Caps {
        self.caps.get()
    }

    #[cfg(test)]
    pub(in crate::proxy) fn set_caps(&self, caps: Caps) {
        self.caps.set(caps);
    }

    #[inline]
    pub(in crate::proxy) fn has_caps(&self) -> bool {
        let Caps { requests, connections } = self.caps.get();
        requests.is_some() || connections.is_some()
    }

    pub(in crate::proxy) fn room(&self) -> Room {
        let caps = self.caps.get();
        let mut room = Room { has_eligible: false, free: Some(0) };
        self.each_member(|member| {
            if member.backend.is_eligible() {
                room.has_eligible = true;
                room.free = room.free.zip(member.room(caps)).map(|(sum, more)| sum.saturating_add(more));
            }
        });
        room
    }

    /// See [`Line::call_next`](crate::proxy::queue::Line::call_next).
    pub(in crate::proxy) fn call_next(&self) {
        self.line.call_next(self.free());
    }

    /// A request that waited has a backend.
    pub(in crate::proxy) fn serve(&self, turn: Turn) {
        turn.serve(|| self.free());
    }

    /// The free room. Without an eligible backend there is no limit: a wait has no object.
    fn free(&self) -> Option<usize> {
        let Room { has_eligible, free } = self.room();
        free.filter(|_| has_eligible)
    }

    /// Backends or caps may have changed: wakes as many waiting requests as there is room for.
    pub(super) fn stir(&self) {
        let waiting = self.line.waiting();
        if waiting > 0 {
            let Room { has_eligible, free } = self.room();
            self.line.wake_own(if has_eligible { to_wake(free, waiting) } else { waiting });
        }
    }

    /// Follows the bell: wakes the requests that other workers have room for, and closes idle connections if they ask.
    pub(in crate::proxy) fn answer(&self) {
        self.line.take_wakes();
        let Some(most) = self.caps.get().connections.filter(|_| self.line.take_close()) else { return };
        // Woken requests of this worker will take theirs.
        let claimed = self.line.woken();
        self.each_member(|member| {
            if member.backend.connections() >= most && member.idle.len() > claimed {
                member.idle.close_oldest();
            }
        });
    }

    /// If a backend has room only because connections of other workers are idle, asks these to close some.
    pub(in crate::proxy) fn ask_others_to_close(&self) {
        let Caps { requests, connections: Some(most) } = self.caps.get() else { return };
        let mut is_needed = false;
        self.each_member(|member| {
            let (in_flight, connections) = (member.backend.in_flight(), member.backend.connections());
            let is_below = requests.is_none_or(|most| in_flight < most);
            is_needed |= is_below && connections >= most && connections > in_flight && member.idle.len() == 0;
        });
        if is_needed {
            self.line.ask_to_close();
        }
    }
}

// === impl MemberView: room ===

impl MemberView {
    #[inline]
    pub(in crate::proxy) fn has_room(&self, caps: Caps) -> bool {
        caps.has_room(self.backend.in_flight(), self.backend.connections(), self.idle.len())
    }

    fn room(&self, caps: Caps) -> Option<usize> {
        caps.room(self.backend.in_flight(), self.backend.connections(), self.idle.len())
    }
}
