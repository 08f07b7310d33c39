//! A run in words: the question, the answer, the figures, the tables, the method, and how to repeat it.
//!
//! Invariants: the answer comes first, in sentences. The data of this run supports every claim, with its numbers.
//! Conclusions that a failed check makes void, and that a run is partial, are reported before everything else.

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
pub(crate) use faults::has_faults_in_blocks;
pub(crate) use shares::is_by_load;
pub(crate) use skew::uneven_pools;
pub(crate) use validity::why_void;

use super::document::{Block, Document};
use super::format;
use super::plots::Plot;
use super::rows::Row;
use crate::model::{Conclusion, GOOD_SHARE, Load, Run, Scenario};

/// The name of a measure in sentences.
pub(crate) fn measure_name(measure: &str) -> String {
    match measure {
        "rps" => "throughput".into(),
        "max_over_mean" => "max/mean of counts".into(),
        GOOD_SHARE => "share of good responses".into(),
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
    // it answers the question of A1; in a comparison it comes later
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
        "results.csv has the same numbers, and those of every single block. The latency histograms are in hdr/.".into(),
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

/// The beginning of the report, for a terminal.
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
        Scenario::A2 => format!("A2: {} with a growing number of backends", format::list(&labels)),
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
            format!("as many requests as {connections} connections can send")
        }
        Load::Closed { connections, requests } => {
            format!("{} requests over {connections} connections", format::count(*requests))
        }
        Load::Open { rate_rps, capacity_rps: Some(capacity), .. } => format!(
            "{} requests per second, {} of the backends' capacity",
            format::significant(*rate_rps),
            format::percent(rate_rps / capacity)
        ),
        Load::Open { rate_rps, .. } => format!("{} requests per second", format::significant(*rate_rps)),
    }
}

/// The question of the scenario.
fn question(run: &Run) -> String {
    let load = load_in_short(&run.manifest.load);
    let sizes: Vec<u32> = run.results.cells.iter().map(|cell| cell.n).collect();
    let (least, most) = (sizes.iter().min().copied().unwrap_or(0), sizes.iter().max().copied().unwrap_or(0));
    let pool = if least == most { format!("{most} backends") } else { format!("{least} to {most} backends") };
    let asked = match run.manifest.scenario {
        Scenario::A1 => "Which backend gets how many requests?",
        Scenario::A2 => "What changes when backends are added, and does the balance hold?",
        Scenario::A3 => "What happens to requests when one backend is killed?",
        Scenario::A4 => "How even are the shares with other hash functions, and what does unevenness cost?",
        Scenario::B => "Which strategy has the lower latency, by how much, and how sure is that?",
        Scenario::Own if run.main_conclusion() == Conclusion::Counts => {
            "Which arm has more good responses, by how much, and how sure is that?"
        }
        Scenario::Own if run.results.comparison.is_some() => {
            "Which arm has the lower latency, by how much, and how sure is that?"
        }
        Scenario::Own => "What happened?",
    };
    format!("{asked} The load: {load}, on {pool}.")
}

/// The subject of a comparison, in two sentences. The end of the report explains the other words.
fn how_to_read(run: &Run) -> Option<String> {
    let comparison = run.results.comparison.as_ref()?;
    if comparison.conclusion() == Conclusion::Counts {
        return Some(format!(
            "The baseline is {}: each other arm is compared with it. A good response is complete and has a status below 400; its share is that \
             of all scheduled requests.",
            comparison.baseline
        ));
    }
    Some(format!(
        "The baseline is {}: each other arm is compared with it. Latency is the time from the scheduled send time of a request to the last \
         byte of its response; 50, 90 and 99 of 100 requests took no longer than p50, p90 and p99.",
        comparison.baseline
    ))
}
