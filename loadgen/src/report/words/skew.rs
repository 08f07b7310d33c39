//! Why an arm shares unevenly: its ring, as the strategy described it, or the number of its points.

use crate::model::EventKind::{Errors, HotKey, Kill, Slow, Stall};
use crate::model::{Arm, Ring, Run};
use crate::report::document::{Block, Entry, Table, Tone};
use crate::report::format;
use crate::report::plots::Plot;
use crate::report::rows::{groups, totals};
use crate::statistics::max_over_mean;

/// The report explains the cause if the fullest backend has at least this many times the mean.
const UNEVEN: f64 = 1.1;
/// A count may differ from the computed one by this many standard deviations.
const FAR: f64 = 4.0;

/// The numbers of the arms that share unevenly, each with the backends of a pool. The pool has three backends as in A1,
/// or else is the largest one.
pub(crate) fn uneven_pools(run: &Run) -> Vec<(usize, Vec<String>)> {
    let mut pools = Vec::new();
    // with faults, the fault is the reason
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

/// `pictures` are those of [`plots::ring`](crate::report::plots). Those of the uneven arms are taken out of it.
pub(super) fn explanation(run: &Run, pictures: &mut Vec<Plot>) -> Vec<Block> {
    let mut blocks = Vec::new();
    for (number, ids) in uneven_pools(run) {
        let arm = &run.manifest.arms[number];
        if let Some(ring) = run.results.ring(&arm.label, &ids) {
            blocks.extend(of_ring(&arm.label, ring));
            let name = format!("ring-{}", number + 1);
            blocks.extend(pictures.extract_if(.., |plot| plot.name == name).map(|plot| Block::Figure(Box::new(plot))));
            blocks.extend(shares(run, ring));
        } else if let Some(points) = points_of_ring(arm) {
            blocks.extend(of_points(&arm.label, points, ids.len()));
        } else if balance(arm).is_some_and(|balance| balance == "by_options") {
            blocks.push(Block::Heading(format!("Why {} is uneven", arm.label)));
            blocks.push(Block::Paragraph(
                "The run's folder does not hold the ring of this strategy, so the report cannot say why. An older loadgen did not store \
                 it, or the strategy did not describe it."
                    .into(),
            ));
        }
    }
    blocks
}

/// The law of its counts in the strategy's declaration.
fn balance(arm: &Arm) -> Option<String> {
    let declared: serde_json::Value = serde_json::from_str(&arm.expectation).ok()?;
    declared.get("balance")?.as_str().map(str::to_owned)
}

/// The points of a backend: the option `virtual_nodes` if it is set, else K of the declared `{"balance":"ring:K"}`.
fn points_of_ring(arm: &Arm) -> Option<u32> {
    let points = balance(arm)?.strip_prefix("ring:")?.parse().ok()?;
    let option = arm.options.get("virtual_nodes").and_then(serde_json::Value::as_u64);
    option.map_or(Some(points), |points| u32::try_from(points).ok())
}

fn of_points(label: &str, points: u32, backends: usize) -> [Block; 2] {
    let all = f64::from(points) * backends as f64;
    let variation = ((backends as f64 - 1.0) / (all + 1.0)).sqrt();
    let words = format!(
        "Each backend has {points} points on a ring and owns the arcs before its points. So few arcs differ in length even with a perfect \
         hash: with {backends} backends, one standard deviation of a share is {} of the mean. More points make the shares more even.",
        format::percent(variation)
    );
    [Block::Heading(format!("Why {label} is uneven")), Block::Paragraph(words)]
}

fn of_ring(label: &str, ring: &Ring) -> Vec<Block> {
    let mut blocks = vec![Block::Heading(format!("Why {label} is uneven"))];
    let (Some(fullest), [first, .., last]) = (ring.fullest(), ring.arcs.as_slice()) else {
        blocks.push(Block::Paragraph(
            "The strategy itself gave these shares; its ring has too many points to show.".into(),
        ));
        return blocks;
    };
    let (owner, (_, length)) = (&ring.backends[ring.arcs[fullest].backend], ring.span(fullest));
    let mut reasons = vec![
        format!(
            "The ring has {}, and all of them lie between {} and {} of the circle. A request goes clockwise to the next point.",
            format::plural(ring.arcs.len() as u64, "point"),
            format::percent(first.end),
            format::percent(last.end)
        ),
        format!(
            "The point with the most keys belongs to {owner}. The arc before it is {} of the circle, and {} of all keys are in that arc.",
            format::percent(length),
            format::percent(ring.arcs[fullest].share)
        ),
    ];
    let unused = ring.arcs.iter().filter(|arc| arc.share == 0.0).count();
    if unused > 0 {
        reasons.push(format!("{} of the {} points get no key at all.", unused, ring.arcs.len()));
    }
    blocks.push(Block::Paragraph(
        "A hash ring need not be this uneven. The cause is the positions of the points and of the keys on this ring. The strategy \
         described its ring during the run:"
            .into(),
    ));
    blocks.push(Block::List(reasons));
    blocks
}

/// The computed and the counted shares, and a notice if they differ.
fn shares(run: &Run, ring: &Ring) -> Vec<Block> {
    let mut table = Table::new(
        "The exact share of all 6-digit ids that the ring gives to each backend, beside the counts of this run.",
        &["backend", "#points", "#computed share", "#counted share", "#counted"],
    );
    let of_pool = |cells: &Vec<&crate::model::Cell>| cells[0].arm == ring.arm && cells[0].n == ring.n;
    let counted = groups(run).into_iter().find(of_pool).map(|cells| totals(&cells)).unwrap_or_default();
    let all: u64 = counted.iter().map(|total| total.1).sum();
    let mut is_as_computed = true;
    for (at, (id, &share)) in ring.backends.iter().zip(&ring.shares).enumerate() {
        let count = counted.iter().find(|total| total.0 == *id).map_or(0, |total| total.1);
        let expected = share * all as f64;
        is_as_computed &= (count as f64 - expected).abs() <= FAR * (expected * (1.0 - share)).sqrt() + 1.0;
        table.row(vec![
            Entry::new(id),
            Entry::new(ring.arcs.iter().filter(|arc| arc.backend == at).count().to_string()),
            Entry::new(format::percent(share)),
            Entry::new(format::percent(count as f64 / all.max(1) as f64)),
            Entry::new(format::count(count)),
        ]);
    }
    let mut blocks = vec![Block::Table(table)];
    if !is_as_computed {
        let words = "The counts differ from the computed shares. Possible reasons: the keys were not uniform 6-digit ids, a backend was out \
                     of rotation for a while, or the strategy does not pick as it says.";
        blocks.push(Block::Notice(Tone::Doubt, words.into()));
    }
    blocks
}
