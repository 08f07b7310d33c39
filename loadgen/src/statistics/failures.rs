//! Whether the good responses of two arms are to the same requests.
//!
//! Only good responses have a latency, and only they are throughput. So an arm that rejects slow requests looks quick,
//! and so does an arm with a server that fails at once. The check compares the shares of requests without a good
//! response. If the shares of an arm and the baseline differ by more than [`LIMIT`], their numbers are of different
//! requests. Then no ratio shows which is better; the failures do. The rule holds in both directions: an arm with fewer
//! failures is not comparable either.

use super::interval::Sample;
use crate::model::{Failures, GOOD_SHARE, Ratio, TypicalShare, Verdict};

/// If the shares differ by more than one percentage point, the numbers are of different requests.
pub const LIMIT: f64 = 0.01;

/// Decides for each arm whether it is comparable with the first, the baseline, and removes the verdicts of arms that
/// are not.
pub fn judge_failures(failures: &mut [Failures], ratios: &mut [Ratio]) {
    let Some(baseline) = failures.first().map(Failures::share) else { return };
    for arm in failures {
        arm.is_comparable = (arm.share() - baseline).abs() <= LIMIT;
        if arm.is_comparable {
            continue;
        }
        // the share of good responses is of all requests
        for ratio in ratios.iter_mut().filter(|ratio| ratio.arm == arm.arm && ratio.measure != GOOD_SHARE) {
            (ratio.verdict, ratio.further_blocks) = (Verdict::NotComparable, None);
        }
    }
}

/// The typical share of these blocks, each 0..1, with its interval. `None` for fewer than two. Unlike ratios, shares
/// can be 0, so they are compared on their own scale, not on that of their logarithms.
pub fn typical_share(shares: &[f64], confidence: f64) -> Option<TypicalShare> {
    let interval = Sample::new(shares.to_vec())?.interval(confidence).map(|share| share.clamp(0.0, 1.0));
    Some(TypicalShare { share: interval.estimate, low: interval.low, high: interval.high, is_sound: interval.is_sound })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{ArmBlocks, Measure, Settings, compare};

    /// The arm has less than half the baseline's latency.
    fn judged(baseline: (u64, u64), arm: (u64, u64)) -> (Failures, Ratio) {
        let of = |arm: &str, (failed, unsent): (u64, u64)| Failures {
            arm: arm.into(),
            due: 1000,
            failed,
            unsent,
            is_comparable: true,
            in_a_block: None,
        };
        let numbers = |middle: f64| (0..8).map(|block| Some(middle + 0.1 * f64::from(block))).collect::<Vec<_>>();
        let latency = Measure { name: "latency_p90", more_is_better: false };
        let arms = [ArmBlocks { arm: "arm", numbers: &numbers(4.0) }];
        let mut ratios = compare(latency, &numbers(10.0), &arms, Settings::default());
        assert_eq!(ratios[0].verdict, Verdict::Better);
        let mut failures = [of("baseline", baseline), of("arm", arm)];
        judge_failures(&mut failures, &mut ratios);
        assert!(failures[0].is_comparable);
        let [_, failures] = failures;
        (failures, ratios.remove(0))
    }

    #[test]
    fn an_arm_that_fails_other_requests_is_not_comparable_whichever_fails_more() {
        for (baseline, arm, is_comparable) in [
            ((0, 0), (0, 0), true),
            ((500, 0), (509, 0), true),
            ((500, 0), (511, 0), false),
            ((511, 0), (500, 0), false),
            ((0, 0), (0, 11), false), // unsent
            ((0, 11), (11, 0), true), // each request without a response counts once, whatever the reason
            ((0, 0), (1000, 0), false),
        ] {
            let (failures, ratio) = judged(baseline, arm);
            assert_eq!(failures.is_comparable, is_comparable, "{baseline:?} {arm:?}");
            let verdict = if is_comparable { Verdict::Better } else { Verdict::NotComparable };
            assert_eq!((ratio.verdict, ratio.further_blocks), (verdict, None), "{baseline:?} {arm:?}");
        }
    }
}
