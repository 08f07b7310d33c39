//! The queue beside a plain list that does the same slowly.

use super::*;

const RULES: QueueRules = QueueRules { length_max: 8, wait_max_ns: 100 };

/// A queue in the simplest form: each value with its state, in order of arrival.
struct Model {
    rules: QueueRules,
    now_ns: u64,
    values: Vec<Item>,
    /// Tickets of values that left.
    stale: Vec<Ticket>,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    value: u32,
    ticket: Ticket,
    priority: u8,
    deadline_ns: u64,
    is_woken: bool,
}

impl Model {
    /// The index of the next value to wake.
    fn next(&self) -> Option<usize> {
        self.next_of(|_| true)
    }

    fn next_of(&self, is_candidate: impl Fn(usize) -> bool) -> Option<usize> {
        let waits = |index: &usize| {
            let item = &self.values[*index];
            !item.is_woken && item.deadline_ns > self.now_ns && is_candidate(*index)
        };
        // The first of those with the highest priority.
        (0..self.values.len()).filter(waits).rev().max_by_key(|index| self.values[*index].priority)
    }

    /// The index of the next value to wake behind this one, of those that fit.
    fn next_behind(&self, index: usize, may_fit: impl Fn(&u32) -> bool) -> Option<usize> {
        let own = self.values[index].priority;
        self.next_of(|other| {
            let Item { priority, ref value, .. } = self.values[other];
            may_fit(value) && (priority < own || (priority == own && other > index))
        })
    }

    fn wake(&mut self, index: Option<usize>) -> Option<(Ticket, u32)> {
        let item = &mut self.values[index?];
        item.is_woken = true;
        Some((item.ticket, item.value))
    }

    fn take(&mut self, index: Option<usize>) -> Option<u32> {
        let item = self.values.remove(index?);
        self.stale.push(item.ticket);
        Some(item.value)
    }
}

/// One random step on the queue and its model; checks that both do the same. `next` is the next value to push. Returns
/// the values that left.
fn step(queue: &mut Queue<u32>, model: &mut Model, random: &mut fastrand::Rng, next: &mut u32) -> Vec<u32> {
    let operation = random.u32(..12);
    // Sometimes backwards.
    let now = (model.now_ns + random.u64(..12)).saturating_sub(random.u64(..4));
    if operation >= 9 {
        let some = random.choice(0..model.values.len());
        return some.and_then(|some| step_with_ticket(queue, model, operation, now, some)).into_iter().collect();
    }
    model.now_ns = model.now_ns.max(now);
    match operation {
        0..5 => {
            let priority = [0, 7, 7, 255][random.usize(..4)];
            let value = *next;
            *next += 1;
            let pushed = queue.push(now, priority, value);
            assert_eq!(pushed.is_err(), model.values.len() >= model.rules.length_max, "bounded");
            match pushed {
                Ok(ticket) => {
                    let deadline_ns = model.now_ns + model.rules.wait_max_ns;
                    model.values.push(Item { value, ticket, priority, deadline_ns, is_woken: false });
                    Vec::new()
                }
                Err(Full(value)) => vec![value],
            }
        }
        5..7 => {
            let may_fit = |value: &u32| operation == 5 || !value.is_multiple_of(3);
            let woken = match operation {
                5 => queue.wake(now),
                _ => queue.wake_where(now, may_fit),
            };
            let woken = woken.map(|(ticket, value)| (ticket, *value));
            let next = model.next_of(|index| may_fit(&model.values[index].value));
            assert_eq!(woken, model.wake(next));
            Vec::new()
        }
        7 => {
            let popped = queue.pop(now);
            let next = model.next();
            assert_eq!(popped, model.take(next));
            popped.into_iter().collect()
        }
        _ => {
            let mut expired: Vec<_> = queue.expire(now).collect();
            expired.sort_unstable();
            let now = model.now_ns;
            let over: Vec<_> = model.values.extract_if(.., |item| !item.is_woken && item.deadline_ns <= now).collect();
            assert_eq!(expired, over.iter().map(|item| item.value).collect::<Vec<_>>());
            model.stale.extend(over.iter().map(|item| item.ticket));
            expired
        }
    }
}

/// A step with the value at `some` in the model. Returns it if it left.
fn step_with_ticket(queue: &mut Queue<u32>, model: &mut Model, operation: u32, now: u64, some: usize) -> Option<u32> {
    let Item { ticket, value, .. } = model.values[some];
    match operation {
        9 => {
            queue.wait_again(ticket);
            model.values[some].is_woken = false;
            None
        }
        10 => {
            model.now_ns = model.now_ns.max(now);
            model.values[some].is_woken = false;
            // All but one third, which depends on the value.
            let may_fit = |other: &u32| other % 3 != value % 3;
            let woken = queue.pass_on(now, ticket, may_fit).map(|(ticket, value)| (ticket, *value));
            let next = model.next_behind(some, may_fit);
            assert_eq!(woken, model.wake(next));
            None
        }
        _ => {
            let cancelled = queue.cancel(ticket);
            assert_eq!(cancelled, model.take(Some(some)));
            cancelled
        }
    }
}

#[test]
fn each_value_leaves_once_in_order_under_random_use() {
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut queue = Queue::new(RULES);
        let mut model = Model { rules: RULES, now_ns: 0, values: Vec::new(), stale: Vec::new() };
        let mut left = Vec::new();
        let mut next = 0;
        for _ in 0..600 {
            left.extend(step(&mut queue, &mut model, &mut random, &mut next));
            if let Some(stale) = random.choice(&model.stale) {
                queue.wait_again(*stale);
                assert_eq!(queue.cancel(*stale), None, "seed {seed}: a ticket is good for once");
            }
            let waiting = model.values.iter().filter(|item| !item.is_woken);
            assert_eq!(queue.next_deadline(), waiting.clone().map(|item| item.deadline_ns).min(), "seed {seed}");
            assert_eq!((queue.len(), queue.waiting()), (model.values.len(), waiting.clone().count()), "seed {seed}");
            for priority in [0, 1, 7, 255] {
                let is_ahead = waiting.clone().any(|item| item.priority >= priority);
                assert_eq!(queue.must_wait(priority), is_ahead, "seed {seed}");
            }
            assert!(model.values.iter().all(|item| queue.is_woken(item.ticket) == item.is_woken), "seed {seed}");
            assert!(queue.slots.len() <= RULES.length_max, "seed {seed}: slots are used again");
        }
        left.extend(model.values.iter().filter_map(|item| queue.cancel(item.ticket)));
        assert!(queue.is_empty());
        left.sort_unstable();
        assert_eq!(left, (0..next).collect::<Vec<_>>(), "seed {seed}: each once");
    }
}

#[test]
fn higher_priorities_go_first_and_equal_ones_in_order() {
    let mut queue = Queue::new(RULES);
    for (value, priority) in [(1, 0), (2, 9), (3, 5), (4, 9), (5, 0)] {
        queue.push(0, priority, value).unwrap();
    }
    let order: Vec<_> = std::iter::from_fn(|| queue.pop(1)).collect();
    assert_eq!(order, [2, 4, 3, 1, 5]);
}

#[test]
fn a_value_whose_time_is_over_is_never_popped() {
    let mut queue = Queue::new(RULES);
    queue.push(0, 9, "old").unwrap();
    queue.push(50, 9, "young").unwrap();
    assert_eq!((queue.next_deadline(), queue.waiting()), (Some(100), 2));
    assert_eq!(queue.pop(100), Some("young"), "the old one is over at its deadline");
    assert_eq!((queue.pop(100), queue.wake(100)), (None, None));
    assert_eq!(queue.len(), 1, "it leaves by expire only");
    assert_eq!(queue.expire(100).collect::<Vec<_>>(), ["old"]);
    assert_eq!((queue.next_deadline(), queue.expire(u64::MAX).count()), (None, 0));
}

#[test]
fn woken_values_that_wait_again_keep_their_order() {
    let mut queue = Queue::new(RULES);
    let tickets: Vec<_> = (0..5).map(|value| queue.push(0, 7, value).unwrap()).collect();
    let woken = [0, 1, 2].map(|_| queue.wake(1).map(|(ticket, _)| ticket).unwrap());
    assert_eq!(woken, tickets[..3]);
    queue.push(1, 7, 5).unwrap();
    // In any order: 2, 0, 1.
    for at in [2, 0, 1] {
        queue.wait_again(woken[at]);
        queue.wait_again(woken[at]);
    }
    let order: Vec<_> = std::iter::from_fn(|| queue.pop(1)).collect();
    assert_eq!(order, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_wake_that_is_passed_on_reaches_each_value_once() {
    let mut queue = Queue::new(RULES);
    for (value, priority) in [(1, 0), (2, 9), (3, 5), (4, 9), (5, 0)] {
        queue.push(0, priority, value).unwrap();
    }
    let mut seen = Vec::new();
    let mut next = queue.wake(1).map(|(ticket, value)| (ticket, *value));
    while let Some((ticket, value)) = next {
        assert!(seen.len() < 5, "it ends: {seen:?}");
        seen.push(value);
        next = queue.pass_on(1, ticket, |_| true).map(|(ticket, value)| (ticket, *value));
    }
    assert_eq!((seen, queue.waiting()), (vec![2, 4, 3, 1, 5], 5));
}

#[test]
fn a_woken_value_does_not_expire_until_it_waits_again() {
    let mut queue = Queue::new(RULES);
    queue.push(0, 7, "a").unwrap();
    let ticket = queue.wake(99).unwrap().0;
    assert_eq!((queue.expire(200).count(), queue.next_deadline(), queue.len()), (0, None, 1));
    queue.wait_again(ticket);
    assert_eq!(queue.wake(200), None, "but it is not woken again");
    assert_eq!(queue.expire(200).collect::<Vec<_>>(), ["a"]);
    queue.wait_again(ticket);
    assert_eq!((queue.cancel(ticket), queue.len()), (None, 0), "its ticket names nothing");
}

#[test]
fn a_queue_of_length_0_is_always_full_and_lower_bounds_hold_at_once() {
    let mut queue = Queue::new(QueueRules { length_max: 0, wait_max_ns: 100 });
    assert_eq!(queue.push(0, 0, 'a'), Err(Full('a')));
    queue.set_rules(RULES);
    queue.push(0, 0, 'b').unwrap();
    queue.set_rules(QueueRules { length_max: 2, wait_max_ns: 10 });
    queue.push(0, 0, 'c').unwrap();
    assert_eq!(queue.push(0, 0, 'd'), Err(Full('d')));
    assert_eq!(queue.expire(99).count(), 0, "an older value's deadline is not passed by a younger one's");
    let mut copy = queue.clone();
    assert_eq!([copy.pop(99), copy.pop(99)], [Some('b'), Some('c')]);
    assert_eq!(queue.expire(100).collect::<Vec<_>>(), ['b', 'c']);
}

#[test]
fn as_many_are_woken_as_have_room() {
    assert_eq!([0, 1, 5].map(|room| to_wake(Some(room), 3)), [0, 1, 3]);
    assert_eq!(to_wake(None, 3), 3);
}
