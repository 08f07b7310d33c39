//! Tests of slow start.

use super::*;

const SECOND: u64 = 1_000_000_000;

/// Lets `pool` look at members, each with whether it is up.
fn look<const N: usize>(pool: &mut SlowStart, now_ns: u64, members: [(u64, bool); N]) {
    pool.look(now_ns, members.map(|(number, is_up)| (number, Eligibility::of(is_up, false, 1))));
}

/// Ages and factors of a ramp, from one change to the next.
fn course(ramp: &Ramp) -> Vec<(u64, u32)> {
    let mut course = vec![(0, ramp.factor(0))];
    while let Some(age) = ramp.next_change(course[course.len() - 1].0) {
        assert_eq!(ramp.factor(age - 1), course[course.len() - 1].1, "no change before, with {ramp:?}");
        course.push((age, ramp.factor(age)));
    }
    course
}

#[test]
fn by_default_the_share_grows_by_a_tenth_in_a_second() {
    let seconds: Vec<_> = course(&Ramp::default()).iter().map(|(age, factor)| (age / SECOND, *factor)).collect();
    let expected =
        [(0, 100), (2, 200), (3, 300), (4, 400), (5, 500), (6, 600), (7, 700), (8, 800), (9, 900), (10, 1000)];
    assert_eq!(seconds, expected);
}

#[test]
fn every_ramp_only_rises_ends_at_full_share_and_changes_at_most_once_a_step() {
    let windows = [1, 7, 999, 10 * SECOND, 3_600 * SECOND, u64::MAX];
    for (window_ns, min_percent) in windows.into_iter().flat_map(|window| [1, 10, 50, 100].map(|min| (window, min))) {
        for (aggression, steps) in [0.2, 1.0, 1.7, 10.0, 0.0].into_iter().flat_map(|a| [0, 1, 3, 10].map(|s| (a, s))) {
            let ramp = Ramp { window_ns, min_percent, aggression, steps };
            let course = course(&ramp);
            assert!(course.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{ramp:?}: {course:?}");
            assert!(course.len() <= steps.max(1) as usize + 1, "{ramp:?}: {course:?}");
            assert_eq!(course[0].1, u32::from(min_percent) * 10, "{ramp:?}");
            assert_eq!((ramp.factor(window_ns), ramp.factor(u64::MAX)), (1000, 1000));
            assert!(course.last().unwrap().1 == 1000 && course.last().unwrap().0 <= window_ns, "{ramp:?}");
        }
    }
    assert!(course(&Ramp::default()).len() <= 10, "ten publishes with the first");
}

#[test]
fn more_aggression_gives_a_larger_share_early() {
    let early = |aggression| Ramp { aggression, ..Ramp::default() }.factor(3 * SECOND);
    assert_eq!([early(0.5), early(1.0), early(2.0)], [100, 300, 548]);
}

#[test]
fn new_and_returning_members_have_a_ramp_and_the_initial_set_has_none() {
    let mut pool = SlowStart::new(Some(Ramp::default()));
    look(&mut pool, 0, [(1, true), (2, false), (3, false)]);
    look(&mut pool, 5 * SECOND, [(1, true), (2, true), (3, false)]);
    assert_eq!([pool.factor(1, 5 * SECOND), pool.factor(2, 5 * SECOND)], [1000; 2], "the initial set");
    assert_eq!(pool.next_change(5 * SECOND), None);
    let now = 20 * SECOND;
    look(&mut pool, now, [(1, false), (2, true), (3, true), (4, true)]);
    assert_eq!([pool.factor(2, now), pool.factor(3, now), pool.factor(4, now)], [1000, 100, 100], "late, and new");
    assert_eq!(pool.next_change(now), Some(now + 2 * SECOND));
    let later = now + 4 * SECOND;
    look(&mut pool, later, [(1, true), (2, true), (3, false), (4, true)]);
    assert_eq!([pool.factor(1, later), pool.factor(4, later)], [100, 400], "back, and on its way");
    look(&mut pool, later + 1, [(1, true), (2, true), (3, true), (4, true)]);
    assert_eq!(pool.factor(3, later + 1), 100, "an interrupted ramp begins again");
    look(&mut pool, later + 60 * SECOND, [1, 2, 3].map(|number| (number, true)));
    assert_eq!(pool.next_change(later + 60 * SECOND), None);
    look(&mut pool, later + 61 * SECOND, [1, 2, 3, 4].map(|number| (number, true)));
    assert_eq!(pool.factor(4, later + 61 * SECOND), 100, "a member that left and joins is new");
    pool.reset();
    look(&mut pool, later + 62 * SECOND, [1, 4].map(|number| (number, true)));
    assert_eq!(pool.next_change(later + 62 * SECOND), None, "the initial set after a reset");
}

#[test]
fn a_share_is_never_nothing_and_full_without_a_ramp() {
    let cold = Ramp { min_percent: 0, ..Ramp::default() };
    let mut pool = SlowStart::new(Some(cold));
    assert!(!pool.begins(None, Eligibility::of(true, false, 1)), "before the first look all are the initial set");
    look(&mut pool, 0, [(1, true)]);
    look(&mut pool, 1, [(1, true), (2, true)]);
    assert_eq!([pool.factor(1, 1), pool.factor(2, 1)], [1000, 10]);
    assert!(pool.begins(None, Eligibility::of(true, false, 1)));
    assert_eq!([pool.left(1, 1), pool.left(2, SECOND + 1)], [None, Some(9 * SECOND)]);
    pool.set_ramp(None);
    assert_eq!((pool.factor(2, 1), pool.next_change(1)), (1000, None));
    look(&mut pool, 2, [(1, true), (2, true), (3, true)]);
    pool.set_ramp(Some(cold));
    assert_eq!(pool.factor(3, 2), 1000, "it came while slow start was off");
}

#[test]
fn a_member_that_its_pool_needs_has_its_full_share_and_is_warm_later() {
    let mut pool = SlowStart::new(Some(Ramp::default()));
    look(&mut pool, 0, [(1, true), (2, true)]);
    look(&mut pool, 1, [(1, true), (2, false)]);
    let needed = Eligibility { pool: PoolRule::Include, ..Eligibility::of(false, false, 1) };
    pool.look(2, [(1, Eligibility::of(true, false, 1)), (2, needed)]);
    assert_eq!(pool.factor(2, 2), 1000);
    look(&mut pool, 3, [(1, true), (2, true)]);
    assert_eq!(pool.factor(2, 3), 1000);
    let ejected = Eligibility { ejected: true, ..Eligibility::of(true, false, 1) };
    pool.look(4, [(1, ejected), (2, Eligibility::of(true, true, 1))]);
    look(&mut pool, 5, [(1, true), (2, true)]);
    assert_eq!([pool.factor(1, 5), pool.factor(2, 5)], [100, 1000], "after an ejection, and after a drain");
}

#[test]
fn a_ramp_is_not_spent_while_its_member_gets_no_requests() {
    let up = Eligibility::of(true, false, 1);
    let standby = Eligibility { pool: PoolRule::Exclude, ..up };
    let closed = [Eligibility::of(true, true, 1), Eligibility::of(true, false, 0), standby];
    for closed in closed {
        let mut pool = SlowStart::new(Some(Ramp::default()));
        look(&mut pool, 0, [(1, true), (2, true)]);
        // 1 restarts while it is closed, 2 stays up, and 3 is new.
        pool.look(1, [(1, Eligibility { healthy: false, ..closed }), (2, closed)]);
        pool.look(2, [1, 2, 3].map(|number| (number, closed)));
        assert!(![Some(1), Some(2), Some(3), None].into_iter().any(|number| pool.begins(number, closed)));
        assert_eq!([Some(1), Some(2), Some(3), None].map(|number| pool.begins(number, up)), [true, false, true, true]);
        let opened = 60 * SECOND;
        look(&mut pool, opened, [1, 2, 3].map(|number| (number, true)));
        assert_eq!([1, 2, 3].map(|number| pool.factor(number, opened)), [100, 1000, 100], "{closed:?}");
        // A ramp that is interrupted begins again.
        pool.look(opened + 5 * SECOND, [(1, closed)]);
        look(&mut pool, opened + 6 * SECOND, [(1, true)]);
        assert_eq!(pool.factor(1, opened + 6 * SECOND), 100, "{closed:?}");
    }
}

#[test]
fn another_server_with_the_number_of_a_warm_one_is_new() {
    let mut pool = SlowStart::new(Some(Ramp::default()));
    look(&mut pool, 0, [(1, true)]);
    pool.forget(1);
    look(&mut pool, 1, [(1, true)]);
    assert_eq!(pool.factor(1, 1), 100);
}

#[test]
fn a_thousand_ramps_need_at_most_four_publishes_a_step_beside_those_of_the_joins() {
    const BETWEEN: u64 = 10_007_000;
    let mut pool = SlowStart::new(Some(Ramp::default()));
    pool.look(0, []);
    let joined = |now: u64| (1..=1000_u64).take_while(move |number| number * BETWEEN <= now);
    let (mut now, mut looks) = (0, 0);
    loop {
        let join = (joined(now).count() < 1000).then(|| (now / BETWEEN + 1) * BETWEEN);
        let step = pool.next_change(now);
        let Some(next) = join.into_iter().chain(step).min() else { break };
        looks += usize::from(step == Some(next));
        now = next;
        pool.look(now, joined(now).map(|number| (number, Eligibility::of(true, false, 1))));
    }
    assert!(looks <= 2 * 4 * 10 + 1, "{looks} looks in {now} ns");
    assert!(joined(now).all(|number| pool.factor(number, now) == 1000) && now <= 21 * SECOND, "{now} ns");
}

#[test]
fn looks_between_the_points_of_the_grid_change_no_share() {
    let mut pool = SlowStart::new(Some(Ramp::default()));
    pool.look(0, []);
    let joined = |now: u64| (1..=100).filter(move |number| number * 17_003_000 <= now).collect::<Vec<_>>();
    let (mut before, mut changes) = (Vec::new(), 0);
    // Other changes ask for a look every 7 ms.
    for now in (0..13 * SECOND).step_by(7_000_000) {
        pool.look(now, joined(now).into_iter().map(|number| (number, Eligibility::of(true, false, 1))));
        let factors: Vec<_> = joined(now).into_iter().map(|number| pool.factor(number, now)).collect();
        changes += usize::from(factors[..before.len()] != before[..]);
        assert!(
            factors.iter().zip(joined(now)).all(|(factor, number)| *factor == 1000 || pool.left(number, now).is_some())
        );
        before = factors;
    }
    assert!(before.iter().all(|factor| *factor == 1000));
    assert!(changes <= 13 * 4, "{changes} changes");
}
