//! A ratio of a run that was repeated, held against that of the first run, in words.

use crate::model::{Ratio, Verdict};
use crate::statistics::agree;

/// How what came out now stands to what came out then.
pub fn held_against(then: &Ratio, now: &Ratio) -> String {
    let numbers = format!("{:.3} ({:.3} to {:.3}) then", then.ratio, then.low, then.high);
    if [then, now].iter().any(|ratio| ratio.verdict == Verdict::NotComparable) {
        return format!("and {numbers}: not comparable, the arms answered different requests");
    }
    let said = match agree(then, now) {
        true => format!("agrees with {numbers}"),
        false => format!("DIFFERS from {numbers} by more than both intervals explain"),
    };
    let is_sound = then.is_sound && now.is_sound;
    if is_sound { said } else { format!("{said} (of too few blocks: for orientation)") }
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
        let said = |now: f64, verdict, is_sound| held_against(&then, &ratio(now, verdict, is_sound));
        assert_eq!(said(1.06, Verdict::Worse, true), "agrees with 1.000 (0.952 to 1.050) then");
        let wanted = "DIFFERS from 1.000 (0.952 to 1.050) then by more than both intervals explain";
        assert_eq!(said(1.08, Verdict::Worse, true), wanted);
        assert!(said(1.08, Verdict::Undecided, false).ends_with("(of too few blocks: for orientation)"));
        assert!(said(1.08, Verdict::NotComparable, true).contains("not comparable"));
    }
}
