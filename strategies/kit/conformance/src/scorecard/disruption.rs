//! Minimal disruption: when a backend goes, is out, or comes, no key moves but those that must.
//!
//! A removal moves the keys of the one that went; an outage the keys of the one that is out; an addition moves keys to the new one
//! only. A table with a fixed number of places (Maglev) moves a few more, which is a warning.

use std::collections::HashSet;

use super::subject::Subject;
use super::{Finding, Found};
use crate::{Decision, World};

const BACKENDS: usize = 10;
const GONE: usize = 3;
const KEYS: usize = 10_000;
/// Keys moved in vain, of all, that are still a warning.
const NEARLY: f64 = 0.03;

pub(super) fn check(subject: &Subject) -> Found {
    if !subject.expectation.consistent {
        return Ok(Finding::not_applicable("it does not declare itself consistent"));
    }
    let instance = subject.instance()?;
    let homes = |world: World, salt: u64| -> Result<Vec<Option<String>>, String> {
        let picker = world.picker(&instance)?;
        // other random bits each time: only the key may count
        let mut requests = subject.requests(salt);
        let home = |number| match requests.ask().key(format!("key {number}")).pick(&picker) {
            Decision::Backend { index, .. } => Some(world.name(index).to_owned()),
            _ => None,
        };
        Ok((0..KEYS).map(home).collect())
    };
    let before = homes(World::of(BACKENDS), 30)?;
    let is_up: Vec<bool> = (0..BACKENDS).map(|index| index != GONE).collect();
    let gone = World::of(BACKENDS).name(GONE).to_owned();
    let new = World::of(BACKENDS + 1).name(BACKENDS).to_owned();
    let in_vain = |after: &[Option<String>], must_move: &dyn Fn(&Option<String>, &Option<String>) -> bool| {
        before.iter().zip(after).filter(|(old, now)| old != now && !must_move(old, now)).count()
    };
    let left = |old: &Option<String>, _: &Option<String>| *old == Some(gone.clone());
    let removed = in_vain(&homes(World::of(BACKENDS).without(GONE), 31)?, &left);
    let out = in_vain(&homes(World::of(BACKENDS).up(&is_up), 32)?, &left);
    let added = in_vain(&homes(World::of(BACKENDS + 1), 33)?, &|_, now| *now == Some(new.clone()));
    let used = before.iter().collect::<HashSet<_>>().len();
    if used < 2 {
        return Ok(Finding::fail(format!("{used} backend used"), "keys are spread", "all keys go to one place"));
    }
    let figure = format!("{removed} + {out} + {added} moved in vain");
    let bar = format!("0 of {KEYS} keys, each");
    let worst = removed.max(out).max(added);
    Ok(match worst {
        0 => Finding::pass(figure, bar, "removal, outage and addition move only the keys that must move"),
        some if (some as f64) < KEYS as f64 * NEARLY => {
            Finding::warn(figure, bar, "nearly minimal (removal + outage + addition), as a table of fixed size is")
        }
        _ => Finding::fail(
            figure,
            bar,
            "declared consistent, but a removal, an outage or an addition moves other keys too",
        ),
    })
}
