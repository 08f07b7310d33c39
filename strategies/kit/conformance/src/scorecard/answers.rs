//! Failure handling: every small world, dry picks, hand-over of state, extreme finishes.
//!
//! lb tolerates a wrong pick: its fallback picks, and lb counts that. A strategy should not need it. The check counts
//! all wrong picks and does not stop at the first. So the figure shows whether a rule is broken rarely or always.
//!
//! These backends have no labels, and those of the other rows have some. So a strategy meets both.
//!
//! That takes about 400,000 picks. A slow strategy gets only every second, third or later small world.

use std::collections::BTreeMap;

use super::subject::{Deadline, Subject};
use super::{Finding, Found};
use crate::properties::{self, WEIGHTS, is_right};
use crate::{Decision, World, small_worlds};

/// The picks in all small worlds.
const PICKS: u64 = 419_430;

/// Pools of 0 to 4 backends with every set of healthy and of tried ones and loads 0 to 3. Real picks, dry picks, and
/// picks without a key.
pub(super) fn answers(subject: &Subject) -> Found {
    let instance = subject.instance()?;
    let mut requests = subject.requests(50);
    let mut bad: BTreeMap<String, u64> = BTreeMap::new();
    let (mut first, mut asked) = (None, 0_u64);
    let (stride, deadline) = (subject.stride(PICKS), Deadline::of_a_long_check());
    for world in WEIGHTS.into_iter().flat_map(small_worlds).step_by(stride) {
        if deadline.has_passed() {
            break;
        }
        let picker = match world.picker(&instance) {
            Ok(picker) => picker,
            Err(reason) => {
                first.get_or_insert_with(|| format!("{reason}, with {}", list(&world)));
                *bad.entry("no picker".to_owned()).or_default() += 1;
                continue;
            }
        };
        for subset in 0..1_u32 << world.len() {
            let tried: Vec<u32> = (0..world.len() as u32).filter(|index| subset >> index & 1 == 1).collect();
            let ask = requests.ask().tried(&tried);
            for ask in [ask.clone(), ask.clone().dry(), ask.without_key()] {
                let decision = ask.pick(&picker);
                asked += 1;
                if !is_right(decision, &world, &picker, &tried, &ask) {
                    let may = world.candidates(&tried);
                    first.get_or_insert_with(|| format!("{decision:?} where {may:?} may serve, of {}", list(&world)));
                    *bad.entry(kind(decision)).or_default() += 1;
                }
            }
        }
    }
    let bar = if asked == PICKS { "0 in all small worlds" } else { "0 in some small worlds" };
    Ok(match first {
        None => Finding::pass(format!("0 bad of {asked}"), bar, "every pick is eligible and untried, or there is none"),
        Some(first) => {
            let kinds: Vec<_> = bad.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            Finding::fail(
                format!("{} bad of {asked}", bad.values().sum::<u64>()),
                bar,
                format!("{}; first: {first}", kinds.join(", ")),
            )
        }
    })
}

pub(super) fn dry_picks(subject: &Subject) -> Found {
    properties::dry_picks_change_nothing(subject.plugin(), &subject.options)?;
    Ok(Finding::pass("unchanged", "no pick changes", "dry picks and explain do not change later picks"))
}

pub(super) fn state(subject: &Subject) -> Found {
    if subject.plugin().state_schema().is_none() {
        return Ok(Finding::not_applicable("it declares no state"));
    }
    properties::state_is_handed_over(subject.plugin(), &subject.options)?;
    Ok(Finding::pass("handed over", "no failure", "a successor imports the state; damaged state does no harm"))
}

pub(super) fn finishes(subject: &Subject) -> Found {
    if !subject.plugin().wants().finish {
        return Ok(Finding::not_applicable("it does not ask for finishes"));
    }
    properties::finishes_do_no_harm(subject.plugin(), &subject.options)?;
    Ok(Finding::pass("harmless", "no bad pick", "picks stay right after extreme, foreign, unknown finishes"))
}

fn kind(decision: Decision) -> String {
    match decision {
        Decision::Refused(refusal) => format!("{refusal:?}"),
        Decision::NoBackend => "NoBackend".to_owned(),
        Decision::Wait => "Wait".to_owned(),
        Decision::Backend { .. } => "Backend".to_owned(),
    }
}

fn list(world: &World) -> String {
    let one = |index| format!("{} (weight {}, load {})", world.name(index), world.weight(index), world.load(index));
    if world.is_empty() { "no backends".to_owned() } else { (0..world.len()).map(one).collect::<Vec<_>>().join(", ") }
}
