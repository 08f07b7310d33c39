//! A run told in words: what was asked, the answer, the figures, the tables, how it was measured, how to repeat it.
//!
//! Invariants: the answer comes first and in sentences; every claim is one that this run's data supports, with its numbers; what a failed
//! check takes away, and that a run is partial, is said before anything else.

mod answer;
mod compare;
mod failures;
mod faults;
mod glossary;
mod method;
mod shares;
mod single;
mod skew;
mod suspended;
mod tables;
mod validity;
mod verdicts;

pub(crate) use answer::{plateau, saturated};
pub(crate) use compare::judged;
pub(crate) use shares::is_by_load;
pub(crate) use skew::uneven_pools;
pub(crate) use validity::why_void;

use super::document::{Block, Document};
use super::format;
use super::plots::Plot;
use super::rows::Row;
use crate::model::{Load, Run, Scenario};

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
    blocks.extend(how_to_read(run).map(Block::Paragraph));
    blocks.extend(validity::notices(run));
    let answer::Answer { lead, tables, further } = answer::answer(run, rows);
    blocks.push(Block::Answer(lead));
    blocks.extend(tables.into_iter().map(Block::Table));
    if !further.is_empty() {
        blocks.push(Block::List(further));
    }
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
    blocks.extend(verdicts::in_full(run));
    blocks.extend(tables::all(run, rows));
    blocks.extend(method::blocks(run));
    blocks.extend(method::reproduce(run));
    blocks.extend(glossary::blocks(run));

    let host = &manifest.host;
    Document {
        title: title(run),
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

/// What a terminal shows: the beginning of the report.
pub(crate) fn brief(run: &Run, rows: &[Row]) -> Document {
    let answer::Answer { lead, tables, .. } = answer::answer(run, rows);
    let mut blocks = vec![Block::Answer(lead)];
    blocks.extend(tables.into_iter().map(Block::Table));
    blocks.extend(validity::notices(run));
    Document { title: title(run), subtitle: String::new(), blocks }
}

fn title(run: &Run) -> String {
    if !run.manifest.title.is_empty() {
        return run.manifest.title.clone();
    }
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
        Scenario::A4 => "How even are other hash functions, and what does that cost?",
        Scenario::B => "Which strategy has the lower latency, by how much, and how sure is that?",
        Scenario::Own if run.results.comparison.is_some() => {
            "Which arm has the lower latency, by how much, and how sure is that?"
        }
        Scenario::Own => "What happened?",
    };
    format!("{asked} The load: {load}, on {pool}.")
}

/// What a comparison is of, in two sentences; the rest of the words is explained at the end.
fn how_to_read(run: &Run) -> Option<String> {
    let comparison = run.results.comparison.as_ref()?;
    Some(format!(
        "The baseline is {}: each other arm is compared with it. Latency is the time from the moment at which a request was due to the \
         last byte of its response; p50, p90 and p99 are what 50, 90 and 99 of 100 requests did not exceed.",
        comparison.baseline
    ))
}
