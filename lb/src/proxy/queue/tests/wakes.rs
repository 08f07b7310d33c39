//! The way of single wakes and claims, step by step.

use super::*;

#[test]
fn room_that_was_left_to_a_served_request_is_for_the_next_one() {
    let mut world = World::new(2, 2, 1, 0);
    let backends = &world.backends;
    backends.in_flight.iter().for_each(|now| now.store(1, SeqCst));
    let [b, c] = &world.lines[..] else { unreachable!() };
    let first = c.enter(100).unwrap();
    let ends = |backend: usize| {
        backends.in_flight[backend].store(0, SeqCst);
        c.freed();
    };
    ends(0);
    assert!(first.is_woken());
    // It has the first place, and the second becomes free while its claim still counts.
    assert_eq!(backends.pick(None), Some(0));
    ends(1);
    let second = b.enter(100).unwrap();
    b.call_next(Some(backends.free()));
    b.take_wakes();
    assert!(!second.is_woken(), "one place, one claim");
    first.serve(|| Some(backends.free()));
    b.take_wakes();
    assert!(second.is_woken());
    drop(second);
    world.settle();
}

#[test]
fn a_wake_reaches_a_request_that_came_before_the_woken_one_meanwhile() {
    let mut world = World::new(1, 2, 1, 0);
    world.backends.in_flight.iter().for_each(|now| now.store(1, SeqCst));
    world.arrive_with(Some(1), 10);
    world.in_flight.push((0, 0));
    world.end(0);
    assert!(world.waiting[0].turn.is_woken(), "for a place that it cannot use");
    world.arrive_with(None, 100);
    world.settle();
    world.check("the high priority");
    assert_eq!(world.served, [1]);
}

#[test]
fn such_a_wake_also_reaches_one_that_came_between_two_others() {
    let mut world = World::new(1, 2, 1, 0);
    world.backends.in_flight.iter().for_each(|now| now.store(1, SeqCst));
    world.arrive_with(Some(1), 200);
    world.waiting[0].turn.set_key(10);
    world.arrive_with(Some(1), 10);
    world.in_flight.push((0, 0));
    world.end(0);
    world.poll(0);
    assert!(world.waiting[1].turn.is_woken());
    world.arrive_with(None, 100);
    world.settle();
    assert_eq!(world.served, [2]);
}

#[test]
fn such_a_wake_is_not_stopped_by_a_request_with_the_same_key() {
    let mut world = World::new(1, 2, 1, 0);
    world.backends.in_flight.iter().for_each(|now| now.store(1, SeqCst));
    world.arrive_with(Some(1), 10);
    world.in_flight.push((0, 0));
    world.end(0);
    world.arrive_with(None, 100);
    world.arrive_with(Some(1), 200);
    world.settle();
    assert_eq!(world.served, [1]);
}

#[test]
fn room_that_a_key_cannot_use_wakes_no_other_request_with_it() {
    let line = line(0, 1, Instant::now(), &Lobbies::new(1), 9);
    let turns = [1, 1, 1, 2, 1].map(|key| {
        let turn = line.enter(100).unwrap();
        turn.set_key(key);
        turn
    });
    line.freed();
    let mut seen = Vec::new();
    while let Some(woken) = turns.iter().position(Turn::is_woken) {
        seen.push(woken);
        turns[woken].look(|| true, || Ok::<Option<()>, ()>(None), || false).unwrap();
    }
    assert_eq!(seen, [0, 3, 4], "one of each key in a row");
}

#[test]
fn a_second_look_that_fails_passes_its_wake_on() {
    let line = line(0, 1, Instant::now(), &Lobbies::new(1), 9);
    let turns = [(); 2].map(|()| line.enter(100).unwrap());
    line.freed();
    let mut looks = [Ok(None), Err("raced")].into_iter();
    let looked = turns[0].look(|| true, || looks.next().unwrap(), || false);
    assert_eq!((looked, turns[1].is_woken()), (Err::<Option<()>, _>("raced"), true));
}

#[test]
fn if_only_the_strategy_knows_the_room_it_is_asked_for_one_request_at_a_time() {
    let line = line(0, 1, Instant::now(), &Lobbies::new(1), 9);
    line.note_strategy_wait();
    let [first, second, third] = [(); 3].map(|()| line.enter(100).unwrap());
    let woken = || [&first, &second, &third].map(|turn| turn.is_woken());
    line.freed();
    line.call_next(None);
    assert_eq!(woken(), [true, false, false], "one claim is enough");
    let ask = |turn: &Turn, is_blocked: bool| turn.look(|| true, || Ok::<_, ()>(None::<()>), || is_blocked);
    assert_eq!(ask(&first, true), Ok(None));
    assert_eq!(woken(), [false; 3], "the others wait behind it");
    line.call_next(None);
    assert_eq!(ask(&first, false), Ok(None));
    assert_eq!(woken(), [false, true, false], "it cannot use what the next one may");
    second.serve(|| None);
    assert!(first.is_woken() && !third.is_woken(), "then the next one is asked");
    drop(first);
    assert!(third.is_woken(), "it leaves");
}
