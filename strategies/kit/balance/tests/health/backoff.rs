//! How long an ejection lasts, and what ends or shortens it.

use lb_balance::{Finding, OutlierEvent, OutlierRules, PanicRules, ReturnReason};

use crate::world::{Answer, Member, SECOND, World};

const OK: Answer = Answer::Status(200);
const BAD: Answer = Answer::Status(500);

/// The seconds of each ejection so far.
fn seconds(world: &World) -> Vec<u64> {
    let of = |(_, event): &(u64, OutlierEvent)| match event {
        OutlierEvent::Ejected { for_ns, .. } => Some(for_ns / SECOND),
        _ => None,
    };
    world.events.iter().filter_map(of).collect()
}

fn returns(world: &World) -> Vec<(u64, ReturnReason)> {
    let of = |(at, event): &(u64, OutlierEvent)| match event {
        OutlierEvent::Returned { why, .. } => Some((at / SECOND, *why)),
        _ => None,
    };
    world.events.iter().filter_map(of).collect()
}

/// Backend 0 of three fails, in this moment.
fn eject(world: &mut World) {
    (0..5).for_each(|_| world.answer(0, BAD));
    assert!(world.is_ejected(0));
}

#[test]
fn ejections_grow_up_to_the_longest_and_fall_by_one_for_each_base_time_served() {
    let mut world = World::with_defaults(3);
    world.serve(3_000 * SECOND, 30, |index, _| if index == 0 { BAD } else { OK });
    assert_eq!(seconds(&world)[..12], [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
    assert_eq!(world.count(0), 10);
    while world.is_ejected(0) {
        world.advance(world.outliers.next_look());
    }
    let returned_ns = world.now_ns;
    for forgiven in 1..=10 {
        let at = returned_ns + forgiven * 30 * SECOND;
        world.serve(at - SECOND - world.now_ns, 30, |_, _| OK);
        world.look();
        assert_eq!(world.count(0), 11 - forgiven as u32, "just before {forgiven} base times");
        world.serve(SECOND, 30, |_, _| OK);
        world.look();
        assert_eq!(world.count(0), 10 - forgiven as u32, "after {forgiven} base times");
    }
    eject(&mut world);
    assert_eq!(seconds(&world).last(), Some(&30), "all is forgiven");
}

#[test]
fn a_backend_that_fails_again_soon_after_each_return_is_ejected_for_longer_each_time() {
    // It is good for 20 s after each return: two intervals, less than the base time.
    let mut world = World::with_defaults(3);
    let mut up_since = 0;
    while seconds(&world).len() < 12 {
        let before = world.events.len();
        world.serve(SECOND / 10, 60, |index, now| if index == 0 && now - up_since > 20 * SECOND { BAD } else { OK });
        if world.events[before..].iter().any(|(_, event)| matches!(event, OutlierEvent::Returned { .. })) {
            up_since = world.now_ns;
        }
    }
    assert_eq!(seconds(&world), [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
}

#[test]
fn no_ejection_is_longer_than_the_longest() {
    let rules = OutlierRules { base_ns: 40 * SECOND, max_ns: 100 * SECOND, ..OutlierRules::default() };
    let mut world = World::new(3, rules, PanicRules::default());
    world.serve(600 * SECOND, 30, |index, _| if index == 0 { BAD } else { OK });
    assert_eq!(seconds(&world)[..4], [40, 80, 100, 100]);
}

#[test]
fn an_ejection_ends_at_its_time_and_the_counts_start_again() {
    let mut world = World::with_defaults(3);
    eject(&mut world);
    let at = world.now_ns;
    world.advance(at + 30 * SECOND - 1);
    assert!(world.is_ejected(0) && !world.members[0].backend.is_eligible());
    // Requests that were in flight at the ejection fail late.
    (0..20).for_each(|_| world.answer(0, BAD));
    world.advance(at + 30 * SECOND);
    assert!(world.members[0].backend.is_eligible());
    assert_eq!(returns(&world), [(at / SECOND + 30, ReturnReason::TimeIsOver)]);
    (0..4).for_each(|_| world.answer(0, BAD));
    assert!(!world.is_ejected(0), "four are not five");
    world.answer(0, BAD);
    assert_eq!((world.is_ejected(0), world.count(0)), (true, 2));
}

#[test]
fn an_ejection_ends_when_a_new_process_serves_and_a_first_one_also_when_the_backend_is_repaired() {
    for finding in [Finding::Dead, Finding::Suspect] {
        let mut world = World::with_defaults(3);
        eject(&mut world);
        world.change(0, |condition| condition.finding = Finding::Up);
        assert!(world.is_ejected(0), "a good check alone is no repair");
        world.change(0, |condition| condition.finding = finding);
        assert!(world.is_ejected(0));
        world.change(0, |condition| condition.finding = Finding::Up);
        assert_eq!(returns(&world), [(1, ReturnReason::Recovered)]);
        assert!(world.members[0].backend.is_eligible());
        eject(&mut world);
        world.change(0, |condition| condition.finding = finding);
        world.change(0, |condition| condition.finding = Finding::Up);
        let is_ejected = finding == Finding::Suspect;
        assert_eq!((world.is_ejected(0), world.count(0)), (is_ejected, 2), "it flaps, or it was started again");
    }
}

#[test]
fn time_that_a_backend_does_not_serve_forgives_nothing() {
    let mut world = World::with_defaults(3);
    eject(&mut world);
    world.advance(world.now_ns + 30 * SECOND);
    world.change(0, |condition| condition.finding = Finding::Suspect);
    world.advance(world.now_ns + 1_000 * SECOND);
    world.change(0, |condition| condition.finding = Finding::Up);
    assert_eq!(world.count(0), 1);
    world.advance(world.now_ns + 30 * SECOND);
    world.look();
    assert_eq!(world.count(0), 0);
}

#[test]
fn a_member_that_leaves_and_returns_soon_keeps_its_ejection_and_its_count() {
    let mut world = World::with_defaults(3);
    eject(&mut world);
    let member = world.members.remove(0);
    world.look();
    world.advance(world.now_ns + 10 * SECOND);
    world.members.insert(0, member);
    world.look();
    assert!(world.is_ejected(0));
    world.members.remove(0);
    world.advance(world.now_ns + 60 * SECOND);
    world.members.insert(0, Member::new("b0"));
    world.look();
    assert_eq!((world.is_ejected(0), world.count(0)), (false, 1), "its time ended while it was away");
    eject(&mut world);
    world.members.remove(0);
    world.advance(world.now_ns + 400 * SECOND);
    world.members.insert(0, Member::new("b0"));
    world.look();
    assert_eq!(world.count(0), 0, "forgotten after the longest ejection");
}

#[test]
fn an_operator_a_reset_and_rules_that_are_off_return_backends() {
    let mut world = World::with_defaults(4);
    let number = world.members[0].number();
    eject(&mut world);
    assert!(world.outliers.pardon(number) && !world.outliers.pardon(number));
    world.look();
    assert_eq!((world.members[0].backend.is_eligible(), world.count(0)), (true, 0));
    eject(&mut world);
    assert_eq!(world.outliers.reset(), [number]);
    world.look();
    assert!(world.members[0].backend.is_eligible());
    eject(&mut world);
    world.outliers.set_rules(OutlierRules::off(), PanicRules::default());
    world.look();
    assert_eq!(returns(&world), [(1, ReturnReason::SwitchedOff)]);
    assert_eq!(world.outliers.next_look(), u64::MAX, "nothing is due");
}

#[test]
fn jitter_spreads_the_returns_of_backends_that_were_ejected_together() {
    let rules = OutlierRules { jitter_ns: 5 * SECOND, ..OutlierRules::default() };
    let mut world = World::new(20, rules, PanicRules::default());
    (0..10).for_each(|index| (0..5).for_each(|_| world.answer(index, BAD)));
    world.advance(world.now_ns + 36 * SECOND);
    let mut times: Vec<_> = world.events[10..].iter().map(|(at, _)| *at).collect();
    assert!(times.iter().all(|at| (31 * SECOND..=36 * SECOND).contains(at)), "{times:?}");
    times.dedup();
    assert_eq!(times.len(), 10);
}
