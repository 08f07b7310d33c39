//! Minimal disruption: if a backend is removed, unhealthy or added, only those keys move that must.
//!
//! A removal or an outage moves only the keys of that backend. An addition moves keys only to the new backend. A slow
//! start moves none: a key that goes away and comes back finds two cold caches. A table of fixed size, as in Maglev,
//! moves a few more keys, which is a warning. A fresh instance with the list in another order must agree, because two
//! processes of lb may serve the same clients.
//!
//! A declaration of less than that excuses parts of it:
//!
//! - "outages": removal and addition are measured and not judged.
//! - "history": each change is compared with the one before and not with the first list. A key may stay where an
//!   earlier change has moved it. A fresh instance may differ.

use std::collections::HashSet;
use std::sync::Arc;

use super::expectation::Consistent;
use super::subject::Subject;
use super::{Finding, Found};
use crate::keys::{homes, moved_in_vain};
use crate::{Strategy, World};

const BACKENDS: usize = 10;
const GONE: usize = 3;
const KEYS: usize = 10_000;
/// The share of keys moved without need up to which the result is only a warning.
const NEARLY: f64 = 0.03;

/// The number of keys that moved in vain, by change.
#[derive(Debug, PartialEq, Eq)]
struct Moves {
    removed: usize,
    out: usize,
    added: usize,
    started: usize,
    /// Keys that a fresh instance sends elsewhere.
    differ: usize,
}

pub(super) fn check(subject: &Subject) -> Found {
    let declared = subject.expectation.consistent;
    if declared == Consistent::Undeclared {
        return Ok(Finding::not_applicable("it does not declare itself consistent"));
    }
    let before = all_homes(subject, &subject.instance()?, &World::labelled(BACKENDS), 30)?;
    let used = before.iter().collect::<HashSet<_>>().len();
    if used < 2 {
        return Ok(Finding::fail(format!("{used} backend used"), "keys are spread", "all keys go to one backend"));
    }
    Ok(judge(declared, &count(subject, declared)?))
}

fn all_homes(
    subject: &Subject,
    instance: &Arc<Strategy>,
    world: &World,
    salt: u64,
) -> Result<Vec<Option<String>>, String> {
    // Other random bits each time, because only the key may count.
    homes(instance, world, KEYS, subject.seed.wrapping_add(salt << 32))
}

fn count(subject: &Subject, declared: Consistent) -> Result<Moves, String> {
    let (full, grown) = (World::labelled(BACKENDS), World::labelled(BACKENDS + 1));
    let (gone, new) = (Some(full.name(GONE)), Some(grown.name(BACKENDS)));
    let is_up: Vec<bool> = (0..BACKENDS).map(|index| index != GONE).collect();
    let mut parts = [1000; BACKENDS];
    parts[GONE] = 100;
    let instance = subject.instance()?;
    let in_turn = |world: &World, salt: u64| all_homes(subject, &instance, world, salt);
    let before = in_turn(&full, 30)?;
    let removed = in_turn(&full.clone().without(GONE), 31)?;
    let out = in_turn(&full.clone().up(&is_up), 32)?;
    let added = in_turn(&grown, 33)?;
    let started = in_turn(&full.clone().shares(&parts), 34)?;
    if declared == Consistent::History {
        // Keys of the backend that went have no settled place any more.
        let settled = |homes: &[Option<String>]| -> Vec<Option<String>> {
            let pairs = before.iter().zip(homes).filter(|(first, _)| first.as_deref() != gone);
            pairs.map(|(_, home)| home.clone()).collect()
        };
        let [before, removed, out, added, started] = [&before, &removed, &out, &added, &started].map(|at| settled(at));
        return Ok(Moves {
            removed: moved_in_vain(&before, &removed, None, None),
            out: moved_in_vain(&removed, &out, None, None),
            added: moved_in_vain(&out, &added, None, new),
            started: moved_in_vain(&added, &started, new, None),
            differ: 0,
        });
    }
    let fresh = all_homes(subject, &subject.instance()?, &grown.clone().reversed(), 35)?;
    Ok(Moves {
        removed: moved_in_vain(&before, &removed, gone, None),
        out: moved_in_vain(&before, &out, gone, None),
        added: moved_in_vain(&before, &added, None, new),
        started: moved_in_vain(&before, &started, None, None),
        differ: moved_in_vain(&added, &fresh, None, None),
    })
}

fn judge(declared: Consistent, moves: &Moves) -> Finding {
    let Moves { removed, out, added, started, differ } = moves;
    let bar = format!("0 of {KEYS} keys, each");
    let (figure, worst, minimal) = if declared == Consistent::Outages {
        let figure = format!("{out} + {started} moved in vain, {differ} differ; not judged: {removed} + {added}");
        let minimal = "an outage and a slow start move only the keys that must move; it declares no more than that";
        (figure, out.max(started), minimal)
    } else {
        let figure = format!("{removed} + {out} + {added} + {started} moved in vain, {differ} differ");
        let minimal = match declared {
            Consistent::History => "each change moves only the keys that must move; a fresh instance may differ",
            _ => "removal, outage, addition and slow start move only the keys that must move",
        };
        (figure, removed.max(out).max(added).max(started), minimal)
    };
    if *differ > 0 {
        let sentence = "a fresh instance with the list in another order sends keys elsewhere: declare \"history\"";
        return Finding::fail(figure, bar, sentence);
    }
    match *worst {
        0 => Finding::pass(figure, bar, minimal),
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
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    const NONE: Moves = Moves { removed: 0, out: 0, added: 0, started: 0, differ: 0 };

    #[test]
    fn a_declaration_excuses_what_it_leaves_out_and_nothing_else() {
        let verdict = |declared, moves: Moves| judge(declared, &moves).verdict;
        for declared in [Consistent::Always, Consistent::Outages, Consistent::History] {
            assert_eq!(verdict(declared, NONE), Verdict::Pass);
            assert_eq!(verdict(declared, Moves { out: 5_000, ..NONE }), Verdict::Fail);
            assert_eq!(verdict(declared, Moves { started: 10, ..NONE }), Verdict::Warn);
        }
        assert_eq!(verdict(Consistent::Always, Moves { removed: 5_000, ..NONE }), Verdict::Fail);
        assert_eq!(verdict(Consistent::History, Moves { removed: 5_000, ..NONE }), Verdict::Fail);
        assert_eq!(verdict(Consistent::Outages, Moves { removed: 5_000, added: 5_000, ..NONE }), Verdict::Pass);
        assert_eq!(verdict(Consistent::Always, Moves { differ: 1, ..NONE }), Verdict::Fail);
        assert_eq!(verdict(Consistent::Outages, Moves { differ: 1, ..NONE }), Verdict::Fail);
    }
}
