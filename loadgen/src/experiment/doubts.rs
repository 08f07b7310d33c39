//! The doubts of the load engine about its own numbers, as marks of a run with the conclusions that they make void.

use crate::load::{DoubtAbout, Outcome};
use crate::model::{Conclusion, Mark};

/// A mark for each doubt, and one if lateness could not be judged in an open loop.
pub(crate) fn marks(outcome: &Outcome, is_closed_loop: bool) -> Vec<Mark> {
    let doubts = outcome.doubts.iter();
    let mut marks: Vec<Mark> = doubts
        .map(|doubt| Mark::invalid("generator", doubt.reason.clone(), voids(doubt.about, is_closed_loop)))
        .collect();
    if let (Some(why), false) = (outcome.punctuality.why_not_judged(), is_closed_loop) {
        marks.push(Mark::warning("generator", format!("whether it was on time is not judged: {why}")));
    }
    marks
}

/// The conclusions that such a doubt makes void.
fn voids(about: DoubtAbout, is_closed_loop: bool) -> &'static [Conclusion] {
    match about {
        DoubtAbout::Lateness => &Conclusion::OF_TIME,
        // in an open loop the planned number of requests was sent
        DoubtAbout::OwnCpu if !is_closed_loop => &[Conclusion::Latency],
        DoubtAbout::OwnCpu => &Conclusion::OF_TIME,
        DoubtAbout::Local => &[Conclusion::Counts, Conclusion::Latency, Conclusion::Throughput],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_doubt_of_the_generator_voids_shares_or_a_recovery() {
        for about in [DoubtAbout::Lateness, DoubtAbout::OwnCpu, DoubtAbout::Local] {
            for is_closed_loop in [false, true] {
                let voids = voids(about, is_closed_loop);
                assert!(voids.contains(&Conclusion::Latency), "{about:?}");
                assert!(!voids.contains(&Conclusion::Shares) && !voids.contains(&Conclusion::Recovery), "{about:?}");
            }
        }
        assert!(!voids(DoubtAbout::OwnCpu, false).contains(&Conclusion::Throughput));
        assert!(voids(DoubtAbout::Local, true).contains(&Conclusion::Counts));
    }
}
