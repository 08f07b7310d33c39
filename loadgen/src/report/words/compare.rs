//! Which arm is better, at which percentile, by how much, and how sure the verdict is.
//!
//! Invariants: the headline names every verdict of the run, good or bad, and every measure without one; "equivalent" is
//! a verdict. An interval is reported with the level that Holm's procedure gives it.

use crate::model::{Comparison, GOOD_SHARE, Ratio, Run, Verdict};
use crate::report::format::{self, upper};
use crate::statistics::{fewest_blocks, is_invalid};

use super::{failures, measure_name};

/// If more arms than this are beside the baseline, they are counted and not named.
const TOLD_MAX: usize = 3;

/// An arm's verdicts, each list in the order of the percentiles.
#[derive(Default)]
struct Standing<'a> {
    better: Vec<&'a Ratio>,
    worse: Vec<&'a Ratio>,
    equivalent: Vec<&'a Ratio>,
    /// The direction is certain, but the size may not matter.
    slight: Vec<&'a Ratio>,
    unknown: Vec<&'a Ratio>,
    too_few: Vec<&'a Ratio>,
}

/// The measures with a verdict, percentiles ascending, in the order of a table.
pub(crate) fn judged(comparison: &Comparison) -> Vec<&str> {
    let mut judged = comparison.judged();
    // the names of percentiles sort in their order, and latency before service time
    judged.sort_unstable();
    judged
}

/// The judged ratios of an arm that can be compared.
fn ratios_of<'a>(comparison: &'a Comparison, arm: &str) -> Vec<&'a Ratio> {
    let of = |measure: &str| comparison.ratio(arm, measure).filter(|ratio| ratio.verdict != Verdict::NotComparable);
    judged(comparison).into_iter().filter_map(of).collect()
}

/// The arms beside the baseline, in their order.
pub(super) fn others<'a>(run: &'a Run, comparison: &'a Comparison) -> impl Iterator<Item = &'a str> {
    run.manifest.arms.iter().map(|arm| arm.label.as_str()).filter(|arm| *arm != comparison.baseline)
}

/// The arms without a value for one of the judged measures.
pub(super) fn without_ratio<'a>(run: &'a Run, comparison: &'a Comparison) -> impl Iterator<Item = &'a str> {
    let is_missing = |arm: &str| judged(comparison).iter().any(|measure| comparison.ratio(arm, measure).is_none());
    others(run, comparison).filter(move |arm| is_missing(arm))
}

/// Which arm is better at which measure: a sentence for each arm, or a summary if there are many.
pub(super) fn headline(run: &Run, comparison: &Comparison) -> Vec<String> {
    let baseline = &comparison.baseline;
    let mut sentences = Vec::from_iter(failures::lead(comparison));
    let arms: Vec<(&str, Vec<&Ratio>)> = others(run, comparison)
        .map(|arm| (arm, ratios_of(comparison, arm)))
        .filter(|(_, ratios)| !ratios.is_empty())
        .collect();
    if arms.is_empty() {
        if sentences.is_empty() {
            sentences.push("There is nothing to compare yet: no arm has a ratio to the baseline.".into());
        }
        return sentences;
    }
    let is_all = sentences.is_empty() && without_ratio(run, comparison).next().is_none();
    let all_are = |verdict| is_all && arms.iter().flat_map(|arm| &arm.1).all(|ratio| ratio.verdict == verdict);
    let every = if arms.len() == 1 { arms[0].0.to_owned() } else { "every other arm".to_owned() };
    let places = places(&judged(comparison));
    if all_are(Verdict::Equivalent) {
        sentences.push(format!(
            "There is no difference that matters: {every} is equivalent to {baseline} at {places} (any difference is within {}).",
            zone(comparison)
        ));
        return sentences;
    }
    if all_are(Verdict::Worse) && arms.len() > 1 {
        sentences.push(format!("{baseline} is the best: {every} is worse at {places}."));
    }
    if arms.len() > TOLD_MAX {
        sentences.extend(of_many(&arms, comparison));
        return sentences;
    }
    let mut told: Vec<(usize, String)> =
        arms.iter().map(|(arm, ratios)| (rank(ratios), of_arm(arm, ratios, comparison))).collect();
    // better arms first, else in the order of the arms
    told.sort_by_key(|(rank, _)| *rank);
    sentences.extend(told.into_iter().map(|(_, sentence)| sentence));
    sentences
}

/// The rank of an arm: smaller is better.
fn rank(ratios: &[&Ratio]) -> usize {
    let count = |verdict| ratios.iter().filter(|ratio| ratio.verdict == verdict).count();
    (2 * ratios.len() + count(Verdict::Worse)).saturating_sub(2 * count(Verdict::Better) + count(Verdict::Equivalent))
}

/// One arm's verdicts in a sentence.
fn of_arm(arm: &str, ratios: &[&Ratio], comparison: &Comparison) -> String {
    let baseline = &comparison.baseline;
    let standing = Standing::of(ratios);
    let mut clauses: Vec<String> = Vec::new();
    let mut say = |ratios: &[&Ratio], verb: &str, link: &str, with_change: bool, tail: &str| {
        if ratios.is_empty() {
            return;
        }
        let (subject, object) = match clauses.is_empty() {
            true => (arm, format!(" {link} {baseline}")),
            false => ("it", String::new()),
        };
        let places = if with_change { changes(ratios) } else { places(&measures(ratios)) };
        clauses.push(format!("{subject} is {verb}{object} at {places}{tail}"));
    };
    say(&standing.better, "better", "than", true, "");
    say(&standing.worse, "worse", "than", true, "");
    let within = format!(" (any difference is within {})", zone(comparison));
    say(&standing.equivalent, "equivalent", "to", false, &within);
    if clauses.is_empty() && standing.slight.is_empty() {
        let why = if standing.unknown.is_empty() { "; there are too few blocks" } else { "" };
        return format!(
            "Undecided: this run cannot tell whether {arm} is better or worse than {baseline} at {}{why}.",
            places(&measures(ratios)).replace(" and ", " or ")
        );
    }
    if !standing.slight.is_empty() {
        let name = if clauses.is_empty() { format!("{arm} differs from {baseline}") } else { "it differs".to_owned() };
        clauses.push(format!(
            "{name} at {}, but not surely by more than {}",
            changes(&standing.slight),
            zone(comparison)
        ));
    }
    for (unknown, why) in [(&standing.unknown, ""), (&standing.too_few, ": too few blocks")] {
        if !unknown.is_empty() {
            clauses.push(format!("at {} this run cannot tell{why}", places(&measures(unknown))));
        }
    }
    format!("{}.", clauses.join("; "))
}

/// The best arm, and the numbers of other arms with each verdict.
fn of_many(arms: &[(&str, Vec<&Ratio>)], comparison: &Comparison) -> Vec<String> {
    let baseline = &comparison.baseline;
    let has = |ratios: &[&Ratio], verdict| ratios.iter().any(|ratio| ratio.verdict == verdict);
    let best = arms.iter().min_by_key(|arm| rank(&arm.1)).filter(|arm| has(&arm.1, Verdict::Better));
    let mut sentences: Vec<String> = best.iter().map(|(arm, ratios)| of_arm(arm, ratios, comparison)).collect();
    let rest: Vec<&(&str, Vec<&Ratio>)> = arms.iter().filter(|arm| best.is_none_or(|best| best.0 != arm.0)).collect();
    let mut counts = [0_usize; 4];
    for (_, ratios) in &rest {
        let (better, worse) = (has(ratios, Verdict::Better), has(ratios, Verdict::Worse));
        let at = match (better, worse) {
            (true, false) => 0,
            (_, true) => 1,
            _ if ratios.iter().all(|ratio| ratio.verdict == Verdict::Equivalent) => 2,
            _ => 3,
        };
        counts[at] += 1;
    }
    let words = [
        "better than it at one percentile or more",
        "worse than it at one percentile or more",
        "equivalent to it at all of them",
        "undecided",
    ];
    let parts: Vec<String> = counts
        .iter()
        .zip(words)
        .filter(|(count, _)| **count > 0)
        .map(|(count, words)| format!("{count} {} {words}", if *count == 1 { "is" } else { "are" }))
        .collect();
    let subject =
        if best.is_some() { format!("Of the other {}", rest.len()) } else { format!("Of {} arms", rest.len()) };
    sentences.push(format!("{subject}, compared with {baseline}, {}. The table has each.", format::list(&parts)));
    sentences
}

/// The certainty of the verdicts, and their limits.
pub(super) fn further(run: &Run, comparison: &Comparison) -> Vec<String> {
    let mut sentences = Vec::new();
    let arms: Vec<&str> = others(run, comparison).collect();
    let told: Vec<&Ratio> = arms.iter().flat_map(|arm| ratios_of(comparison, arm)).collect();
    if told.iter().any(|ratio| ratio.is_sound) {
        sentences.push(how_sure(&arms, comparison));
    }
    if told.iter().any(|ratio| !ratio.is_sound) {
        sentences.push(format!("{}; until then the intervals are only a guide.", upper(&too_few(comparison))));
    }
    sentences.extend(dropped(comparison));
    sentences.extend(told.iter().filter_map(|ratio| undecided(ratio, comparison)));
    sentences.extend(left_out(&told, comparison));
    let apart = arms.iter().filter(|arm| comparison.has_latencies_apart(arm));
    sentences.extend(apart.map(|arm| format!("{arm}: not comparable. {}.", upper(&failures::why(comparison)))));
    sentences.extend(without_ratio(run, comparison).map(|arm| {
        let missing = judged(comparison).into_iter().filter(|measure| comparison.ratio(arm, measure).is_none());
        format!(
            "{arm}: too few requests with a good response for its {} in two blocks.",
            format::list(&missing.map(measure_name).collect::<Vec<_>>())
        )
    }));
    if arms.iter().filter(|arm| ratios_of(comparison, arm).iter().any(|it| it.verdict == Verdict::Better)).count() > 1 {
        sentences.push(format!(
            "Each arm was compared with {} only; arms whose intervals overlap may be equally good.",
            comparison.baseline
        ));
    }
    sentences.extend(drift(comparison));
    sentences
}

fn how_sure(arms: &[&str], comparison: &Comparison) -> String {
    let blocks = format!(
        "How sure: the verdicts are from {}. In each block, every arm ran once, in random order, with the same requests.",
        format::plural(u64::from(comparison.judged_blocks()), "block")
    );
    let percent = |part: f64| format!("{}\u{a0}%", format::plain((part * 100.0 * 1e6).round() / 1e6));
    let (level, error) = (percent(comparison.confidence), percent(1.0 - comparison.confidence));
    let judged = comparison.judged();
    let thing = if judged.iter().all(|measure| measure.starts_with("latency_")) { "percentile" } else { "measure" };
    let (judged, arms) = (judged.len(), arms.len());
    if judged * arms == 1 {
        return format!(
            "{blocks} If there were no difference, at most {} of 100 such runs would report \"better\" or \"worse\". The interval \
             contains the true ratio with a confidence of {level}.",
            error.trim_end_matches("\u{a0}%")
        );
    }
    format!(
        "{blocks} The chance of any false \"better\" or \"worse\" among all {} verdicts ({} × {}) is at most {error} (Holm's \
         correction). Each interval has the level that Holm's procedure held it to, {level} or more; together they are not simultaneous \
         {level} intervals.",
        judged * arms,
        format::plural(judged as u64, thing),
        format::plural(arms as u64, "arm"),
    )
}

/// The sentence about dropped blocks.
pub(super) fn dropped(comparison: &Comparison) -> Option<String> {
    let first = comparison.dropped.first()?;
    let mut of_arms: Vec<(&str, u64)> = Vec::new();
    for arm in comparison.dropped.iter().flat_map(|dropped| &dropped.arms) {
        match of_arms.iter_mut().find(|known| known.0 == arm) {
            Some(known) => known.1 += 1,
            None => of_arms.push((arm, 1)),
        }
    }
    let of_arms: Vec<String> = of_arms.iter().map(|(arm, count)| format!("{count} under {arm}")).collect();
    let is_one = comparison.dropped.len() == 1;
    Some(format!(
        "Dropped: {} of {}, because the generator was late ({}; in block {} {}). No latency of {} is used, for any arm. Counts are used.",
        comparison.dropped.len(),
        format::plural(u64::from(comparison.blocks), "block"),
        of_arms.join(", "),
        first.block,
        first.reason.trim_end_matches('.'),
        if is_one { "this block" } else { "these blocks" }
    ))
}

/// The interval of a ratio without a verdict, and how many blocks would decide it.
fn undecided(ratio: &Ratio, comparison: &Comparison) -> Option<String> {
    if ratio.verdict != Verdict::Undecided || !ratio.is_sound {
        return None;
    }
    let further = match ratio.further_blocks {
        Some(blocks) => format!("about {} would probably decide it", more_blocks(blocks)),
        None => "how many more blocks would decide it cannot be estimated".to_owned(),
    };
    let sure = match is_slight(ratio) {
        true => format!(", so perhaps within {}, which does not matter", zone(comparison)),
        false => String::new(),
    };
    Some(format!(
        "Undecided: the {} of {} is {}{sure}; {further}.",
        measure_name(&ratio.measure),
        ratio.arm,
        extent(ratio)
    ))
}

/// The sentence about blocks with too few good responses.
fn left_out(told: &[&Ratio], comparison: &Comparison) -> Option<String> {
    let part = |ratio: &&&Ratio| format!("{} of {}", measure_name(&ratio.measure), ratio.arm);
    let most = told.iter().map(|ratio| ratio.left_out).max().filter(|most| *most > 0)?;
    let parts: Vec<String> = told.iter().filter(|ratio| ratio.left_out > 0).map(|ratio| part(&ratio)).collect();
    Some(format!(
        "Up to {} of {} had too few good responses for the {}, and are left out there.",
        format::count(u64::from(most)),
        format::plural(u64::from(comparison.blocks), "block"),
        format::list(&parts)
    ))
}

/// The number of blocks that a verdict needs, if there are too few.
pub(super) fn too_few(comparison: &Comparison) -> String {
    let judged = judged(comparison);
    let of_judged = comparison.ratios.iter().filter(|ratio| judged.contains(&ratio.measure.as_str()));
    format!("too few blocks: a verdict needs {}", fewest_blocks(of_judged.count(), comparison.confidence))
}

fn more_blocks(blocks: u32) -> String {
    if blocks == 1 { "1 more block".into() } else { format!("{} more blocks", format::count(u64::from(blocks))) }
}

fn drift(comparison: &Comparison) -> Option<String> {
    let drift = comparison.drift.as_ref().filter(|drift| !is_invalid(drift))?;
    Some(format!(
        "Drift of the machine: {} was {} times as high in the last blocks as in the first. Drift affects all arms of a block alike, so the \
         ratios stay valid. Beyond {} times, latency is void.",
        comparison.baseline,
        format::decimals(drift.ratio, 2),
        format::decimals(1.0 + drift.limit, 1)
    ))
}

/// Whether the direction is certain, but the size may not matter.
fn is_slight(ratio: &Ratio) -> bool {
    ratio.verdict == Verdict::Undecided && ratio.is_sound && (ratio.high < 1.0 || ratio.low > 1.0)
}

fn measures<'a>(ratios: &[&'a Ratio]) -> Vec<&'a str> {
    ratios.iter().map(|ratio| ratio.measure.as_str()).collect()
}

/// For example `p50, p90 and p99`.
fn places(measures: &[&str]) -> String {
    format::list(&measures.iter().map(|measure| place(measure)).collect::<Vec<_>>())
}

/// For example `p50 (latency 11 % lower) and p90 (9 % lower)`.
fn changes(ratios: &[&Ratio]) -> String {
    let one = |(at, ratio): (usize, &&Ratio)| {
        let what = if at == 0 && ratio.measure.starts_with("latency_") { "latency " } else { "" };
        format!("{} ({what}{})", place(&ratio.measure), change(ratio.ratio))
    };
    format::list(&ratios.iter().enumerate().map(one).collect::<Vec<_>>())
}

/// A percentile of latency has only its short name, because the question is about latency.
pub(super) fn place(measure: &str) -> String {
    if measure == GOOD_SHARE {
        return format!("the {}", measure_name(measure));
    }
    measure.strip_prefix("latency_").map_or_else(|| measure_name(measure), str::to_owned)
}

fn zone(comparison: &Comparison) -> String {
    format!("±{}\u{a0}%", format::plain(comparison.equivalence * 100.0))
}

/// 0.62 → 38 % lower
fn change(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 2.0 => format!("{} times as high", format::decimals(ratio, 1)),
        ratio if ratio >= 1.0 => format!("{}\u{a0}% higher", percents(ratio - 1.0)),
        ratio if ratio > 0.0 => format!("{}\u{a0}% lower", percents(1.0 - ratio)),
        _ => "unknown".into(),
    }
}

fn percents(part: f64) -> String {
    format::decimals(part * 100.0, if part < 0.0995 { 1 } else { 0 })
}

/// The size of the difference, from one end of the interval to the other.
pub(super) fn extent(ratio: &Ratio) -> String {
    match (ratio.low, ratio.high) {
        (low, high) if high < 1.0 => {
            format!("between {} and {}\u{a0}% lower", percents(1.0 - high), percents(1.0 - low))
        }
        (low, high) if low > 1.0 && low < 2.0 && high < 2.0 => {
            format!("between {} and {}\u{a0}% higher", percents(low - 1.0), percents(high - 1.0))
        }
        (low, high) if low > 1.0 => {
            format!("between {} and {} times as high", format::decimals(low, 2), format::decimals(high, 2))
        }
        (low, high) => format!("anything from {} to {}", change(low), change(high)),
    }
}

// === impl Standing ===

impl<'a> Standing<'a> {
    fn of(ratios: &[&'a Ratio]) -> Self {
        let mut standing = Self::default();
        for &ratio in ratios {
            let list = match ratio.verdict {
                Verdict::Better => &mut standing.better,
                Verdict::Worse => &mut standing.worse,
                Verdict::Equivalent => &mut standing.equivalent,
                _ if !ratio.is_sound => &mut standing.too_few,
                _ if is_slight(ratio) => &mut standing.slight,
                _ => &mut standing.unknown,
            };
            list.push(ratio);
        }
        standing
    }
}
