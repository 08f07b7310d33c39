//! Which backends are ejected: the ones that fail, and not healthy ones with random errors.

use lb_balance::{Cause, OutlierEvent, OutlierRules, PanicRules, SuccessRateRule, Thresholds};

use crate::world::{Answer, SECOND, World};

const OK: Answer = Answer::Status(200);

/// One percent of errors of all kinds.
fn one_percent(random: &mut fastrand::Rng) -> Answer {
    match random.u32(..400) {
        0 => Answer::Failure,
        1 => Answer::Status(503),
        2 | 3 => Answer::Status(500),
        _ => OK,
    }
}

fn ejections(world: &World) -> usize {
    world.events.iter().filter(|(_, event)| matches!(event, OutlierEvent::Ejected { .. })).count()
}

#[test]
fn of_a_million_requests_with_random_errors_at_most_one_ejects_a_healthy_backend() {
    const REQUESTS: u64 = 1_000_000;
    for (n, seed) in [(5, 161), (10, 162)] {
        // The smallest volume that is judged has the most noise; the other rate is that of a busy pool.
        for per_second in [10 * n as u64 + n as u64 / 2, 2_000] {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut world = World::with_defaults(n);
            world.serve(REQUESTS * SECOND / per_second, per_second, |_, _| one_percent(&mut random));
            let found = ejections(&world);
            println!("{n} backends, {per_second} requests a second, seed {seed}: {found} false ejections");
            assert!(found <= 1, "{n} backends, {per_second} a second, seed {seed}: {:?}", world.events);
        }
    }
}

/// One of `n` backends fails every request; `clients` requests are in flight at all times.
fn failing_one_of(n: usize, clients: usize, bad: Answer) -> (World, usize, usize) {
    let mut world = World::with_defaults(n);
    let mut in_flight = std::collections::VecDeque::new();
    let (mut failures, mut waiting) = (0, 0);
    for _ in 0..1_000 {
        while in_flight.len() < clients {
            in_flight.push_back(world.pick().expect("a backend is eligible"));
        }
        let index = in_flight.pop_front().expect("one is in flight");
        let was_ejected = world.is_ejected(0);
        world.answer(index, if index == 0 { bad } else { OK });
        failures += usize::from(index == 0);
        if world.is_ejected(0) && !was_ejected {
            waiting = in_flight.iter().filter(|index| **index == 0).count();
        }
    }
    (world, failures, waiting)
}

#[test]
fn a_backend_that_only_fails_is_ejected_within_the_threshold_and_what_is_in_flight() {
    for bad in [Answer::Status(500), Answer::Status(503), Answer::Failure] {
        for (n, clients) in (2..=10).flat_map(|n| [1, 7, 64].map(|clients| (n, clients))) {
            let (world, failures, waiting) = failing_one_of(n, clients, bad);
            assert!(world.is_ejected(0), "{n} backends, {clients} in flight, {bad:?}");
            assert_eq!(failures, 5 + waiting, "{n} backends, {clients} in flight, {bad:?}");
            assert_eq!(ejections(&world), 1, "only this one");
        }
    }
}

#[test]
fn of_many_workers_one_is_told_that_a_threshold_is_reached() {
    for thresholds in [Thresholds { gateway: 0, errors: 500 }, Thresholds { gateway: 500, errors: 0 }] {
        let world = World::with_defaults(1);
        let told = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let is_told = world.members[0].backend.attempt_failed(thresholds);
                        told.fetch_add(u32::from(is_told), std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!((told.into_inner(), world.members[0].backend.in_row().errors), (1, 4_000));
    }
}

#[test]
fn the_cause_names_the_rule() {
    let cause = |bad| match failing_one_of(3, 1, bad).0.events[0].1 {
        OutlierEvent::Ejected { cause, for_ns, count: 1, .. } if for_ns == 30 * SECOND => cause,
        other => panic!("{other:?}"),
    };
    assert_eq!(cause(Answer::Status(500)), Cause::ServerErrors { in_row: 5 });
    assert_eq!(cause(Answer::Status(502)), Cause::GatewayFailures { in_row: 5 });
    assert_eq!(cause(Answer::Failure).as_str(), "gateway_failures");
}

#[test]
fn each_rule_can_be_switched_off() {
    let run = |thresholds, success_rate, bad: Answer| {
        let rules = OutlierRules { thresholds, success_rate, ..OutlierRules::default() };
        let mut world = World::new(6, rules, PanicRules::default());
        world.serve(25 * SECOND, 600, |index, _| if index == 0 { bad } else { OK });
        world.events.first().map(|(_, event)| match event {
            OutlierEvent::Ejected { cause, .. } => cause.as_str(),
            other => panic!("{other:?}"),
        })
    };
    let (gateway, errors) = (Thresholds { gateway: 5, errors: 0 }, Thresholds { gateway: 0, errors: 5 });
    let rate = Some(SuccessRateRule::default());
    assert_eq!(run(gateway, None, Answer::Status(500)), None);
    assert_eq!(run(gateway, None, Answer::Status(504)), Some("gateway_failures"));
    assert_eq!(run(errors, None, Answer::Status(504)), Some("server_errors"));
    assert_eq!(run(Thresholds::OFF, rate, Answer::Status(500)), Some("success_rate"));
    assert_eq!(run(Thresholds::OFF, None, Answer::Failure), None);
}

#[test]
fn a_success_rate_far_below_the_others_ejects_at_the_end_of_an_interval() {
    // Every third request of one backend fails, never five in a row.
    let run = |backends: u64, seconds: u64| {
        let (mut world, mut requests) = (World::with_defaults(backends as usize), 0_u64);
        world.serve(seconds * SECOND, 20 * backends, |index, _| {
            requests += 1;
            let fails = index == 2 && (requests / backends).is_multiple_of(3);
            if fails { Answer::Status(500) } else { OK }
        });
        world
    };
    let world = run(5, 20);
    let [(at, OutlierEvent::Ejected { number, cause: Cause::SuccessRate { own, mean }, .. })] = world.events[..] else {
        panic!("{:?}", world.events)
    };
    assert_eq!((at, number), (11 * SECOND, world.members[2].number()), "the end of the first interval");
    assert!((660..675).contains(&own) && (930..936).contains(&mean), "{own} of {mean}");
    assert_eq!(run(4, 60).events, [], "four are too few to compare");
}

#[test]
fn a_window_is_one_interval_whatever_looks_there_are() {
    // One of five fails for a moment with too few requests for a verdict, and is good for the rest.
    let mut world = World::with_defaults(5);
    world.serve(10 * SECOND, 40, |index, now| {
        let fails = index == 0 && (now / (SECOND / 8)).is_multiple_of(2) && now < 9 * SECOND;
        if fails { Answer::Status(500) } else { OK }
    });
    world.serve(30 * SECOND, 100, |_, _| OK);
    assert_eq!(world.events, [], "failures of an interval do not count in the next one");
    // Every third request fails; there is a look for each request, and the verdict still comes with the interval.
    let mut requests = 0_u64;
    while world.events.is_empty() {
        world.serve(SECOND / 100, 100, |index, _| {
            requests += 1;
            let fails = index == 0 && (requests / 5).is_multiple_of(3);
            if fails { Answer::Status(500) } else { OK }
        });
        world.look();
    }
    assert_eq!(world.events[0].0, 51 * SECOND, "the end of an interval");
    assert_eq!((requests, world.is_ejected(0)), (1_000, true));
}

#[test]
fn failures_from_before_a_return_count_for_no_window() {
    let mut world = World::with_defaults(6);
    world.serve(SECOND, 600, |index, _| if index == 0 { Answer::Failure } else { OK });
    let number = world.members[0].number();
    assert!(world.outliers.pardon(number));
    world.look();
    assert!(world.members[0].backend.is_eligible());
    // The rest of the interval is good.
    world.serve(60 * SECOND, 600, |_, _| OK);
    assert_eq!(ejections(&world), 1);
    // The same for a backend that the checks take out, while its requests fail.
    (0..900).for_each(|n| world.answer(0, if n % 4 == 0 { OK } else { Answer::Failure }));
    world.change(0, |condition| condition.finding = lb_balance::Finding::Suspect);
    world.change(0, |condition| condition.finding = lb_balance::Finding::Up);
    world.serve(60 * SECOND, 600, |_, _| OK);
    assert_eq!(ejections(&world), 1);
}
