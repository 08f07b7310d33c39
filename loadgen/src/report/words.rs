//! A run told in words: what was asked, the answer, the figures, the tables, how it was measured, how to repeat it.
//!
//! Invariants: the answer comes first and in sentences; every claim is one that this run's data supports, with its numbers; a run that
//! is invalid or partial says so before anything else.

mod answer;
mod compare;
mod failures;
mod faults;
mod glossary;
mod method;
mod single;
mod skew;
mod suspended;
mod tables;

pub(crate) use skew::uneven_pools;

use super::document::{Block, Document, Tone};
use super::format;
use super::plots::Plot;
use super::rows::Row;
use crate::model::{Completeness, Load, Mark, Run, Scenario, Severity};

/// What a measure is called in sentences.
pub(crate) fn measure_name(measure: &str) -> String {
    match measure {
        "rps" => "throughput".into(),
        "max_over_mean" => "max/mean of counts".into(),
        other => match other.split_once('_') {
            Some(("service", percentile)) => format!("{} service time", percentile.replace('_', " ")),
            Some(("latency", percentile)) => format!("{} latency", percentile.replace('_', " ")),
            _ => other.replace('_', " "),
        },
    }
}

pub(crate) fn document(run: &Run, rows: &[Row], mut plots: Vec<Plot>) -> Document {
    let manifest = &run.manifest;
    let mut blocks = vec![Block::Paragraph(question(run))];
    blocks.extend(notices(run));
    blocks.push(Block::Answer(answer::sentences(run, rows)));
    blocks.extend(compare::verdicts(run));
    // A1 asks for it; a comparison has more urgent news
    let explanation = skew::explanation(run, &mut plots);
    let (early, late) =
        if run.results.comparison.is_none() { (explanation, Vec::new()) } else { (Vec::new(), explanation) };
    blocks.extend(early);
    blocks.extend(faults::story(run));

    blocks.push(Block::Heading("Figures".into()));
    blocks.extend(plots.into_iter().map(|plot| Block::Figure(Box::new(plot))));
    blocks.extend(late);
    blocks.push(Block::Heading("Numbers".into()));
    blocks.push(Block::Paragraph(
        "The same numbers, and those of every single block, are in results.csv; the latency histograms are in hdr/."
            .into(),
    ));
    blocks.extend(tables::all(run, rows));
    blocks.extend(method::blocks(run));
    blocks.extend(method::reproduce(run));
    blocks.extend(glossary::blocks(run));

    let host = &manifest.host;
    Document {
        title: if manifest.title.is_empty() { title(run) } else { manifest.title.clone() },
        subtitle: format!(
            "{} · {} cores of {} · loadgen {} · scenario {}",
            manifest.started.replace('T', " ").replace('Z', " UTC"),
            host.cores,
            host.cpu,
            manifest.loadgen.version,
            manifest.scenario
        ),
        blocks,
    }
}

pub(crate) fn labels(run: &Run) -> Vec<String> {
    run.manifest.arms.iter().map(|arm| arm.label.clone()).collect()
}

fn title(run: &Run) -> String {
    let labels = labels(run);
    match run.manifest.scenario {
        Scenario::A1 => format!("A1: how {} shares requests", format::list(&labels)),
        Scenario::A2 => format!("A2: {} with more and more backends", format::list(&labels)),
        Scenario::A3 => format!("A3: a backend dies under {}", format::list(&labels)),
        Scenario::A4 => "A4: other hash functions".to_owned(),
        Scenario::B if labels.len() > 3 => format!("B: {} strategies compared", labels.len()),
        Scenario::B => format!("B: {} compared", format::list(&labels)),
        Scenario::Own => "An experiment".to_owned(),
    }
}

/// The load in half a sentence.
pub(crate) fn load_in_short(load: &Load) -> String {
    match load {
        Load::Closed { connections, requests: 0 } => {
            format!("as many requests as {connections} connections can do")
        }
        Load::Closed { connections, requests } => {
            format!("{} requests over {connections} connections", format::count(*requests))
        }
        Load::Open { rate_rps, capacity_rps: Some(capacity), .. } => format!(
            "{} requests per second, {} of what the backends can do",
            format::significant(*rate_rps),
            format::percent(rate_rps / capacity)
        ),
        Load::Open { rate_rps, .. } => format!("{} requests per second", format::significant(*rate_rps)),
    }
}

/// What was asked.
fn question(run: &Run) -> String {
    let load = load_in_short(&run.manifest.load);
    let sizes: Vec<u32> = run.results.cells.iter().map(|cell| cell.n).collect();
    let (least, most) = (sizes.iter().min().copied().unwrap_or(0), sizes.iter().max().copied().unwrap_or(0));
    let pool = if least == most { format!("{most} backends") } else { format!("{least} to {most} backends") };
    let asked = match run.manifest.scenario {
        Scenario::A1 => "Which backend gets how many requests?",
        Scenario::A2 => "What changes when backends are added, and does the balance hold?",
        Scenario::A3 => "What do users notice when one backend is killed?",
        Scenario::A4 | Scenario::B => "Which strategy is better, by how much, and how sure is that?",
        Scenario::Own if run.results.comparison.is_some() => "Which is better, by how much, and how sure is that?",
        Scenario::Own => "What happened?",
    };
    format!("{asked} The load: {load}, on {pool}.")
}

/// What must be known first. Marks of one check are told once: the others are in the table of checks.
fn notices(run: &Run) -> Vec<Block> {
    let mut blocks = told_once(run, Severity::Invalid, Tone::Bad, |reason| {
        format!("This run is invalid, and its numbers say nothing about the strategies: {reason}")
    });
    if let Completeness::Partial { reason } = &run.manifest.completeness {
        let words = format!("This run is partial: {reason}. What follows is about the part that was measured.");
        blocks.push(Block::Notice(Tone::Doubt, words));
    }
    blocks.extend(told_once(run, Severity::Warning, Tone::Doubt, |reason| format!("Before you read on: {reason}")));
    blocks
}

fn told_once(run: &Run, severity: Severity, tone: Tone, say: impl Fn(&str) -> String) -> Vec<Block> {
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
        Block::Notice(tone, say(&format!("{reason}.{further}")))
    };
    checks.into_iter().map(of_check).collect()
}
