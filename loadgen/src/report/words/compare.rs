//! Which arm is better, by how much, and how sure that is.

use crate::model::{Comparison, Ratio, Run, Verdict};
use crate::report::document::{Block, Entry, Table, Tone};
use crate::report::format;
use crate::statistics::{fewest_blocks, is_invalid};

use super::{failures, measure_name};

const LEFT_OUT: &str = "#blocks left out";
const NEEDED: &str = "#blocks still needed";

/// The winner first, then what to make of it.
pub(super) fn sentences(run: &Run, comparison: &Comparison) -> Vec<String> {
    let primary: Vec<&Ratio> = comparison.ratios.iter().filter(|ratio| ratio.measure == comparison.primary).collect();
    let judged: Vec<&Ratio> = primary.iter().copied().filter(|ratio| ratio.verdict != Verdict::NotComparable).collect();
    let baseline = &comparison.baseline;
    let measure = measure_name(&comparison.primary);
    let mut sentences = Vec::from_iter(failures::lead(comparison));
    let of_all = sentences.is_empty() && without_ratio(run, comparison).next().is_none();
    if !judged.is_empty() {
        sentences.push(lead(&judged, baseline, &measure, of_all));
    } else if sentences.is_empty() {
        return vec!["There is nothing to compare yet: no arm has a ratio to the baseline.".into()];
    }
    sentences.extend(primary.iter().map(|ratio| sentence(ratio, comparison, &measure)));
    sentences.extend(without_ratio(run, comparison).map(|arm| {
        let why = match comparison.failures_of(arm).is_some_and(|failures| !failures.is_comparable) {
            true => format!("not comparable: {}", failures::why(comparison)),
            false => "undecided".to_owned(),
        };
        format!("{arm}: {why}. Too few of its requests had a good answer to say its {measure} in two blocks.")
    }));
    let sound: Vec<&Ratio> = judged.iter().copied().filter(|ratio| ratio.is_sound).collect();
    if !sound.is_empty() {
        sentences.push(how_sure(&sound, comparison));
    }
    if primary.iter().filter(|ratio| ratio.verdict == Verdict::Better).count() > 1 {
        sentences.push(format!(
            "Each arm was compared with {baseline} only; arms whose intervals overlap may be equally good."
        ));
    }
    sentences.extend(drift(comparison));
    sentences
}

/// Arms beside the baseline whose primary measure could not be said.
fn without_ratio<'a>(run: &'a Run, comparison: &'a Comparison) -> impl Iterator<Item = &'a str> {
    let arms = run.manifest.arms.iter().map(|arm| arm.label.as_str()).filter(|arm| *arm != comparison.baseline);
    arms.filter(|arm| comparison.ratio(arm, &comparison.primary).is_none())
}

fn how_sure(judged: &[&Ratio], comparison: &Comparison) -> String {
    let all = format::plural(u64::from(comparison.blocks), "block");
    let blocks = match judged.iter().map(|ratio| ratio.left_out).max() {
        None | Some(0) => all,
        Some(_) => format!("{all}, less those left out,"),
    };
    format!(
        "How sure: each interval comes from {blocks} in which every arm ran in random order; of 100 experiments like this at least {} give \
         an interval that holds the true ratio.{}",
        format::plain((comparison.confidence * 100.0).round()),
        if judged.len() > 1 { " Intervals and verdicts are corrected for the number of arms." } else { "" }
    )
}

/// Of arms that can be compared; `of_all`: those are all there are.
fn lead(primary: &[&Ratio], baseline: &str, measure: &str, of_all: bool) -> String {
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
        (false, true, true) if of_all => format!("{baseline} is the best: {} {} worse.", named(&worse), are(&worse)),
        (true, false, true) if of_all => {
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
    let said = judgement(ratio, comparison, measure);
    match ratio.left_out {
        0 => said,
        blocks => format!(
            "{said} {} of {} had too few good answers to say it, and {} left out.",
            format::count(u64::from(blocks)),
            format::plural(u64::from(comparison.blocks), "block"),
            if blocks == 1 { "is" } else { "are" }
        ),
    }
}

fn judgement(ratio: &Ratio, comparison: &Comparison, measure: &str) -> String {
    let (arm, baseline) = (&ratio.arm, &comparison.baseline);
    let zone = format!("±{} %", format::plain(comparison.equivalence * 100.0));
    let confidence = format::plain((comparison.confidence * 100.0).round());
    let kind = if ratio.is_sound { format!("{confidence} % interval") } else { "for orientation:".to_owned() };
    let interval = format!("{kind} {} to {}", format::decimals(ratio.low, 2), format::decimals(ratio.high, 2));
    let numbers = format!("{} times that of {baseline} ({interval})", format::decimals(ratio.ratio, 2));
    match ratio.verdict {
        Verdict::Better => format!("{arm}: better. Its {measure} is {numbers}: {}.", extent(ratio)),
        Verdict::Worse => format!("{arm}: worse. Its {measure} is {numbers}: {}.", extent(ratio)),
        Verdict::Equivalent => {
            format!(
                "{arm}: equivalent. Its {measure} is {numbers}; all of that is inside {zone}, where a difference does not matter."
            )
        }
        Verdict::Undecided if !ratio.is_sound => {
            format!("{arm}: undecided, {}. Its {measure} is {numbers}.", too_few(comparison))
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
        Verdict::NotComparable => {
            let why = failures::why(comparison);
            format!("{arm}: not comparable. Its {measure} is {numbers}, which says nothing of which is better: {why}.")
        }
    }
}

/// Of blocks, for any interval of that confidence.
fn too_few(comparison: &Comparison) -> String {
    let of_primary = comparison.ratios.iter().filter(|ratio| ratio.measure == comparison.primary);
    format!("too few blocks: it takes {}", fewest_blocks(of_primary.count(), comparison.confidence))
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
    let mut table = Table::new(
        caption,
        &["arm", "verdict", "#no good answer", "#ratio", &confidence, "in words", "#p", LEFT_OUT, NEEDED],
    );
    let none = || Entry::new("–");
    let unanswered = |arm: &str| {
        let has_any = comparison.failures.iter().any(|failures| failures.share() > 0.0);
        let failures = comparison.failures_of(arm).filter(|_| has_any);
        failures.map_or_else(none, |failures| Entry::new(format::percent(failures.share())))
    };
    for ratio in comparison.ratios.iter().filter(|ratio| ratio.measure == comparison.primary) {
        let (word, tone) = match ratio.verdict {
            Verdict::Better => ("better", Tone::Good),
            Verdict::Worse => ("worse", Tone::Bad),
            Verdict::Equivalent => ("equivalent", Tone::Plain),
            Verdict::Undecided => ("undecided", Tone::Doubt),
            Verdict::NotComparable => ("not comparable", Tone::Doubt),
        };
        let is_judged = ratio.verdict != Verdict::NotComparable;
        table.row(vec![
            Entry::new(&ratio.arm),
            Entry::new(word).tone(tone),
            unanswered(&ratio.arm),
            Entry::new(format::decimals(ratio.ratio, 3)),
            Entry::new(format!(
                "{} to {}{}",
                format::decimals(ratio.low, 3),
                format::decimals(ratio.high, 3),
                if ratio.is_sound { "" } else { ", for orientation" }
            )),
            Entry::new(match (is_judged, ratio.is_sound) {
                (true, true) => extent(ratio),
                (true, false) => too_few(comparison),
                (false, _) => "of other requests".into(),
            }),
            Entry::new(ratio.p.filter(|_| is_judged).map_or("–".into(), format::p_value)),
            if ratio.left_out > 0 { Entry::new(format::count(u64::from(ratio.left_out))) } else { none() },
            Entry::new(ratio.further_blocks.map_or("–".into(), |blocks| format!("≈ {blocks}"))),
        ]);
    }
    for arm in without_ratio(run, comparison) {
        let is_comparable = comparison.failures_of(arm).is_none_or(|failures| failures.is_comparable);
        let word = Entry::new(if is_comparable { "undecided" } else { "not comparable" }).tone(Tone::Doubt);
        let mut entries = vec![Entry::new(arm), word, unanswered(arm)];
        entries.extend((0..6).map(|_| none()));
        table.row(entries);
    }
    Some(Block::Table(table.without_empty_columns()))
}
