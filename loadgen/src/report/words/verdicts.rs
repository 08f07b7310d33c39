//! The verdicts as tables: a short one, and one with every detail.

use crate::model::{Comparison, Conclusion, GOOD_SHARE, Ratio, Run, Verdict};
use crate::report::document::{Block, Entry, Table, Tone};
use crate::report::format;
use crate::report::rows::{Kind, Row};

use super::compare::{extent, judged, others, too_few};
use super::failures::interval;
use super::measure_name;

const LEFT_OUT: &str = "#blocks left out";
const NEEDED: &str = "#blocks still needed";

fn word(ratio: &Ratio) -> Entry {
    let (word, tone) = match ratio.verdict {
        Verdict::Better => ("better", Tone::Good),
        Verdict::Worse => ("worse", Tone::Bad),
        Verdict::Equivalent => ("equivalent", Tone::Good),
        Verdict::Undecided if !ratio.is_sound => ("too few blocks", Tone::Doubt),
        Verdict::Undecided => ("undecided", Tone::Doubt),
        Verdict::NotComparable => ("not comparable", Tone::Doubt),
    };
    Entry::new(word).tone(tone)
}

/// The entry of a measure without a value.
fn unsaid(comparison: &Comparison, arm: &str) -> Entry {
    let is_comparable = comparison.failures_of(arm).is_none_or(|failures| failures.is_comparable);
    Entry::new(if is_comparable { "undecided" } else { "not comparable" }).tone(Tone::Doubt)
}

/// The share of requests without a good response, if any arm has such requests.
fn unanswered(comparison: &Comparison, arm: &str) -> Entry {
    let has_any = comparison.failures.iter().any(|failures| failures.share() > 0.0);
    let failures = comparison.failures_of(arm).filter(|_| has_any);
    failures.map_or_else(
        || Entry::new("–"),
        |failures| Entry::new(format::percent(failures.share())).note(interval(comparison, failures).trim_start()),
    )
}

/// The baseline's own value, over all blocks except dropped ones.
fn of_baseline(rows: &[Row], comparison: &Comparison, measure: &str) -> Option<f64> {
    let row = rows.iter().find(|row| row.kind == Kind::Summary && row.arm == comparison.baseline)?;
    match measure {
        "latency_p50" => row.latency_p50_ms,
        "latency_p90" => row.latency_p90_ms,
        "latency_p99" => row.latency_p99_ms,
        "service_p99" => row.service_p99_ms,
        _ => None,
    }
}

/// The short table: arms from top to bottom, measures from left to right.
pub(super) fn grid(run: &Run, comparison: &Comparison, rows: &[Row]) -> Option<Table> {
    if comparison.ratios.is_empty() {
        return None;
    }
    let judged = judged(comparison);
    let names: Vec<String> = judged.iter().map(|measure| measure_name(measure)).collect();
    let mut titles = vec!["arm"];
    titles.extend(names.iter().map(String::as_str));
    titles.push("#no good response");
    let caption = format!(
        "Verdicts against the baseline, {}. A number is the arm's value over the baseline's in the same block, with its interval in \
         brackets: 0.90 is 10\u{a0}% less. {} is better; a difference within ±{}\u{a0}% ({} to {}) does not matter. The baseline has its own \
         values.",
        comparison.baseline,
        if comparison.conclusion() == Conclusion::Counts { "More" } else { "Less" },
        format::plain(comparison.equivalence * 100.0),
        format::decimals(1.0 / (1.0 + comparison.equivalence), 3),
        format::decimals(1.0 + comparison.equivalence, 3),
    );
    let mut table = Table::new(caption, &titles);
    let own = |measure: &&str| match (comparison.failures_of(&comparison.baseline), *measure) {
        (Some(failures), GOOD_SHARE) => Entry::new(format::percent(1.0 - failures.share())),
        _ => Entry::new(of_baseline(rows, comparison, measure).map_or("–".into(), format::milliseconds)),
    };
    let mut line = vec![Entry::new(&comparison.baseline).note("baseline")];
    line.extend(judged.iter().map(own));
    line.push(unanswered(comparison, &comparison.baseline));
    table.row(line);
    for arm in others(run, comparison) {
        let entry = |measure: &&str| match comparison.ratio(arm, measure) {
            Some(ratio) => {
                // The ends of the zone have three decimals, too: with two, 0.950 would look like its end, 0.952.
                let three = |value| format::decimals(value, 3);
                word(ratio).note(format!("{} ({} to {})", three(ratio.ratio), three(ratio.low), three(ratio.high)))
            }
            None => unsaid(comparison, arm),
        };
        let mut line = vec![Entry::new(arm)];
        line.extend(judged.iter().map(entry));
        line.push(unanswered(comparison, arm));
        table.row(line);
    }
    Some(table.without_empty_columns())
}

/// The full table: a row for each arm and measure, with all numbers of its verdict.
pub(super) fn in_full(run: &Run) -> Option<Block> {
    let comparison = run.results.comparison.as_ref().filter(|it| run.manifest.supports(it.conclusion()))?;
    let caption = format!(
        "The verdicts against {} in full. p is corrected like the intervals (Holm). The run stopped because {}.",
        comparison.baseline, comparison.stopped
    );
    let titles = ["arm", "measure", "verdict", "#ratio", "#interval", "in words", "#p", LEFT_OUT, NEEDED];
    let mut table = Table::new(caption, &titles);
    let none = || Entry::new("–");
    for arm in others(run, comparison) {
        for measure in judged(comparison) {
            let mut line = vec![Entry::new(arm), Entry::new(measure_name(measure))];
            let Some(ratio) = comparison.ratio(arm, measure) else {
                line.push(unsaid(comparison, arm));
                line.extend((0..6).map(|_| none()));
                table.row(line);
                continue;
            };
            let is_judged = ratio.verdict != Verdict::NotComparable;
            let sound = if ratio.is_sound { "" } else { ", only a guide" };
            line.extend([
                word(ratio),
                Entry::new(format::decimals(ratio.ratio, 3)),
                Entry::new(format!("{} to {}{sound}", format::decimals(ratio.low, 3), format::decimals(ratio.high, 3))),
                Entry::new(match (is_judged, ratio.is_sound) {
                    (true, true) => extent(ratio),
                    (true, false) => too_few(comparison),
                    (false, _) => "of other requests".into(),
                }),
                Entry::new(ratio.p.filter(|_| is_judged).map_or("–".into(), format::p_value)),
                if ratio.left_out > 0 { Entry::new(format::count(u64::from(ratio.left_out))) } else { none() },
                Entry::new(ratio.further_blocks.map_or("–".into(), |blocks| format!("≈ {blocks}"))),
            ]);
            table.row(line);
        }
    }
    Some(Block::Table(table.without_empty_columns()))
}
