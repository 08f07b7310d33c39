//! Which arm is better, by how much, and how sure that is.

use crate::model::{Comparison, Ratio, Run, Verdict};
use crate::report::document::{Block, Entry, Table, Tone};
use crate::report::format;
use crate::statistics::is_invalid;

use super::measure_name;

/// The winner first, then what to make of it.
pub(super) fn sentences(run: &Run, comparison: &Comparison) -> Vec<String> {
    let primary: Vec<&Ratio> = comparison.ratios.iter().filter(|ratio| ratio.measure == comparison.primary).collect();
    if primary.is_empty() {
        return vec!["There is nothing to compare yet: no arm has a ratio to the baseline.".into()];
    }
    let baseline = &comparison.baseline;
    let measure = measure_name(&comparison.primary);
    let mut sentences = vec![lead(&primary, baseline, &measure)];
    for ratio in &primary {
        sentences.push(sentence(ratio, comparison, &measure));
    }
    sentences.push(format!(
        "How sure: each interval comes from {} in which every arm ran in random order; of 100 experiments like this at least {} give an \
         interval that holds the true ratio.{}",
        format::plural(u64::from(comparison.blocks), "block"),
        format::plain((comparison.confidence * 100.0).round()),
        if primary.len() > 1 { " Intervals and verdicts are corrected for the number of arms." } else { "" }
    ));
    if primary.iter().filter(|ratio| ratio.verdict == Verdict::Better).count() > 1 {
        sentences.push(format!(
            "Each arm was compared with {baseline} only; arms whose intervals overlap may be equally good."
        ));
    }
    sentences.extend(drift(comparison));
    let _ = run;
    sentences
}

fn lead(primary: &[&Ratio], baseline: &str, measure: &str) -> String {
    let with = |verdict: Verdict| -> Vec<String> {
        primary.iter().filter(|ratio| ratio.verdict == verdict).map(|ratio| ratio.arm.clone()).collect()
    };
    let best = primary
        .iter()
        .filter(|ratio| ratio.verdict == Verdict::Better)
        .min_by(|one, two| gain(one).total_cmp(&gain(two)));
    if let Some(best) = best {
        return format!("{} is better than {baseline}: its {measure} is {}.", best.arm, change(best.ratio));
    }
    let (worse, equivalent, undecided) = (with(Verdict::Worse), with(Verdict::Equivalent), with(Verdict::Undecided));
    let are = |arms: &[String]| if arms.len() == 1 { "is" } else { "are" };
    // all the others need not be called by name
    let named = |arms: &[String]| if arms.len() > 3 { format!("the other {}", arms.len()) } else { format::list(arms) };
    match (worse.is_empty(), equivalent.is_empty(), undecided.is_empty()) {
        (false, true, true) => format!("{baseline} is the best: {} {} worse.", named(&worse), are(&worse)),
        (true, false, true) => {
            format!(
                "There is no difference that matters: {} {} equivalent to {baseline}.",
                named(&equivalent),
                are(&equivalent)
            )
        }
        (true, true, false) => {
            format!(
                "Undecided: this run cannot tell whether {} {} better or worse than {baseline}.",
                named(&undecided),
                are(&undecided)
            )
        }
        _ => {
            let mut parts = Vec::new();
            for (arms, word) in [(&worse, "worse"), (&equivalent, "equivalent"), (&undecided, "undecided")] {
                if !arms.is_empty() {
                    parts.push(format!("{} {} {word}", format::list(arms), are(arms)));
                }
            }
            format!("No arm is shown to be better than {baseline}: {}.", format::list(&parts))
        }
    }
}

/// The smaller the better, whichever way the measure goes.
fn gain(ratio: &Ratio) -> f64 {
    if ratio.more_is_better { 1.0 / ratio.ratio } else { ratio.ratio }
}

/// 0.62 → 38 % lower; 2.4 → 2.4 times as high
fn change(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 2.0 => format!("{} times as high", format::decimals(ratio, 1)),
        ratio if ratio >= 1.0 => format!("{} % higher", percents(ratio - 1.0)),
        ratio if ratio > 0.0 => format!("{} % lower", percents(1.0 - ratio)),
        _ => "unknown".into(),
    }
}

fn percents(part: f64) -> String {
    format::decimals(part * 100.0, if part < 0.0995 { 1 } else { 0 })
}

/// By how much, from one end of the interval to the other.
fn extent(ratio: &Ratio) -> String {
    match (ratio.low, ratio.high) {
        (low, high) if high < 1.0 => format!("between {} and {} % lower", percents(1.0 - high), percents(1.0 - low)),
        (low, high) if low > 1.0 && low < 2.0 && high < 2.0 => {
            format!("between {} and {} % higher", percents(low - 1.0), percents(high - 1.0))
        }
        (low, high) if low > 1.0 => {
            format!("between {} and {} times as high", format::decimals(low, 2), format::decimals(high, 2))
        }
        (low, high) => format!("anything from {} to {}", change(low), change(high)),
    }
}

fn sentence(ratio: &Ratio, comparison: &Comparison, measure: &str) -> String {
    let (arm, baseline) = (&ratio.arm, &comparison.baseline);
    let zone = format!("±{} %", format::plain(comparison.equivalence * 100.0));
    let confidence = format::plain((comparison.confidence * 100.0).round());
    let interval =
        format!("{confidence} % interval {} to {}", format::decimals(ratio.low, 2), format::decimals(ratio.high, 2));
    let numbers = format!("{} times that of {baseline} ({interval})", format::decimals(ratio.ratio, 2));
    match ratio.verdict {
        Verdict::Better => format!("{arm}: better. Its {measure} is {numbers}: {}.", extent(ratio)),
        Verdict::Worse => format!("{arm}: worse. Its {measure} is {numbers}: {}.", extent(ratio)),
        Verdict::Equivalent => {
            format!(
                "{arm}: equivalent. Its {measure} is {numbers}; all of that is inside {zone}, where a difference does not matter."
            )
        }
        Verdict::Undecided => {
            let further = match ratio.further_blocks {
                Some(blocks) => format!("about {} would probably decide it", more_blocks(blocks)),
                None => "it cannot be said how many more blocks would decide it".to_owned(),
            };
            let sure = match (ratio.low, ratio.high) {
                (_, high) if high < 1.0 => {
                    format!(". It is lower, but not surely by more than {zone}, where it matters")
                }
                (low, _) if low > 1.0 => {
                    format!(". It is higher, but not surely by more than {zone}, where it matters")
                }
                _ => String::new(),
            };
            format!("{arm}: undecided. Its {measure} is {numbers}: {}{sure}; {further}.", extent(ratio))
        }
    }
}

fn more_blocks(blocks: u32) -> String {
    if blocks == 1 { "1 more block".into() } else { format!("{} more blocks", format::count(u64::from(blocks))) }
}

fn drift(comparison: &Comparison) -> Option<String> {
    let drift = comparison.drift.as_ref().filter(|drift| !is_invalid(drift))?;
    Some(format!(
        "Drift of the machine: {} came out {} times as high in the last blocks as in the first. That befalls all arms of a block alike, so \
         it does not touch the ratios; a run is invalid beyond {} times.",
        comparison.baseline,
        format::decimals(drift.ratio, 2),
        format::decimals(1.0 + drift.limit, 1)
    ))
}

/// The verdict table.
pub(super) fn verdicts(run: &Run) -> Option<Block> {
    let comparison = run.results.comparison.as_ref().filter(|_| run.manifest.is_valid())?;
    let baseline = &comparison.baseline;
    let caption = format!(
        "Verdicts against {baseline} on {}; stopped because {}.",
        measure_name(&comparison.primary),
        comparison.stopped
    );
    let confidence = format!("#{} % interval", format::plain((comparison.confidence * 100.0).round()));
    let mut table =
        Table::new(caption, &["arm", "verdict", "#ratio", &confidence, "in words", "#p", "#blocks still needed"]);
    for ratio in comparison.ratios.iter().filter(|ratio| ratio.measure == comparison.primary) {
        let (word, tone) = match ratio.verdict {
            Verdict::Better => ("better", Tone::Good),
            Verdict::Worse => ("worse", Tone::Bad),
            Verdict::Equivalent => ("equivalent", Tone::Plain),
            Verdict::Undecided => ("undecided", Tone::Doubt),
        };
        table.row(vec![
            Entry::new(&ratio.arm),
            Entry::new(word).tone(tone),
            Entry::new(format::decimals(ratio.ratio, 3)),
            Entry::new(format!("{} to {}", format::decimals(ratio.low, 3), format::decimals(ratio.high, 3))),
            Entry::new(extent(ratio)),
            Entry::new(ratio.p.map_or("–".into(), format::p_value)),
            Entry::new(ratio.further_blocks.map_or("–".into(), |blocks| format!("≈ {blocks}"))),
        ]);
    }
    Some(Block::Table(table.without_empty_columns()))
}
