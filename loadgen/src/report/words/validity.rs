//! Which conclusions of a run are valid, which are void, and why. A failed check makes void only the conclusions that
//! depend on it.

use crate::model::{Completeness, Conclusion, EventKind, Mark, Run, Scenario, Severity};
use crate::report::document::{Block, Tone};
use crate::report::format::{self, upper};

/// The conclusions of this run, in the order of the report.
fn asked(run: &Run) -> Vec<Conclusion> {
    use Conclusion::{Counts, Latency, Recovery, Shares, Throughput};
    let is_fault = |kind| !matches!(kind, EventKind::Swap | EventKind::Add | EventKind::Remove);
    let has_faults = run.manifest.scenario == Scenario::A3 || run.results.events.iter().any(|it| is_fault(it.kind));
    let all = [(Latency, true), (Throughput, true), (Shares, true), (Recovery, has_faults), (Counts, true)];
    all.into_iter().filter(|(_, is_asked)| *is_asked).map(|(conclusion, _)| conclusion).collect()
}

fn name(conclusion: Conclusion) -> &'static str {
    match conclusion {
        Conclusion::Latency => "latency",
        Conclusion::Throughput => "throughput",
        Conclusion::Shares => "shares of the backends",
        Conclusion::Recovery => "times of faults and recovery",
        Conclusion::Counts => "counts of requests",
    }
}

fn named(conclusions: &[Conclusion]) -> String {
    format::list(&conclusions.iter().map(|it| name(*it).to_owned()).collect::<Vec<_>>())
}

/// Whether every conclusion of this run is void.
pub(super) fn answers_nothing(run: &Run) -> bool {
    asked(run).into_iter().all(|conclusion| !run.manifest.supports(conclusion))
}

/// Why this conclusion is void, as the end of a sentence without its full stop; `None` if it is valid.
pub(crate) fn why_void(run: &Run, conclusion: Conclusion) -> Option<&str> {
    run.manifest.why_void(conclusion).map(|mark| mark.reason.trim_end_matches('.'))
}

/// The notices at the top. Marks of one check are reported once; the table of checks has the others.
pub(super) fn notices(run: &Run) -> Vec<Block> {
    let asked = asked(run);
    let mut blocks = told_once(run, Severity::Invalid, Tone::Bad, |mark| {
        let fallen: Vec<Conclusion> = asked.iter().copied().filter(|it| mark.voids.contains(it)).collect();
        match fallen.len() == asked.len() || fallen.is_empty() {
            true => "This run is invalid, and its numbers say nothing about the strategies".to_owned(),
            false => {
                let are =
                    if matches!(fallen[..], [Conclusion::Latency | Conclusion::Throughput]) { "is" } else { "are" };
                upper(&format!("{} {are} not to be believed", named(&fallen)))
            }
        }
    });
    let standing: Vec<Conclusion> = asked.iter().copied().filter(|it| run.manifest.supports(*it)).collect();
    if standing.len() < asked.len() && !standing.is_empty() {
        blocks.push(Block::Notice(Tone::Plain, format!("Still valid: {}.", named(&standing))));
    }
    if let Completeness::Partial { reason } = &run.manifest.completeness {
        let words = format!("This run is partial: {reason}. The report is about the measured part.");
        blocks.push(Block::Notice(Tone::Doubt, words));
    }
    blocks.extend(told_once(run, Severity::Warning, Tone::Doubt, |_| "Before you read on".to_owned()));
    blocks
}

/// One notice for each check with marks of this severity; `say` gives its first words.
fn told_once(run: &Run, severity: Severity, tone: Tone, say: impl Fn(&Mark) -> String) -> Vec<Block> {
    let marks: Vec<&Mark> = run.manifest.marks.iter().filter(|mark| mark.severity == severity).collect();
    let mut checks: Vec<&str> = marks.iter().map(|mark| mark.check.as_str()).collect();
    checks.sort_unstable();
    checks.dedup();
    let of_check = |check: &str| {
        let own: Vec<&&Mark> = marks.iter().filter(|mark| mark.check == check).collect();
        let reason = own[0].reason.trim_end_matches('.');
        let further = match own.len() - 1 {
            0 => String::new(),
            more => format!(" {more} more of this kind: see the checks of the run below."),
        };
        Block::Notice(tone, format!("{}: {reason}.{further}", say(own[0])))
    };
    checks.into_iter().map(of_check).collect()
}
