//! Arms that are not comparable, because more or fewer of their requests failed than of the baseline's. They get no
//! verdict.

use crate::model::{Comparison, Conclusion, Failures};
use crate::report::format;

/// The arms that cannot be compared with the baseline, in their order.
pub(super) fn apart(comparison: &Comparison) -> Vec<&Failures> {
    comparison.failures.iter().filter(|failures| !failures.is_comparable).collect()
}

/// The first sentence of an answer with such an arm: the shares of failed requests.
pub(super) fn lead(comparison: &Comparison) -> Option<String> {
    let baseline = comparison.failures_of(&comparison.baseline)?;
    match apart(comparison).as_slice() {
        [] => None,
        [one] => {
            let (more, less) = if one.share() > baseline.share() { (*one, baseline) } else { (baseline, *one) };
            Some(format!(
                "More requests failed with {} than with {}, and that is the difference that matters: {} of the scheduled requests had no good \
                 response, and {} with {}.",
                more.arm,
                less.arm,
                format::percent(more.share()),
                format::percent(less.share()),
                less.arm
            ))
        }
        several => {
            let with = |failures: &&Failures| {
                format!("{}{} with {}", format::percent(failures.share()), interval(comparison, failures), failures.arm)
            };
            let shares: Vec<String> = std::iter::once(&baseline).chain(several).map(with).collect();
            Some(format!(
                "With some arms more requests failed, and that is the difference that matters. Scheduled requests without a good response: {}.",
                format::list(&shares)
            ))
        }
    }
}

/// The interval of the share in a block, in a comparison about it.
pub(super) fn interval(comparison: &Comparison, failures: &Failures) -> String {
    match &failures.in_a_block {
        Some(typical) if comparison.conclusion() == Conclusion::Counts => {
            format!(" ({} to {})", format::percent(typical.low), format::percent(typical.high))
        }
        _ => String::new(),
    }
}

/// Why an arm has no verdict.
pub(super) fn why(comparison: &Comparison) -> String {
    format!(
        "only good responses have a latency, and the good responses of this arm and of {} are to different requests",
        comparison.baseline
    )
}
