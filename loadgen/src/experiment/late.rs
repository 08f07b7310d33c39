//! Segments with a late generator: which blocks are dropped, and the mark of the run.
//!
//! Invariant: a block is dropped in all arms or in none. The mark has the number of late segments of each arm.

use std::collections::BTreeMap;

use crate::load::{DoubtAbout, Outcome, Punctuality};
use crate::model::{Conclusion, DroppedBlock, Mark};
use crate::report::format::{list, plural};
use crate::statistics::{Drops, LateSegment, dropped, judge_drops, late_of_arms};

/// The punctuality of the generator in each segment.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    late: Vec<Late>,
    /// The segments in which lateness was not judged, and the reason of the first.
    not_judged: Vec<(u32, String)>,
    /// Missing resources of this machine, such as ports.
    local: Vec<String>,
}

#[derive(Debug)]
struct Late {
    block: u32,
    arm: String,
    reason: String,
}

// === impl Lateness ===

impl Lateness {
    /// Records a segment. Returns the reason if it was late.
    pub(super) fn note(&mut self, block: u32, arm: &str, outcome: &Outcome) -> Option<String> {
        let busy = outcome.doubts.iter().find(|doubt| doubt.about == DoubtAbout::OwnCpu);
        let late = match &outcome.punctuality {
            Punctuality::Late(reason) => Some(reason.clone()),
            // without processor time, the latencies of an open loop come from the generator
            _ => busy.map(|doubt| doubt.reason.clone()),
        };
        if let (Punctuality::NotJudged(why), None) = (&outcome.punctuality, &late) {
            self.not_judged.push((block, why.clone()));
        }
        let local = outcome.doubts.iter().filter(|doubt| doubt.about == DoubtAbout::Local);
        self.local.extend(local.map(|doubt| format!("block {block}, {arm}: {doubt}")));
        self.late.extend(late.clone().map(|reason| Late { block, arm: arm.to_owned(), reason }));
        late
    }

    /// The dropped blocks among the first `blocks`.
    pub(super) fn dropped(&self, blocks: u32) -> Vec<DroppedBlock> {
        let mut of_blocks: BTreeMap<u32, Vec<&Late>> = BTreeMap::new();
        for late in self.late.iter().filter(|late| late.block <= blocks) {
            of_blocks.entry(late.block).or_default().push(late);
        }
        let told = |(block, late): (u32, Vec<&Late>)| DroppedBlock {
            block,
            arms: late.iter().map(|late| late.arm.clone()).collect(),
            reason: late.iter().map(|late| late.reason.as_str()).collect::<Vec<_>>().join("; "),
        };
        of_blocks.into_iter().map(told).collect()
    }

    /// The marks about the generator, over the first `blocks` blocks.
    pub(super) fn marks(&self, arms: &[&str], blocks: u32) -> Vec<Mark> {
        let local = (!self.local.is_empty()).then(|| {
            let voids = [Conclusion::Counts, Conclusion::Latency, Conclusion::Throughput];
            Mark::invalid("generator", self.local.join("; "), &voids)
        });
        std::iter::once(self.mark(arms, blocks)).chain(local).collect()
    }

    fn mark(&self, arms: &[&str], blocks: u32) -> Mark {
        let segments = plural(u64::from(blocks) * arms.len() as u64, "segment");
        let told: Vec<&Late> = self.late.iter().filter(|late| late.block <= blocks).collect();
        let late: Vec<LateSegment<'_>> =
            told.iter().map(|late| LateSegment { block: late.block, arm: late.arm.as_str() }).collect();
        let gone = dropped(&late).len() as u64;
        let counts = late_of_arms(arms, &late);
        let by_arm: Vec<String> = arms.iter().zip(&counts).map(|(arm, count)| format!("{arm} {count}")).collect();
        let first = told
            .first()
            .map_or(String::new(), |late| format!(". The first: block {}, {}, {}", late.block, late.arm, late.reason));
        let found = format!("the generator was late in {} of {segments}: {}", late.len(), by_arm.join(", "));
        match judge_drops(arms, blocks, &late) {
            Drops::None => self.on_time(&segments, blocks),
            Drops::Harmless => {
                let these = if gone == 1 { "this block was".to_owned() } else { format!("these {gone} blocks were") };
                Mark::warning("generator", format!("{found}; {these} dropped in all arms{first}"))
            }
            Drops::OneArm { arm, p } => {
                let most = arms.iter().position(|other| *other == arm).map_or(0, |at| counts[at]);
                let reason = format!(
                    "{found}. {most} of {} in one arm are no chance (p = {p:.1e}): {arm} delays the generator, and to drop its late blocks \
                     would flatter it. So there is no verdict on latency; ask for fewer requests (--rate, --of-capacity){first}",
                    late.len()
                );
                Mark::invalid("generator", reason, &Conclusion::OF_TIME)
            }
            Drops::TooMany => {
                let most = counts.iter().copied().max().unwrap_or(0);
                let worst: Vec<String> = arms
                    .iter()
                    .zip(&counts)
                    .filter(|(_, count)| **count == most)
                    .map(|(arm, _)| (*arm).to_owned())
                    .collect();
                let is_equal = worst.len() == arms.len();
                let worst = if is_equal { String::new() } else { format!(", most often {}", list(&worst)) };
                let reason = format!(
                    "{found}{worst}. That is {gone} of {}, more than a quarter: too many to drop, so there is no verdict on \
                     latency. Give the generator a core of its own, or ask for fewer requests (--rate, --of-capacity){first}",
                    plural(u64::from(blocks), "block")
                );
                Mark::invalid("generator", reason, &Conclusion::OF_TIME)
            }
        }
    }

    fn on_time(&self, segments: &str, blocks: u32) -> Mark {
        let unknown: Vec<&String> =
            self.not_judged.iter().filter(|(block, _)| *block <= blocks).map(|(_, why)| why).collect();
        match unknown.first() {
            None => Mark::passed("generator", format!("the generator kept to its schedule in all {segments}")),
            Some(why) => {
                let reason =
                    format!("whether the generator was late is not judged in {} of {segments}: {why}", unknown.len());
                Mark::warning("generator", reason)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Severity;

    fn late(segments: &[(u32, &str)]) -> Lateness {
        let late = |&(block, arm): &(u32, &str)| Late { block, arm: arm.into(), reason: "by 2 ms at p90".into() };
        Lateness { late: segments.iter().map(late).collect(), ..Lateness::default() }
    }

    const ARMS: [&str; 3] = ["a", "b", "c"];

    fn mark(segments: &[(u32, &str)], blocks: u32) -> Mark {
        late(segments).marks(&ARMS, blocks).remove(0)
    }

    #[test]
    fn dropped_blocks_are_reported_with_their_counts_for_each_arm() {
        assert_eq!(mark(&[], 12).reason, "the generator kept to its schedule in all 36 segments");
        let some = [(3, "c"), (4, "a"), (9, "c")];
        let Mark { severity, reason, .. } = mark(&some, 12);
        assert_eq!(severity, Severity::Warning);
        assert_eq!(
            reason,
            "the generator was late in 3 of 36 segments: a 1, b 0, c 2; these 3 blocks were dropped in all arms. The first: block 3, c, by 2 ms at p90"
        );
        let dropped = late(&[(3, "c"), (3, "a"), (9, "c")]).dropped(8);
        let expected = DroppedBlock {
            block: 3,
            arms: vec!["c".into(), "a".into()],
            reason: "by 2 ms at p90; by 2 ms at p90".into(),
        };
        assert_eq!(dropped, [expected], "the ninth is not among the first eight");
    }

    #[test]
    fn an_arm_that_delays_the_generator_is_named_and_voids_conclusions_of_time_alone() {
        let own: Vec<(u32, &str)> = (1..=5).map(|block| (block, "c")).collect();
        let mark = mark(&own, 24);
        assert_eq!((mark.severity, mark.voids.as_slice()), (Severity::Invalid, &Conclusion::OF_TIME[..]));
        assert!(
            mark.reason.contains("5 of 5 in one arm") && mark.reason.contains("c delays the generator"),
            "{mark:?}"
        );
    }

    #[test]
    fn more_than_a_quarter_of_the_blocks_voids_latency_too() {
        let all = [(1, "a"), (2, "b"), (3, "c"), (4, "c")];
        let told = mark(&all, 15);
        assert_eq!(told.severity, Severity::Invalid);
        assert!(told.reason.contains("most often c. That is 4 of 15 blocks, more than a quarter"), "{told:?}");
        assert_eq!(mark(&all, 16).severity, Severity::Warning);
    }

    #[test]
    fn segments_that_are_not_judged_are_reported() {
        let lateness =
            Lateness { not_judged: vec![(1, "too few".into()), (7, "too few".into())], ..Lateness::default() };
        let mark = lateness.marks(&ARMS, 6).remove(0);
        assert_eq!(
            (mark.severity, mark.reason.as_str()),
            (Severity::Warning, "whether the generator was late is not judged in 1 of 18 segments: too few")
        );
    }

    #[test]
    fn a_machine_without_ports_voids_the_counts_too() {
        let lateness = Lateness { local: vec!["block 1, a: no port".into()], ..Lateness::default() };
        let marks = lateness.marks(&ARMS, 6);
        assert!(marks[1].severity == Severity::Invalid && marks[1].voids.contains(&Conclusion::Counts), "{marks:?}");
        assert!(!marks[1].voids.contains(&Conclusion::Shares));
    }
}
