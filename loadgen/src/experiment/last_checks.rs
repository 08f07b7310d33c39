//! The checks of a run that need its complete load.

use super::plan::{LoadPlan, Plan};
use super::run::ExperimentError;
use super::stage::Stage;
use crate::model::{self, Conclusion, EventKind, Mark};

/// A run that takes longer than this multiple of its budget gets a warning.
const OVER_BUDGET: f64 = 1.1;

/// Makes all these checks, and records the error that ended the run early.
pub(super) fn mark(
    stage: &mut Stage,
    plan: &Plan,
    ended: Option<&ExperimentError>,
    put_back: Result<(), ExperimentError>,
    recorded: Result<(), std::io::Error>,
) {
    if let Some(error) = ended {
        stage.event(EventKind::Interrupted, None, error.to_string());
    }
    if let Err(error) = put_back {
        let reason = format!("the balancer could not be restored to its state before the run: {error}");
        stage.mark(Mark::warning("put_back", reason));
    }
    if let Err(error) = recorded {
        stage.mark(Mark::warning("recording", format!("the balancer's scrapes could not be recorded: {error}")));
    }
    mark_generator(stage, plan);
    mark_accounting(stage);
    mark_waits(stage);
    if let Some(mark) = stage.safeguards.mark() {
        stage.mark(mark);
    }
    let (taken, budget) = (stage.origin.elapsed(), plan.budget);
    if taken > budget.mul_f64(OVER_BUDGET) {
        let reason = format!(
            "the run took {:.0} s of a budget of {:.0} s: a closed loop takes as long as its requests take; otherwise the machine was busy",
            taken.as_secs_f64(),
            budget.as_secs_f64()
        );
        stage.mark(Mark::warning("budget", reason));
    }
}

/// A passed check is reported too, so that readers see that it was made.
fn mark_generator(stage: &mut Stage, plan: &Plan) {
    if stage.marks.iter().all(|mark| mark.check != "generator") {
        let reason = match plan.load {
            LoadPlan::Open { .. } => "requests were sent on schedule",
            LoadPlan::Closed { .. } => {
                "its sending threads had processor time to spare; lateness is not judged: a closed loop has no schedule"
            }
        };
        stage.mark(Mark::passed("generator", reason));
    }
}

/// A strategy that lets requests wait does something else if there is no queue.
fn mark_waits(stage: &mut Stage) {
    let waited: Vec<String> = stage
        .waits_without_queue
        .iter()
        .filter(|(_, picks)| **picks > 0)
        .map(|(strategy, picks)| format!("{strategy} let a request wait in {picks} picks"))
        .collect();
    if !waited.is_empty() {
        let reason = format!(
            "{}, but the queue is off: the fallback picked, so this is not the strategy alone. Set length in [lb.queue] for all arms, or in \
             [arms.lb.queue] for one",
            waited.join(", ")
        );
        stage.mark(Mark::warning("queue", reason));
    }
}

fn mark_accounting(stage: &mut Stage) {
    let wrong: Vec<String> = stage
        .accounting
        .iter()
        .filter_map(|stretch| Some(format!("{}: {}", stretch.stretch, stretch.mismatch.as_ref()?)))
        .collect();
    if !wrong.is_empty() {
        stage.mark(Mark::invalid("accounting", wrong.join("; "), &Conclusion::all()));
    } else if !stage.accounting.is_empty() {
        let sum = |read: fn(&model::Accounting) -> u64| stage.accounting.iter().map(read).sum::<u64>();
        let (client, balancer) = (sum(|stretch| stretch.client), sum(|stretch| stretch.balancer));
        if client == balancer {
            let reason = format!("client, balancer and backends counted the same {client} requests");
            stage.mark(Mark::passed("accounting", reason));
        } else {
            let reason = format!(
                "of {client} requests, {} failed on a refused, reset or closed connection and did not reach the balancer, which counted \
                 {balancer}: shares and percentiles are those of the others",
                client.saturating_sub(balancer)
            );
            stage.mark(Mark::warning("accounting", reason));
        }
    }
}
