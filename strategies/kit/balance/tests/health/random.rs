//! Random sequences of failures, checks, changes of members and time. The world checks share, panic threshold and an
//! eligible member after each look.

use lb_balance::{Finding, OutlierEvent, OutlierRules, PanicMode, PanicRules, Thresholds};

use crate::world::{Answer, Member, SECOND, World};

fn rules(random: &mut fastrand::Rng) -> (OutlierRules, PanicRules) {
    let pick = |random: &mut fastrand::Rng, of: &[u8]| of[random.usize(..of.len())];
    let rules = OutlierRules {
        thresholds: Thresholds { gateway: random.u32(..4), errors: random.u32(..6) },
        max_ejected_percent: pick(random, &[0, 10, 34, 50, 100]),
        jitter_ns: random.u64(..2) * SECOND,
        ..OutlierRules::default()
    };
    let panic = PanicRules {
        below_percent: pick(random, &[0, 30, 50, 100]),
        from_members: random.usize(..5),
        mode: if random.u8(..4) == 0 { PanicMode::Fail } else { PanicMode::UseAll },
    };
    (rules, panic)
}

fn step(world: &mut World, random: &mut fastrand::Rng, joined: &mut usize) {
    let index = random.usize(..world.members.len().max(1));
    match random.u32(..20) {
        0 if world.members.len() < 12 => {
            *joined += 1;
            world.members.push(Member::new(&format!("b{}", *joined % 16)));
            if has_twins(world) {
                world.members.pop();
            }
            world.look();
        }
        _ if world.members.is_empty() => {}
        1 => {
            world.members.remove(index);
            world.look();
        }
        2..=5 => {
            let finding = [Finding::Up, Finding::Up, Finding::Suspect, Finding::Dead][random.usize(..4)];
            world.change(index, |condition| condition.finding = finding);
        }
        6 => world.change(index, |condition| condition.draining ^= true),
        7 => world.change(index, |condition| condition.weight ^= 1),
        8 => world.change(index, |condition| condition.backup ^= true),
        9 => drop(world.outliers.pardon(world.members[index].number())),
        10..=12 => world.advance(world.now_ns + random.u64(..20 * SECOND)),
        _ => {
            let answer = [Answer::Failure, Answer::Status(500), Answer::Status(200)][random.usize(..3)];
            (0..random.u32(..8)).for_each(|_| world.answer(index, answer));
        }
    }
}

fn has_twins(world: &World) -> bool {
    let mut numbers: Vec<_> = world.members.iter().map(Member::number).collect();
    numbers.sort_unstable();
    numbers.windows(2).any(|pair| pair[0] == pair[1])
}

#[test]
fn no_sequence_of_events_breaks_the_share_the_panic_threshold_or_empties_a_pool() {
    let (mut ejected, mut spared, mut suspended) = (0, 0, 0);
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (rules, panic) = rules(&mut random);
        let n = random.usize(1..8);
        println!("seed {seed}: {n} backends, {rules:?}, {panic:?}");
        let (mut world, mut joined) = (World::new(n, rules, panic), n);
        for _ in 0..400 {
            step(&mut world, &mut random, &mut joined);
            suspended += usize::from(world.health().ejections_suspended);
        }
        for (_, event) in &world.events {
            ejected += usize::from(matches!(event, OutlierEvent::Ejected { .. }));
            spared += usize::from(matches!(event, OutlierEvent::Spared { .. }));
        }
    }
    assert!(ejected > 1_000 && spared > 1_000 && suspended > 1_000, "{ejected}, {spared}, {suspended}: too tame");
}
