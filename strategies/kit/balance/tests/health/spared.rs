//! Outliers that the pool cannot spare stay in service, and this is told once.

use lb_balance::{Finding, OutlierEvent, OutlierRules, PanicRules, SparedBy};

use crate::world::{Answer, SECOND, World};

const BAD: Answer = Answer::Status(500);

fn fail(world: &mut World, index: usize) {
    (0..5).for_each(|_| world.answer(index, BAD));
}

/// Index and reason of all outliers that were spared.
fn spared(world: &World) -> Vec<(usize, SparedBy)> {
    let of = |(_, event): &(u64, OutlierEvent)| match event {
        OutlierEvent::Spared { number, by, .. } => {
            Some((world.members.iter().position(|member| member.number() == *number).unwrap(), *by))
        }
        _ => None,
    };
    world.events.iter().filter_map(of).collect()
}

fn ejected(world: &World) -> Vec<usize> {
    (0..world.members.len()).filter(|index| world.is_ejected(*index)).collect()
}

fn with_share(members: usize, max_ejected_percent: u8) -> World {
    World::new(members, OutlierRules { max_ejected_percent, ..OutlierRules::default() }, PanicRules::default())
}

#[test]
fn the_last_usable_member_is_never_ejected() {
    let mut world = with_share(3, 100);
    world.change(2, |condition| condition.finding = Finding::Suspect);
    (0..3).for_each(|index| fail(&mut world, index));
    assert_eq!((ejected(&world), spared(&world)), (vec![0], vec![(1, SparedBy::Last)]));
    let mut single = with_share(1, 100);
    fail(&mut single, 0);
    assert_eq!(spared(&single), [(0, SparedBy::Last)]);
}

#[test]
fn a_pool_is_never_ejected_below_its_panic_threshold() {
    let mut world = with_share(10, 100);
    world.change(9, |condition| condition.finding = Finding::Suspect);
    (0..9).for_each(|index| fail(&mut world, index));
    assert_eq!(ejected(&world), [0, 1, 2, 3], "5 of 10 are left");
    assert_eq!(spared(&world)[0], (4, SparedBy::Panic));
    let mut in_panic = with_share(10, 100);
    (0..6).for_each(|index| in_panic.change(index, |condition| condition.finding = Finding::Suspect));
    fail(&mut in_panic, 9);
    assert_eq!(spared(&in_panic), [(9, SparedBy::Panic)]);
}

#[test]
fn at_most_the_configured_share_and_at_least_one_is_ejected() {
    for (members, percent, most) in [(2, 10, 1), (10, 10, 1), (10, 30, 3), (7, 40, 2), (4, 0, 0)] {
        let mut world = with_share(members, percent);
        (0..members).for_each(|index| fail(&mut world, index));
        assert_eq!(ejected(&world).len(), most, "{percent} % of {members}");
        assert_eq!(spared(&world)[0].1, if members == 2 { SparedBy::Last } else { SparedBy::Share });
    }
}

#[test]
fn of_several_outliers_the_worst_is_ejected_first() {
    let mut world = with_share(4, 25);
    world.rules.thresholds = lb_balance::Thresholds::OFF; // no alert, so that one look sees all
    for (index, failures) in [(0, 7), (1, 50), (2, 6)] {
        (0..failures).for_each(|_| world.answer(index, BAD));
    }
    world.look();
    assert_eq!(ejected(&world), [1]);
}

#[test]
fn a_spared_outlier_is_told_once_and_ejected_when_there_is_a_place() {
    let mut world = World::with_defaults(3);
    (0..2).for_each(|index| fail(&mut world, index));
    (0..50).for_each(|_| world.answer(1, BAD));
    world.look();
    assert_eq!((ejected(&world), spared(&world)), (vec![0], vec![(1, SparedBy::Share)]));
    let state = world.outliers.state(world.members[1].number()).unwrap();
    assert_eq!(state.spared.map(|(cause, by)| (cause.as_str(), by.as_str())), Some(("server_errors", "share")));
    world.answer(1, Answer::Status(200));
    world.look();
    assert_eq!(world.outliers.state(world.members[1].number()).unwrap().spared, None, "it is good again");
    fail(&mut world, 1);
    assert_eq!(spared(&world).len(), 2, "a new episode");
    world.advance(world.outliers.state(world.members[0].number()).unwrap().ejection.unwrap().until_ns);
    assert_eq!(ejected(&world), [1], "the first has returned");
}

#[test]
fn a_bad_success_rate_is_told_once_while_it_lasts() {
    let mut world = with_share(5, 0);
    let mut requests = 0_u64;
    for seconds in [60, 15, 60] {
        for _ in 0..seconds {
            world.serve(SECOND, 100, |index, _| {
                requests += 1;
                let fails = seconds == 60 && index == 3 && (requests / 5).is_multiple_of(3);
                if fails { BAD } else { Answer::Status(200) }
            });
            world.look();
        }
    }
    assert_eq!(spared(&world), [(3, SparedBy::Share); 2], "two episodes");
}

#[test]
fn a_failing_primary_gives_way_to_a_backup_and_the_last_backup_stays() {
    let mut world = World::with_defaults(2);
    world.change(1, |condition| condition.backup = true);
    fail(&mut world, 0);
    assert_eq!(ejected(&world), [0]);
    assert!(world.health().backups_in_use && world.members[1].backend.is_eligible());
    fail(&mut world, 1);
    assert_eq!(spared(&world), [(1, SparedBy::Last)]);
}
