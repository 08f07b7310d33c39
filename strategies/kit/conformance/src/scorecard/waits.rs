//! Waits: does the strategy let requests wait although every backend is idle?
//!
//! Why a warning: a request that waits is asked for again when an attempt ends. In an idle pool none ends, so only the
//! look of each second is left. A strategy that limits a rate may want that; for all others it is a mistake.

use super::subject::Subject;
use super::{Finding, Found};
use crate::properties::WEIGHTS;
use crate::{Decision, World, small_worlds};

/// Picks in one idle pool, beside those in the small worlds.
const PICKS: usize = 1_000;

/// Picks, and how many of them were waits.
#[derive(Default)]
struct Counted {
    picks: u64,
    waits: u64,
}

pub(super) fn check(subject: &Subject) -> Found {
    let instance = subject.instance()?;
    let mut requests = subject.requests(55);
    let (mut idle, mut busy) = (Counted::default(), Counted::default());
    for world in WEIGHTS.into_iter().flat_map(small_worlds).filter(|world| !world.candidates(&[]).is_empty()) {
        // The row `answers` reports a list that is refused.
        let Ok(picker) = world.picker(&instance) else { continue };
        let counted = if is_idle(&world) { &mut idle } else { &mut busy };
        counted.add(requests.ask().pick(&picker));
    }
    let picker = subject.picker(&World::labelled(5))?;
    (0..PICKS).for_each(|_| idle.add(requests.ask().pick(&picker)));
    let bar = "0 waits with all backends idle";
    Ok(match (idle.waits, busy.waits) {
        (0, 0) => Finding::not_applicable("it lets no request wait"),
        (0, waits) => {
            let figure = format!("0 of {}", idle.picks);
            let sentence = format!("with busy backends it answered LB_WAIT {waits} times in {} picks", busy.picks);
            Finding::pass(figure, bar, sentence)
        }
        (waits, _) => {
            let sentence =
                format!("with all backends idle, it answered LB_WAIT {waits} times: no end wakes the request");
            Finding::warn(format!("{waits} of {}", idle.picks), bar, sentence)
        }
    })
}

fn is_idle(world: &World) -> bool {
    (0..world.len()).all(|index| world.load(index) == 0)
}

// === impl Counted ===

impl Counted {
    fn add(&mut self, decision: Decision) {
        self.picks += 1;
        self.waits += u64::from(decision == Decision::Wait);
    }
}
