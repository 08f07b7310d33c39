//! Whether the blocks of a plan allow its verdicts: a percentile needs enough requests in a segment, and an interval
//! enough blocks.

use super::{BlockPlan, Law, bounds};
use crate::model::samples_needed;
use crate::report::format::{count, list};
use crate::statistics::{Orders, fewest_blocks};

/// The verdicts that a plan allows at a rate.
#[derive(Clone, Debug, PartialEq)]
pub enum Judged {
    All,
    /// Blocks with fewer verdicts, and the left-out measures in words.
    Fewer {
        blocks: Box<BlockPlan>,
        left_out: String,
    },
    /// Why the verdicts are impossible, and the rate or segment that would be enough.
    Refused(String),
}

/// In one of 700 segments, random arrivals are below the expected number by more than this many standard deviations.
const MARGIN: f64 = 3.0;

/// The default primary measure: the highest percentile that has a verdict.
pub(super) fn primary_of(verdicts: &[String]) -> String {
    let mut known = bounds::MEASURES.iter().filter(|name| verdicts.iter().any(|verdict| verdict == *name));
    let of_latency = known.clone().rfind(|name| name.starts_with("latency_"));
    of_latency.or_else(|| known.next_back()).map_or_else(|| bounds::MEASURES[0].to_owned(), |name| (*name).to_owned())
}

/// For example `p99` or `service p99`.
pub(super) fn in_short(measure: &str) -> String {
    measure.trim_start_matches("latency_").replace('_', " ")
}

fn requests_needed(measure: &str) -> u64 {
    let percent = measure.rsplit_once('p').and_then(|(_, digits)| digits.parse::<f64>().ok());
    samples_needed(percent.unwrap_or(50.0) / 100.0)
}

// === impl BlockPlan ===

impl BlockPlan {
    /// The number of blocks with which every verdict on `arms` arms, the baseline included, can be sound: complete
    /// squares of orders.
    pub fn fewest(&self, arms: usize) -> u64 {
        squares(self.needed(arms), arms)
    }

    /// The number of blocks without the condition of complete squares.
    pub(super) fn needed(&self, arms: usize) -> u64 {
        let comparisons = arms.saturating_sub(1) * self.verdicts.len();
        if comparisons == 0 { 1 } else { fewest_blocks(comparisons, self.confidence) as u64 }
    }

    /// The verdicts that segments allow at this rate.
    pub fn judged(&self, rps: f64, law: Law) -> Judged {
        let expected = rps * self.segment.as_secs_f64();
        let can_be_said = |measure: &&String| requests_needed(measure) as f64 <= expected;
        let (said, unsaid): (Vec<_>, Vec<_>) = self.verdicts.iter().partition(can_be_said);
        let Some(worst) = unsaid.iter().max_by_key(|measure| requests_needed(measure)) else { return Judged::All };
        let needed = requests_needed(worst);
        let are = format!(
            "{}/s for {} s are {} requests, and {} needs {}",
            decimals(rps),
            decimals(self.segment.as_secs_f64()),
            count(expected as u64),
            in_short(worst),
            count(needed)
        );
        if said.is_empty() || unsaid.iter().any(|measure| self.asked.contains(measure)) {
            let enough = match law {
                Law::Poisson => needed as f64 + MARGIN * (needed as f64).sqrt(),
                Law::Constant => needed as f64,
            };
            let seconds = decimals((enough / rps * 10.0).ceil() / 10.0);
            let rate = (enough / self.segment.as_secs_f64()).ceil();
            let fewer = if said.is_empty() { String::new() } else { format!(", or verdicts = {said:?}") };
            return Judged::Refused(format!("{are}: at least {seconds} s, or a rate of {rate}/s{fewer}"));
        }
        let verdicts: Vec<String> = said.into_iter().cloned().collect();
        let names = |measures: &[String]| list(&measures.iter().map(|name| in_short(name)).collect::<Vec<_>>());
        let left_out = format!("{are}: verdicts are on {} only", names(&verdicts));
        let primary = if verdicts.contains(&self.primary) { self.primary.clone() } else { primary_of(&verdicts) };
        Judged::Fewer { blocks: Box::new(Self { verdicts, primary, ..self.clone() }), left_out }
    }
}

/// Rounds up to complete squares of orders, because only those are balanced.
pub(super) fn squares(blocks: u64, arms: usize) -> u64 {
    blocks.next_multiple_of(Orders::period(arms.max(1)) as u64)
}

fn decimals(number: f64) -> String {
    let tenths = (number * 10.0).round() / 10.0;
    tenths.to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Plan;
    use super::*;

    fn blocks(keys: &str) -> BlockPlan {
        let text = format!("[load]\nloop = \"open\"\nof_capacity = 0.5\n[blocks]\nsegment = \"2s\"\n{keys}");
        Plan::parse(&text, Path::new("x.toml")).expect("sound").blocks.expect("blocks")
    }

    const ALL: &str = "verdicts = [\"latency_p50\", \"latency_p90\", \"latency_p99\"]";

    #[test]
    fn a_named_verdict_that_cannot_be_given_is_refused_with_the_remedy() {
        let refused = |keys: &str, rps: f64, law: Law| match blocks(keys).judged(rps, law) {
            Judged::Refused(why) => why,
            other => panic!("{keys} at {rps}/s: {other:?}"),
        };
        assert_eq!(
            refused(ALL, 250.0, Law::Constant),
            "250/s for 2 s are 500 requests, and p99 needs 1,000: at least 4 s, or a rate of 500/s, or verdicts = [\"latency_p50\", \
             \"latency_p90\"]"
        );
        // random gaps need a margin
        let poisson = refused("primary = \"latency_p99\"", 250.0, Law::Poisson);
        assert!(poisson.contains(": at least 4.4 s, or a rate of 548/s, or verdicts = "), "{poisson}");
        assert_eq!(blocks(ALL).judged(548.0, Law::Poisson), Judged::All);
        let nothing = refused("", 5.0, Law::Constant);
        assert_eq!(nothing, "5/s for 2 s are 10 requests, and p99 needs 1,000: at least 200 s, or a rate of 500/s");
        let service = refused("primary = \"service_p99\"", 250.0, Law::Constant);
        assert!(service.contains("and service p99 needs 1,000"), "{service}");
    }

    #[test]
    fn a_default_verdict_that_cannot_be_given_is_left_out() {
        let Judged::Fewer { blocks: fewer, left_out } = blocks("").judged(250.0, Law::Poisson) else { panic!() };
        assert_eq!(fewer.verdicts, ["latency_p50", "latency_p90"]);
        assert_eq!(fewer.primary, "latency_p90");
        assert_eq!(left_out, "250/s for 2 s are 500 requests, and p99 needs 1,000: verdicts are on p50 and p90 only");
        let Judged::Fewer { blocks: fewer, .. } = blocks("primary = \"latency_p50\"").judged(20.0, Law::Poisson) else {
            panic!()
        };
        assert_eq!((fewer.verdicts, fewer.primary.as_str()), (vec!["latency_p50".to_owned()], "latency_p50"));
    }

    #[test]
    fn blocks_are_complete_squares_and_enough_for_the_level_of_every_comparison() {
        // 6 verdicts: 1 - 0.05/6 needs 8 blocks; three arms have squares of 6
        assert_eq!((blocks("").fewest(3), blocks("").fewest(1)), (12, 2));
        let two = blocks("verdicts = [\"latency_p50\", \"latency_p90\"]");
        assert_eq!((two.fewest(2), two.fewest(4)), (8, 8));
    }

    #[test]
    fn the_primary_measure_has_a_verdict() {
        let primary = |keys: &str| blocks(keys).primary;
        assert_eq!(primary(""), "latency_p99");
        assert_eq!(primary("verdicts = [\"latency_p90\", \"latency_p50\"]"), "latency_p90");
        assert_eq!(primary("verdicts = [\"service_p99\", \"latency_p50\"]"), "latency_p50");
        assert_eq!(primary("verdicts = [\"service_p99\"]"), "service_p99");
        assert_eq!(blocks("primary = \"service_p99\"").verdicts.len(), 4);
    }
}
