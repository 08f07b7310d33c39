//! Minimal disruption: if a backend is removed, unhealthy or added, only those keys move that must.
//!
//! A removal or an outage moves only the keys of that backend. An addition moves keys only to the new backend. A slow
//! start moves none: a key that goes away and comes back finds two cold caches. A table of fixed size, as in Maglev,
//! moves a few more keys, which is a warning.

use std::collections::HashSet;

use super::subject::Subject;
use super::{Finding, Found};
use crate::{Decision, World};

const BACKENDS: usize = 10;
const GONE: usize = 3;
const KEYS: usize = 10_000;
/// The share of keys moved without need up to which the result is only a warning.
const NEARLY: f64 = 0.03;

pub(super) fn check(subject: &Subject) -> Found {
    if !subject.expectation.consistent {
        return Ok(Finding::not_applicable("it does not declare itself consistent"));
    }
    let instance = subject.instance()?;
    let homes = |world: World, salt: u64| -> Result<Vec<Option<String>>, String> {
        let picker = world.picker(&instance)?;
        // Other random bits each time, because only the key may count.
        let mut requests = subject.requests(salt);
        let home = |number| match requests.ask().key(format!("key {number}")).pick(&picker) {
            Decision::Backend { index, .. } => Some(world.name(index).to_owned()),
            _ => None,
        };
        Ok((0..KEYS).map(home).collect())
    };
    let before = homes(World::labelled(BACKENDS), 30)?;
    let is_up: Vec<bool> = (0..BACKENDS).map(|index| index != GONE).collect();
    let gone = World::labelled(BACKENDS).name(GONE).to_owned();
    let new = World::labelled(BACKENDS + 1).name(BACKENDS).to_owned();
    let in_vain = |after: &[Option<String>], must_move: &dyn Fn(&Option<String>, &Option<String>) -> bool| {
        before.iter().zip(after).filter(|(old, now)| old != now && !must_move(old, now)).count()
    };
    let left = |old: &Option<String>, _: &Option<String>| *old == Some(gone.clone());
    let removed = in_vain(&homes(World::labelled(BACKENDS).without(GONE), 31)?, &left);
    let out = in_vain(&homes(World::labelled(BACKENDS).up(&is_up), 32)?, &left);
    let added = in_vain(&homes(World::labelled(BACKENDS + 1), 33)?, &|_, now| *now == Some(new.clone()));
    let mut parts = [1000; BACKENDS];
    parts[GONE] = 100;
    let started = in_vain(&homes(World::labelled(BACKENDS).shares(&parts), 34)?, &|_, _| false);
    let used = before.iter().collect::<HashSet<_>>().len();
    if used < 2 {
        return Ok(Finding::fail(format!("{used} backend used"), "keys are spread", "all keys go to one backend"));
    }
    let figure = format!("{removed} + {out} + {added} + {started} moved in vain");
    let bar = format!("0 of {KEYS} keys, each");
    let worst = removed.max(out).max(added).max(started);
    Ok(match worst {
        0 => Finding::pass(figure, bar, "removal, outage, addition and slow start move only the keys that must move"),
        some if (some as f64) < KEYS as f64 * NEARLY => Finding::warn(
            figure,
            bar,
            "nearly minimal (removal + outage + addition + slow start), as with a table of fixed size",
        ),
        _ => Finding::fail(
            figure,
            bar,
            "declared consistent, but a removal, an outage, an addition or a slow start moves other keys too",
        ),
    })
}
