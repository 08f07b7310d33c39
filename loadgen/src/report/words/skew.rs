//! Why an arm shares unevenly, as far as its options and its counts tell.

use crate::model::EventKind::{Errors, HotKey, Kill, Slow, Stall};
use crate::model::{Arm, Run};
use crate::report::document::{Block, Entry, Table, Tone};
use crate::report::format;
use crate::report::plots::Plot;
use crate::report::ring::{self, Ring};
use crate::report::rows::{groups, totals};
use crate::statistics::max_over_mean;

/// Shares may be off by this much of the mean before anybody asks why.
const UNEVEN: f64 = 1.1;
/// Standard deviations by which a count may be off what was computed.
const FAR: f64 = 4.0;

/// Arms that share unevenly, by number, with the backends of the pool that shows it: the three of A1 if they were tried, else the
/// largest pool.
pub(crate) fn uneven_pools(run: &Run) -> Vec<(usize, Vec<String>)> {
    let mut pools = Vec::new();
    // where somebody disturbed it, that is why
    let is_fault = |kind| matches!(kind, Kill | Slow | Stall | Errors | HotKey);
    if run.results.events.iter().any(|event| is_fault(event.kind)) {
        return pools;
    }
    for (number, arm) in run.manifest.arms.iter().enumerate() {
        let own: Vec<_> = groups(run).into_iter().filter(|cells| cells[0].arm == arm.label).collect();
        let Some(cells) = own.iter().find(|cells| cells[0].n == 3).or(own.last()) else { continue };
        let totals = totals(cells);
        let loads: Vec<f64> = totals.iter().map(|total| total.1 as f64).collect();
        if max_over_mean(&loads).is_some_and(|ratio| ratio >= UNEVEN) {
            pools.push((number, totals.into_iter().map(|total| total.0).collect()));
        }
    }
    pools
}

/// `pictures` are those of [`plots::slots`](crate::report::plots); the ones that belong here are taken.
pub(super) fn explanation(run: &Run, pictures: &mut Vec<Plot>) -> Vec<Block> {
    let mut blocks = Vec::new();
    for (number, ids) in uneven_pools(run) {
        let arm = &run.manifest.arms[number];
        if let Some(ring) = ring::of(arm, &ids) {
            blocks.extend(of_assignment(&arm.label, &ring, &ids));
            let name = format!("slots-{}", number + 1);
            blocks.extend(pictures.extract_if(.., |plot| plot.name == name).map(|plot| Block::Figure(Box::new(plot))));
            blocks.extend(shares(run, &arm.label, &ring, &ids));
        } else if let Some(points) = points_of_ring(arm) {
            let all = f64::from(points) * ids.len() as f64;
            let variation = ((ids.len() as f64 - 1.0) / (all + 1.0)).sqrt();
            blocks.push(Block::Heading(format!("Why {} is uneven", arm.label)));
            blocks.push(Block::Paragraph(format!(
                "It puts {points} points of each backend on a ring, and a backend owns the arcs before its points. So few arcs differ in \
                 length even with a perfect hash: with {} backends shares vary by {} of the mean (one standard deviation). More points \
                 make it more even.",
                ids.len(),
                format::percent(variation)
            )));
        }
    }
    blocks
}

/// Points of a backend: the option `virtual_nodes` if it is set, else K of the declared `{"balance":"ring:K"}`.
fn points_of_ring(arm: &Arm) -> Option<u32> {
    let declared: serde_json::Value = serde_json::from_str(&arm.expectation).ok()?;
    let points = declared.get("balance")?.as_str()?.strip_prefix("ring:")?.parse().ok()?;
    let option = arm.options.get("virtual_nodes").and_then(serde_json::Value::as_u64);
    option.map_or(Some(points), |points| u32::try_from(points).ok())
}

fn of_assignment(label: &str, ring: &Ring, ids: &[String]) -> Vec<Block> {
    let (first, last) = ring.ends();
    let owner = &ids[ring.first_owner()];
    let reasons = vec![
        format!(
            "H(i) = {} modulo {} sends all 6-digit ids to {} of the {} slots.",
            ring.request,
            ring.slots,
            ring.reached(),
            ring.slots
        ),
        format!(
            "Phi(i, j) = {} puts the {} virtual servers into slots {first} to {last}, and none into the {} slots outside that range.",
            ring.server,
            ring.points.len(),
            ring.slots - (last - first + 1)
        ),
        format!(
            "A request goes to the next virtual server clockwise. {} of the ids begin beyond slot {last}, and so go round to the first \
             one, in slot {first}, which is {owner}'s.",
            format::percent(ring.wrapped)
        ),
    ];
    vec![
        Block::Heading(format!("Why {label} is uneven")),
        Block::Paragraph(
            "Not because it is a hash ring, but because of its two functions, worked out here from its options:".into(),
        ),
        Block::List(reasons),
    ]
}

/// Computed beside counted, and a word where they are not the same.
fn shares(run: &Run, label: &str, ring: &Ring, ids: &[String]) -> Vec<Block> {
    let mut table = Table::new(
        "What these functions make of all 6-digit ids, slot by slot, and what this run counted.",
        &["backend", "#virtual servers", "#computed share", "#counted share", "#counted"],
    );
    let of_pool = |cells: &Vec<&crate::model::Cell>| cells[0].arm == label && cells[0].n as usize == ids.len();
    let counted = groups(run).into_iter().find(of_pool).map(|cells| totals(&cells)).unwrap_or_default();
    let all: u64 = counted.iter().map(|total| total.1).sum();
    let mut is_as_computed = true;
    for (at, id) in ids.iter().enumerate() {
        let count = counted.iter().find(|total| total.0 == *id).map_or(0, |total| total.1);
        let (expected, share) = (ring.shares[at] * all as f64, ring.shares[at]);
        is_as_computed &= (count as f64 - expected).abs() <= FAR * (expected * (1.0 - share)).sqrt() + 1.0;
        table.row(vec![
            Entry::new(id),
            Entry::new(ring.points.iter().filter(|point| point.1 == at).count().to_string()),
            Entry::new(format::percent(ring.shares[at])),
            Entry::new(format::percent(count as f64 / all.max(1) as f64)),
            Entry::new(format::count(count)),
        ]);
    }
    let mut blocks = vec![Block::Table(table)];
    if !is_as_computed {
        let words = "The counts are not what these functions make of uniform 6-digit ids: other keys were asked for, backends were away \
                     for a while, or the strategy does something else.";
        blocks.push(Block::Notice(Tone::Doubt, words.into()));
    }
    blocks
}
