//! The terms of a report that a reader may not know. Only terms that this report uses are explained, each once.

use crate::model::{Load, Run};
use crate::report::document::Block;

pub(super) fn blocks(run: &Run) -> Vec<Block> {
    let is_compared = run.results.comparison.is_some();
    let is_judged = run.results.comparison.as_ref().is_some_and(|it| run.manifest.supports(it.conclusion()));
    let is_open = matches!(run.manifest.load, Load::Open { .. });
    let has_repeats = run.results.cells.iter().any(|cell| cell.block > 1);
    let words = [
        (true, "arm: one of the compared things, a strategy with its options."),
        (true, "backend, N: a server that answers requests; N is the number of backends."),
        (true, "p50, p90, p99: 50, 90 and 99 of 100 requests took no longer than this."),
        (is_open, "latency: from the scheduled send time of a request to the last byte of its response."),
        (!is_open, "latency: from the moment at which the client was ready to send to the last byte of the response."),
        (
            true,
            "service time: from the actual send of a request to the last byte of its response; includes waiting at the balancer and the backend.",
        ),
        (is_compared, "block, segment: in a block every arm is in charge once; the turn of one arm is a segment."),
        (
            is_judged,
            "better, worse: the interval of the ratio excludes 1, and the estimate lies outside the zone in which a difference does not \
             matter.",
        ),
        (
            is_judged,
            "Holm's correction: with many verdicts, a wrong one by chance is more likely. So each verdict needs a stricter level, and the chance \
             of any wrong \"better\" or \"worse\" stays as stated.",
        ),
        (is_judged, "equivalent: the whole interval lies within that zone, so there is no difference that matters."),
        (is_judged, "undecided: everything else; more blocks make the interval narrower."),
        (has_repeats && !is_compared, "block: one of several measurements of the same thing."),
        (
            true,
            "stretch: a part of the run; at its beginning and end, loadgen reads the counters of the balancer and the backends.",
        ),
        (true, "max/mean: the count of the fullest backend over the mean of all; 1 is even."),
        (true, "CV: standard deviation of the counts over their mean; 0 is even."),
        (true, "Jain's index: 1 is even; 1/N if one backend gets everything."),
        (
            is_judged,
            "p: the chance of a ratio at least so far from 1 if arm and baseline were equal (signed ranks of the blocks' ratios).",
        ),
    ];
    let said = words.into_iter().filter(|(is_used, _)| *is_used).map(|(_, words)| words.to_owned()).collect();
    vec![Block::Heading("Words".into()), Block::List(said)]
}
