//! All pools of up to five members: two rules at once never leave a pool empty.

use lb_balance::{Condition, Eligibility, Finding, PanicMode, PanicRules, PoolHealth};

/// A condition, and whether the member is ejected.
type Member = (Condition, bool);

/// All kinds of members. Closed ones (draining, or without weight) get nothing, so a few of them stand for all.
fn kinds() -> Vec<Member> {
    let mut kinds = Vec::new();
    for finding in [Finding::Up, Finding::Suspect, Finding::Dead] {
        for (backup, ejected) in [(false, false), (false, true), (true, false), (true, true)] {
            kinds.push((Condition { finding, draining: false, weight: 2, backup }, ejected));
        }
    }
    let up = Condition { finding: Finding::Up, draining: false, weight: 1, backup: false };
    kinds.push((Condition { draining: true, ..up }, false));
    kinds.push((Condition { weight: 0, ..up }, true));
    kinds.push((Condition { draining: true, weight: 0, backup: true, finding: Finding::Dead }, true));
    kinds
}

/// Calls `check` for every pool of up to `most` members, in one order: another test shows that the order does not
/// matter.
fn for_each_pool(most: usize, pool: &mut Vec<Member>, kinds: &[Member], check: &mut impl FnMut(&[Member])) {
    check(pool);
    if pool.len() < most {
        for (at, kind) in kinds.iter().enumerate() {
            pool.push(*kind);
            for_each_pool(most, pool, &kinds[at..], check);
            pool.pop();
        }
    }
}

fn all_rules() -> Vec<PanicRules> {
    let mut all = Vec::new();
    for below_percent in [0, 30, 50, 100] {
        for from_members in [0, 4] {
            for mode in [PanicMode::UseAll, PanicMode::Fail] {
                all.push(PanicRules { below_percent, from_members, mode });
            }
        }
    }
    all
}

fn health(rules: &PanicRules, pool: &[Member]) -> PoolHealth {
    let conditions: Vec<_> = pool.iter().map(|(condition, _)| *condition).collect();
    PoolHealth::of(rules, &conditions, |index| pool[index].1)
}

fn check(rules: &PanicRules, pool: &[Member]) {
    let PoolHealth { members, panic, ejections_suspended, backups_in_use } = health(rules, pool);
    let serving: Vec<&Member> = pool.iter().zip(&members).filter(|(_, e)| e.is_eligible()).map(|(m, _)| m).collect();
    let open: Vec<&Member> = pool.iter().filter(|(condition, _)| condition.is_open()).collect();
    let is_up = |member: &&&Member| member.0.is_usable();
    let is_primary = |member: &&&Member| !member.0.backup;
    let is_suspect = |member: &&&Member| member.0.finding == Finding::Suspect;
    let told = || format!("{rules:?}\n{pool:#?}\n{members:?}");

    // Never empty.
    let fails = panic && rules.mode == PanicMode::Fail;
    assert!(!serving.is_empty() || fails || !open.iter().any(|member| is_up(&member)), "one is up: {}", told());
    let uses_all = rules.below_percent > 0 && rules.mode == PanicMode::UseAll;
    let may_serve = open.iter().any(|member| member.0.finding != Finding::Dead);
    assert!(!serving.is_empty() || !uses_all || !may_serve, "panic uses all: {}", told());

    // What serves.
    assert!(serving.iter().all(|member| member.0.is_open() && member.0.finding != Finding::Dead), "{}", told());
    assert!(panic || !serving.iter().any(|member| is_suspect(&member)), "a suspect without panic: {}", told());
    let has_primary = serving.iter().any(|member| is_primary(&member));
    assert!(!has_primary || serving.iter().all(|member| is_primary(&member)), "a backup beside: {}", told());
    assert_eq!(backups_in_use, !serving.is_empty() && !has_primary, "{}", told());
    assert_eq!(ejections_suspended, serving.iter().any(|member| member.1), "{}", told());

    // Panic counts active checks only: with no ejection at all, it is the same or there is one more.
    let pardoned: Vec<Member> = pool.iter().map(|(condition, _)| (*condition, false)).collect();
    let without = health(rules, &pardoned);
    assert!(!panic || without.panic, "panic by ejections: {}", told());

    // Ejections are in force if the primaries bear them.
    let primaries = || open.iter().filter(|member| !member.0.backup);
    let (n, up) = (primaries().count(), primaries().filter(|member| member.0.is_usable()).count());
    let usable = primaries().filter(|member| member.0.is_usable() && !member.1).count();
    let is_few = |left: usize| n >= rules.from_members && left * 100 < n * usize::from(rules.below_percent);
    assert!(usable == 0 || is_few(usable) || !ejections_suspended, "suspended in vain: {}", told());
    let has_backup = open.iter().any(|(condition, ejected)| condition.backup && condition.is_usable() && !*ejected);
    let is_taken_over = usable == 0 && has_backup;
    assert!(up == 0 || panic == (is_few(up) && !is_taken_over), "the threshold: {}", told());
}

#[test]
fn two_rules_at_once_never_leave_a_pool_of_up_to_five_members_empty() {
    let (kinds, all_rules) = (kinds(), all_rules());
    let mut pools = 0;
    for_each_pool(5, &mut Vec::new(), &kinds, &mut |pool| {
        pools += 1;
        all_rules.iter().for_each(|rules| check(rules, pool));
    });
    assert_eq!(pools, 15_504, "15 kinds, up to 5 of them: C(20, 5)");
}

#[test]
fn the_order_of_members_does_not_matter() {
    let (kinds, all_rules) = (kinds(), all_rules());
    let mut random = fastrand::Rng::with_seed(16);
    for_each_pool(3, &mut Vec::new(), &kinds, &mut |pool| {
        let mut order: Vec<usize> = (0..pool.len()).collect();
        random.shuffle(&mut order);
        let shuffled: Vec<Member> = order.iter().map(|index| pool[*index]).collect();
        for rules in &all_rules {
            let (here, there) = (health(rules, pool), health(rules, &shuffled));
            let moved: Vec<Eligibility> = order.iter().map(|index| here.members[*index]).collect();
            assert_eq!(moved, there.members, "{rules:?} {pool:?}");
        }
    });
}
