//! The answers of a plugin to the picks of its trial, counted and judged.
//!
//! Invariant: a strategy may let a request wait, or leave the choice to the host. It fails if all it does is wait. No
//! request is in flight in a trial, so in a pool none would end and wake the others.

use lb_strategy_host::{Decision, Refusal};

#[derive(Default)]
pub(super) struct Answers {
    pub(super) panics: u32,
    /// Place and message of the first panic, if the plugin wrote them to the log.
    pub(super) first_panic: Option<String>,
    pub(super) bad: u32,
    /// The fault of the first bad one.
    first_bad: Option<Refusal>,
    waits: usize,
    backends: usize,
}

// === impl Answers ===

impl Answers {
    pub(super) fn count(&mut self, decision: Decision) {
        match decision {
            Decision::Backend { .. } => self.backends += 1,
            Decision::Wait => self.waits += 1,
            Decision::Refused(Refusal::Undecided) | Decision::NoBackend => {}
            Decision::Refused(Refusal::Panic) => self.panics += 1,
            Decision::Refused(refusal) => {
                self.bad += 1;
                self.first_bad.get_or_insert(refusal);
            }
        }
    }

    /// The reason to refuse the plugin, after this number of picks.
    pub(super) fn judge(&self, picks: usize) -> Result<(), String> {
        let Self { panics, bad, waits, .. } = *self;
        if panics > 0 {
            let first = self.first_panic.as_ref().map_or(String::new(), |text| format!(", first at {text}"));
            return Err(format!("panicked in {panics} of {picks} picks{first}"));
        }
        if bad > 0 {
            let what = match self.first_bad {
                Some(Refusal::BadIndex) => "an index outside the list",
                Some(Refusal::AlreadyTried) => "a backend that the request had tried",
                Some(Refusal::NotEligible) => "a backend that is not eligible",
                Some(Refusal::Declined) => "no backend, although the list has an eligible one that was not tried",
                _ => "a status that a pick cannot have",
            };
            return Err(format!("returned a wrong result in {bad} of {picks} picks, first {what}"));
        }
        if waits > 0 && self.backends == 0 {
            return Err(format!(
                "let the request wait in {waits} of {picks} picks and picked no backend, although all were idle"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(decisions: &[Decision]) -> Result<(), String> {
        let mut answers = Answers::default();
        decisions.iter().for_each(|decision| answers.count(*decision));
        answers.judge(decisions.len())
    }

    #[test]
    fn a_strategy_may_wait_at_times_and_not_always() {
        let backend = Decision::Backend { index: 0, token: 0 };
        assert_eq!(judged(&[Decision::Wait, backend, Decision::NoBackend]), Ok(()));
        assert!(judged(&[Decision::Wait, Decision::NoBackend]).is_err_and(|why| why.contains("wait in 1 of 2 picks")));
        assert_eq!(judged(&[Decision::NoBackend, Decision::Refused(Refusal::Undecided)]), Ok(()));
    }

    #[test]
    fn panics_go_before_wrong_results_and_the_first_of_these_is_told() {
        let (index, tried) = (Decision::Refused(Refusal::BadIndex), Decision::Refused(Refusal::AlreadyTried));
        assert!(judged(&[index, tried]).is_err_and(|why| why.ends_with("2 picks, first an index outside the list")));
        let panic = Decision::Refused(Refusal::Panic);
        assert_eq!(judged(&[index, panic]), Err("panicked in 1 of 2 picks".to_owned()));
        let mut answers = Answers { first_panic: Some("src/lib.rs:1:2: tenth".to_owned()), ..Answers::default() };
        answers.count(panic);
        assert_eq!(answers.judge(1), Err("panicked in 1 of 1 picks, first at src/lib.rs:1:2: tenth".to_owned()));
    }
}
