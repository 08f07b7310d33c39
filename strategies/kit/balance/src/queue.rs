//! The requests of one pool that wait in one worker for a backend with room.
//!
//! The order: higher priorities first, first in first out within one. A route's priority is strict, so a low one may
//! wait as long as higher ones arrive. The wait itself is bounded: after `wait_max_ns` a request leaves the queue.
//! [`Shedder`](crate::Shedder) refuses low priorities before the queue is full.
//!
//! A request that was woken keeps its place until it leaves. Another worker may take the pool's room in between. Then
//! the request [waits again](Queue::wait_again), before all later ones.
//!
//! Invariants: each value leaves exactly once, by `pop`, `cancel` or `expire`. At most `length_max` values are in the
//! queue, woken ones included. A value whose time is over is never woken or popped. `push` and `cancel` take constant
//! time, plus a search among the priorities in use. Time that runs backwards counts as standing still.

/// The bounds of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueRules {
    /// The most requests that wait. 0 switches the queue off.
    pub length_max: usize,
    /// The longest wait of a request.
    pub wait_max_ns: u64,
}

/// The place of a value. It stays valid until the value leaves; after that it names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    slot: u32,
    number: u64,
}

/// The queue was full; the value comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// See the file's head.
#[derive(Clone, Debug)]
pub struct Queue<T> {
    rules: QueueRules,
    slots: Vec<Slot<T>>,
    /// The first unused slot.
    unused: Option<u32>,
    /// By priority, highest first. A line stays when it is empty.
    lines: Vec<Line>,
    length: usize,
    waiting: usize,
    /// The number of the next ticket; never reused.
    next_number: u64,
    now_ns: u64,
}

#[derive(Clone, Debug)]
struct Slot<T> {
    /// Of the ticket that owns the slot.
    number: u64,
    deadline_ns: u64,
    priority: u8,
    is_woken: bool,
    /// `None` in an unused slot.
    value: Option<T>,
    before: Option<u32>,
    /// The next of the line, or the next unused slot.
    after: Option<u32>,
}

/// The waiting values of one priority, oldest first. Deadlines are in the same order.
#[derive(Clone, Copy, Debug)]
struct Line {
    priority: u8,
    first: Option<u32>,
    last: Option<u32>,
}

/// The number of waiting requests to wake if backends have room for `room` more; `None`: they have no limit.
///
/// More would find no room and wait again; fewer would leave room unused. The end of an attempt gives room for one.
/// After a recovery or a publish, it is the sum of the room of all eligible backends.
pub fn to_wake(room: Option<usize>, waiting: usize) -> usize {
    room.map_or(waiting, |room| room.min(waiting))
}

// === impl Queue ===

impl<T> Queue<T> {
    /// An empty queue. It allocates when it is used.
    pub fn new(rules: QueueRules) -> Self {
        Self {
            rules,
            slots: Vec::new(),
            unused: None,
            lines: Vec::new(),
            length: 0,
            waiting: 0,
            next_number: 0,
            now_ns: 0,
        }
    }

    /// All values in the queue: waiting ones, woken ones, and those that [`expire`](Self::expire) would return.
    #[inline]
    pub fn len(&self) -> usize {
        self.length
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The values that are not woken.
    #[inline]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// The value that [`wake`](Self::wake) would return, if no time were over.
    pub fn first(&self) -> Option<&T> {
        let first = self.lines.iter().find_map(|line| line.first)?;
        self.slots[first as usize].value.as_ref()
    }

    /// The value of a ticket, until it leaves.
    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut T> {
        self.owned(ticket)?;
        self.slots[ticket.slot as usize].value.as_mut()
    }

    /// Changes the bounds. Values in the queue stay, with their deadlines.
    pub fn set_rules(&mut self, rules: QueueRules) {
        self.rules = rules;
    }

    /// Adds a value at the end of its priority; 255 is the highest. Call [`expire`](Self::expire) before.
    pub fn push(&mut self, now_ns: u64, priority: u8, value: T) -> Result<Ticket, Full<T>> {
        self.advance(now_ns);
        if self.length >= self.rules.length_max {
            return Err(Full(value));
        }
        // Never earlier than the last of the line, also after the limit was lowered.
        let line = self.line(priority);
        let last_ns = self.lines[line].last.map_or(0, |last| self.slots[last as usize].deadline_ns);
        let slot = Slot {
            number: self.next_number,
            deadline_ns: self.now_ns.saturating_add(self.rules.wait_max_ns).max(last_ns),
            priority,
            is_woken: false,
            value: Some(value),
            before: None,
            after: None,
        };
        let ticket = Ticket { slot: self.place(slot), number: self.next_number };
        self.next_number += 1;
        self.length += 1;
        self.link(line, self.lines[line].last, ticket.slot);
        Ok(ticket)
    }

    /// Whether a value waits that goes before a new one of this priority. Then a new request joins the queue even if a
    /// backend has room; else it would overtake. Not for requests with affinity: they may fit where others do not.
    pub fn must_wait(&self, priority: u8) -> bool {
        self.lines.iter().any(|line| line.priority >= priority && line.first.is_some())
    }

    /// Wakes the next value: marks it as woken and returns it. It is still in the queue. When it leaves, the caller
    /// [cancels](Self::cancel) it; if it finds no room, it [waits again](Self::wait_again) or [passes
    /// on](Self::pass_on).
    pub fn wake(&mut self, now_ns: u64) -> Option<(Ticket, &mut T)> {
        self.advance(now_ns);
        let slot = self.next()?;
        self.wake_slot(slot)
    }

    /// The same, of the values that `may_fit` accepts.
    pub fn wake_where(&mut self, now_ns: u64, may_fit: impl Fn(&T) -> bool) -> Option<(Ticket, &mut T)> {
        self.advance(now_ns);
        let fits = |slot: &u32| !self.is_over(*slot) && self.slots[*slot as usize].value.as_ref().is_some_and(&may_fit);
        let slot = self.lines.iter().find_map(|line| self.iter(line.first).find(fits))?;
        self.wake_slot(slot)
    }

    /// A woken value found no room, but a later one may fit a backend that this one may not use. It waits again, and
    /// the next one behind it that `may_fit` accepts is woken. For requests with affinity; it ends at the end of the
    /// queue.
    pub fn pass_on(&mut self, now_ns: u64, ticket: Ticket, may_fit: impl Fn(&T) -> bool) -> Option<(Ticket, &mut T)> {
        self.advance(now_ns);
        self.wait_again(ticket);
        let Slot { after, priority, .. } = *self.owned(ticket)?;
        let lower = self.line(priority) + 1..self.lines.len();
        let behind = self.iter(after).chain(lower.flat_map(|line| self.iter(self.lines[line].first)));
        let may_fit = |slot: u32| self.slots[slot as usize].value.as_ref().is_some_and(&may_fit);
        let slot = behind.into_iter().find(|slot| !self.is_over(*slot) && may_fit(*slot))?;
        self.wake_slot(slot)
    }

    /// Whether a value is woken and still in the queue. If it leaves without taking room, the caller wakes another one.
    pub fn is_woken(&self, ticket: Ticket) -> bool {
        self.owned(ticket).is_some_and(|slot| slot.is_woken)
    }

    /// A woken value found no room: it waits again, before all later ones of its priority.
    pub fn wait_again(&mut self, ticket: Ticket) {
        let Some(Slot { is_woken: true, priority, .. }) = self.owned(ticket) else { return };
        let line = self.line(*priority);
        // Older ones that wait again after it are few: as many as were woken together.
        let is_older = |slot: &u32| self.slots[*slot as usize].number < ticket.number;
        let older = self.iter(self.lines[line].first).take_while(is_older).last();
        self.slots[ticket.slot as usize].is_woken = false;
        self.link(line, older, ticket.slot);
    }

    /// Takes the value out, woken or not: it is served, or its client left. `None` if it left before.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<T> {
        if !self.owned(ticket)?.is_woken {
            self.unlink(ticket.slot);
        }
        self.free(ticket.slot)
    }

    /// Takes the next value out, for a caller that can serve it at once.
    pub fn pop(&mut self, now_ns: u64) -> Option<T> {
        self.advance(now_ns);
        let slot = self.next()?;
        self.unlink(slot);
        self.free(slot)
    }

    /// Takes out the values whose time is over. Woken ones stay; they leave by their ticket.
    pub fn expire(&mut self, now_ns: u64) -> impl Iterator<Item = T> {
        self.advance(now_ns);
        std::iter::from_fn(|| {
            let is_over = |slot: &u32| self.is_over(*slot);
            let slot = self.lines.iter().filter_map(|line| line.first).find(is_over)?;
            self.unlink(slot);
            self.free(slot)
        })
    }

    /// When [`expire`](Self::expire) has something to do next.
    pub fn next_deadline(&self) -> Option<u64> {
        let firsts = self.lines.iter().filter_map(|line| line.first);
        firsts.map(|slot| self.slots[slot as usize].deadline_ns).min()
    }

    fn advance(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
    }

    fn is_over(&self, slot: u32) -> bool {
        self.slots[slot as usize].deadline_ns <= self.now_ns
    }

    /// The first waiting value whose time is not over.
    fn next(&self) -> Option<u32> {
        self.lines.iter().find_map(|line| self.iter(line.first).find(|slot| !self.is_over(*slot)))
    }

    /// A slot and all behind it in its line.
    fn iter(&self, first: Option<u32>) -> impl Iterator<Item = u32> {
        std::iter::successors(first, |slot| self.slots[*slot as usize].after)
    }

    fn wake_slot(&mut self, slot: u32) -> Option<(Ticket, &mut T)> {
        self.unlink(slot);
        let woken = &mut self.slots[slot as usize];
        woken.is_woken = true;
        Some((Ticket { slot, number: woken.number }, woken.value.as_mut()?))
    }

    fn owned(&self, ticket: Ticket) -> Option<&Slot<T>> {
        self.slots.get(ticket.slot as usize).filter(|slot| slot.value.is_some() && slot.number == ticket.number)
    }

    /// The index of the line of a priority.
    fn line(&mut self, priority: u8) -> usize {
        match self.lines.binary_search_by(|line| priority.cmp(&line.priority)) {
            Ok(line) => line,
            Err(line) => {
                self.lines.insert(line, Line { priority, first: None, last: None });
                line
            }
        }
    }

    fn place(&mut self, slot: Slot<T>) -> u32 {
        match self.unused {
            Some(index) => {
                self.unused = self.slots[index as usize].after;
                self.slots[index as usize] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        }
    }

    fn free(&mut self, index: u32) -> Option<T> {
        let slot = &mut self.slots[index as usize];
        slot.after = self.unused.replace(index);
        self.length -= 1;
        slot.value.take()
    }

    /// Puts a slot in a line after `before`, or at its head.
    fn link(&mut self, line: usize, before: Option<u32>, slot: u32) {
        let after = match before {
            Some(before) => self.slots[before as usize].after.replace(slot),
            None => self.lines[line].first.replace(slot),
        };
        match after {
            Some(after) => self.slots[after as usize].before = Some(slot),
            None => self.lines[line].last = Some(slot),
        }
        let linked = &mut self.slots[slot as usize];
        (linked.before, linked.after) = (before, after);
        self.waiting += 1;
    }

    fn unlink(&mut self, slot: u32) {
        let Slot { before, after, priority, .. } = self.slots[slot as usize];
        let line = self.line(priority);
        match before {
            Some(before) => self.slots[before as usize].after = after,
            None => self.lines[line].first = after,
        }
        match after {
            Some(after) => self.slots[after as usize].before = before,
            None => self.lines[line].last = before,
        }
        self.waiting -= 1;
    }
}

#[cfg(test)]
mod tests;
