//! A repeated run compared with the first, in words: a line for each comparable number. Each line ends with the
//! judgement: agrees, differs, or cannot tell.
//!
//! Arms in blocks have intervals, which are compared. Numbers that were measured only once in each run have none: see
//! [`cells`].

mod cells;

use crate::model::{Conclusion, Ratio, Run, Verdict};
use crate::statistics::agree;

use super::words::measure_name;

pub(super) const AGREES: &str = "agrees";
pub(super) const DIFFERS: &str = "differs";
pub(super) const CANNOT_TELL: &str = "cannot tell";

/// The comparison of the new run with the old one.
pub fn replayed(old: &Run, new: &Run) -> Vec<String> {
    let (Some(before), Some(after)) = (&old.results.comparison, &new.results.comparison) else {
        return cells::lines(old, new);
    };
    let judged = before.judged();
    let ratios = before.ratios.iter().filter(|ratio| judged.contains(&ratio.measure.as_str()));
    let line = |then: &Ratio| {
        let what = format!("{} over {}, {}", then.arm, before.baseline, measure_name(&then.measure));
        let judgement = match (void(old, new, before.conclusion()), after.ratio(&then.arm, &then.measure)) {
            (Some(why), _) => format!("{why}: {CANNOT_TELL}"),
            (None, Some(now)) => compared(then, now),
            (None, None) => format!("has no value this time: {CANNOT_TELL}"),
        };
        format!("{what}: {judgement}")
    };
    ratios.map(line).collect()
}

/// Why a conclusion is void in one of the runs or in both.
fn void(old: &Run, new: &Run, conclusion: Conclusion) -> Option<String> {
    let of = |run: &Run, when: &str| {
        let mark = run.manifest.why_void(conclusion)?;
        Some(format!("the {when} run must not be believed here ({})", mark.check))
    };
    of(old, "first").or_else(|| of(new, "new"))
}

fn compared(then: &Ratio, now: &Ratio) -> String {
    let numbers = |ratio: &Ratio| format!("{:.3} ({:.3} to {:.3})", ratio.ratio, ratio.low, ratio.high);
    let both = format!("{} then, {} now", numbers(then), numbers(now));
    if [then, now].iter().any(|ratio| ratio.verdict == Verdict::NotComparable) {
        return format!("{both}; the arms have good responses to different requests: {CANNOT_TELL}");
    }
    match (then.is_sound && now.is_sound, agree(then, now)) {
        (true, true) => format!("{both}: {AGREES}"),
        (true, false) => format!("{both}, more than both intervals explain: {DIFFERS}"),
        (false, _) => format!("{both}, of too few blocks: {CANNOT_TELL}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(ratio: f64, verdict: Verdict, is_sound: bool) -> Ratio {
        let (arm, measure) = ("a".to_owned(), "latency_p99".to_owned());
        let (low, high) = (ratio / 1.05, ratio * 1.05);
        let (p, further_blocks) = (None, None);
        Ratio {
            arm,
            measure,
            more_is_better: false,
            ratio,
            low,
            high,
            left_out: 0,
            is_sound,
            p,
            verdict,
            further_blocks,
        }
    }

    #[test]
    fn a_replay_outside_the_old_interval_may_agree() {
        let then = ratio(1.0, Verdict::Undecided, true);
        let said = |now: f64, verdict, is_sound| compared(&then, &ratio(now, verdict, is_sound));
        let wanted = "1.000 (0.952 to 1.050) then, 1.060 (1.010 to 1.113) now: agrees";
        assert_eq!(said(1.06, Verdict::Worse, true), wanted);
        let wanted =
            "1.000 (0.952 to 1.050) then, 1.080 (1.029 to 1.134) now, more than both intervals explain: differs";
        assert_eq!(said(1.08, Verdict::Worse, true), wanted);
        assert!(said(1.08, Verdict::Undecided, false).ends_with("of too few blocks: cannot tell"));
        assert!(said(1.08, Verdict::NotComparable, true).ends_with("different requests: cannot tell"));
    }
}
