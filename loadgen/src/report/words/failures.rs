//! Arms that left other requests without a good answer than the baseline: what is said of them instead of a verdict.

use crate::model::{Comparison, Failures};
use crate::report::format;

/// The arms that the baseline's numbers cannot be held against, in their order.
pub(super) fn apart(comparison: &Comparison) -> Vec<&Failures> {
    comparison.failures.iter().filter(|failures| !failures.is_comparable).collect()
}

/// The first sentence of an answer, where there is such an arm: who failed how much more.
pub(super) fn lead(comparison: &Comparison) -> Option<String> {
    let baseline = comparison.failures_of(&comparison.baseline)?;
    match apart(comparison).as_slice() {
        [] => None,
        [one] => {
            let (more, less) = if one.share() > baseline.share() { (*one, baseline) } else { (baseline, *one) };
            Some(format!(
                "{} failed more than {}, and that is the difference that matters: {} of the requests that were due had no good answer, and \
                 {} with {}.",
                more.arm,
                less.arm,
                format::percent(more.share()),
                format::percent(less.share()),
                less.arm
            ))
        }
        several => {
            let with = |failures: &&Failures| format!("{} with {}", format::percent(failures.share()), failures.arm);
            let shares: Vec<String> = std::iter::once(&baseline).chain(several).map(with).collect();
            Some(format!(
                "Some failed more than others, and that is the difference that matters: of the requests that were due, so many had no good \
                 answer: {}.",
                format::list(&shares)
            ))
        }
    }
}

/// Why an arm has no verdict.
pub(super) fn why(comparison: &Comparison) -> String {
    format!(
        "only good answers have a latency and are throughput, and those of this arm and of {} are not answers to the same requests",
        comparison.baseline
    )
}
