//! The words that a report uses and a reader may not know, each once, and only those that this report has.

use crate::model::{Conclusion, Load, Run};
use crate::report::document::Block;

pub(super) fn blocks(run: &Run) -> Vec<Block> {
    let is_compared = run.results.comparison.is_some();
    let is_judged = is_compared && run.manifest.supports(Conclusion::Latency);
    let is_open = matches!(run.manifest.load, Load::Open { .. });
    let has_repeats = run.results.cells.iter().any(|cell| cell.block > 1);
    let words = [
        (true, "arm: one of the things that were tried, a strategy with its options."),
        (true, "backend, N: a server that answers requests, and how many of them the balancer has."),
        (true, "p50, p90, p99: 50, 90 and 99 of 100 requests took no longer than this."),
        (is_open, "latency: from the moment at which a request was due, by the schedule, to its last byte."),
        (!is_open, "latency: from the moment at which a client was free to ask to the last byte of its answer."),
        (
            true,
            "service time: from the sending of a request to its last byte; waiting at the balancer and the backend is in it.",
        ),
        (
            is_compared,
            "block, segment: a block is one round in which every arm is in charge once; its turn is a segment.",
        ),
        (
            is_judged,
            "better, worse: the interval of the ratio excludes 1, and the estimate lies outside the zone in which a difference does not \
             matter.",
        ),
        (
            is_judged,
            "Holm's correction: of many verdicts one is wrong by chance sooner, so each is held to a stricter level; the chance that any \
             \"better\" or \"worse\" is wrong stays as told.",
        ),
        (is_judged, "equivalent: the whole interval lies within that zone, so there is no difference that matters."),
        (is_judged, "undecided: anything else; more blocks make the interval narrower."),
        (has_repeats && !is_compared, "block: one of several times that the same was measured."),
        (true, "stretch: a part of the run at whose beginning and end all sides were asked what they had counted."),
        (true, "max/mean: what the fullest backend got over what each would get if all got the same."),
        (true, "CV: standard deviation of the counts over their mean; 0 if all are alike."),
        (true, "Jain's index: 1 if all are alike, 1/N if one has everything."),
        (
            is_judged,
            "p: the chance of a ratio so far from 1 if the arm were as the baseline (signed ranks of the blocks' ratios).",
        ),
    ];
    let said = words.into_iter().filter(|(is_used, _)| *is_used).map(|(_, words)| words.to_owned()).collect();
    vec![Block::Heading("Words".into()), Block::List(said)]
}
