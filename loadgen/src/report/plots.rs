//! The plots of a run. Each is drawn twice, for a page and for a phone, because the text of a scaled picture is too
//! small.
//!
//! Invariants: a plot's numbers are those of the run. Its caption states if it shows bins or medians. A plot of a void
//! conclusion has a banner or is left out.

mod balance;
mod blocks;
mod failures;
mod forest;
mod percentiles;
mod ring;
mod scaling;
mod timeline;

use super::format;
use super::picture::axes::banner;
use super::picture::scene::Scene;
use super::words::why_void;
use crate::model::{Cell, Conclusion, Run, Scenario};

/// One picture with its caption.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    /// The name of its files, without extension.
    pub(crate) name: String,
    /// The content, and how to read it.
    pub(crate) caption: String,
    pub(crate) wide: Scene,
    pub(crate) narrow: Scene,
}

const WIDE: f64 = 760.0;
const NARROW: f64 = 356.0;

/// Every plot that this run has data for, in the order of its report.
pub(crate) fn plots(run: &Run) -> Vec<Plot> {
    drawn(run).into_iter().map(|plot| doubted(run, plot)).collect()
}

/// The conclusions that a plot supports, with their names. Plots of verdicts are not in the list. They are left out if
/// latency is void, because readers would believe a verdict in spite of the banner.
fn read_for(plot: &str) -> &'static [(Conclusion, &'static str)] {
    const LATENCY: (Conclusion, &str) = (Conclusion::Latency, "latency");
    const SHARES: (Conclusion, &str) = (Conclusion::Shares, "shares");
    match plot {
        "percentiles" => &[LATENCY],
        "timeline" => &[LATENCY],
        "recovery" => &[LATENCY, (Conclusion::Recovery, "the recovery")],
        "scaling" => &[LATENCY, (Conclusion::Throughput, "throughput"), SHARES],
        name if name.starts_with("balance") => &[SHARES],
        _ => &[],
    }
}

/// Adds a banner to a plot of a void conclusion, because a picture may be shown without its report.
fn doubted(run: &Run, mut plot: Plot) -> Plot {
    let fallen =
        read_for(&plot.name).iter().filter_map(|(conclusion, name)| Some((why_void(run, *conclusion)?, *name)));
    let (reasons, names): (Vec<&str>, Vec<&str>) = fallen.unzip();
    if let Some(reason) = reasons.first() {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let words = format!("Not to be believed: {}; {reason}.", format::list(&names));
        banner(&mut plot.wide, &words);
        banner(&mut plot.narrow, &words);
        plot.caption = format!("{words} {}", plot.caption);
    }
    plot
}

fn drawn(run: &Run) -> Vec<Plot> {
    let mut plots = Vec::new();
    let is_compared = run.results.comparison.is_some();
    if is_compared {
        plots.extend(failures::plot(run));
        plots.extend(forest::plot(run));
        plots.extend(percentiles::plot(run));
        plots.extend(blocks::plot(run));
    }
    let has_faults = matches!(run.manifest.scenario, Scenario::A3);
    if has_faults {
        plots.extend(timeline::plots(run));
    }
    plots.extend(scaling::plot(run));
    plots.extend(balance::plots(run));
    plots.extend(ring::plots(run));
    if !is_compared {
        plots.extend(percentiles::plot(run));
    }
    if !has_faults {
        plots.extend(timeline::plots(run));
    }
    plots
}

fn plot(name: impl Into<String>, caption: impl Into<String>, draw: impl Fn(f64) -> Scene) -> Plot {
    Plot { name: name.into(), caption: caption.into(), wide: draw(WIDE), narrow: draw(NARROW) }
}

fn is_narrow(width: f64) -> bool {
    width < 500.0
}

/// The numbers of backends, ascending.
fn sizes(run: &Run) -> Vec<u32> {
    let mut sizes: Vec<u32> = run.results.cells.iter().map(|cell| cell.n).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// Mean, least and most of a measure over cells. The range needs several cells.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    mean: f64,
    range: Option<(f64, f64)>,
}

fn spread(values: &[f64]) -> Option<Spread> {
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(Spread { mean, range: (values.len() > 1).then_some((least, most)) })
}

/// A sentence about error bars, for captions.
fn about_error_bars(cells: &[&Cell]) -> String {
    match cells.len() {
        0 | 1 => "There is one block, so there are no error bars.".into(),
        blocks => format!("Error bars reach from the lowest to the highest of {blocks} blocks."),
    }
}
