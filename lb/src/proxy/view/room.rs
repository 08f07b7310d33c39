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

    #[cfg(test)]
    pub(in crate::proxy) fn set_adaptive(&self, owner: crate::proxy::owner::Owner) {
        self.adaptive.set(true, owner);
    }

    /// Whether requests may have to wait.
    #[inline]
    pub(in crate::proxy) fn has_caps(&self) -> bool {
        let Caps { requests, connections } = self.caps.get();
        requests.is_some() || connections.is_some() || self.adaptive.is_on()
    }

    /// Whether a new request waits behind others. The adaptive limit is a worker's own, and then so is the order.
    #[inline]
    pub(in crate::proxy) fn is_behind(&self) -> bool {
        if self.adaptive.is_on() { !self.line.is_empty() } else { self.line.is_occupied() }
    }

    /// Whether this worker has as many attempts in flight as the adaptive limit allows.
    #[inline]
    pub(in crate::proxy) fn is_at_limit(&self) -> bool {
        self.adaptive.free() == Some(0)
    }

    #[inline]
    pub(in crate::proxy) fn attempt_begins(&self) {
        self.adaptive.begin();
    }

    #[inline]
    pub(in crate::proxy) fn attempt_ends(&self) {
        self.adaptive.end();
    }

    /// An attempt has ended: wakes a request that waits.
    #[inline]
    pub(in crate::proxy) fn freed(&self) {
        if self.adaptive.is_on() {
            // The limit has room in this worker, and the backend for all of them.
            let is_other_first = self.is_room_shared() && self.line.is_other_first();
            self.line.wake_own(1);
            if !is_other_first {
                return;
            }
        }
        self.line.freed();
    }

    /// Whether requests of all workers wait for the same room, beside the adaptive limit of each.
    pub(in crate::proxy) fn is_room_shared(&self) -> bool {
        self.caps.get() != Caps::default() || self.line.has_strategy_waits()
    }

    /// An attempt got its response head after this time, or timed out.
    #[inline]
    pub(in crate::proxy) fn sample(&self, now_ns: u64, elapsed_ns: u64) {
        if self.adaptive.is_on() {
            self.line.wake_own(self.adaptive.sample(now_ns, elapsed_ns));
        }
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

    /// Whether a backend that may serve has room and no request in flight. With `has_affinity` the request may be for
    /// another backend, so all of them must be so. Backends of `tried` do not count.
    pub(in crate::proxy) fn has_idle(&self, tried: &[u64], has_affinity: bool) -> bool {
        let caps = self.caps.get();
        let (mut idle, mut busy) = (false, false);
        self.each_member(|member| {
            let backend = &member.backend;
            if backend.is_eligible() && !tried.contains(&backend.number) {
                let is_idle = backend.in_flight() == 0 && member.has_room(caps);
                (idle, busy) = (idle | is_idle, busy | !is_idle);
            }
        });
        idle && !(has_affinity && busy)
    }

    /// See [`Line::call_next`](crate::proxy::queue::Line::call_next).
    pub(in crate::proxy) fn call_next(&self) {
        let free = self.free();
        match self.adaptive.free() {
            None => self.line.call_next(free),
            Some(own) if own.min(free.unwrap_or(own)) > self.line.woken() => self.line.wake_own(1),
            Some(_) => {}
        }
    }

    /// See [`Line::has_unclaimed`](crate::proxy::queue::Line::has_unclaimed).
    pub(in crate::proxy) fn has_unclaimed_room(&self) -> bool {
        let free = self.free();
        match self.adaptive.free() {
            None => self.line.has_unclaimed(free),
            Some(own) => own.min(free.unwrap_or(own)) > self.line.woken(),
        }
    }

    /// A request that waited has a backend. Each one asks for the next idle connection, because one that closes serves
    /// only one request.
    pub(in crate::proxy) fn serve(&self, turn: Turn) {
        // Only its worker sees the idle connections that the next one may use.
        let is_visible = || self.caps.get().connections.is_none() || !self.line.is_other_first();
        match self.adaptive.is_on() {
            false => turn.serve(|| self.free().filter(|_| is_visible())),
            // The limit is this worker's own, and so is the order.
            true => {
                turn.serve(|| Some(0));
                self.call_next();
            }
        }
        if self.line.waiting() > 0 {
            self.ask_others_to_close();
        }
        // An idle connection here was reserved for this request, which may have another one.
        if self.line.is_other_first() {
            self.close_idle();
        }
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
            let free = [free, self.adaptive.free()].into_iter().flatten().min();
            match has_eligible {
                false => self.line.wake_own(waiting),
                // Only the strategy knows the room: it is asked for the first one, and then for the next.
                true if free.is_none() && self.line.has_strategy_waits() => self.line.wake_first(),
                true => self.line.wake_own(to_wake(free, waiting)),
            }
        }
        if self.line.waiting() > 0 {
            self.ask_others_to_close();
        }
    }

    /// Follows the bell: wakes the requests that other workers have room for, and closes idle connections if they ask.
    pub(in crate::proxy) fn answer(&self) {
        self.line.take_wakes();
        if self.line.take_close() {
            self.close_idle();
        }
    }

    /// Closes an idle connection to each backend at its cap of connections.
    fn close_idle(&self) {
        let Some(most) = self.caps.get().connections else { return };
        // Woken requests of this worker will take theirs.
        let claimed = self.line.woken();
        self.each_member(|member| {
            if member.backend.connections() >= most && member.idle.len() > claimed {
                member.idle.close_oldest();
            }
        });
    }

    /// The cap may have been lowered: closes idle connections above it.
    pub(super) fn close_surplus(&self) {
        if let Some(most) = self.caps.get().connections {
            self.each_member(|member| while member.backend.connections() > most && member.idle.close_oldest() {});
        }
    }

    /// If a backend lacks only a connection, asks the other workers to close idle ones. Requests in flight do not show
    /// that all connections are in use: with a new address a backend keeps the requests of the old one.
    pub(in crate::proxy) fn ask_others_to_close(&self) {
        let Caps { requests, connections: Some(most) } = self.caps.get() else { return };
        let mut is_needed = false;
        self.each_member(|member| {
            let backend = &member.backend;
            let may_serve = backend.is_eligible() && requests.is_none_or(|most| backend.in_flight() < most);
            is_needed |= may_serve && backend.connections() >= most && member.idle.len() == 0;
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
